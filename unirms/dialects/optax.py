"""Optax: `optax.rmsprop`."""

from unirms.dialects.base import REQUIRED, Dialect, Fields, carries, converts


def settle(fields: Fields) -> Fields:
    """Return the fields as Optax computes them: Nesterov's look-ahead is nothing without momentum."""
    return {**fields, "nesterov": fields["nesterov"] and bool(fields["momentum"])}


DIALECT = Dialect(
    name="optax",
    target="optax.rmsprop",
    package="optax",
    aliases=("jax",),
    docs="https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.rmsprop",
    arguments=(
        carries("learning_rate", "learning_rate", REQUIRED),
        carries("decay", "rho", 0.9),
        carries("eps", "epsilon", 1e-8),
        carries("initial_scale", "initial_mean_square", 0.0),
        converts(
            "eps_in_sqrt",
            ("epsilon_placement",),
            True,
            lambda value: {"epsilon_placement": "inside_sqrt" if value else "outside_sqrt"},
            lambda config: config.epsilon_placement == "inside_sqrt",
        ),
        carries("centered", "centered", False),
        converts(
            "momentum",
            ("momentum",),
            None,
            lambda value: {"momentum": 0.0 if value is None else value},
            lambda config: config.momentum or None,
        ),
        carries("nesterov", "nesterov", False),
        carries("bias_correction", "bias_correction", False),
    ),
    fixed={"lr_in_momentum": True, "negative_variance": "propagate", "weight_decay_mode": "l2"},
    settle=settle,
)
