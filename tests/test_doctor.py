"""scripts/doctor.py: what is there, what is not and why, and what to do."""

from importlib import metadata
from pathlib import Path

import doctor
import numpy as np
import pytest

from sgtheory import environment
from sgtheory.data import SpikeDataset, write_shd

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")  # no sentence is broken


def test_a_healthy_installation(tmp_path, capsys):
    assert doctor.main([f"data.dir={tmp_path}"]) == 0
    said = capsys.readouterr().out
    for expected in ("torch", "works, same spikes", "not available", "SHD", "not made yet"):
        assert expected in said


def test_a_missing_package_is_named_with_its_mend(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "NEEDED", ("no-such-package",))
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "no-such-package" in said
    assert "pip install" in said


def test_wrong_spikes_are_found(monkeypatch, tmp_path, capsys):
    import torch

    monkeypatch.setattr(torch, "equal", lambda a, b: False)
    assert doctor.main([f"data.dir={tmp_path}"]) == 1
    assert "other spikes than the reference" in " ".join(capsys.readouterr().out.split())


def test_data_are_looked_into(tmp_path, capsys):
    for part in ("train", "test"):
        (tmp_path / f"shd_{part}.h5").write_text("no spikes")
    assert doctor.main([f"data.dir={tmp_path}"]) == 1
    said = capsys.readouterr().out
    assert "the test set is the training set" in said
    assert "does not start like an HDF5 file" in said
    for part, labels in (("train", [0, 1, 0]), ("test", [1])):
        spikes = [np.zeros(1)] * len(labels), [np.zeros(1, int)] * len(labels)
        write_shd(tmp_path / f"shd_{part}.h5", SpikeDataset.from_samples(*spikes, labels, ("a", "b"), "letters"))
    assert doctor.main([f"data.dir={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "the test set is" not in said
    assert "3 samples to train on, 1 to test on" in said


def test_a_wrong_argument(script):
    done = script("doctor.py", "dir=x")
    assert (done.returncode, done.stderr) == (2, "error: there is no setting 'dir': the settings are data.dir\n")


def test_another_environment_than_the_lock_is_said(monkeypatch, tmp_path, capsys):
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# exact versions\ntorch==1.0.0\nnumpy=={metadata.version('numpy')}\nnot-installed==3\n")
    monkeypatch.setattr(environment, "LOCK", lock)
    assert doctor.main([f"data.dir={tmp_path}"]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "lock " in line[:9]]
    assert "not 1.0.0" in line
    assert "numpy" not in line
