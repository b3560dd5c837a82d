"""The event data set and the HDF5 format of SHD."""

import gzip
import math
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.data import SpikeDataset, _shd, identify_dataset, load_shd, open_dataset, write_shd
from sgtheory.errors import ParameterError, UserError

REGENERATED = Path(__file__).parents[3] / "shared" / "shd_regenerated"
TIMES = [[0.001, 0.5, 0.6997], [], [0.25]]
UNITS = [[0, 699, 3], [], [7]]


def shd_file(path, times=TIMES, units=UNITS, labels=(0, 1, 1), keys=("zwei", "eins"), without=(), **types):
    """Written with h5py alone, independently of write_shd."""
    content = {
        "spikes/times": (times, h5py.vlen_dtype(types.get("times_type", np.float16))),
        "spikes/units": (units, h5py.vlen_dtype(types.get("units_type", np.uint16))),
    }
    with h5py.File(path, "w") as file:
        for name, (rows, dtype) in content.items():
            if name not in without:
                column = file.create_dataset(name, (len(rows),), dtype)
                for i, row in enumerate(rows):
                    column[i] = np.array(row, h5py.check_vlen_dtype(dtype))
        if "labels" not in without:
            file["labels"] = np.array(labels, np.int32)
        if "extra" not in without:
            file["extra/speaker"] = np.arange(len(times), dtype=np.uint16)
            file["extra/keys"] = np.array([key.encode() for key in keys])
    return path


def packed(path, how):
    if how == "gz":
        target = path.with_name(path.name + ".gz")
        target.write_bytes(gzip.compress(path.read_bytes()))
    else:
        target = path.with_name(path.name + ".zip")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
    path.unlink()
    return target


