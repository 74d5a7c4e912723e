"""TensorFlow: `tf.train.Checkpoint` and the checkpoints of TensorFlow 1."""
