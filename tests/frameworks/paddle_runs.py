"""What the tests of PaddlePaddle share: parameters, steps by hand, static graphs, and a run beside the reference."""

import numpy as np

import unirms
from unirms import SparseGradient, reference
from unirms.conformance.drivers.paddle import DRIVER, paddle
from unirms.conformance.measures import Ruler

SHAPES = {"body.weight": (6, 5), "body.bias": (9,), "norm.scale": (), "head.weight": (3, 4, 17), "head.bias": (33,)}


def parameter(values, dtype="float32"):
    values = np.asarray(values, dtype)
    param = paddle.create_parameter(list(values.shape), dtype)
    param.set_value(values)
    return param


def step(optimizer, *grads):
    """Make one step with these gradients."""
    for param, grad in zip(optimizer._parameter_list, grads, strict=True):
        param.grad = paddle.to_tensor(np.asarray(grad, str(param.dtype).removeprefix("paddle.")))
    optimizer.step()


def weights_of(dtype, shapes=SHAPES):
    rng = np.random.default_rng(11)
    return {name: np.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def gradients_of(dtype, steps, shapes=SHAPES):
    """Return gradients of many magnitudes; an element keeps its sign, so that no sum of them is rounding errors."""
    rng = np.random.default_rng(12)
    signs = {name: rng.choice([-1.0, 1.0], size=shape) for name, shape in shapes.items()}
    return [
        {name: np.asarray(signs[name] * rng.uniform(0.5, 2.0, shapes[name]) * size, dtype) for name in shapes}
        for size in 10.0 ** rng.uniform(-2, 1, steps)
    ]


class Beside:
    """An optimizer of Paddle's at work beside the reference in double, and the worst error of both so far in ULP."""

    def __init__(self, config, mode, dtype, *, make=None, shapes=SHAPES, policy="exact"):
        self.config, self.dtype = config, dtype
        start = weights_of(dtype, shapes)
        make = make or (lambda params, **more: unirms.build(config, "paddle", params, policy=policy, **more))
        self.run = DRIVER.start(make, start, dtype, mode)
        self.params = {name: value.astype("float64") for name, value in start.items()}
        self.state = reference.init(config, self.params)
        self.weights = Ruler(self.params, dtype)
        self.slots = {name: Ruler(arrays, dtype) for name, arrays in self.state.slots().items()}
        self.worst = 0.0

    @property
    def optimizer(self):
        return self.run.optimizer

    def step(self, grads, rate=None):
        """Make one step on both sides."""
        self.run.step(grads, rate)
        now = self.config if rate is None else self.config.replace(learning_rate=rate)
        wide = {name: _wide(grad) for name, grad in grads.items()}
        self.params, self.state = reference.step(now, self.params, wide, self.state)
        seen = self.run.state()
        errors = [self.weights.observe(self.params, self.run.weights()).ulp]
        for slot, ruler in self.slots.items():
            errors.append(ruler.observe(self.state.slots()[slot], seen.slots()[slot]).ulp)
        # Sums of numbers of one sign, which gather half an ULP each.
        sums = Ruler({name: np.zeros_like(total) for name, total in self.state.gradient_sum.items()}, self.dtype)
        errors.append(sums.observe(self.state.gradient_sum, seen.gradient_sum).ulp)
        if isinstance(self.optimizer, unirms.adapters.paddle.UniRMSProp):
            counts = (seen.step, seen.micro_step), (self.state.step, self.state.micro_step)
            errors.append(0.0 if counts[0] == counts[1] else np.inf)
        self.worst = max(self.worst, *errors)


def _wide(grad):
    if isinstance(grad, SparseGradient):
        return SparseGradient(grad.indices, grad.values.astype("float64"))
    return grad.astype("float64")


class StaticGraph:
    """A static graph of its own, with names and a scope of its own."""

    def __enter__(self):
        paddle.enable_static()
        self.main, self.start, self.scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
        self.guards = [
            paddle.utils.unique_name.guard(),
            paddle.static.program_guard(self.main, self.start),
            paddle.static.scope_guard(self.scope),
        ]
        for guard in self.guards:
            guard.__enter__()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        return self

    def __exit__(self, *error):
        for guard in reversed(self.guards):
            guard.__exit__(*error)
        paddle.disable_static()

    def startup(self):
        self.executor.run(self.start)

    def step(self, **feed):
        self.executor.run(self.main, feed=feed)

    def fetch(self, *values):
        return self.executor.run(self.main, fetch_list=list(values))

    def value(self, variable):
        return np.array(self.scope.find_var(variable.name).get_tensor())