def test_speech_commands_have_a_validation_set_of_their_own(tmp_path):
    keys = [f"word{k}" for k in range(35)]
    for part, labels in (("train", range(35)), ("valid", [34, 2]), ("test", [1, 33, 0])):
        times = [[0.1 * k] for k in range(len(labels))]
        shd_file(
            tmp_path / f"ssc_{part}.h5", times, [[699]] * len(labels), labels, keys[::-1] if part == "valid" else keys
        )
    packed(tmp_path / "ssc_train.h5", "zip")
    data = open_dataset("ssc", tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [35, 2, 3]
    assert data.validation.labels.tolist() == [0, 32]  # by the names of the classes, whose order is another
    assert data.train.keys == data.validation.keys == data.test.keys == tuple(keys)
    identity = identify_dataset("ssc", tmp_path)
    assert (identity["name"], set(identity)) == ("ssc", {"name", "train", "valid", "test"})
    (tmp_path / "ssc_valid.h5").unlink()
    with pytest.raises(UserError, match=r"SSC is not in .*fetch_data\.py ssc"):
        open_dataset("ssc", tmp_path)


class OfTonic:
    """A data set as tonic has it."""

    sensor_size, classes, speaker = (700, 1, 1), [b"zwei", b"eins"], [4, 5, 6]

    def __len__(self):
        return 3

    def __getitem__(self, i):
        events = np.zeros(len(TIMES[i]), [("t", int), ("x", int), ("p", int)])
        events["t"], events["x"] = [1e6 * t for t in TIMES[i]], UNITS[i]
        return events, [0, 1, 1][i]


def same_but_for_a_microsecond(a, b):
    assert (a.keys, a.channels) == (b.keys, b.channels)
    for field in ("units", "offsets", "labels", "speakers"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    np.testing.assert_allclose(a.times, b.times, rtol=0, atol=1.1e-6)


def test_data_sets_of_tonic_are_converted():
    made = SpikeDataset.from_samples(TIMES, UNITS, [0, 1, 1], ["zwei", "eins"], "mine", [4, 5, 6])
    same_but_for_a_microsecond(SpikeDataset.from_tonic(OfTonic(), "mine"), made)
    camera = OfTonic()
    camera.sensor_size = (34, 34, 2)
    with pytest.raises(ParameterError, match=r"dataset.sensor_size = \(34, 34, 2\): must be"):
        SpikeDataset.from_tonic(camera, "mine")
    with pytest.raises(ParameterError, match=r"dataset.sensor_size"):
        SpikeDataset.from_tonic([], "mine")


def test_the_digits_of_tonic_are_ours(tmp_path, monkeypatch):
    """Its files are read as they are, and its data set is converted to the same events."""
    tonic = pytest.importorskip("tonic.datasets")
    monkeypatch.setattr(tonic.SHD, "_check_exists", lambda self: True)
    (tmp_path / "SHD").mkdir()
    file = shd_file(tmp_path / "SHD" / "shd_train.h5", [[t for t in row if t] for row in TIMES])
    same_but_for_a_microsecond(SpikeDataset.from_tonic(tonic.SHD(str(tmp_path)), "SHD"), load_shd(file))


@pytest.mark.parametrize("how", ["h5", "gz", "zip"])
def test_what_is_read_is_what_was_written(tmp_path, how):
    path = shd_file(tmp_path / "shd_train.h5")
    data = load_shd(path if how == "h5" else packed(path, how))
    assert len(data) == 3
    for i in range(3):
        times, units = data[i]
        np.testing.assert_array_equal(times, np.array(TIMES[i], np.float16).astype(np.float32))
        np.testing.assert_array_equal(units, UNITS[i])
    assert data.times.dtype == np.float32
    assert data.units.dtype == np.uint16
    assert data.labels.tolist() == [0, 1, 1]
    assert data.speakers.tolist() == [0, 1, 2]
    assert data.keys == ("zwei", "eins")


def test_class_names_and_speakers_may_be_absent(tmp_path):
    data = load_shd(shd_file(tmp_path / "a.h5", labels=(0, 19, 4), without=["extra"]))
    assert data.keys[19] == "19"
    assert data.speakers.tolist() == [-1, -1, -1]


def test_data_cannot_be_changed(tmp_path):
    data = load_shd(shd_file(tmp_path / "a.h5"))
    with pytest.raises(ValueError, match="read-only"):
        data.times[0] = 1
    with pytest.raises(AttributeError):
        data.name = "another"


@pytest.mark.parametrize("block", [16, 1])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [[0.1], [0.1], [0.2, -0.5]], "units": [[1], [1], [1, 2]]}, r"time -0.5 in sample 2 is not a finite"),
        ({"times": [[0.1], [np.nan], []], "units": [[1], [1], []]}, r"time nan in sample 1 "),
        ({"times": [[0.1], [np.inf], []], "units": [[1], [1], []]}, r"time inf in sample 1 "),
        ({"units": [[0, 1, 2], [], [700]]}, r"unit 700 in sample 2 is not from 0 to 699"),
        ({"units": [[0, 1, -1], [], [7]], "units_type": np.int16}, r"unit -1 in sample 0 is not from 0 to 699"),
        ({"units": [[0, 1, 2], [], [70000]], "units_type": np.uint32}, r"unit 70000 in sample 2 "),
        ({"units": [[0, 1, 2], [4], [7]]}, r"sample 1 has 0 times, but 1 units"),
        ({"labels": (0, 1, 2)}, r"label 2 of sample 2 is not from 0 to 1"),
        ({"labels": (0, -1, 1)}, r"label -1 of sample 1 "),
        ({"labels": (0, 1)}, r"3 samples in spikes/times, but 2 in labels"),
        ({"units": UNITS[:2]}, r"3 samples in spikes/times, but 2 in spikes/units"),
        ({"without": ["spikes/units"]}, r"not in the format of SHD.*units"),
        ({"without": ["labels"]}, r"not in the format of SHD.*labels"),
        ({"times": [], "units": [], "labels": ()}, "contains no samples"),
    ],
)
def test_a_bad_file_is_named_with_its_bad_sample(tmp_path, monkeypatch, block, change, message):
    monkeypatch.setattr(_shd, "SAMPLES_AT_ONCE", block)
    path = shd_file(tmp_path / "bad.h5", **change)
    with pytest.raises(UserError, match=rf"bad\.h5.*{message}") as error:
        load_shd(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["h5", "gz", "zip"])
