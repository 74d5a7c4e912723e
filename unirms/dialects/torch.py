"""PyTorch: `torch.optim.RMSprop`, unchanged in its numbers since 1.9 (recorded runs of 1.9.1 are in the corpus)."""

from unirms.dialects.base import Dialect, apart, carries

DIALECT = Dialect(
    name="torch",
    target="torch.optim.RMSprop",
    package="torch",
    framework="torch",
    aliases=("pytorch",),
    docs="https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html",
    arguments=(
        apart("params", None, "the parameters"),
        carries("lr", "learning_rate", 0.01),
        carries("alpha", "rho", 0.99),
        carries("eps", "epsilon", 1e-8),
        carries("weight_decay", "weight_decay", 0.0),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        apart("capturable", False, "CUDA graphs; the same numbers"),
        apart("foreach", None, "which kernels run; the same numbers in float32 and float64"),
        carries("maximize", "maximize", False),
        apart("differentiable", False, "autograd through the step; the same numbers"),
    ),
    fixed={
        "epsilon_placement": "outside_sqrt",
        "lr_in_momentum": False,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "l2",
    },
    exempts=True,
)
