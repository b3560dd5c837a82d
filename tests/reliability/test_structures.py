"""Files that their libraries read well, and that hold something else: wrong types, links, code, nested values."""

import copy
import json
import os
import pickle
import warnings
import zipfile

import h5py
import numpy as np
import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from mutations import JSON_VALUES, Refused, changed_values, read_or_refused
from small_tasks import small_task
from valid_files import CONFIG, FIGURE, FINISHED, hear, replay, replayed, shown, write_json, write_records, write_spikes

from sgtheory.data import SpikeDataset, load_shd, load_target
from sgtheory.errors import UserError
from sgtheory.reading import read_arrays
from sgtheory.report import compare
from sgtheory.tasks.loop_integral import RESULT, ROW
from sgtheory.training import (
    collect,
    expand,
    load_checkpoint,
    load_run,
    prepare,
    read_config,
    read_records,
    restore_checkpoint,
    save_checkpoint,
)

pytestmark = pytest.mark.fuzz


def replaced(name, **how):
    def change(file):
        del file[name]
        file.create_dataset(name, **how)

    return change


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def renamed(to):
    return lambda file: file.attrs.__setitem__("name", to)


def virtual(file):
    del file["labels"]
    layout = h5py.VirtualLayout((4,), np.uint16)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "labels", (4,))
    file.create_virtual_dataset("labels", layout)


def mistyped(file):
    """The datasets of a column of arrays become one array with two dimensions."""
    for name in ("spikes/times", "spikes/units"):
        del file[name]
        file[name] = np.zeros((4, 3))


COMPOUND = np.dtype([("a", "f4"), ("b", "i4")])
HDF5 = {
    "labels are fractions": replaced("labels", data=np.array([0.5, 1, 2, 0])),
    "labels are texts": replaced("labels", data=[b"a", b"b", b"c", b"a"]),
    "labels are compounds": replaced("labels", data=np.zeros(4, COMPOUND)),
    "labels are a number": replaced("labels", data=3),
    "labels have two dimensions": replaced("labels", data=np.zeros((4, 2), int)),
    "labels are empty": replaced("labels", data=h5py.Empty("u2")),
    "labels are without end": replaced("labels", shape=(10**12,), dtype="u2", chunks=(1000,), compression="gzip"),
    "labels are without data": replaced("labels", shape=(10**12,), dtype="u2", chunks=(10**6,)),
    "labels are in /etc": replaced("labels", shape=(4,), dtype="u2", external=[("/etc/passwd", 0, 8)]),
    "labels are virtual": virtual,
    "labels are a group": lambda file: (file.__delitem__("labels"), file.create_group("labels")),
    "labels are a type": linked("labels", np.dtype("u2")),
    "labels are references": replaced("labels", shape=(4,), dtype=h5py.ref_dtype),
    "times are whole numbers": replaced("spikes/times", shape=(4,), dtype=h5py.vlen_dtype(np.int32)),
    "times are compounds": replaced("spikes/times", shape=(4,), dtype=h5py.vlen_dtype(COMPOUND)),
    "times are arrays of arrays": replaced(
        "spikes/times", shape=(4,), dtype=h5py.vlen_dtype(h5py.vlen_dtype(np.float16))
    ),
    "times are texts": replaced("spikes/times", data=["a", "b", "c", "d"], dtype=h5py.string_dtype()),
    "times are numbers": replaced("spikes/times", data=np.zeros(4)),
    "times are many": replaced("spikes/times", shape=(10**12,), dtype=h5py.vlen_dtype(np.float16), chunks=(100,)),
    "times and units are tables": mistyped,
    "units are fractions": replaced("spikes/units", shape=(4,), dtype=h5py.vlen_dtype(np.float32)),
    "keys are numbers": replaced("extra/keys", data=np.arange(3)),
    "keys are arrays": replaced("extra/keys", shape=(3,), dtype=h5py.vlen_dtype(np.uint8)),
    "keys are not UTF-8": replaced("extra/keys", data=np.array([b"\xff", b"b", b"c"])),
    "keys are long": replaced("extra/keys", shape=(3,), dtype="S2000000000"),
    "keys have line breaks": replaced("extra/keys", data=[b"a\nb", b"b", b"c"]),
    "speakers are fractions": replaced("extra/speaker", data=np.zeros(4)),
    "a link elsewhere": linked("spikes", h5py.ExternalLink("elsewhere.h5", "/spikes")),
    "a link to itself": linked("spikes", h5py.SoftLink("/spikes")),
    "a link to a file that is not there": linked("labels", h5py.ExternalLink("none.h5", "/labels")),
    "the name is a number": renamed(3),
    "the name is an array": renamed(np.zeros(10)),
    "the name has escapes": renamed("\x1b[2Jspikes"),
}


