"""MLX: `mlx.optimizers.RMSprop`."""

from unirms.dialects.base import REQUIRED, Dialect, carries
from unirms.dialects.torch import DIALECT as TORCH

DIALECT = Dialect(
    name="mlx",
    target="mlx.optimizers.RMSprop",
    package="mlx",
    docs="https://ml-explore.github.io/mlx/build/html/python/optimizers/_autosummary/mlx.optimizers.RMSprop.html",
    arguments=(
        carries("learning_rate", "learning_rate", REQUIRED),
        carries("alpha", "rho", 0.99),
        carries("eps", "epsilon", 1e-8, positive=True),
    ),
    fixed=TORCH.fixed,
)
