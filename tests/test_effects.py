"""How much a difference matters: hand-computed movements, verdicts, substitutes, and what is said about them."""

import json
import math
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import unirms
from unirms import ConfigError, Fidelity, ParameterGroup, RMSPropConfig, dialects, reference
from unirms.effects import Effect, Row, effect, effect_between, gradients, movement, percent, read_gradients

# Two equivalent configs may round differently, as lr * g / den and lr * (g / den) do: some 100 roundings of 1e-16,
# magnified where the steps nearly cancel. 1e-9 is far above that and far below the 1 % that is reported.
ROUNDING = 1e-9
# rho = 0.75 and epsilon = 5: a gradient of 4 gives v = 4, and 3 or 7 as the denominator.
INSIDE = RMSPropConfig(learning_rate=1, rho=0.75, epsilon=5)
OUTSIDE = INSIDE.replace(epsilon_placement="outside_sqrt")
# rho = 0 and epsilon = 0: every update is 1. The rates are 1 and then 0.5, so the steps are 1 and 1 with the rate in
# the buffer (0.5 * 1 + 0.5 * 1), and 1 and 0.75 without it (0.5 * (0.5 * 1 + 1)).
RATE_IN = RMSPropConfig(learning_rate=1, rho=0, epsilon=0, momentum=0.5)
RATE_OUT = RATE_IN.replace(lr_in_momentum=False)
# Weight decay of 1 at a rate of 1 takes the whole weight off in the first step, and half of the rest in the second.
DECAY = RMSPropConfig(learning_rate=1, rho=0, epsilon=0, weight_decay=1)
NO_DECAY = DECAY.replace(weight_decay=0)


def decayed_by_hand():
    (weight,) = np.random.RandomState(gradients.SEED + 1).standard_normal(1)
    first = weight - weight - 1
    with_decay = first - 0.5 * first - 0.5 - weight
    return abs(with_decay + 1.5) / max(abs(with_decay), 1.5)


BY_HAND = [
    (INSIDE, OUTSIDE, [4.0], (4 / 3 - 4 / 7) / (4 / 3)),
    (OUTSIDE, INSIDE, [4.0], (4 / 3 - 4 / 7) / (4 / 3)),
    (INSIDE, INSIDE.replace(maximize=True), [4.0], 2.0),
    (RATE_IN, RATE_OUT, [3.0, 5.0], 0.25 / 2),
    (RATE_IN, RATE_IN, [3.0, 5.0], 0.0),
    (DECAY, NO_DECAY, [3.0, 5.0], decayed_by_hand()),
    (NO_DECAY, DECAY, [3.0, 5.0], decayed_by_hand()),
    (INSIDE, INSIDE.replace(learning_rate=0), [4.0], 1.0),
    (INSIDE.replace(learning_rate=0), INSIDE.replace(learning_rate=0, momentum=0.5), [4.0], 0.0),
]


def is_right():
    """Return whether the effects agree with the movements computed by hand."""
    return all(
        effect_between(one, other, np.array(stream)).worst.difference == pytest.approx(expected, rel=1e-12)
        for one, other, stream, expected in BY_HAND
    )


def test_the_difference_is_that_of_movements_computed_by_hand():
    for one, other, stream, expected in BY_HAND:
        found = effect_between(one, other, np.array(stream))
        assert found.worst.difference == pytest.approx(expected, rel=1e-12), (one, other)


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("half", lambda stream: 0),
        ("half", lambda stream: len(stream.gradients)),
        ("start", lambda wanted, actual, stream: np.zeros(stream.gradients.shape[1])),
        ("gap", lambda one, other, begin, steps: (float(np.linalg.norm(one - other)), 0)),
        (
            "gap",
            lambda one, other, begin, steps: (
                float(np.linalg.norm(one - other) / max(np.linalg.norm(other - begin), 1e-300)),
                0,
            ),
        ),
    ],
)
def test_a_wrong_computation_would_be_caught(monkeypatch, name, planted):
    assert is_right()
    monkeypatch.setattr(movement, name, planted)
    assert not is_right()


