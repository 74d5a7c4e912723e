"""Stable-Baselines3: `RMSpropTFLike`, PyTorch's class with TensorFlow 1's epsilon and first mean square.

Recorded runs of 2.9.2 are in the corpus.
"""

from dataclasses import replace

from unirms.dialects.pfrl import ARGUMENTS
from unirms.dialects.pfrl import DIALECT as PFRL

DIALECT = replace(
    PFRL,
    name="sb3",
    target="stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike",
    package="stable-baselines3",
    spellings=(),  # its package re-exports nothing
    aliases=("stable-baselines3", "stable_baselines3"),
    docs="https://stable-baselines3.readthedocs.io/en/master/modules/a2c.html",
    arguments=ARGUMENTS,
    snippet=replace(
        PFRL.snippet,
        imports=("from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike",),
        name="RMSpropTFLike",
    ),
    fixed={**PFRL.fixed, "initial_mean_square": 1.0},
    remarks=("Unlike TensorFlow's, its momentum buffer does not hold the learning rate.",),
)
