"""Optax: `optax.rmsprop`. Recorded runs of 0.2.8 are in the corpus."""

from unirms.dialects.base import REQUIRED, Dialect, Fields, carries, converts
from unirms.dialects.behaviour import Behaviour, refusing
from unirms.dialects.snippet import Snippet


def settle(fields: Fields) -> Fields:
    """Return the fields as Optax computes them: Nesterov's look-ahead is nothing without momentum."""
    return {**fields, "nesterov": fields["nesterov"] and bool(fields["momentum"])}


SNIPPET = Snippet(
    imports=("import optax",),
    name="optax.rmsprop",
    setup="opt_state = optimizer.init(params)  # params: the pytree of the model's weights",
)

DIALECT = Dialect(
    name="optax",
    target="optax.rmsprop",
    package="optax",
    spellings=("optax._src.alias.rmsprop",),
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
    snippet=SNIPPET,
    fixed={"lr_in_momentum": True, "negative_variance": "propagate", "weight_decay_mode": "l2"},
    settle=settle,
    behaviour=Behaviour(  # it checks nothing: what is no number fails inside JAX
        refused=refusing(
            ("learning_rate decay eps initial_scale momentum", ("text",)),
            ("decay eps initial_scale", ("None",)),
        ),
        misread={("learning_rate", "None"): "it leaves out the rate and its minus sign, and alone, it climbs"},
        acts_with={"nesterov": "momentum"},
    ),
)