def test_the_step_that_passes_one_percent_is_the_first_one():
    wanted = RMSPropConfig(learning_rate=1, rho=0, epsilon=0, momentum=0.5)
    found = effect_between(wanted, wanted.replace(lr_in_momentum=False), np.ones(10))
    assert found.rows[0].passes_at == 6  # the first step at half the rate
    plain = wanted.replace(momentum=0)
    for rate, passes_at in ((0.995, None), (0.985, 1)):
        assert effect_between(plain, plain.replace(learning_rate=rate), np.ones(10)).rows[0].passes_at == passes_at


PAIRS = [(source, target) for source in dialects.all_dialects() for target in dialects.all_dialects()]


@given(
    pair=st.sampled_from(PAIRS),
    rate=st.floats(1e-6, 1),
    rho=st.floats(0, 0.999),
    epsilon=st.just(0.0) | st.floats(1e-12, 0.1),
    momentum=st.sampled_from([0.0, 0.5, 0.99]),
    centered=st.booleans(),
    decay=st.just(0.0) | st.floats(1e-6, 0.1),
    scale=st.sampled_from(gradients.SCALES),
)
def test_an_exact_verdict_has_no_effect_and_a_remedy_leaves_none(
    pair, rate, rho, epsilon, momentum, centered, decay, scale
):
    source, target = pair
    # L2 decay feeds the weights back into the mean square. Where that forgets within a few steps and decay is all the
    # gradient there is, the weights jump about 0 chaotically, and rounding grows tenfold every few steps.
    assume(decay == 0 or rho >= 0.9)
    fields = {
        "learning_rate": rate,
        "rho": rho,
        "epsilon": epsilon,
        "momentum": momentum,
        "centered": centered,
        "weight_decay": decay,
    }
    dialect = dialects.get(source)
    try:
        config = dialect.read({dialect.name_of(name): value for name, value in fields.items() if dialect.name_of(name)})
    except ConfigError:  # the class refuses 0
        assume(False)
    native = config.to_native(target)
    assume(native.fidelity is not Fidelity.APPROXIMATE)
    (row,) = effect(native, scales=[scale]).rows
    if native.fidelity is Fidelity.EXACT:
        assert row.difference <= ROUNDING
        assert row.remedied is None
    else:
        assert row.remedied <= ROUNDING


def test_rounding_is_no_difference():
    one = RMSPropConfig(learning_rate=0.3)
    other = one.replace(lr_in_momentum=False)  # lr * (g / den) instead of (lr * g) / den
    (stream,) = gradients.made([1.0])
    ends = [[*movement.run(config, stream, np.zeros(32), halves=True)][-1][0] for config in (one, other)]
    assert np.any(ends[0] != ends[1])
    assert effect_between(one, other).worst.difference == 0


def test_small_movements_are_measured_in_full_where_nothing_decays():
    tiny = RMSPropConfig(learning_rate=1e-200)
    assert effect_between(tiny, tiny.replace(learning_rate=2e-200)).worst.difference == pytest.approx(0.5)


def test_a_seeded_verdict_says_both_what_happens_unseeded_and_that_seeding_removes_it():
    found = effect(RMSPropConfig.from_native("keras").to_native("mindspore"))
    assert found.fidelity is Fidelity.SEEDED
    assert found.remedy == "state filled in"
    assert found.rows[0].difference > 0.9  # small gradients over a mean square of 1
    assert all(row.remedied <= ROUNDING for row in found.rows)


def test_a_constant_lr_verdict_says_both_rates():
    config = RMSPropConfig.from_native("torch", lr=0.01, momentum=0.9, eps=0)
    found = effect(config.to_native("keras"))
    assert found.fidelity is Fidelity.CONSTANT_LR
    assert found.remedy == "constant rate"
    assert all(row.difference > 0.01 and row.passes_at > 50 for row in found.rows)
    assert all(row.remedied <= ROUNDING for row in found.rows)
    both = effect(RMSPropConfig.from_native("tf1", learning_rate=0.01, momentum=0.9).to_native("pfrl"))
    assert both.remedy == "state filled in, constant rate"
    assert all(row.remedied <= ROUNDING for row in both.rows)