@pytest.mark.parametrize("change", HDF5.values(), ids=HDF5)
def test_hdf5_that_is_not_in_the_format(change, tmp_path):
    write_spikes(tmp_path / "elsewhere.h5")
    write_spikes(tmp_path / "spikes.h5")
    with h5py.File(tmp_path / "spikes.h5", "a") as file:
        change(file)
    assert isinstance(read_or_refused(load_shd, tmp_path / "spikes.h5", SpikeDataset), Refused)


@pytest.mark.parametrize("size", [0, 2**64 - 16])
def test_an_object_without_size_in_a_heap_which_hdf5_walks_over_for_ever(size, tmp_path):
    path = tmp_path / "spikes.h5"
    write_spikes(path)
    content = bytearray(path.read_bytes())
    heap = content.find(b"GCOL\x01")
    first = heap + 16
    content[first : first + 2] = (0 if size == 0 else 1).to_bytes(2, "little")
    content[first + 8 : first + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    assert isinstance(read_or_refused(load_shd, path, SpikeDataset), Refused)


def test_a_sequence_of_no_known_kind_which_kills_hdf5(tmp_path):
    path = tmp_path / "spikes.h5"
    write_spikes(path)
    content = path.read_bytes()
    damaged = content.replace(b"\x19\x00\x00\x00\x10\x00\x00\x00", b"\x19\x7f\x00\x00\x10\x00\x00\x00", 1)
    assert damaged != content
    path.write_bytes(damaged)
    assert "is damaged" in read_or_refused(load_shd, path, SpikeDataset)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def member(name, content, link=False):
    info = zipfile.ZipInfo(name)
    info.external_attr = (0o120777 if link else 0o100644) << 16
    return info, content


ARCHIVES = {
    "outside": [member("../spikes.h5", b"")],
    "absolute": [member("/tmp/spikes.h5", b"")],
    "of Windows": [member("\\\\server\\spikes.h5", b"")],
    "a link": [member("spikes.h5", b"/etc/passwd", link=True)],
    "twice": [member("spikes.h5", b""), member("a/spikes.h5", b"")],
    "a folder": [member("spikes.h5/", b"")],
    "none": [],
}


@pytest.mark.parametrize("members", ARCHIVES.values(), ids=ARCHIVES)
def test_archives_that_are_refused(members, tmp_path):
    path = tmp_path / "in" / "spikes.h5.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members:
            archive.writestr(info, content)
    assert isinstance(read_or_refused(load_shd, path, SpikeDataset), Refused)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "spikes.h5.zip"]


def arrays(**changes):
    return lambda path, evil: np.savez(path, **changes)


def zipped(name, content):
    def write(path, evil):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)

    return write


def header(text):
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


NPZ = {
    "objects": lambda path, evil: np.savez(path, x=np.array([Evil(evil)], object)),
    "a pickle": lambda path, evil: path.write_bytes(pickle.dumps(Evil(evil))),
    "one array": lambda path, evil: path.write_bytes(header("{'descr': '<f4', 'fortran_order': False, 'shape': ()}")),
    "a text": zipped("x", b"1"),
    "code": zipped("x.npy", header("{'descr': __import__('os').system('true'), 'fortran_order': 0, 'shape': (1,)}")),
    "without end": zipped("x.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}")),
    "nested": zipped("x.npy", header("(" * 4000 + ")" * 4000)),
    "below 0": zipped("x.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}")),
    "complex": arrays(x=np.zeros(3, complex)),
    "dates": arrays(x=np.zeros(3, "M8[s]")),
    "records": arrays(x=np.zeros(3, COMPOUND)),
    "raw": arrays(x=np.zeros(3, "V5")),
}
MATCHING = {"x": np.ones((8, 3)), "z": np.ones((8, 2)), "w0": np.ones((3, 4)), "w1": np.ones((4, 2))}
CLASSIFICATION = {"X": np.ones((2, 5, 12)), "y": np.arange(2), "w0": np.ones((6, 1, 5)), "w1": np.ones((3, 24))}


@pytest.mark.parametrize("write", NPZ.values(), ids=NPZ)
def test_arrays_that_are_refused(write, tmp_path):
    path, evil = tmp_path / "arrays.npz", tmp_path / "evil"
    write(path, evil)
    for read in (read_arrays, replay, replayed):
        assert isinstance(read_or_refused(read, path, dict), Refused)
    assert not evil.exists()


ARRAYS = st.builds(
    lambda shape, dtype, value: np.full(shape, value, dtype) if dtype != "U" else np.full(shape, str(value)),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
    st.sampled_from(["?", "i1", "u1", "i8", "u8", "f2", "f4", "f8", "U"]),
    st.sampled_from([0, 1, 2]),
) | st.sampled_from(
    [
        np.array([1e300, 1.0]),
        np.array([np.nan]),
        np.array([-np.inf]),
        np.array(2**63),
        np.array([[0.5]]),
        np.array("w0"),
    ]
)


