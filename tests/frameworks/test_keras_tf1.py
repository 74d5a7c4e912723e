"""TensorFlow 1's RMSProp, which the installed TensorFlow has: what it does with a sparse gradient."""

import numpy as np
import pytest

from unirms import RMSPropConfig, SparseGradient, reference


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_rows_are_summed_and_the_others_rest(driver, momentum, centered, rng):
    import tensorflow as tf

    settings = {"learning_rate": 0.125, "decay": 0.5, "momentum": momentum, "epsilon": 0.25, "centered": centered}
    config = RMSPropConfig.from_native("tf1", **settings)
    assert config.sparse == "lazy"
    start = rng.standard_normal((4, 2)).astype(np.float32)
    variable, params = tf.Variable(start), {"w": start}
    optimizer = tf.compat.v1.train.RMSPropOptimizer(**settings)
    state = reference.init(config, params)
    for indices in ([2, 0, 2], [1, 1], [0], [3, 2]):
        values = rng.standard_normal((len(indices), 2)).astype(np.float32)
        slices = tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant([4, 2], tf.int64))
        optimizer.apply_gradients([(slices, variable)])
        params, state = reference.step(config, params, {"w": SparseGradient(np.array(indices), values)}, state)
        # Float32: a few roundings of numbers near 1 at each of four steps.
        np.testing.assert_allclose(variable.numpy(), params["w"], rtol=0, atol=2e-6)
        np.testing.assert_allclose(optimizer.get_slot(variable, "rms").numpy(), state.mean_square["w"], rtol=2e-6)
    dense = config.replace(sparse="dense")
    apart, _ = reference.step(dense, params, {"w": SparseGradient(np.array([0]), values[:1])}, state)
    lazy, _ = reference.step(config, params, {"w": SparseGradient(np.array([0]), values[:1])}, state)
    assert (momentum > 0) == (not np.array_equal(apart["w"], lazy["w"]))  # rows that coast, and would not
