"""What the tests of PaddlePaddle share: parameters, steps by hand, static graphs, and a run beside the reference."""

import numpy as np

from unirms import UnsupportedError, reference  # noqa: F401
from unirms.conformance.drivers.paddle import DRIVER, paddle
from unirms.conformance.measures import Ruler, same_bits


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
