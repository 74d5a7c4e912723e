"""The second half: the same network in Keras, 20 more steps from the carried weights and the carried state.

python go_on_in_keras.py fresh      writes fresh.weights.h5, from which `unirms migrate` learns Keras's structure
python go_on_in_keras.py            loads carried.weights.h5 and goes on
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf
from digits import batch

import unirms

# What the PyTorch half said, in PyTorch's words: epsilon stands outside the root, no learning rate in the buffer.
CONFIG = unirms.RMSPropConfig.from_native(
    "torch", lr=0.003, alpha=0.95, eps=1e-3, momentum=0.9, centered=True, weight_decay=1e-4
)


def make_model():
    """Return the network of `train_in_torch`; its momentum of 0.1 and epsilon are Keras's 0.9 and this."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1"),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="norm1"),
            layers.Activation("silu", name="silu1"),
            layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv2"),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="norm2"),
            layers.Activation("silu", name="silu2"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(10, name="dense"),
        ],
        name="digits",
    )


def train(model, optimizer, steps):
    """Return the loss of each step."""
    losses = []
    for step in steps:
        images, classes = batch(step)
        with tf.GradientTape() as tape:
            logits = model(images[..., None], training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        losses.append(float(loss))
    return losses


if __name__ == "__main__":
    model = make_model()
    optimizer = unirms.build(CONFIG, "keras", model)  # Keras's own class cannot compute this: an exact subclass of it
    model.compile(optimizer=optimizer)
    if "fresh" in sys.argv:
        model.save_weights("fresh.weights.h5")
    else:
        model.load_weights("carried.weights.h5")
        json.dump({"step": int(optimizer.iterations), "second": train(model, optimizer, range(20, 40))}, sys.stdout)
