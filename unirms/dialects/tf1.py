"""TensorFlow 1: `tf.compat.v1.train.RMSPropOptimizer`. Recorded runs of TensorFlow 2.4.4 are in the corpus."""

from unirms.dialects.base import REQUIRED, Dialect, apart, carries

DIALECT = Dialect(
    name="tf1",
    target="tf.compat.v1.train.RMSPropOptimizer",
    package="tensorflow",
    aliases=("tf.v1", "tensorflow1", "tf.compat.v1"),
    docs="https://www.tensorflow.org/api_docs/python/tf/compat/v1/train/RMSPropOptimizer",
    arguments=(
        carries("learning_rate", "learning_rate", REQUIRED),
        carries("decay", "rho", 0.9),
        carries("momentum", "momentum", 0.0),
        carries("epsilon", "epsilon", 1e-10),
        apart("use_locking", False, "locks of variables; the same numbers"),
        carries("centered", "centered", False),
        apart("name", "RMSProp", "a label"),
    ),
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 1.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "l2",
    },
    rounds=("learning_rate", "rho", "epsilon", "momentum"),
)
