"""What a run does when the disk is full or its directory disappears."""

import contextlib
import resource
import shutil
import sys

import numpy as np
import pytest
import torch

from sgtheory.command import report_errors
from sgtheory.data import SpikeDataset, write_shd
from sgtheory.errors import UserError
from sgtheory.figures import save_figure
from sgtheory.files import atomic_path, remove_temporaries
from sgtheory.training import load_run, run_task


@contextlib.contextmanager
def little_room(size: int):
    """No file can grow beyond so many bytes: what writers see is what they see when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


CONFIG = {"seed": 1, "neuron": {"mode": "deterministic"}, "task": {"name": "growing"}, "trainer": {"epochs": 20}}


class Growing:
    """A task whose checkpoints need more room with every epoch; ``before(n)`` is called before epoch n."""

    may_be_nan = frozenset()

    def __init__(self, before=lambda n: None):
        self.before, self.values = before, torch.zeros(0, dtype=torch.float64)

    def state(self):
        return {"values": self.values}

    def restore(self, state):
        self.values = state["values"]

    def epoch(self, n):
        self.before(n)
        self.values = torch.cat([self.values, torch.sin(self.values.sum() + torch.arange(100.0))])
        return [("loss", "", float(self.values[-1]))]

    def finish(self, epochs):
        return [], {"values": self.values.numpy()}

    def save(self, directory):
        pass

    def summary(self, rows):
        return ""


def test_a_full_disk_harms_nothing_and_the_same_run_goes_on_when_there_is_room(tmp_path):
    directory, reference = tmp_path / "run", tmp_path / "reference"
    run_task(Growing(), 20, reference, CONFIG, 1e-9)
    with little_room(10_000), pytest.raises(OSError) as full:
        run_task(Growing(), 20, directory, CONFIG, 1e-9)
    assert full.value.filename == str(directory / "checkpoint.pt")
    assert not list(directory.glob("*.tmp*"))
    began = torch.load(directory / "checkpoint.pt", weights_only=True)["epoch"]
    assert 5 < began < 15
    epochs = []
    run_task(Growing(epochs.append), 20, directory, CONFIG, 1e-9)
    assert epochs == list(range(began, 20))
    assert np.array_equal(load_run(directory).rasters["values"], load_run(reference).rasters["values"])
    assert load_run(directory).records.value.equals(load_run(reference).records.value)


def test_a_directory_that_is_deleted_under_a_run_is_not_made_again(tmp_path):
    def delete(epoch):
        if epoch == 3:
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(UserError, match="run was removed while its run was in progress"):
        run_task(Growing(delete), 20, tmp_path / "run", CONFIG, 1e9)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".json"])
def test_a_figure_without_room_leaves_the_old_one(tmp_path, suffix):
    from matplotlib.figure import Figure

    def draw(numbers):
        figure = Figure()
        figure.subplots().plot(numbers["y"])
        return figure

    numbers = {"y": np.zeros(5)}
    paths = save_figure("figure", draw, numbers, tmp_path)
    before = {path: path.read_bytes() for path in paths}
    room = {".png": 1000, ".pdf": max(1000, len(before[paths[0]])), ".json": len(before[paths[1]]) + 1}[suffix]
    numbers = {"y": np.random.default_rng(0).normal(size=3 if suffix == ".pdf" else 5000)}
    with little_room(room), pytest.raises(OSError):
        save_figure("figure", draw, numbers, tmp_path)
    changed = [path.suffix for path in paths if path.read_bytes() != before[path]]
    assert suffix not in changed
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_data_file_without_room_is_named_and_not_there(tmp_path):
    times = [np.sort(np.random.default_rng(i).random(2000)) for i in range(20)]
    data = SpikeDataset.from_samples(times, [np.zeros(2000, int)] * 20, np.zeros(20, int), ["zero"], "test")
    with little_room(20_000), pytest.raises(OSError) as full:
        write_shd(tmp_path / "data.h5", data, {})
    assert full.value.filename == str(tmp_path / "data.h5")
    assert not list(tmp_path.iterdir())


def test_errors_of_the_disk_end_in_one_sentence(tmp_path, capsys):
    with little_room(10), pytest.raises(SystemExit) as end, report_errors(), atomic_path(tmp_path / "file") as path:
        path.write_text("a long text")
    assert end.value.code == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'file'}: File too large\n"
    with pytest.raises(SystemExit) as end, report_errors(), atomic_path(f"{sys.executable}/folder/file"):
        pass
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {sys.executable}")


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, atomic_path(tmp_path / "file"):
        (tmp_path / "other").read_text()
    assert error.value.filename == str(tmp_path / "other")


def test_what_a_killed_process_has_left_is_removed(tmp_path):
    with atomic_path(tmp_path / "file.csv") as path:
        left = tmp_path / path.name.replace("file", "other")  # as another process would have named it
        left.write_text("half")
        path.write_text("whole")
    remove_temporaries(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["file.csv"]