def test_a_truncated_file_is_named(tmp_path, how):
    path = shd_file(tmp_path / "short.h5")
    path = path if how == "h5" else packed(path, how)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=r"short\.h5.*truncated"):
        load_shd(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.h5\.gz is not there"):
        load_shd(tmp_path / "nothing.h5.gz")


@pytest.mark.parametrize("member", ["../shd_train.h5", "/shd_train.h5", "a/../../shd_train.h5"])
def test_a_zip_with_a_path_outside_is_refused(tmp_path, member):
    content = shd_file(tmp_path / "content.h5").read_bytes()
    folder = tmp_path / "folder"
    folder.mkdir()
    with zipfile.ZipFile(folder / "shd_train.h5.zip", "w") as archive:
        archive.writestr(member, content)
    with pytest.raises(UserError, match=r"shd_train\.h5\.zip is refused"):
        load_shd(folder / "shd_train.h5.zip")
    assert [path.name for path in folder.iterdir()] == ["shd_train.h5.zip"]
    assert not (tmp_path / "shd_train.h5").exists()


def test_name_is_shd_only_for_the_official_files(tmp_path, monkeypatch):
    path = shd_file(tmp_path / "shd_train.h5")
    assert load_shd(path).name == f"SHD format, {tmp_path.name}"
    (tmp_path / "README.md").write_text("some text\n\n# My spikes\n# Another heading\n")
    assert load_shd(path).name == "My spikes"
    with h5py.File(path, "a") as file:
        file.attrs["name"] = "spikes of somebody"
    assert load_shd(path).name == "spikes of somebody"
    monkeypatch.setitem(_shd.SHD_MD5, "shd_train.h5", _shd.md5(path))
    assert load_shd(path).name == "SHD"
    assert load_shd(path, name="given").name == "given"


def test_write_and_read(tmp_path):
    rng = np.random.default_rng(1)
    times = [np.sort(rng.random(n)) for n in (5, 0, 3)]
    units = [rng.integers(0, 700, n) for n in (5, 0, 3)]
    data = SpikeDataset.from_samples(times, units, [2, 0, 1], ["a", "b", "c"], "mine", [4, 5, 6])
    write_shd(tmp_path / "new" / "mine.h5", data, {"seed": 3})
    back = load_shd(tmp_path / "new" / "mine.h5")
    for field in ("units", "offsets", "labels", "speakers"):
        np.testing.assert_array_equal(getattr(back, field), getattr(data, field))
    np.testing.assert_array_equal(back.times, data.times.astype(np.float16).astype(np.float32))
    assert (back.keys, back.name) == (data.keys, "mine")
    with h5py.File(tmp_path / "new" / "mine.h5") as file:
        assert file.attrs["seed"] == 3
        assert h5py.check_vlen_dtype(file["spikes/times"].dtype) == np.float16
        assert h5py.check_vlen_dtype(file["spikes/units"].dtype) == np.uint16


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 1, width=16), st.integers(0, 9)), max_size=20), min_size=1, max_size=4),
    st.integers(1, 40),
    st.sampled_from([0.001, 0.002, 0.0173, 0.25]),
    st.none() | st.floats(0.01, 1),
)
def test_bins_are_those_of_a_loop_over_events(samples, steps, dt, duration):
    times = [np.array([t for t, _ in sample], np.float32) for sample in samples]
    units = [np.array([u for _, u in sample], np.uint16) for sample in samples]
    data = SpikeDataset.from_samples(times, units, [0] * len(samples), ["a"], "x", channels=10)
    expected = np.zeros((len(samples), steps, 10), np.uint8)
    for i, sample in enumerate(samples):
        for t, u in sample:
            if int(t / dt) < steps and (duration is None or t < duration):
                expected[i, int(t / dt), u] = 1
    binned = data.bin(np.arange(len(samples))[::-1], steps, dt, duration)
    np.testing.assert_array_equal(binned, expected[::-1])
    assert binned.dtype == np.uint8
    places = data.places(np.arange(len(samples))[::-1], steps, dt, duration)
    assert set(places.tolist()) == set(np.flatnonzero(binned).tolist())


def test_the_step_that_the_code_of_the_authors_leaves_out():
    data = SpikeDataset.from_samples([[0.6985]], [[5]], [0], ["a"], "x")
    assert data.bin([0], 350, 0.002)[0, 349, 5] == 1
    assert data.bin([0], int(0.7 / 0.002), 0.002).shape == (1, 349, 700)
    assert data.bin([0], int(0.7 / 0.002), 0.002).sum() == 0


