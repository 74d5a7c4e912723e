"""Keras 2's first optimizers: `tf.keras.optimizers.RMSprop` up to TensorFlow 2.10, `tf_keras.optimizers.legacy` today.

Recorded runs of TensorFlow 2.4.4 and of tf_keras 2.21.0 are in the corpus.
"""

from unirms.dialects.base import Dialect, Fields, apart, carries, refuses
from unirms.dialects.behaviour import Behaviour, Defect, refusing
from unirms.dialects.keras import CLIP_NAMES, clip_arguments, gather_clips
from unirms.dialects.schedules.keras import LEGACY, LEGACY_PLATEAUS
from unirms.dialects.snippet import Snippet

KERAS_EPSILON = 1e-7  # `self.epsilon = epsilon or backend_config.epsilon()`: 0 silently becomes this


def settle(fields: Fields) -> Fields:
    """Return the fields as the class computes them.

    Without momentum it divides by sqrt(v) + epsilon in Python; with momentum it calls TensorFlow's fused kernel, which
    divides by sqrt(v + epsilon), and knows of a sparse gradient only the rows that it has.
    """
    fused = bool(fields["momentum"])
    chosen = {
        "epsilon_placement": "inside_sqrt" if fused else "outside_sqrt",
        "epsilon": fields["epsilon"] or KERAS_EPSILON,
        "sparse": "lazy" if fused else "dense",
    }
    return gather_clips({**fields, **chosen})


CLIPPED_ROWS = Defect(  # `_transform_gradients` clips, `_resource_apply_sparse_duplicate_indices` adds the rows up
    "U402",
    "gradient of an embedding",
    "the sum of its repeated rows, clipped",
    "clipped row by row, then added up",
    "an id that occurs n times in a batch is clipped as n gradients, which are added up afterwards",
    applies=lambda config: bool(config.clip),
)

SNIPPET = Snippet(
    imports=("import tf_keras",),
    name="tf_keras.optimizers.legacy.RMSprop",
    # The counter first, as the class makes it: saved weights are in that order.
    seeding="""\
optimizer.iterations.assign(0)
start = tf_keras.initializers.Constant($start)
for variable in model.trainable_variables:
    optimizer.add_slot(variable, "rms", initializer=start)
""",
    reporting="# Name your metric as monitor, and call model.fit(…, callbacks=[scheduler]).",
)

DIALECT = Dialect(
    name="keras-legacy",
    target="tf_keras.optimizers.legacy.RMSprop",
    package="tf_keras",
    spellings=(
        "tf.keras.optimizers.legacy.RMSprop",
        "tensorflow.keras.optimizers.legacy.RMSprop",
        "keras.optimizers.legacy.RMSprop",
    ),
    aliases=("tf_keras", "keras2", "tf.keras-legacy"),
    docs="https://www.tensorflow.org/versions/r2.10/api_docs/python/tf/keras/optimizers/RMSprop",
    arguments=(
        carries("learning_rate", "learning_rate", 0.001, aliases=("lr",)),
        carries("rho", "rho", 0.9),
        carries("momentum", "momentum", 0.0),
        carries("epsilon", "epsilon", 1e-7),
        carries("centered", "centered", False),
        apart("name", "RMSprop", "a label"),
        *clip_arguments(ignores_zero=False),
        refuses("decay", 0.0, "it is a schedule, lr / (1 + decay * step)", neutral=(0,)),
    ),
    schedules=LEGACY,
    schedulers=LEGACY_PLATEAUS,
    snippet=SNIPPET,
    fixed={
        "lr_in_momentum": True,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "l2",
    },
    settle=settle,
    rounds=("learning_rate", "rho", "momentum"),
    behaviour=Behaviour(
        refused=refusing(
            ("learning_rate rho momentum epsilon decay clipnorm clipvalue global_clipnorm", ("text",)),
            ("learning_rate rho momentum decay", ("None",)),
            ("momentum", ("negative", "above one", "infinite")),
            ("clipnorm clipvalue global_clipnorm decay", ("negative",)),
        ),
        misread={
            ("momentum", "NaN"): "it computes without momentum",
            ("epsilon", "zero"): f"it computes with {KERAS_EPSILON:g}",
            **{(name, "zero"): "every gradient becomes 0" for name in CLIP_NAMES},
        },
        exclusive=(("clipnorm", "global_clipnorm"),),
        defects=(CLIPPED_ROWS,),
    ),
    remarks=("Its epsilon moves under the root as soon as there is momentum, and epsilon=0 becomes 1e-7.",),
)
