"""MLX: `mlx.optimizers.RMSprop`. Recorded runs of 0.32.4 are in the corpus."""

from unirms.dialects.base import REQUIRED, Dialect, carries
from unirms.dialects.behaviour import Behaviour, refusing
from unirms.dialects.snippet import Snippet
from unirms.dialects.torch import DIALECT as TORCH

SNIPPET = Snippet(
    imports=("import mlx.optimizers as optim",),
    name="optim.RMSprop",
    seeding="""\
optimizer.state.update(
    tree_map(
        lambda p: {"v": mx.full(p.shape, $start, p.dtype)},
        model.trainable_parameters(),
    )
)
""",
    seeding_imports=("import mlx.core as mx", "from mlx.utils import tree_map"),
)

DIALECT = Dialect(
    name="mlx",
    target="mlx.optimizers.RMSprop",
    package="mlx",
    spellings=("mlx.optimizers.optimizers.RMSprop",),
    docs="https://ml-explore.github.io/mlx/build/html/python/optimizers/_autosummary/mlx.optimizers.RMSprop.html",
    arguments=(
        carries("learning_rate", "learning_rate", REQUIRED),
        carries("alpha", "rho", 0.99),
        carries("eps", "epsilon", 1e-8),
    ),
    snippet=SNIPPET,
    fixed=TORCH.fixed,
    rounds=("learning_rate",),  # it keeps `mx.array(learning_rate)`; weights on the CPU can be float64
    behaviour=Behaviour(  # `alpha < 0` and `eps <= 0` in the constructor, both of which NaN passes
        refused=refusing(
            ("learning_rate alpha eps", ("text", "None")), ("alpha eps", ("negative",)), ("eps", ("zero",))
        )
    ),
)
