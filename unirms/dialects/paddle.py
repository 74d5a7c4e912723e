"""PaddlePaddle 2 and 3: `paddle.optimizer.RMSProp`."""

from unirms.config import RMSPropConfig
from unirms.dialects.base import REQUIRED, Dialect, apart, carries, converts
from unirms.dialects.behaviour import Behaviour, Defect, Groups, refusing
from unirms.dialects.calls import NativeCall, read_clip, read_regularizer, write_clip, write_regularizer
from unirms.dialects.schedules.paddle import CLASSES
from unirms.dialects.snippet import Exemption, Grouping, Snippet

# Everything else that a group holds is ignored.
_IN_GROUPS = ("learning_rate", "rho", "epsilon", "momentum", "centered", "weight_decay", "grad_clip")


def write_weight_decay(config: RMSPropConfig) -> NativeCall | float | None:
    """Return the coefficient, which means L2 decay, or an object for L1 decay."""
    if config.weight_decay_mode == "l1":
        return write_regularizer(config, "paddle.regularizer.")
    return config.weight_decay or None


# The kernel looks rows up by bisection, and MergeAdd sorts them only where some are repeated. A regularizer makes the
# gradient dense before.
LOST_ROWS = Defect(
    "U404",
    "gradient of an embedding",
    "all of its rows",
    "those that a bisection finds",
    "with sparse=True, an embedding whose ids are all different and not in ascending order is updated in some rows",
    remedy='use unirms.build(…, policy="exact"), or sparse=False',
    applies=lambda config: config.weight_decay == 0,
)

SNIPPET = Snippet(
    imports=("import paddle",),
    name="paddle.optimizer.RMSProp",
    parameters="model.parameters()",
    keyword="parameters",
    # A regularizer of the parameter's own, not a group: ClipGradByGlobalNorm clips each group by itself.
    exemption=Exemption(
        before="""\
for name, parameter in model.named_parameters():
    if exempt(name):
        parameter.regularizer = paddle.regularizer.L2Decay(0.0)
"""
    ),
    grouping=Grouping(
        before="""\
# Paddle leaves a group's rate and decay on its parameters, where any later optimizer
# over them finds both.
groups = {}
for name, parameter in model.named_parameters():
    own = settings(name)
    group = groups.setdefault(tuple(own.items()), {"params": [], **own})
    group["params"].append(parameter)
""",
        # Afterwards, because the groups give every parameter a regularizer.
        exemption="""\
for name, parameter in model.named_parameters():
    if exempt(name) and "weight_decay" not in settings(name):
        parameter.regularizer = paddle.regularizer.L2Decay(0.0)
""",
    ),
    # A state must come with that of the scheduler, where there is one: state_dict() has it.
    seeding="""\
# The names are those that the first optimizer over these parameters gives.
state = {"mean_square": $start, "mean_grad": 0.0, "momentum": 0.0}
optimizer.set_state_dict(
    optimizer.state_dict()
    | {
        f"{p.name}_{slot}_0": paddle.full(p.shape, value, p.dtype)
        for p in model.parameters()
        for slot, value in state.items()
    }
)
""",
    stepping="# Call scheduler.step() once after each optimizer.step().",
    reporting="# Call scheduler.step(metric) after each measurement of the metric.",
)

DIALECT = Dialect(
    name="paddle",
    target="paddle.optimizer.RMSProp",
    package="paddlepaddle",
    spellings=("paddle.optimizer.rmsprop.RMSProp",),
    framework="paddle",
    aliases=("paddlepaddle",),
    docs="https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/optimizer/RMSProp_en.html",
    arguments=(
        carries("learning_rate", "learning_rate", REQUIRED),
        carries("rho", "rho", 0.95),
        carries("epsilon", "epsilon", 1e-6),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        apart("parameters", None, "the parameters"),
        converts("weight_decay", ("weight_decay", "weight_decay_mode"), None, read_regularizer, write_weight_decay),
        converts("grad_clip", ("clip",), None, read_clip, lambda config: write_clip(config, "paddle.nn.ClipGrad")),
        apart("name", None, "a label"),
    ),
    schedules=CLASSES,
    snippet=SNIPPET,
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
    },
    exempts=True,
    rounds=("rho", "epsilon", "momentum"),  # attributes of the kernel
    behaviour=Behaviour(
        refused=refusing(
            ("learning_rate rho epsilon momentum weight_decay", ("text",)),
            ("learning_rate rho epsilon momentum", ("None",)),
            ("learning_rate", ("int", "bool", "numpy.float32")),
            ("rho epsilon momentum", ("negative", "NaN")),
            ("weight_decay", ("numpy.float32",)),
            ("centered", ("int", "text", "numpy.bool")),
            ("ClipGradByNorm ClipGradByValue", ("zero", "negative")),
        ),
        objects={"grad_clip": "paddle.nn.ClipGradByGlobalNorm"},
        misread={
            ("ClipGradByGlobalNorm", "negative"): "every gradient changes its sign",
            ("ClipGradByGlobalNorm", "zero"): "every gradient becomes 0",
        },
        defects=(LOST_ROWS,),
        groups=Groups(
            names={name: name for name in _IN_GROUPS},
            unchecked=("learning_rate", "rho", "epsilon", "momentum"),
            refused={"weight_decay": ("int",)},
            inherits_none=("weight_decay",),
            factors=("learning_rate",),
            norms_apart=True,
        ),
    ),
    remarks=(
        "Its documentation says Nesterov momentum; it computes plain momentum.",
        "In a parameter group, learning_rate is a factor of the optimizer's.",
    ),
)
