"""Arrays and numbers of any kind are taken, or refused in one sentence; what is written can be read again."""

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sgtheory.data import InnerEar, SpikeDataset, floyd_steinberg, load_shd, randman, recordings_to_spikes, write_shd
from sgtheory.errors import UserError
from sgtheory.lif import Noise
from sgtheory.networks import ConvShape, normal_weights, recurrent_fluctuation_driven_std
from sgtheory.neurons import LIFParameters

pytestmark = pytest.mark.fuzz  # make torture: with many more examples
NUMBERS = st.sampled_from(
    [
        *(0, 1, -1, 3, 2**40, 0.5, 1.0, -0.0, float("nan"), float("inf"), True, None, "3", [1]),
        *(np.int8(3), np.uint64(3), np.float16(0.5), np.float64(1), np.bool_(True)),
    ]
)
ARRAYS = arrays(
    st.sampled_from(["?", "i1", "i8", "u1", "u8", "f2", "f4", "f8", "c8", "U2", "O"]),
    array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    elements=None,
    fill=st.nothing(),
)


def outcome(call):
    """The result, or None if it is refused; anything but a sentence of ours is an error of this package."""
    try:
        result = call()
    except UserError as error:
        said = str(error)
    else:
        event("taken")
        return result
    event("refused")
    assert "\n" not in said
    return None


@given(ARRAYS)
def test_pictures(grey):
    dots = outcome(lambda: floyd_steinberg(grey))
    if dots is not None:
        assert dots.dtype == bool
        assert dots.shape == grey.shape


SMALL_EAR = InnerEar(channels=4, places=4)


@settings(max_examples=settings.default.max_examples // 3)
@given(ARRAYS, NUMBERS)
def test_sounds(sound, rate):
    heard = outcome(lambda: SMALL_EAR.velocity(sound, 48e3 if rate == 3 else rate))
    assert heard is None or heard.ndim == 2


@given(NUMBERS, NUMBERS, NUMBERS)
def test_splits_and_samples(fraction, seed, index):
    data = SpikeDataset.from_samples([[0.1], [0.2, 0.3]], [[1], [2, 3]], [0, 1], ["a", "b"], "two")
    parts = outcome(lambda: data.split(fraction, seed))
    assert parts is None or sorted(np.concatenate(parts)) == [0, 1]
    binned = outcome(lambda: data.bin(np.asarray(index), 3, 0.1))
    assert binned is None or binned.shape[1:] == (3, 700)


def test_samples_from_the_end():
    data = SpikeDataset.from_samples([[0.1], [0.2, 0.3]], [[1], [2, 3]], [0, 1], ["a", "b"], "two")
    assert data[-1][1].tolist() == data[np.int64(1)][1].tolist() == [2, 3]
    for wrong in (2, -3):
        with pytest.raises(IndexError):
            data[wrong]


@given(st.lists(NUMBERS, min_size=5, max_size=5))
def test_shapes_and_weights(numbers):
    shape = outcome(lambda: ConvShape(*numbers))
    assert shape is None or all(type(value) is int for value in vars(shape).values())
    sigma_u, fan_in, recurrent, rate, alpha = numbers
    outcome(lambda: recurrent_fluctuation_driven_std(sigma_u, fan_in, recurrent, rate, alpha, LIFParameters()))
    if not any(isinstance(number, int) and number == 2**40 for number in numbers[:2]):  # would fill the memory
        weights = outcome(lambda: normal_weights((fan_in, 2), sigma_u, Noise(0)))
        assert weights is None or bool(weights.isfinite().all())


@given(st.dictionaries(st.sampled_from(["classes", "units", "duration", "alpha", "spikes", "seed", "cutoff"]), NUMBERS))
def test_manifolds(parameters):
    if any(isinstance(v, int) and v > 2**30 for v in parameters.values()):
        return
    made = outcome(lambda: randman(**{"train": 8, "test": 4, "cutoff": 5, "units": 3, "classes": 2} | parameters))
    assert made is None or len(made[0]) == 8


@given(NUMBERS, st.sampled_from(["a.wav", None, [], ["none.wav"]]))
def test_recordings(tmp_path_factory, seed, files):
    folder = tmp_path_factory.getbasetemp() / "recordings"
    folder.mkdir(exist_ok=True)
    assert outcome(lambda: recordings_to_spikes(folder, files=files, seed=seed)) is None


SAMPLES = st.lists(st.lists(st.tuples(st.floats(0, 1e6, width=32), st.integers(0, 2**16)), max_size=4), max_size=4)
NAMES = st.text(max_size=4) | st.sampled_from(["zero", "a\nb", "a\0", "x" * 201])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_written_is_read_again(tmp_path, data):
    samples = data.draw(SAMPLES)
    keys = data.draw(st.lists(NAMES, max_size=3))
    count = {"min_size": len(samples), "max_size": len(samples)}
    labels = data.draw(st.lists(st.integers(0, max(len(keys) - 1, 0)), **count))
    speakers = data.draw(st.none() | st.lists(st.sampled_from([-1, 0, 12, 40_000]), **count))
    times, units = ([np.array([event[i] for event in s], d) for s in samples] for i, d in ((0, "f8"), (1, "i8")))
    channels = data.draw(st.sampled_from([3, 700, 2**16]))
    made = outcome(lambda: SpikeDataset.from_samples(times, units, labels, keys, data.draw(NAMES), speakers, channels))
    if made is None:
        return
    path = tmp_path / data.draw(st.sampled_from(["a.h5", "a.h5", "a.h5", "a.h5.gz", "a"]))
    path.unlink(missing_ok=True)
    provenance = data.draw(st.dictionaries(st.sampled_from(["seed", "name", "from"]), NUMBERS))
    if outcome(lambda: (write_shd(path, made, provenance), True)) is None:
        assert not path.exists()
        return
    read = load_shd(path)
    for field in ("units", "offsets", "labels", "speakers"):
        np.testing.assert_array_equal(getattr(read, field), getattr(made, field))
    np.testing.assert_array_equal(read.times, made.times.astype(np.float16))
    assert (read.keys, read.name, read.channels) == (made.keys, made.name, made.channels)
