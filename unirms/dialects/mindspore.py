"""MindSpore: `mindspore.nn.RMSProp`, as documented. Recorded runs of MindSpore 2.0.0 are in the corpus.

What its plain kernel computes on CPU is another matter: see the MindSpore adapter.
"""

from unirms.dialects.base import Dialect, Fields, apart, carries

# Ungrouped parameters with these words in their names get no weight decay
# (`decay_filter` in mindspore/nn/optim/optimizer.py).
BETA_GAMMA = ("*beta*", "*gamma*")


def settle(fields: Fields) -> Fields:
    """Return the fields with MindSpore's name filter, which acts wherever there is weight decay."""
    return {**fields, "no_weight_decay": BETA_GAMMA if fields["weight_decay"] else ()}


DIALECT = Dialect(
    name="mindspore",
    target="mindspore.nn.RMSProp",
    package="mindspore",
    framework="mindspore",
    aliases=("ms",),
    docs="https://www.mindspore.cn/docs/en/master/api_python/nn/mindspore.nn.RMSProp.html",
    arguments=(
        apart("params", None, "the parameters"),
        # Its docstring announces (since 2.9) that these three will be renamed to lr, alpha and eps.
        carries("learning_rate", "learning_rate", 0.1, aliases=("lr",)),
        carries("decay", "rho", 0.9, aliases=("alpha",)),
        carries("momentum", "momentum", 0.0),
        carries("epsilon", "epsilon", 1e-10, aliases=("eps",), positive=True),
        apart("use_locking", False, "locks of variables; the same numbers"),
        carries("centered", "centered", False),
        carries("loss_scale", "loss_scale", 1.0),
        carries("weight_decay", "weight_decay", 0.0),
    ),
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 1.0,
        "negative_variance": "skip",
        "weight_decay_mode": "l2",
    },
    settle=settle,
    exempts=True,
    rounds=("learning_rate", "rho", "epsilon", "momentum", "weight_decay", "loss_scale"),
    remarks=("Parameters that are not grouped and have beta or gamma in their names get no weight decay.",),
)