def test_times_are_scaled_in_higher_precision_than_they_are_stored(tmp_path):
    """float16 has 11 bits: 0.6997 / 0.0001 = 6997 would be rounded to a multiple of 4, and 7 / 0.0001 overflow."""
    data = load_shd(shd_file(tmp_path / "a.h5", times=[[0.7002], [], [7.0]], units=[[1], [], [2]]))
    stored = float(np.float16(0.7002))
    assert np.flatnonzero(data.bin([0], 8000, 1e-4)[0, :, 1]).tolist() == [int(stored / 1e-4)]
    assert int(stored / 1e-4) % 4 != 0
    assert np.flatnonzero(data.bin([2], 70001, 1e-4)[0, :, 2]).tolist() == [int(7.0 / 1e-4)]


def test_bin_checks_its_arguments():
    data = SpikeDataset.from_samples([[0.1]], [[5]], [0], ["a"], "x")
    with pytest.raises(ParameterError, match="indices = "):
        data.bin([1], 10, 0.002)
    with pytest.raises(ParameterError, match="indices = "):
        data.bin([-1], 10, 0.002)
    for wrong in ((0, 0.002, None), (10, 0.0, None), (10, 0.002, -1.0)):
        with pytest.raises(ParameterError):
            data.bin([0], *wrong)
    assert data.bin([], 10, 0.002).shape == (0, 10, 700)


def test_split_has_the_sizes_of_the_paper_and_depends_on_the_seed_alone():
    n = 8156
    empty = np.zeros(0)
    data = SpikeDataset(empty, empty, np.zeros(n + 1, int), np.zeros(n, int), np.zeros(n, int), ("a",), "x")
    train, validation = data.split(0.1, seed=1)
    assert (len(train), len(validation)) == (7340, 816)
    np.testing.assert_array_equal(np.sort(np.concatenate((train, validation))), np.arange(n))
    np.testing.assert_array_equal(train, data.split(0.1, seed=1)[0])
    assert not np.array_equal(validation, data.split(0.1, seed=2)[1])
    assert len(data.split(0, seed=1)[1]) == 0
    for samples, fraction, put_aside in ((10, 0.9, 9), (30, 0.1, 3), (8, 0.1, 1), (3, 0.5, 2)):
        few = SpikeDataset.from_samples([empty] * samples, [empty] * samples, [0] * samples, ["a"], "x")
        assert [len(part) for part in few.split(fraction, seed=1)] == [samples - put_aside, put_aside]
    with pytest.raises(ParameterError, match="fraction"):
        data.split(1.0, seed=1)


@pytest.mark.skipif(not REGENERATED.is_dir(), reason="shd_regenerated is not there")
def test_regenerated_shd():
    data = load_shd(REGENERATED / "shd_test.h5.gz")
    assert data.name == "SHD (regenerated)"
    assert len(data) == 2264
    assert data.keys == _shd.SHD_KEYS
    assert np.isin(data.speakers, (4, 5)).sum() == 1840
    binned = data.bin(np.arange(50), 350, 0.002)
    assert 0.005 < binned.mean() < 0.05


