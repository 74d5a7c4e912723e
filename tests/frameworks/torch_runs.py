"""PyTorch: configs, and runs over small parameters, for the tests of states and checkpoints."""

import dataclasses

import numpy as np
import torch

import unirms
from unirms import RMSPropConfig, schedules

RATE = schedules.Warmup(
    warmup_steps=5, start_learning_rate=0.0, after=schedules.Cosine(initial_learning_rate=0.05, decay_steps=60)
)
PLATEAU = schedules.Plateau(initial_learning_rate=0.05, patience=1, factor=0.5, cooldown=1)
GROUPS = [
    {"match": "*.bias", "learning_rate_factor": 0.5, "rho": 0.8, "momentum": 0.0},
    {"match": "b.*", "momentum": 0.5, "centered": False, "epsilon": 1e-2},
]
STOCK = RMSPropConfig.from_native("torch", lr=0.02, eps=1e-3)
FULL = STOCK.replace(momentum=0.9, centered=True, weight_decay=0.01)
STOCKS = {
    "plain": STOCK,
    "full": FULL,
    "seeded": FULL.replace(initial_mean_square=0.5),
    "schedule": FULL.replace(learning_rate=RATE),
    "plateau": FULL.replace(learning_rate=PLATEAU),
    "groups": FULL.replace(groups=GROUPS, no_weight_decay="a.*"),
    "groups and schedule": FULL.replace(groups=GROUPS, learning_rate=RATE),
}
EXACTS = {
    "seed and corrected": FULL.replace(initial_mean_square=0.5, bias_correction=True, nesterov=True),
    "average": FULL.replace(ema_decay=0.9, epsilon_placement="inside_sqrt", lr_in_momentum=True),
    "gathered": FULL.replace(gradient_accumulation_steps=3, non_finite="skip", ema_decay=0.5, learning_rate=RATE),
    "gathered plateau": FULL.replace(gradient_accumulation_steps=3, learning_rate=PLATEAU),
    "groups": FULL.replace(
        groups=[{**GROUPS[0], "clip": {"by": "value", "limit": 0.5}}, GROUPS[1]],
        clip={"by": "global_norm", "max_norm": 1.0},
        learning_rate=RATE,
        ema_decay=0.9,
        weight_decay_mode="decoupled",
    ),
}
CONFIGS = {**{f"stock {name}": one for name, one in STOCKS.items()}, **{f"exact {n}": one for n, one in EXACTS.items()}}
SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (2, 4), "b.scale": ()}
DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64")


class Run:
    """An optimizer over parameters, stepped with gradients that depend on a seed and on the number of the step."""

    def __init__(self, config, *, dtype="float32", foreach=False, policy="exact", seed=0):
        self.dtype = getattr(torch, dtype)
        self.params = {
            name: torch.nn.Parameter(values(seed, index, shape, self.dtype))
            for index, (name, shape) in enumerate(SHAPES.items())
        }
        self.optimizer = unirms.build(config, "torch", self.params, policy=policy, foreach=foreach)

    def steps(self, first, last, seed=1, left_out=()):
        scheduler = unirms.lr_scheduler(self.optimizer)
        for number in range(first, last):
            for index, (name, param) in enumerate(self.params.items()):
                grad = values(seed, 100 * number + index, param.shape, self.dtype)
                param.grad = None if name in left_out else grad
            self.optimizer.step()
            if isinstance(getattr(scheduler, "schedule", None), schedules.Plateau):
                scheduler.step(float(values(2, number, (), torch.float64)))
            elif scheduler is not None:
                scheduler.step()
        return self

    def everything(self):
        """Return copies of the weights, of all that the optimizer keeps, and of its rates."""
        state = unirms.state_of(self.optimizer, model=self.params)
        rates = np.array([float(group["lr"]) for group in self.optimizer.param_groups])
        counts = np.array([state.step, state.micro_step])
        return {
            **{(kind, name): array for kind, arrays in state.tensors().items() for name, array in arrays.items()},
            "rates": rates,
            "counts": counts,
            "plateau": np.array(dataclasses.astuple(state.plateau) if state.plateau else ()),
        }


def values(seed, number, shape, dtype):
    generator = torch.Generator().manual_seed(1000 * seed + number)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(tuple(shape), generator=generator, dtype=wide).to(dtype)


def same(left, right):
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and left[key].tobytes() == right[key].tobytes() for key in left
    )
