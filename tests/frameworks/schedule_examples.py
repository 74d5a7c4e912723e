"""Schedules for every framework: each kind under its own name, and unusual ones of some.

All of their changes lie in the first 60 updates. Lengths of 41 and 49, because their float32 and float64 reciprocals
are too small, which moves the steps of compiled stairs.
"""

from unirms import schedules

PEAK = 0.05
SCHEDULES = {
    "constant": schedules.Constant(learning_rate=PEAK),
    "step": schedules.Step(initial_learning_rate=PEAK, step_size=49, gamma=0.5),
    "step up": schedules.Step(initial_learning_rate=PEAK / 10, step_size=30, gamma=1.5),
    "multi_step": schedules.MultiStep(initial_learning_rate=PEAK, milestones=[3, 50, 50], gamma=0.3),
    "piecewise": schedules.Piecewise(boundaries=[1, 50, 55], learning_rates=[0.01, PEAK, 0.0, 0.02]),
    "exponential": schedules.Exponential(initial_learning_rate=PEAK, decay_rate=0.97),
    "exponential, slow": schedules.Exponential(initial_learning_rate=PEAK, decay_rate=0.999),
    "exponential staircase": schedules.Exponential(
        initial_learning_rate=PEAK, decay_rate=0.9, decay_steps=2.4, staircase=True
    ),
    "natural_exponential": schedules.NaturalExponential(initial_learning_rate=PEAK, decay_rate=0.3, decay_steps=25),
    "inverse_time": schedules.InverseTime(initial_learning_rate=PEAK, decay_rate=0.5, decay_steps=30),
    "inverse_time staircase": schedules.InverseTime(
        initial_learning_rate=PEAK, decay_rate=0.5, decay_steps=41, staircase=True
    ),
    "polynomial": schedules.Polynomial(
        initial_learning_rate=PEAK, end_learning_rate=0.001, decay_steps=40.5, power=0.5
    ),
    "polynomial of power 2": schedules.Polynomial(initial_learning_rate=PEAK, decay_steps=50, power=2),
    "polynomial cycle": schedules.Polynomial(initial_learning_rate=PEAK, decay_steps=49, power=2, cycle=True),
    "linear": schedules.Linear(initial_learning_rate=PEAK, decay_steps=50),
    "linear up": schedules.Linear(initial_learning_rate=0.0, end_learning_rate=PEAK, decay_steps=50),
    "cosine": schedules.Cosine(initial_learning_rate=PEAK, end_learning_rate=0.001, decay_steps=50),
    "cosine periodic": schedules.Cosine(initial_learning_rate=PEAK, decay_steps=24.5, periodic=True),
    "cosine_restarts": schedules.CosineRestarts(initial_learning_rate=PEAK, first_period=7, period_factor=2),
    "cosine_restarts, equal": schedules.CosineRestarts(initial_learning_rate=PEAK, first_period=49, peak_factor=0.5),
    "one_cycle": schedules.OneCycle(max_learning_rate=PEAK, total_steps=55),
    "one_cycle of three": schedules.OneCycle(
        max_learning_rate=PEAK, total_steps=55, pct_start=0.4, anneal_strategy="linear", three_phase=True
    ),
    "noam": schedules.Noam(factor=0.5, d_model=64, warmup_steps=25),
    "warmup": schedules.Warmup(warmup_steps=20, after=schedules.Cosine(initial_learning_rate=PEAK, decay_steps=30)),
    "warmup overlapping": schedules.Warmup(
        warmup_steps=20,
        end_learning_rate=0.01,
        after=schedules.Linear(initial_learning_rate=PEAK, decay_steps=50),
        overlap=True,
    ),
    "sequence": schedules.Sequence(
        schedules=[
            schedules.Constant(learning_rate=0.01),
            schedules.Cosine(initial_learning_rate=PEAK, decay_steps=50),
        ],
        boundaries=[30],
    ),
    "sampled": schedules.Sampled(
        schedule=schedules.Step(initial_learning_rate=PEAK, step_size=49, gamma=0.5), every=3, offset=2
    ),
    "table": schedules.Table(learning_rates=[0.01, 0.03, PEAK, 0.02]),
}