def test_unpacking_happens_in_memory(tmp_path):
    path = packed(shd_file(tmp_path / "shd_train.h5"), "gz")
    load_shd(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


TWO_CLASSES = {"keys": ["a", "b"], "name": "x", "channels": 10}


@pytest.mark.parametrize(
    ("times", "units", "labels", "words"),
    [
        ([[0.1], [0.2, 0.3]], [[1], [2, 10]], [0, 1], "unit 10 in sample 1 is not from 0 to 9"),
        ([[0.1], [0.2]], [[-1], [2]], [0, 1], "unit -1 in sample 0 is not from 0 to 9"),
        ([[0.1], [-1e-9]], [[1], [2]], [0, 1], "time -.* in sample 1 is not a finite number of at least 0"),
        ([[0.1], [1e39]], [[1], [2]], [0, 1], "time inf in sample 1 is not a finite"),
        ([[0.1], [math.nan]], [[1], [2]], [0, 1], "time nan in sample 1 is not a finite"),
        ([[0.1], [0.2]], [[1], [2]], [0, 2], "label 2 of sample 1 is not from 0 to 1"),
        ([[0.1], [0.2]], [[1], [2]], [0, 1, 1], "labels = 3: must be one for each of 2 samples"),
        ([[0.1], [0.2]], [[1], [2]], [0.0, 1.0], "labels = .*must be a vector of integers"),
        ([[0.1], [0.2, 0.3]], [[1], [2]], [0, 1], "times and units of sample 1 = .*the same length"),
        ([[0.1], [0.2]], [[1]], [0, 1], "units = 1: must be of as many samples"),
        ([[0.1], [0.2]], [[1], [2.0]], [0, 1], "times and units of sample 1 = .*must be numbers and integers"),
        ([[0.1], ["x"]], [[1], [2]], [0, 1], "times and units of sample 1 = .*must be numbers and integers"),
        ([[-1.0] * 200_000], [[1] * 200_000], [0], "time -1.0 in sample 0"),
    ],
)
def test_events_that_users_make_are_checked(times, units, labels, words):
    with pytest.raises(UserError, match=words):
        SpikeDataset.from_samples(times, units, labels, **TWO_CLASSES)


@settings(max_examples=60)
@given(st.data())
def test_events_are_binned_where_they_are_or_refused(data):
    """Arrays of any type, order, length and range: what is taken is binned as a loop over the events would."""
    lengths = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    kinds = st.sampled_from((np.float16, np.float32, np.float64, np.int8, np.uint64, bool))
    numbers = st.floats(-0.5, 3, width=16) | st.sampled_from((math.nan, math.inf, -0.0, 1e-300, 2.0))
    times, units = [], []
    for n in lengths:
        with np.errstate(invalid="ignore", over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            times.append(np.array(data.draw(st.lists(numbers, min_size=n, max_size=n))).astype(data.draw(kinds)))
        dtype = data.draw(st.sampled_from((np.uint8, np.int64, np.uint16, np.float64)))
        units.append(np.array(data.draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))).astype(dtype))
    try:
        made = SpikeDataset.from_samples(times, units, np.zeros(len(lengths), np.uint8), **TWO_CLASSES)
    except UserError:
        return
    dt, steps = data.draw(st.sampled_from((0.5, 0.125))), 9
    expected = np.zeros((len(lengths), steps, 10), np.uint8)
    for i, (t, u) in enumerate(zip(times, units, strict=True)):
        for time, unit in zip(t, u, strict=True):
            assert time >= 0
            if time / dt < steps:
                expected[i, int(time / dt), int(unit)] = 1
    assert np.array_equal(made.bin(np.arange(len(lengths)), steps, dt), expected)


@pytest.mark.parametrize("dt", [1e-3, 2e-3, 1e-4, 0.7e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_event_on_the_grid_belongs_to_its_step(dt, dtype):
    steps = 700
    data = SpikeDataset.from_samples([(np.arange(steps) * dt).astype(dtype)], [np.zeros(steps, int)], [0], ["a"], "x")
    assert data.bin([0], steps, dt)[0, :, 0].tolist() == [1] * steps
    shorter = data.bin([0], steps, dt, duration=600 * dt)
    assert int(shorter.sum()) == 600  # an event at the end of the duration is left out
    between = SpikeDataset.from_samples([(np.arange(steps) + 0.999) * dt], [np.zeros(steps, int)], [0], ["a"], "x")
    assert np.array_equal(between.bin([0], steps, dt), data.bin([0], steps, dt))


@pytest.mark.parametrize("indices", [[0.0], [True], [[0]], ["0"]])
def test_samples_are_chosen_by_integers(indices):
    data = SpikeDataset.from_samples([[0.1]], [[5]], [0], ["a"], "x")
    with pytest.raises(ParameterError, match=r"indices = .*must be a vector of integers"):
        data.bin(indices, 10, 0.002)


def animals(folder, part, keys, labels):
    times, units = [[0.1]] * len(labels), [[3]] * len(labels)
    write_shd(folder / f"shd_{part}.h5", SpikeDataset.from_samples(times, units, labels, keys, "animals"))


def test_classes_of_the_test_set_are_matched_by_name(tmp_path):
    animals(tmp_path, "train", ["cat", "dog", "zebra"], [0, 1, 2])
    animals(tmp_path, "test", ["zebra", "dog", "never there"], [0, 1, 1])
    opened = open_dataset("shd", tmp_path)
    assert opened.test.keys == opened.train.keys
    assert opened.test.labels.tolist() == [2, 1, 1]
    animals(tmp_path, "test", ["dog", "horse"], [0, 1])
    with pytest.raises(UserError, match=r"shd_test.h5: class 'horse' is not one of .* which has cat, dog"):
        open_dataset("shd", tmp_path)
