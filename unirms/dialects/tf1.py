"""TensorFlow 1: `tf.compat.v1.train.RMSPropOptimizer`.

Recorded runs of TensorFlow 1.15.5 and 2.4.4 are in the corpus.
"""

from unirms.dialects.base import REQUIRED, Dialect, apart, carries
from unirms.dialects.behaviour import Behaviour, refusing
from unirms.dialects.snippet import Snippet

SNIPPET = Snippet(
    imports=("import tensorflow as tf",),
    name="tf.compat.v1.train.RMSPropOptimizer",
    # Slots exist from the first step on; with gradients of zero and the mean square at 1 it moves nothing.
    seeding="""\
# A step without gradients makes the slots (in eager execution, TensorFlow 2's default).
variables = model.trainable_variables
optimizer.apply_gradients((tf.zeros_like(v), v) for v in variables)
for slot in [optimizer.get_slot(v, "rms") for v in variables]:
    slot.assign(tf.constant($start, slot.dtype, slot.shape))
""",
)

DIALECT = Dialect(
    name="tf1",
    target="tf.compat.v1.train.RMSPropOptimizer",
    package="tensorflow",
    spellings=(
        "tensorflow.compat.v1.train.RMSPropOptimizer",
        "tf.train.RMSPropOptimizer",
        "tensorflow.train.RMSPropOptimizer",
    ),
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
    snippet=SNIPPET,
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 1.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "l2",
        "sparse": "lazy",
    },
    rounds=("learning_rate", "rho", "epsilon", "momentum"),
    # It checks nothing: what cannot become a tensor fails at the first step.
    behaviour=Behaviour(refused=refusing(("learning_rate decay momentum epsilon", ("text", "None")))),
)
