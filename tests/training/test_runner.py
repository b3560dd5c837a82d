"""Runs: found again, resumed bit for bit, stopped by signals, killed, and refused when they do not fit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sgtheory.errors import UserError
from sgtheory.reading import read_arrays
from sgtheory.training import load_run, run_task

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("task.hidden=20", "task.inputs=20", "task.target.rows=20", "task.target.steps=30", "task.measure_every=10")


class Counting:
    """A task whose result depends on every epoch and its order."""

    may_be_nan = frozenset()

    def __init__(self, stop_at=None, fail_at=None):
        self.value = torch.zeros(3, dtype=torch.float64)
        self.stop_at, self.fail_at = stop_at, fail_at

    def state(self):
        return {"value": self.value.clone()}

    def restore(self, state):
        self.value = state["value"]

    def epoch(self, n):
        if n == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if n == self.fail_at:
            return [("loss", "", float("nan"))]
        self.value = torch.sin(self.value * 1.3 + n)
        return [("loss", "", float(self.value[0]))]

    def finish(self, epochs):
        return [("loss", "", float(self.value[0]))], {"value": self.value.numpy()}

    def save(self, directory):
        pass

    def summary(self, rows):
        return ""


def finished(directory):
    return (directory / "records.csv").read_text(), read_arrays(directory / "rasters.npz")["value"]


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path):
    from sgtheory.command import Interrupted

    run_task(Counting(), 20, tmp_path / "a" / "run", {}, 1e9)
    directory = tmp_path / "b" / "run"
    for stop_at in (3, 4, 11):
        with pytest.raises(Interrupted) as error:
            run_task(Counting(stop_at), 20, directory, {}, 1e9)
        assert error.value.number == signal.SIGTERM
    assert run_task(Counting(), 20, directory, {}, 1e9)
    (text, value), (text2, value2) = finished(tmp_path / "a" / "run"), finished(directory)
    assert text == text2
    assert np.array_equal(value, value2)
    assert not run_task(Counting(fail_at=0), 20, directory, {}, 1e9)  # finished: nothing is done


def test_records_beyond_the_checkpoint_are_measured_again(tmp_path):
    """Killed between the records and the checkpoint, as long as both are whole."""
    from sgtheory.command import Interrupted

    directory = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_task(Counting(5), 20, directory, {}, 1e9)
    older = (directory / "checkpoint.pt").read_bytes()
    with pytest.raises(Interrupted):
        run_task(Counting(9), 20, directory, {}, 1e9)
    (directory / "checkpoint.pt").write_bytes(older)
    run_task(Counting(), 20, directory, {}, 1e9)
    assert list(pd.read_csv(directory / "records.csv").epoch) == list(range(21))


@pytest.mark.parametrize(("kept", "said"), [(None, "is not there"), (4, "ends with epoch 2")])
def test_records_that_end_before_the_checkpoint_are_not_gone_on_with(tmp_path, kept, said):
    """Else the run would finish with a gap in its records."""
    from sgtheory.command import Interrupted

    with pytest.raises(Interrupted):
        run_task(Counting(9), 20, tmp_path / "run", {}, 1e9)
    path = tmp_path / "run" / "records.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.unlink()
    if kept:
        path.write_text("".join(lines[:kept]))
    with pytest.raises(UserError, match=f"records.csv {said}, and checkpoint.pt goes on with epoch 10: delete"):
        run_task(Counting(), 20, tmp_path / "run", {}, 1e9)


def test_a_number_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"loss is not a finite number in epoch 7.*learning rate"):
        run_task(Counting(fail_at=7), 20, tmp_path / "run", {}, 1e-9)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["epoch"] == 7
    with pytest.raises(UserError, match="no finished run"):
        load_run(tmp_path / "run")


def test_a_run_that_diverges_can_be_a_result(tmp_path, caplog):
    """It ends there, what was recorded before stays, and the next time there is nothing to do."""
    with caplog.at_level("INFO", logger="sgtheory"):
        run_task(Counting(fail_at=7), 20, tmp_path / "run", {}, 1e9, divergence="record")
        assert not run_task(Counting(fail_at=7), 20, tmp_path / "run", {}, 1e9, divergence="record")
    assert json.loads((tmp_path / "run" / "finished.json").read_text())["diverged"] == {"epoch": 7, "metrics": ["loss"]}
    assert list(pd.read_csv(tmp_path / "run" / "records.csv").epoch) == list(range(7))
    assert "7 epochs in" in caplog.text
    assert "diverged: loss is not a finite number in epoch 7" in caplog.text
    assert "diverged in epoch 7 before, nothing to do" in caplog.text


@pytest.mark.parametrize("divergence", ["error", "record"])
def test_a_network_that_is_not_finite_before_it_is_trained(tmp_path, divergence):
    class FromTheStart(Counting):
        def start(self):
            return [("loss", "", float("inf"))]

    if divergence == "error":
        with pytest.raises(UserError, match=r"in epoch 0: try a smaller learning rate$"):  # there is no checkpoint
            run_task(FromTheStart(), 3, tmp_path / "run", {}, 1e9)
        assert not (tmp_path / "run" / "finished.json").exists()
    else:
        run_task(FromTheStart(), 3, tmp_path / "run", {}, 1e9, divergence="record")
        found = json.loads((tmp_path / "run" / "finished.json").read_text())
        assert found["diverged"] == {"epoch": 0, "metrics": ["loss"]}


@pytest.mark.parametrize("at", ["last epoch", "finish", "save"])
def test_a_signal_at_the_very_end_is_heard_after_the_run_is_finished(tmp_path, at):
    """Else a sweep would go on to its next run."""
    from sgtheory.command import Interrupted

    class Late(Counting):
        def finish(self, epochs):
            if at == "finish":
                os.kill(os.getpid(), signal.SIGINT)
            return super().finish(epochs)

        def save(self, directory):
            if at == "save":
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        run_task(Late(stop_at=19 if at == "last epoch" else None), 20, tmp_path / "a" / "run", {}, 1e9)
    run_task(Counting(), 20, tmp_path / "b" / "run", {}, 1e9)
    assert (tmp_path / "a" / "run" / "finished.json").is_file()
    (text, value), (text2, value2) = finished(tmp_path / "a" / "run"), finished(tmp_path / "b" / "run")
    assert text == text2
    assert np.array_equal(value, value2)


@pytest.mark.parametrize("divergence", ["error", "record"])
def test_a_signal_in_the_epoch_that_diverges_ends_a_sweep(tmp_path, divergence):
    from sgtheory.command import Interrupted

    with pytest.raises(Interrupted):
        run_task(Counting(stop_at=4, fail_at=4), 20, tmp_path / "run", {}, 1e9, divergence=divergence)
    assert (tmp_path / "run" / "finished.json").exists() == (divergence == "record")


def test_a_directory_of_another_run_is_refused(tmp_path):
    run_task(Counting(), 2, tmp_path / "run", {"beta": 1}, 1e9)
    with pytest.raises(UserError, match="another configuration"):
        run_task(Counting(), 2, tmp_path / "run", {"beta": 2}, 1e9)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pt is not a checkpoint"):
        run_task(Counting(), 2, tmp_path, {}, 1e9)


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'evil'}",)

    torch.save({"epoch": 0, "state": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="not a checkpoint"):
        run_task(Counting(), 2, tmp_path, {}, 1e9)
    assert not (tmp_path / "evil").exists()


def files(directory):
    """What a run leaves, without what differs between two equal runs: time taken."""
    run = load_run(directory)
    state = torch.load(directory / "checkpoint.pt", weights_only=True)["state"]
    return (directory / "records.csv").read_text(), run.rasters, state["w0"], state["w1"]


def assert_equal_runs(a, b):
    assert a[0] == b[0]
    assert a[1].keys() == b[1].keys()
    assert all(np.array_equal(a[1][k], b[1][k]) for k in a[1])
    assert torch.equal(a[2], b[2])
    assert torch.equal(a[3], b[3])


def test_a_killed_training_loses_at_most_what_came_after_the_checkpoint(script, tmp_path):
    """kill -9 at two moments of a stochastic run; the same command ends with the same records and weights."""
    arguments = (*SMALL, "neuron=escape_noise", "trainer.epochs=600", "trainer.checkpoint_every=0.02")
    whole, cut = tmp_path / "whole" / "run", tmp_path / "cut" / "run"
    assert script("train.py", *arguments, f"hydra.run.dir={whole}").returncode == 0
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments, f"hydra.run.dir={cut}"]
    for _ in range(2):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        before = checkpoint_time(cut)
        deadline = time.monotonic() + 60
        while process.poll() is None and checkpoint_time(cut) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.communicate()
        if (cut / "finished.json").exists():
            break
    done = script("train.py", *arguments, f"hydra.run.dir={cut}")
    assert done.returncode == 0, done.stderr
    assert_equal_runs(files(whole), files(cut))
    assert not list(cut.glob("*.tmp*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_gives_the_conventional_exit_code(tmp_path, number):
    directory = tmp_path / "run"
    arguments = (*SMALL, "trainer.epochs=1000000", f"hydra.run.dir={directory}")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (directory / "config.json").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 128 + number
    assert f"interrupted by {number.name}" in errors
    assert "Traceback" not in errors
    assert torch.load(directory / "checkpoint.pt", weights_only=True)["epoch"] > 0


def test_a_run_is_found_by_its_configuration_and_not_trained_again(script, tmp_path):
    arguments = (*SMALL, "trainer.epochs=3", "surrogate.beta=7", f"runs={tmp_path}")
    assert script("train.py", *arguments).returncode == 0
    (directory,) = (tmp_path / "spike_matching").iterdir()
    written = (directory / "finished.json").stat().st_mtime_ns
    again = script("train.py", *arguments, "surrogate.beta=7.0", "trainer.threads=1")
    assert "finished before" in again.stdout
    assert (directory / "finished.json").stat().st_mtime_ns == written
    assert script("train.py", *arguments, "surrogate.beta=8").returncode == 0
    assert len(list((tmp_path / "spike_matching").iterdir())) == 2
    saved = json.loads((directory / "config.json").read_text())
    assert saved["surrogate"]["beta"] == 7
    assert {"torch", "numba", "sgtheory"} <= json.loads((directory / "finished.json").read_text())["versions"].keys()
    records = pd.read_csv(directory / "records.csv")
    assert list(records.columns) == ["run", "epoch", "metric", "layer", "value"]
    assert set(records.metric) >= {"l2", "van_rossum", "rate", "isi_cv", "l2_other_mode"}
    assert sorted(set(records.epoch)) == [0, 1, 2, 3]


def checkpoint_time(directory):
    path = directory / "checkpoint.pt"
    return path.stat().st_mtime_ns if path.exists() else None


def test_without_the_signal_that_windows_does_not_have():
    code = "import signal; del signal.SIGUSR2; import sgtheory.training._runner as r; print(len(r.STOP_SIGNALS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "2\n", done.stderr
