"""MindSpore: `mindspore.nn.RMSProp`, as documented. Recorded runs of MindSpore 2.0.0 are in the corpus.

What its plain kernel computes on CPU is another matter: see the MindSpore adapter.
"""

from unirms.dialects.base import REQUIRED, Dialect, Fields, apart, carries
from unirms.dialects.behaviour import Behaviour, Defect, Groups, refusing
from unirms.dialects.schedules.mindspore import CLASSES
from unirms.dialects.snippet import Exemption, Grouping, Snippet
from unirms.names import PRESETS

BETA_GAMMA = PRESETS["mindspore"]
"""Ungrouped parameters with these words in their names get no weight decay."""


def settle(fields: Fields) -> Fields:
    """Return the fields with MindSpore's name filter, which acts wherever there is weight decay."""
    return {**fields, "no_weight_decay": BETA_GAMMA if fields["weight_decay"] else ()}


MISPLACED_EPSILON = Defect(
    "U401",
    "epsilon_placement",
    "inside_sqrt",
    "inside or outside by element index",
    "MindSpore's CPU kernel adds epsilon outside the root in blocks of 8 elements, and inside for the rest",
    applies=lambda config: not config.centered and config.epsilon > 0,
)
_NUMBERS = "learning_rate decay momentum epsilon loss_scale weight_decay"

SNIPPET = Snippet(
    imports=("from mindspore import nn",),
    name="nn.RMSProp",
    parameters="model.trainable_params()",
    exemption=Exemption(
        # MindSpore refuses a group of no parameters.
        before="""\
params = model.trainable_params()
groups = [
    {"params": [p for p in params if not exempt(p.name)]},
    {"params": [p for p in params if exempt(p.name)], "weight_decay": 0.0},
]""",
        # The last entry keeps the order in which gradients are passed.
        parameters='[*(g for g in groups if g["params"]), {"order_params": params}]',
    ),
    # The last entry, as above.
    grouping=Grouping(
        before="""\
params, groups = model.trainable_params(), {}
for parameter in params:
    own = settings(parameter.name)
    group = groups.setdefault(tuple(own.items()), {"params": [], **own})
    group["params"].append(parameter)
""",
        parameters='[*groups.values(), {"order_params": params}]',
    ),
    no_exemption=Exemption(
        before="# In a group, parameters with beta or gamma in their names are decayed, too.",
        parameters='[{"params": model.trainable_params()}]',
    ),
    seeding="""\
for ms in optimizer.ms:
    ms.set_data(initializer($start, ms.shape, ms.dtype))
""",
    seeding_imports=("from mindspore.common.initializer import initializer",),
    schedule_imports=("import mindspore",),
)

DIALECT = Dialect(
    name="mindspore",
    target="mindspore.nn.RMSProp",
    package="mindspore",
    spellings=("mindspore.nn.optim.RMSProp", "mindspore.nn.optim.rmsprop.RMSProp"),
    framework="mindspore",
    aliases=("ms",),
    docs="https://www.mindspore.cn/docs/en/master/api_python/nn/mindspore.nn.RMSProp.html",
    arguments=(
        apart("params", REQUIRED, "the parameters"),
        # Its docstring announces (since 2.9) that these three will be renamed to lr, alpha and eps.
        carries("learning_rate", "learning_rate", 0.1, aliases=("lr",)),
        carries("decay", "rho", 0.9, aliases=("alpha",)),
        carries("momentum", "momentum", 0.0),
        carries("epsilon", "epsilon", 1e-10, aliases=("eps",)),
        apart("use_locking", False, "locks of variables; the same numbers"),
        carries("centered", "centered", False),
        carries("loss_scale", "loss_scale", 1.0),
        carries("weight_decay", "weight_decay", 0.0),
    ),
    schedules=CLASSES,
    snippet=SNIPPET,
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 1.0,
        "negative_variance": "skip",
        "weight_decay_mode": "l2",
    },
    settle=settle,
    exempts=True,
    behaviour=Behaviour(
        refused=refusing(
            (_NUMBERS, ("negative", "NaN", "infinite", "text", "None", "numpy.float32")),
            ("decay momentum epsilon", ("int", "bool")),
            ("epsilon loss_scale", ("zero",)),
            ("centered", ("int", "text", "None", "numpy.bool")),
        ),
        announced=("lr", "alpha", "eps"),
        groups=Groups(
            names={
                "lr": "learning_rate",
                "weight_decay": "weight_decay",
                "grad_centralization": "",
                "order_params": "",
            },
            notes={
                "grad_centralization": "refused: MindSpore's acts only where the second axis is a multiple of 16",
                "order_params": "not about the update: the order in which gradients are passed",
            },
            ignores_unknown=False,
        ),
        defects=(MISPLACED_EPSILON,),
    ),
    rounds=("learning_rate", "rho", "epsilon", "momentum", "weight_decay", "loss_scale"),
    remarks=("Parameters that are not grouped and have beta or gamma in their names get no weight decay.",),
)
