"""Keras 2's first optimizers: `tf.keras.optimizers.RMSprop` up to TensorFlow 2.10, `tf_keras.optimizers.legacy` today.

Recorded runs of TensorFlow 2.4.4 are in the corpus.
"""

from unirms.dialects.base import Dialect, Fields, apart, carries, refuses
from unirms.dialects.keras import CLIPS, gather_clips

KERAS_EPSILON = 1e-7  # `self.epsilon = epsilon or backend_config.epsilon()`: 0 silently becomes this


def settle(fields: Fields) -> Fields:
    """Return the fields as the class computes them.

    Without momentum it divides by sqrt(v) + epsilon in Python; with momentum it calls TensorFlow's fused kernel, which
    divides by sqrt(v + epsilon).
    """
    placement = "inside_sqrt" if fields["momentum"] else "outside_sqrt"
    return gather_clips({**fields, "epsilon_placement": placement, "epsilon": fields["epsilon"] or KERAS_EPSILON})


DIALECT = Dialect(
    name="keras-legacy",
    target="tf_keras.optimizers.legacy.RMSprop",
    package="tf_keras",
    aliases=("tf_keras", "keras2", "tf.keras-legacy"),
    docs="https://www.tensorflow.org/versions/r2.10/api_docs/python/tf/keras/optimizers/RMSprop",
    arguments=(
        carries("learning_rate", "learning_rate", 0.001, aliases=("lr",)),
        carries("rho", "rho", 0.9),
        carries("momentum", "momentum", 0.0),
        carries("epsilon", "epsilon", 1e-7),
        carries("centered", "centered", False),
        apart("name", "RMSprop", "a label"),
        *CLIPS,
        refuses("decay", 0.0, "it is a schedule, lr / (1 + decay * step)", neutral=(0,)),
    ),
    fixed={
        "lr_in_momentum": True,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "l2",
    },
    settle=settle,
    rounds=("learning_rate", "rho", "momentum"),
    remarks=("Its epsilon moves under the root as soon as there is momentum, and epsilon=0 becomes 1e-7.",),
)
