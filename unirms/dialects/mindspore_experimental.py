"""MindSpore's second RMSProp: `mindspore.experimental.optim.RMSprop`, PyTorch's form."""

from unirms.dialects.base import Dialect, apart, carries
from unirms.dialects.torch import DIALECT as TORCH

DIALECT = Dialect(
    name="mindspore-experimental",
    target="mindspore.experimental.optim.RMSprop",
    package="mindspore",
    aliases=("ms-experimental", "mindspore.experimental"),
    docs="https://www.mindspore.cn/docs/en/master/api_python/experimental/optim/"
    "mindspore.experimental.optim.RMSprop.html",
    arguments=(
        apart("params", None, "the parameters"),
        carries("lr", "learning_rate", 0.01, positive=True),
        carries("alpha", "rho", 0.99),
        carries("eps", "epsilon", 1e-8, positive=True),
        carries("weight_decay", "weight_decay", 0.0),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        carries("maximize", "maximize", False),
    ),
    fixed=TORCH.fixed,
    exempts=True,
    remarks=("mindspore.train.Model does not accept it, and it computes in float32 whatever the weights are.",),
)
