"""PaddlePaddle 2 and 3: `paddle.optimizer.RMSProp`."""

from unirms.dialects.base import REQUIRED, Dialect, apart, carries, converts
from unirms.dialects.calls import read_clip, read_regularizer, write_clip

DIALECT = Dialect(
    name="paddle",
    target="paddle.optimizer.RMSProp",
    package="paddlepaddle",
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
        converts("weight_decay", ("weight_decay",), None, read_regularizer, lambda config: config.weight_decay or None),
        converts("grad_clip", ("clip",), None, read_clip, lambda config: write_clip(config, "paddle.nn.ClipGrad")),
        apart("name", None, "a label"),
    ),
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "l2",
    },
    exempts=True,
    rounds=("rho", "epsilon", "momentum"),  # attributes of the kernel
    remarks=("Its documentation says Nesterov momentum; it computes plain momentum.",),
)