@pytest.mark.parametrize(("read", "good"), [(replayed, MATCHING), (replay, CLASSIFICATION)])
@given(st.data())
def test_replay_files_with_other_arrays(tmp_path_factory, read, good, data):
    path = tmp_path_factory.getbasetemp() / "other.npz"
    names = st.sampled_from([*good, "w2", "w3", "w00", "w²", "w99999", "x/../y"])
    changes = data.draw(st.dictionaries(names, ARRAYS | st.none(), min_size=1, max_size=3))
    np.savez(path, **{name: array for name, array in (good | changes).items() if array is not None})
    event(type(read_or_refused(read, path, tuple)).__name__)


def run_folder(folder, name="run", config=CONFIG, finished=FINISHED):
    directory = folder / name
    directory.mkdir(exist_ok=True)
    write_records(directory / "records.csv")
    write_json(config)(directory / "config.json")
    write_json(finished)(directory / "finished.json")
    return directory


@given(st.data())
def test_configurations_of_runs_with_other_values(tmp_path_factory, data):
    """Read, gathered in a table and compared, as collect.py and report.py do."""
    folder = tmp_path_factory.mktemp("runs", numbered=True)
    directory = run_folder(folder, config=data.draw(changed_values(CONFIG)))
    run_folder(folder, "other", CONFIG | {"seed": 4})
    config = read_or_refused(lambda path: read_config(path.parent), directory / "config.json", dict)
    event(type(config).__name__)
    for read in (collect, lambda path: compare(path, path, 0.0), lambda path: load_run(path / "run")):
        if isinstance(config, Refused):
            with pytest.raises(UserError, match=r"config\.json"):
                read(folder)
        else:
            for collection in read(folder) if read is collect else ():
                collection.summary()


@given(changed_values(FIGURE))
def test_numbers_of_figures_with_other_values(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "fig6.json"
    write_json(values)(path)
    result = read_or_refused(shown, path, str)
    event(type(result).__name__)
    if not isinstance(result, Refused):
        text = json.dumps(values)
        path.with_name("other").mkdir(exist_ok=True)
        (path.parent / "other" / "fig6.json").write_text(text)
        compare(path.parent / "other", path.parent / "other", 0.0)


JSON_TEXTS = {
    "deep lists": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep dictionaries": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "a hundred levels": '{"claims": ' + "[" * 100 + "]" * 100 + "}",
    "a number of many digits": '{"claims": ' + "1" * 100_000 + "}",
    "half of a pair": '{"claims": [], "seeds": ["\\ud800"]}',
    "NUL": '{"claims": [], "label": "\x00"}',
    "another coding": '{"claims": "ä"}'.encode("latin-1"),
    "a byte order mark": "\ufeff{}",
    "nothing": "",
}


@pytest.mark.parametrize("text", JSON_TEXTS.values(), ids=JSON_TEXTS)
@pytest.mark.parametrize(
    ("name", "read"), [("config.json", lambda path: read_config(path.parent)), ("fig6.json", shown)]
)
def test_json_that_is_refused(text, name, read, tmp_path):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert isinstance(read_or_refused(read, path, str), Refused)


