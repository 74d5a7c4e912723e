"""PaddlePaddle 1: `paddle.fluid.optimizer.RMSPropOptimizer`. Recorded runs of 1.8.5 are in the corpus."""

from unirms.config import RMSPropConfig
from unirms.dialects.base import REQUIRED, Dialect, apart, carries, converts
from unirms.dialects.calls import NativeCall, read_clip, read_regularizer, write_clip
from unirms.dialects.paddle import DIALECT as PADDLE


def write_regularization(config: RMSPropConfig) -> NativeCall | None:
    """Return fluid's L2 regularizer, or None without weight decay."""
    if config.weight_decay == 0:
        return None
    return NativeCall("fluid.regularizer.L2DecayRegularizer", config.weight_decay)


DIALECT = Dialect(
    name="paddle-fluid",
    target="paddle.fluid.optimizer.RMSPropOptimizer",
    package="paddlepaddle<2.5",
    aliases=("paddle.fluid", "fluid"),
    docs="https://www.paddlepaddle.org.cn/documentation/docs/en/1.8/api/optimizer/RMSPropOptimizer.html",
    arguments=(
        carries("learning_rate", "learning_rate", REQUIRED),
        carries("rho", "rho", 0.95),
        carries("epsilon", "epsilon", 1e-6),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        apart("parameter_list", None, "the parameters"),
        converts("regularization", ("weight_decay",), None, read_regularizer, write_regularization),
        converts("grad_clip", ("clip",), None, read_clip, lambda config: write_clip(config, "fluid.clip.GradientClip")),
        apart("name", None, "a label"),
    ),
    fixed=PADDLE.fixed,
    exempts=True,
    rounds=("learning_rate", "rho", "epsilon", "momentum", "weight_decay"),
    remarks=("Its kernel has float32 only.",),
)