def test_the_substitute_is_torchvisions_at_small_gradients_and_another_at_large_ones():
    # Torchvision trains MobileNetV3 with 0.0316 = sqrt(1e-3) for the 1e-3 that TensorFlow has inside the root.
    inside = RMSPropConfig(learning_rate=0.064, rho=0.9, epsilon=1e-3, momentum=0.9, lr_in_momentum=False)
    found = effect(inside.to_native("torch"))
    assert found.fidelity is Fidelity.APPROXIMATE
    assert found.epsilon == "eps"
    small, *_, large = found.substitutes
    assert small.scale == 1e-6
    assert small.epsilon == pytest.approx(math.sqrt(1e-3), rel=0.002)  # the search ends within 0.1 %
    assert small.difference < 0.01 < found.rows[0].difference
    assert large.scale == 1
    assert large.epsilon < 0.01
    assert large.difference <= found.rows[-1].difference
    torchvisions = inside.replace(epsilon=0.0316, epsilon_placement="outside_sqrt")
    rows = effect_between(inside, torchvisions).rows
    assert rows[0].difference < 0.001
    assert rows[-1].difference > 2 * found.rows[-1].difference  # worse there than the epsilon as it was
    assert "stays approximate" in str(found)


def test_the_substitute_goes_the_other_way_too():
    outside = RMSPropConfig.from_native("torch", lr=0.01, eps=1e-3)
    small = effect(outside.to_native("keras"), scales=[1e-8]).substitutes[0]
    assert small.epsilon == pytest.approx(1e-6, rel=0.02)
    assert small.difference < 1e-3


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0])
def test_no_epsilon_of_a_fine_grid_beats_the_substitute(scale):
    native = RMSPropConfig.from_native("torch", lr=0.01, eps=1e-6, momentum=0.5).to_native("pfrl")
    found = effect(native, scales=[scale])
    assert found.remedy == ""
    (best,) = found.substitutes
    grid = [
        effect_between(native.wanted, native.meaning.replace(epsilon=10**x), scales=[scale]).rows[0].difference
        for x in np.arange(-16, 0, 0.2)
    ]
    assert best.difference <= min([*grid, found.rows[0].difference])


@pytest.mark.parametrize(
    ("source", "target", "settings", "scale"),
    [
        # PyTorch divides by no loss scale: it wants an epsilon that is 1024 times as large.
        ("keras", "torch", {"loss_scale_factor": 1024.0, "epsilon": 1e-3}, 1e-4),
        ("optax", "tf1", {"learning_rate": 0.01, "bias_correction": True, "eps_in_sqrt": False}, 0.1),
        ("torch", "keras", {"weight_decay": 0.01}, 1e-3),
        ("torch", "keras", {"centered": True, "eps": 0.01}, 1e-6),
    ],
)
def test_the_substitute_is_the_best_beside_other_differences_too(source, target, settings, scale):
    native = unirms.translate(settings, source=source, target=target).native
    found = effect(native, scales=[scale])
    (best,) = found.substitutes
    remedied = native.meaning.replace(initial_mean_square=native.wanted.initial_mean_square)
    for x in np.arange(-20, 6, 0.25):
        other = effect_between(native.wanted, remedied.replace(epsilon=10**x), scales=[scale]).rows[0].difference
        assert best.difference <= other, x


def test_a_substitute_is_one_that_the_class_accepts():
    native = RMSPropConfig(epsilon=0).to_native("keras-legacy")  # which turns 0 into 1e-7
    found = effect(native)
    assert all(0 < best.epsilon <= 1e-7 for best in found.substitutes)
    assert found.worst.difference > 0.01
    assert max(best.difference for best in found.substitutes) < 1e-9
    native = RMSPropConfig(epsilon=0).to_native("mlx")  # which refuses it
    assert min(best.epsilon for best in effect(native).substitutes) >= dialects.base.SMALLEST * (1 - 1e-9)


def test_there_is_no_substitute_where_epsilon_is_no_difference():
    native = RMSPropConfig(maximize=True).to_native("keras")
    assert native.fidelity is Fidelity.APPROXIMATE
    assert effect(native).substitutes == ()