HEAD = "run,epoch,metric,layer,value\n"
TABLES = {
    "a column more": HEAD + "r,0,l2,output,1,2\n",
    "an index": HEAD + "i,r,0,l2,output,1\ni,r,1,l2,output,2\n",
    "a column less": HEAD + "r,0,l2\n",
    "an epoch below 0": HEAD + "r,-1,l2,output,1\n",
    "half an epoch": HEAD + "r,1.5,l2,output,1\n",
    "an epoch beyond counting": HEAD + "r,99999999999999999999,l2,output,1\n",
    "no epoch": HEAD + "r,,l2,output,1\n",
    "semicolons": HEAD.replace(",", ";") + "r;0;l2;output;1\n",
    "another order": "epoch,run,metric,layer,value\n0,r,l2,output,1\n",
    "columns twice": "run,run,metric,layer,value\n",
    "an open quote": HEAD + 'r,0,"l2,output,1\n' * 3,
    "not a number": HEAD + "r,0,l2,output,0x1p\n",
    "NUL": HEAD + "r,0,l2,output,\x00\n",
    "another coding": HEAD.encode() + b"\xff,0,l2,output,1\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_tables_that_are_refused(text, tmp_path):
    path = tmp_path / "records.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert isinstance(read_or_refused(read_records, path, dict), Refused)


CELLS = st.text(max_size=6) | st.sampled_from(
    ["", "nan", "inf", "1e999", "-1", "0", "l2", '"', "\r", "\n", ",", "x" * 10_000]
)


@given(
    st.lists(st.lists(CELLS, max_size=7), max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(",;\t")
)
def test_tables_with_any_cells(tmp_path_factory, rows, end, between):
    path = tmp_path_factory.getbasetemp() / "records.csv"
    path.write_text(HEAD + end.join(between.join(row) for row in rows), encoding="utf-8", errors="replace", newline="")
    event(type(read_or_refused(read_records, path, object)).__name__)


PICKLED = {
    "code": lambda evil: {"epoch": 0, "state": Evil(evil)},
    "a module": lambda evil: {"epoch": 0, "state": {"net": torch.nn.Linear(2, 2)}},
    "no epoch": lambda evil: {"state": {}},
    "no state": lambda evil: {"epoch": 1},
    "an epoch below 0": lambda evil: {"epoch": -1, "state": {}},
    "half an epoch": lambda evil: {"epoch": 1.5, "state": {}},
    "true": lambda evil: {"epoch": True, "state": {}},
    "a tensor": lambda evil: torch.zeros(3),
    "a list": lambda evil: [1, {}],
    "a state that is a list": lambda evil: {"epoch": 1, "state": [torch.zeros(3)]},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("make", PICKLED.values(), ids=PICKLED)
def test_checkpoints_that_are_refused(make, legacy, tmp_path):
    path, evil = tmp_path / "checkpoint.pt", tmp_path / "evil"
    torch.save(make(evil), path, _use_new_zipfile_serialization=not legacy)
    assert isinstance(read_or_refused(lambda path: load_checkpoint(path.parent), path, tuple), Refused)
    assert not evil.exists()


STATES = (
    JSON_VALUES
    | st.builds(
        lambda shape, dtype, value: torch.full(shape, value, dtype=dtype),
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.float16]),
        st.sampled_from([0, 1]),
    )
    | st.sampled_from([torch.zeros(1).expand(10**6, 10**6), torch.eye(3).to_sparse(), torch.tensor(float("nan"))])
)


@pytest.fixture(scope="module", params=["spike_matching", "classification", "adam", "loop_integral"])
def begun(request):
    """A task, and the state of another one of the same run after an epoch."""
    if request.param == "loop_integral":
        task, _ = prepare(expand(["task=loop_integral"])[0])
        return task, {"result": dict.fromkeys(RESULT, 0.5) | {"table": [dict.fromkeys(ROW, 0.5)] * 2}}
    name = "classification" if request.param == "adam" else request.param
    overrides = {"spike_matching": ["task.save_updates=2"], "adam": ["task.optimiser=adam"]}.get(request.param, [])
    fresh, trained = (small_task(name, *overrides) for _ in range(2))
    trained.epoch(0)
    return fresh, trained.state()


@given(data=st.data())
def test_states_of_other_runs(begun, tmp_path_factory, data):
    """A task takes over a state with which it can go on, or refuses it."""
    fresh, state = begun
    task, directory = copy.deepcopy(fresh), tmp_path_factory.getbasetemp()
    save_checkpoint(directory, 1, data.draw(changed_values(state, STATES)))
    epoch = read_or_refused(lambda path: restore_checkpoint(task, 3, path.parent), directory / "checkpoint.pt", int)
    event(type(epoch).__name__)
    if isinstance(epoch, Refused):
        return
    if hasattr(task, "result"):
        task.result and task.summary(task.finish(1))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of weights that are not finite, which the runner refuses
            task.epoch(1)
    save_checkpoint(directory, 2, task.state())


def test_a_checkpoint_of_more_epochs_than_the_run_has(tmp_path):
    task = small_task("spike_matching")
    save_checkpoint(tmp_path, 4, task.state())
    with pytest.raises(UserError, match=r"checkpoint\.pt .* of epoch 4, and the run has 3"):
        restore_checkpoint(task, 3, tmp_path)


def test_pictures_for_which_pillow_starts_another_program(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert "not a picture in a known format" in read_or_refused(load_target, path, np.ndarray)


@pytest.mark.parametrize("name", ["spikes.h5", "spikes.h5.gz", "picture.png", "arrays.npz", "records.csv", "fig6.json"])
def test_a_pipe_is_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    read = {"h5": load_shd, "gz": load_shd, "png": load_target, "npz": read_arrays, "csv": read_records, "json": shown}
    assert isinstance(read_or_refused(read[name.rpartition(".")[2]], tmp_path / name, object), Refused)


def test_a_pipe_is_not_a_recording(tmp_path):
    (tmp_path / "word").mkdir()
    os.mkfifo(tmp_path / "word" / "sound.wav")
    with pytest.raises(UserError, match=r"does not contain sound\.wav"):
        hear(tmp_path / "word" / "sound.wav")
