"""wandb: offline without an account, never in the way of a run, and nothing but a mirror of the records."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from sgtheory.command import Interrupted
from sgtheory.training import CONF, load_run, prepare, run_task
from sgtheory.training import _loggers as loggers
from sgtheory.training._config import identity
from sgtheory.training._final_state import picture, spike_rasters
from sgtheory.training._metrics import METRICS, find_metric, metrics_table

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("task.hidden=20", "task.inputs=20", "task.target.rows=20", "task.target.steps=30", "task.measure_every=10")
RANDMAN = ("task=classification", "data=randman", "data.train=40", "data.test=10", "task.fano_trials=3")


def composed(*overrides, **options):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), **options)


def inspect(folder):
    """What wandb has written, record by record, as its own viewer reads it; the folder has one run."""
    (file,) = folder.glob("offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {kind: [r[kind] for r in records if r["type"] == kind] for kind in {r["type"] for r in records}}


class Falling:
    """A task with one loss, lowest in epoch 7, which asks to be stopped once."""

    may_be_nan = frozenset({"fano"})

    def __init__(self, stop_at=None):
        self.value, self.stop_at = torch.zeros(3), stop_at

    def state(self):
        return {"w0": self.value}

    def restore(self, state):
        self.value = state["w0"]

    def epoch(self, n):
        if n == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.value = self.value + 1
        rows = [("l2", "output", abs(n - 7.0)), ("fano", "output", float("nan"))]
        return [*rows, ("rate", "output", float(n))] if n % 5 == 1 else rows

    def finish(self, epochs):
        return [("l2", "output", 50.0)], {"output_after": np.eye(4, dtype=np.uint8)}

    def save(self, directory):
        pass

    def summary(self, rows):
        return ""


def mirrored(task, directory, epochs=20, **settings):
    """Run a task with the wandb logger, without Hydra."""
    config = composed(f"trainer.epochs={epochs}", f"runs={directory}", "logger=wandb", "logger.mode=offline")
    with open_dict(config):
        config.logger.update(settings)
    run_task(
        task,
        epochs,
        directory / "spike_matching" / "run",
        identity(config),
        1e9,
        lambda *where: loggers.make_logger(config, "0123abcd", *where),
    )


@pytest.mark.parametrize("task", ["spike_matching", "classification", "loop_integral"])
def test_the_document_has_every_metric(task):
    table = metrics_table(task)
    assert table in (ROOT / "docs" / "metrics.md").read_text(), f"docs/metrics.md should have\n{table}"


def test_metrics_are_defined_once_and_every_definition_is_recorded():
    """Each row that a task of the package records has one definition, and none is defined for nothing."""
    runs = [
        (*SMALL, "neuron=deterministic", "trainer.epochs=1"),
        (*SMALL, "neuron=escape_noise", "trainer.epochs=1"),
        (*RANDMAN, "neuron=deterministic", "trainer.epochs=1"),
        (*RANDMAN, "neuron=escape_noise", "trainer.epochs=1"),
        ("task=loop_integral", "task.tolerance=1", "task.beta=25"),
    ]
    used = set()
    for overrides in runs:
        config = composed(*overrides)
        task, _ = prepare(config)
        rows = task.start() if hasattr(task, "start") else []
        rows = rows + task.epoch(0) + task.finish(1)[0]
        for metric, layer, _ in rows:
            matching = [m for m in METRICS if find_metric(config.task.name, metric, layer) == m]
            assert len(matching) == 1, (config.task.name, metric, layer)
            used.add(matching[0])
    assert used == set(METRICS)


def test_a_mirror_holds_metrics_configuration_pictures_and_nothing_private(tmp_path):
    mirrored(Falling(), tmp_path, points=5)
    seen = inspect(tmp_path / "wandb")
    (run,) = seen["run"]
    assert (run["run_group"], run["job_type"], run["run_id"]) == ("spike_matching", "deterministic", "0123abcd")
    config = run["config"]["update"]
    assert config["seed"] == 17
    assert config["surrogate"] == {"_target_": "sgtheory.neurons.SuperSpike", "beta": 10}
    assert config["task"]["learning_rate"]["hidden"] == 1e-5
    (l2,) = [m for m in seen["metric"] if m.get("name") == "output/l2"]
    assert (l2["step_metric"], l2["summary"]) == ("epoch", {"last": True, "min": True})
    logged = [row["item"]["epoch"] for row in seen["history"]]
    assert logged == [0, 1, 4, 6, 8, 11, 12, 16, 20]  # every fourth, and whenever the rate was measured
    assert "output/rate" in seen["history"][3]["item"]
    last = {}
    for summary in seen["summary"]:
        last |= summary["update"]
    assert last["output/l2"] == {"last": 50, "min": 0}  # of all epochs: 7 was not logged
    final = seen["history"][-1]["item"]
    assert final["rasters/output_after.format"] == "png"
    assert sum(final["rates/output_after.values"]) == 4
    assert sum(final["weights/w0.values"]) == 3
    assert seen["exit"][0].get("exit_code", 0) == 0
    assert "weights/w0.bins" not in last
    content = b"".join(path.read_bytes() for path in (tmp_path / "wandb").glob("*/run-*.wandb"))
    private = [socket.gethostname(), str(tmp_path), str(ROOT), str(Path.home()) + "/", "git@", "github"]
    assert not [word for word in private if len(word) > 3 and word.encode() in content]
    assert {p.suffix for p in (tmp_path / "wandb").glob("*/files/**/*") if p.is_file()} == {".png"}


def test_a_run_that_goes_on_is_the_same_wandb_run_without_duplicate_steps(tmp_path):
    for stop_at in (3, 9):
        with pytest.raises(Interrupted):
            mirrored(Falling(stop_at), tmp_path)
    mirrored(Falling(), tmp_path)
    seen = inspect(tmp_path / "wandb")  # one folder: the earlier parts are in it
    assert [row["step"].get("num", 0) for row in seen["history"]] == list(range(21))
    records = load_run(tmp_path / "spike_matching" / "run").series("l2", "output")
    assert [row["item"]["output/l2"] for row in seen["history"]] == records.tolist()


def stand_in(broken, answer=None):
    """A wandb that fails at one point; one that hangs does so after ``answer``."""

    def fail(*args, **kwargs):
        if broken == "hang":
            answer.wait()
        raise RuntimeError("no more bits")

    ready = types.SimpleNamespace(step=0, define_metric=lambda *a, **k: None, log=fail)
    module = types.SimpleNamespace(setup=lambda s: None, Settings=dict, init=fail if broken == "init" else None)
    module.init = module.init or (lambda **k: ready)
    return None if broken == "missing" else module


@pytest.mark.parametrize("broken", ["missing", "init", "log", "hang", "folder"])
def test_a_failure_of_wandb_is_a_warning(broken, tmp_path, monkeypatch, caplog):
    """Not installed, not starting, failing or hanging in the middle, no folder to write to: the run is complete."""
    answer = threading.Event()
    monkeypatch.setitem(sys.modules, "wandb", stand_in(broken, answer))
    monkeypatch.setattr(loggers, "PATIENCE", {"offline": 0.2})
    settings = {}
    if broken == "folder":
        (tmp_path / "file").touch()
        settings["dir"] = str(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "sgtheory"):
        mirrored(Falling(), tmp_path, **settings)
    assert len(load_run(tmp_path / "spike_matching" / "run").series("l2", "output")) == 21
    (warning,) = caplog.messages
    assert ("does not answer" if broken == "hang" else "wandb failed") in warning
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "wandb":  # or it warns in the middle of another test
            thread.join()


@pytest.mark.parametrize(("login", "reason"), [(lambda **_: False, "no API key"), (None, "no route")])
def test_online_without_a_key_or_a_network_goes_on_offline(login, reason, tmp_path, monkeypatch, caplog):
    """And a user is never asked for a key."""

    def refuse(prompt=True):
        assert not prompt
        raise OSError("no route")

    module, started = stand_in("nothing"), []
    ready = module.init()
    ready.log = ready.finish = lambda *a, **k: None
    ready.summary = {}
    module.init = lambda **options: started.append(options["mode"]) or ready
    module.login, module.Image, module.Histogram = login or refuse, str, dict
    monkeypatch.setitem(sys.modules, "wandb", module)
    with caplog.at_level(logging.WARNING, "sgtheory"):
        mirrored(Falling(), tmp_path, mode="online")
    assert started == ["offline"]
    (warning,) = caplog.messages
    assert reason in warning


@pytest.mark.slow
def test_online_without_a_key_goes_on_offline_with_the_real_wandb(script, tmp_path):
    home = {"HOME": str(tmp_path / "home"), "WANDB_MODE": "offline", "WANDB_API_KEY": "", "NETRC": str(tmp_path / "no")}
    arguments = (*SMALL, "trainer.epochs=2", "logger.mode=online", f"runs={tmp_path / 'runs'}")
    done = script("train.py", *arguments, env=home, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "no API key" in done.stdout
    assert inspect(tmp_path / "runs" / "wandb")["run"]


def test_runs_of_an_experiment_and_of_a_sweep_are_a_group(monkeypatch):
    assert loggers.group(composed("experiment=fig6", "seed=3")) == "fig6"
    assert loggers.group(composed("task=loop_integral")) == "loop_integral"
    hydra = HydraConfig()
    monkeypatch.setattr(HydraConfig, "instance", lambda: hydra)
    groups = set()
    for seed in (1, 2):
        job = ("trainer.threads=1", "surrogate.beta=5", f"seed={seed}")
        config = composed(*job, "hydra.mode=MULTIRUN", return_hydra_config=True)
        hydra.set_config(config)
        groups.add(loggers.group(config))
    assert groups == {"spike_matching: seed, surrogate.beta"}


def test_paths_of_the_user_stay_here():
    config = composed("task.target.image=/home/me/secret/picture.png", "runs=/home/me/runs")
    values = json.dumps(loggers.columns(config))
    assert "picture.png" in values
    assert "/home/me" not in values


def test_a_raster_is_one_pixel_for_a_spike(tmp_path):
    spikes = np.zeros((400, 2), np.uint8)
    spikes[7, 1] = 1
    trials = np.zeros((3, 400, 1), np.uint8)
    np.savez(tmp_path / "rasters.npz", spikes=spikes, trials=trials, trials_layers=[2], labels=np.arange(5))
    rasters = spike_rasters(tmp_path)
    assert {name: raster.shape for name, raster in rasters.items()} == {"spikes": (400, 2), "hidden2_trials": (400, 3)}
    assert np.argwhere(picture(spikes) == 0).tolist() == [[1, 7]]
    assert picture(spikes[:100]).shape == (8, 400)