def test_a_remedied_difference_is_the_one_the_substitute_starts_from():
    native = RMSPropConfig.from_native("tf1", learning_rate=0.01, epsilon=1e-3, momentum=0.9).to_native("torch")
    found = effect(native)
    for row, best in zip(found.rows, found.substitutes, strict=True):
        assert best.difference <= row.remedied


def test_what_one_vector_cannot_show_is_named():
    plain = RMSPropConfig()
    for axis, value in {
        "ema_decay": 0.9,
        "gradient_centralization": "first_axis",
        "non_finite": "skip",
        "sparse": "lazy",
    }.items():
        found = effect_between(plain.replace(**{axis: value}), plain)
        assert found.worst.difference == 0
        assert f"Not measured: {axis}." in str(found)
        assert any(axis in note for note in found.as_dict()["notes"])
    gathering = effect_between(plain.replace(gradient_accumulation_steps=4), plain)
    assert gathering.worst.difference > 0.01
    assert not gathering.notes


def test_groups_and_clips_and_exemptions_hold_for_the_tensor():
    plain = RMSPropConfig(learning_rate=0.01, weight_decay=0.1, clip={"by": "global_norm", "max_norm": 0.5})
    group = plain.replace(groups=[ParameterGroup(match="weight", rho=0.5)], no_weight_decay="wei*")
    assert effect_between(group, plain.replace(rho=0.5, weight_decay=0)).worst.difference == 0
    small, *_, large = effect_between(plain, plain.replace(clip=())).rows
    assert small.difference == 0  # their norm is below the limit
    assert large.passes_at is not None
    found = effect(group.to_native("keras"))
    assert "named weight" in str(found)
    assert "Not measured" not in str(found)
    # A group with an absolute rate has it halved like the others.
    absolute = plain.replace(groups=[ParameterGroup(match="*", learning_rate=0.1)], momentum=0.9)
    assert effect_between(absolute, absolute.replace(lr_in_momentum=False)).worst.difference > 0.01


def test_the_scale_is_that_of_the_gradient_after_the_loss_scale():
    plain = RMSPropConfig(epsilon=1e-3)
    other = {"epsilon_placement": "outside_sqrt"}
    scaled = plain.replace(loss_scale=1024)
    rows = effect_between(plain, plain.replace(**other)).rows
    assert effect_between(scaled, scaled.replace(**other)).rows == rows


def test_recorded_gradients_are_used_as_they_are():
    stream = gradients.made([1e-4])[0].gradients
    native = RMSPropConfig.from_native("torch", lr=0.01).to_native("keras")
    (made,), (recorded,) = effect(native, scales=[1e-4]).rows, effect(native, stream.reshape(100, 8, 2, 2)).rows
    assert recorded == Row(None, made.difference, made.passes_at, made.remedied, 0)
    rounded = effect(native, stream.astype(np.float32)).rows[0]
    assert rounded.difference == pytest.approx(recorded.difference, rel=1e-5)  # float32 gradients, float64 arithmetic
    assert "32 recorded gradients" in str(effect(native, stream))


def test_what_becomes_nan_is_said():
    skips = RMSPropConfig(centered=True, epsilon=0, negative_variance="skip")
    stream = np.zeros((10, 2))
    stream[:, 0] = [1, -1] * 5
    found = effect_between(skips, skips.replace(negative_variance="propagate"), stream)
    assert found.worst.difference == math.inf
    assert found.worst.passes_at == 1
    assert found.worst.lost == 0
    assert "infinite" in str(found)
    assert "in one of the two alone" in str(found)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["worst"]["difference"] is None
    propagates = RMSPropConfig(epsilon=0)
    both = effect_between(propagates, propagates.replace(learning_rate=0.002), stream)
    assert both.worst.lost == 1
    assert both.worst.difference == pytest.approx(0.5)
    assert "Up to 1 elements" in str(both)


