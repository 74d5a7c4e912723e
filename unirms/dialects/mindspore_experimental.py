"""MindSpore's second RMSProp: `mindspore.experimental.optim.RMSprop`, PyTorch's form."""

from unirms.dialects.base import REQUIRED, Dialect, apart, carries
from unirms.dialects.behaviour import FLAG_TYPES, Behaviour, Groups, refusing
from unirms.dialects.snippet import Exemption, Grouping, Snippet
from unirms.dialects.torch import DIALECT as TORCH

ORDER = "# Pass the gradients in the order of optimizer.parameters, which the groups change."
SNIPPET = Snippet(
    imports=("from mindspore.experimental import optim",),
    name="optim.RMSprop",
    parameters="model.trainable_params()",
    exemption=Exemption(
        before=f"""\
{ORDER}
params = model.trainable_params()
""",
        parameters="""\
[
    {"params": [p for p in params if not exempt(p.name)]},
    {"params": [p for p in params if exempt(p.name)], "weight_decay": 0.0},
]""",
    ),
    grouping=Grouping(
        before=f"""\
{ORDER}
groups = {{}}
for parameter in model.trainable_params():
    own = settings(parameter.name)
    group = groups.setdefault(tuple(own.items()), {{"params": [], **own}})
    group["params"].append(parameter)
"""
    ),
    seeding="""\
for ms in optimizer.mean_square:
    ms.set_data(initializer($start, ms.shape, ms.dtype))
""",
    seeding_imports=("from mindspore.common.initializer import initializer",),
)

DIALECT = Dialect(
    name="mindspore-experimental",
    target="mindspore.experimental.optim.RMSprop",
    package="mindspore",
    spellings=("mindspore.experimental.optim.rmsprop.RMSprop",),
    aliases=("ms-experimental", "mindspore.experimental"),
    docs="https://www.mindspore.cn/docs/en/master/api_python/experimental/optim/"
    "mindspore.experimental.optim.RMSprop.html",
    arguments=(
        apart("params", REQUIRED, "the parameters"),
        carries("lr", "learning_rate", 0.01),
        carries("alpha", "rho", 0.99),
        carries("eps", "epsilon", 1e-8),
        carries("weight_decay", "weight_decay", 0.0),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        carries("maximize", "maximize", False),
    ),
    snippet=SNIPPET,
    fixed=TORCH.fixed,
    exempts=True,
    behaviour=Behaviour(
        refused=refusing(
            ("lr alpha eps weight_decay momentum", ("negative", "text", "None")),
            ("lr weight_decay", ("NaN", "infinite", "numpy.float32")),
            ("lr eps", ("zero",)),
        ),
        misread={
            ("momentum", "NaN"): "it computes without momentum",
            **{("centered", kind): "the step does nothing" for kind in FLAG_TYPES if kind != "numpy.bool"},
        },
        groups=Groups(unchecked=("alpha", "eps", "momentum")),
    ),
    remarks=("mindspore.train.Model does not accept it, and it computes in float32 whatever the weights are.",),
)