def test_a_difference_of_nothing_is_said_to_be_none():
    stream = np.ones((10, 2))
    stream[4] = np.nan  # as mixed precision leaves them now and then
    native = RMSPropConfig(momentum=0.9).to_native("torch")
    found = effect(native, stream)
    assert (found.worst.difference, found.worst.lost) == (0, 2)
    assert "a difference of 0 says nothing here" in " ".join(str(found).split())
    stream[4, 0] = 1
    assert "Up to 1 elements" in str(effect(native, stream))


def test_movements_beyond_the_range_of_squares_are_measured():
    wanted = RMSPropConfig(learning_rate=1e200)
    assert effect_between(wanted, wanted.replace(learning_rate=2e200)).worst.difference == pytest.approx(0.5)
    assert effect_between(wanted, wanted, scales=[1e300]).worst.difference == 0


def test_the_stream_is_the_one_that_is_documented():
    stream = gradients.made()
    assert [one.scale for one in stream] == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
    assert all(one.gradients.shape == (100, 32) for one in stream)
    # Frozen for ever by NumPy's promise for RandomState (NEP 19).
    assert stream[-1].gradients[0, :2] == pytest.approx(np.array(FIRST), rel=1e-15)
    assert all(np.allclose(one.gradients, one.scale * stream[-1].gradients, rtol=1e-15) for one in stream)


FIRST = [0.3117373830128764, 0.49346488159986346]


def test_an_effect_reads_as_a_table():
    found = effect(
        RMSPropConfig.from_native("tf1", learning_rate=0.01, momentum=0.9).to_native("mindspore-experimental")
    )
    text = str(found)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "100 steps of 32 gradients of each size" in text
    assert "halved after step 50" in " ".join(text.split())
    heads, *rows = found.table()
    assert heads == ("gradients", "difference", "over 1 %", found.remedy, "best eps", "what remains")
    assert [row[0] for row in rows] == ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]
    assert found.worst == max(found.rows, key=lambda row: row.difference)
    assert isinstance(found, Effect)


def test_a_translation_has_its_effect():
    translation = unirms.translate({"lr": 0.01}, source="torch", target="keras")
    assert translation.effect(scales=[1e-3]) == effect(translation.native, scales=[1e-3])


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.0, "0"), (0.5, "50 %"), (2.0, "200 %"), (0.12345, "12.3 %"), (3.3e-7, "3e-05 %"), (math.inf, "infinite")],
)
def test_a_difference_is_shown_as_a_percentage(difference, text):
    assert percent(difference) == text


def test_an_effect_takes_two_seconds_of_reference_steps_at_most(monkeypatch):
    # The costliest kind, a search for seven substitutes. Steps are counted, since a shared machine may be half as fast
    # from one minute to the next; a step of so small a tensor takes some 50 us.
    steps = []
    step = reference.step
    monkeypatch.setattr(reference, "step", lambda *arguments: steps.append(1) or step(*arguments))
    effect(RMSPropConfig.from_native("tf1", learning_rate=0.01, momentum=0.9, centered=True).to_native("torch"))
    assert 20_000 < len(steps) < 40_000


@pytest.mark.parametrize("scale", [0, -1, math.inf, math.nan, "1", True, 10**400])
def test_a_scale_is_a_positive_number(scale):
    with pytest.raises(ConfigError, match="the scale of gradients must be a finite number > 0"):
        effect(RMSPropConfig().to_native("torch"), scales=[scale])


def test_scales_and_gradients_are_not_both_given():
    native = RMSPropConfig().to_native("torch")
    with pytest.raises(ConfigError, match="give one"):
        effect(native, np.ones(3), scales=[1])
    with pytest.raises(ConfigError, match="at least one scale"):
        effect(native, scales=[])


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ([1.0], "list is not an array"),
        (np.ones(3, int), "the numbers are int64"),
        (np.ones(3, complex), "the numbers are complex128"),
        (np.ones((), float), "at least one step"),
        (np.ones((0, 4)), "at least one step"),
        (np.ones((4, 0)), "at least one step"),
    ],
)
def test_gradients_are_an_array_of_floating_point_numbers(stream, reason):
    with pytest.raises(ConfigError, match=reason):
        effect(RMSPropConfig().to_native("torch"), stream)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_recorded_gradients_are_read(tmp_path, dtype):
    stream = np.arange(24, dtype=dtype).reshape(4, 3, 2)
    np.save(tmp_path / "one.npy", stream)
    np.savez(tmp_path / "one.npz", grads=stream)
    np.savez_compressed(tmp_path / "named.npz", weights=np.zeros(3), gradients=np.asfortranarray(stream))
    for file in ("one.npy", "one.npz", "named.npz"):
        read = read_gradients(tmp_path / file)
        assert read.dtype == stream.dtype
        assert np.array_equal(read, stream)


def saved(array, **how):
    file = BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


def zipped(**members):
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def claiming(shape, dtype="<f8"):
    """Return a file whose header claims a shape that its 8 bytes do not hold."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)


BAD_FILES = {
    "empty": (b"", "is neither an .npy nor an .npz file"),
    "text": (b"lr: 0.01\n", "is neither an .npy nor an .npz file"),
    "objects": (saved(np.array([{}], object), allow_pickle=True), "the numbers are object"),
    "integers": (saved(np.ones(3, int)), "the numbers are int64"),
    "structured": (saved(np.zeros(2, [("a", float)])), "the numbers are"),
    "version 3": (saved(np.ones(3)).replace(b"NUMPY\x01", b"NUMPY\x03"), "version"),
    "no step": (saved(np.ones((0, 2))), "at least one step"),
    "a scalar": (saved(np.float64(1)), "at least one step"),
    "cut": (saved(np.ones((9, 9)))[:-8], "claims 648 bytes of gradients and has 640"),
    "cut header": (saved(np.ones((9, 9)))[:30], "cannot be read as .npy or .npz"),
    "only magic": (b"\x93NUMPY", "cannot be read as .npy or .npz"),
    "huge claim": (claiming((2**50,)), "at most 1073741824 are read"),
    "claim": (claiming((2**20,)), "claims 8388608 bytes of gradients and has 8"),
    "overflowing claim": (claiming((2**62, 8, 2**62)), "at most"),
    "negative": (claiming((-1, -1)), "is impossible"),
    "huge items": (claiming((1,), "|V2147483647"), "the numbers are"),
    "bad header": (claiming("x"), "cannot be read as .npy or .npz"),
    "bad zip": (b"PK\x03\x04" + bytes(40), "cannot be read as .npy or .npz"),
    "empty zip": (zipped(), "has 0 arrays"),
    "two arrays": (zipped(a=saved(np.ones(2)), b=saved(np.ones(2))), r"has 2 arrays \(a, b\)"),
    "zip of text": (zipped(a=b"hello world"), "cannot be read as .npy or .npz"),
    "bomb": (zipped(a=claiming((2**28,)) + bytes(2**20)), "at most 1073741824 are read"),
    "zip of objects": (zipped(a=saved(np.array([{}], object), allow_pickle=True)), "the numbers are object"),
    "damaged zip": (zipped(a=saved(np.random.RandomState(0).standard_normal(99))).replace(b"\x9d", b"\x9e"), "cannot"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_of_gradients_is_one_clear_error(tmp_path, name):
    content, reason = BAD_FILES[name]
    path = tmp_path / "gradients.npy"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_gradients(path)
    assert str(path) in str(caught.value)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        read_gradients(tmp_path / "none.npy")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_gradients(tmp_path)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"PK\x05\x06"]))
def test_any_file_gives_gradients_or_a_config_error(tmp_path_factory, content, start):
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(start + content)
    try:
        found = read_gradients(path)
    except ConfigError:
        return
    assert found.dtype.kind == "f"


@given(st.data())
def test_any_damage_to_a_file_gives_gradients_or_a_config_error(tmp_path_factory, data):
    stream = np.ones((3, 2), np.float32)
    whole = bytearray(data.draw(st.sampled_from([saved(stream), zipped(a=saved(stream))])))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    path.write_bytes(whole)
    try:
        found = read_gradients(path)
    except ConfigError:
        return
    assert found.dtype.kind == "f"
