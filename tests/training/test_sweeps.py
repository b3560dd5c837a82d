"""Sweeps by every launcher: threads, signals, locks, a missing plugin."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import collect
import pandas as pd
import pytest
import torch
from conftest import ROOT
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from sgtheory.command import Interrupted, one_sentence
from sgtheory.errors import UserError
from sgtheory.training import _sweep, expand, run_task
from sgtheory.training._metrics import find_metric

LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")
CORES = len(os.sched_getaffinity(0))
TASK = """# @package _global_
task: {{_target_: waiting_task.Waiting, name: waiting, go: {go}}}
neuron: {{tau_mem: 0.02, tau_syn: 0.01, dt: 0.001, reset: same}}
trainer: {{epochs: 5}}
"""


def require_plugin(launcher):
    package = f"hydra-{launcher.split('_')[0]}-launcher"
    pytest.importorskip(f"hydra_plugins.{package.replace('-', '_')}", reason=f"pip install {package}")


@pytest.fixture
def train(tmp_path):
    """Start scripts/train.py with runs of the waiting task in tmp_path/runs; tmp_path/go lets them go on."""
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "waiting.yaml").write_text(TASK.format(go=tmp_path / "go"))
    setting = ["task=waiting", "data=none", "surrogate=superspike", f"runs={tmp_path / 'runs'}"]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    started = []

    def start(*arguments):
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--config-dir", str(tmp_path / "conf")]
        process = subprocess.Popen(
            [*command, *arguments, *setting],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    yield start
    (tmp_path / "go").touch()  # ends jobs, too, which are nobody's children once their sweep is killed
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=600):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found


def finish(process):
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return output


def records(folder):
    tables = [pd.read_csv(path) for path in sorted((folder / "runs").glob("waiting/*/records.csv"))]
    return [t[t.metric == "value"].value.tolist() for t in tables], [t[t.metric == "threads"].value for t in tables]


def course(seed):
    """What the waiting task records."""
    values = [torch.tensor(float(seed), dtype=torch.float64)]
    for n in range(5):
        values.append(torch.sin(values[-1] * 1.3 + n))
    return [float(value) for value in values[1:]]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_take_overrides_and_check_their_types(launcher):
    require_plugin(launcher)
    key = "n_jobs" if launcher == "joblib" else "cpus_per_task"
    assert len(expand([f"hydra/launcher={launcher}", f"hydra.launcher.{key}=3", "seed=1,2"])) == 2
    with pytest.raises(ConfigCompositionException):
        expand([f"hydra/launcher={launcher}", f"hydra.launcher.{key}=three"])


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_missing_plugin_is_named_with_the_command_that_installs_it(launcher, monkeypatch):
    config = OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / f"{launcher}.yaml")
    monkeypatch.setattr(_sweep.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Exception, match="pip install") as error:
        config["_target_"]
    package = f"hydra-{launcher.split('_')[0]}-launcher"
    expected = f"this hydra/launcher needs {package}, which is not installed: pip install {package}"
    assert one_sentence(error.value) == expected


def test_a_machine_without_slurm_is_named(monkeypatch):
    require_plugin("submitit_slurm")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="needs srun, which is not there"):
        _sweep.plugin("hydra_submitit_launcher.submitit_launcher.SlurmLauncher", "srun")


def test_a_sweep_that_is_not_waited_for_ends_before_its_jobs(train, tmp_path):
    require_plugin("submitit_local")
    process = train("-m", "hydra/launcher=submitit_local", "seed=1", "--no-wait")
    assert process.wait(timeout=600) == 0
    assert process.stdout.readline().startswith("submitted, first job")
    assert not list((tmp_path / "runs").rglob("finished.json"))  # they wait for the file go
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 120
    while not list((tmp_path / "runs").rglob("finished.json")):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)
    assert records(tmp_path)[0] == [course(1)]


@pytest.mark.parametrize("arguments", [["-m", "hydra/launcher=joblib"], ["hydra/launcher=submitit_local"]])
def test_what_is_not_submitted_must_be_waited_for(arguments):
    with pytest.raises(UserError, match="--no-wait needs -m and"), _sweep.not_waiting([*arguments, "--no-wait"]):
        pass


def test_the_sweep_file_of_wandb_makes_commands_that_can_be_given(tmp_path, monkeypatch):
    """The command that an agent of wandb runs for each choice of parameters, made by wandb itself."""
    agent = pytest.importorskip("wandb.wandb_agent")
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # the agent sets them, and they are to go with the test
    sweep = OmegaConf.to_container(OmegaConf.load(ROOT / "scripts" / "wandb_sweep.yaml"))
    assert (ROOT / sweep["program"]).is_file()
    ran = []
    monkeypatch.setattr(agent, "AgentProcess", lambda command, **_: ran.append(command) or types.SimpleNamespace())
    made = agent.Agent.__new__(agent.Agent)
    made._sweep_command, made._function, made._in_jupyter = sweep["command"], None, False
    made._forward_signals, made._run_processes = False, {}
    for extreme in (0, -1):
        values = {}
        for key, choice in sweep["parameters"].items():
            values[key] = {"value": [*choice.get("values", [choice.get("value", choice.get("min"))])][extreme]}
        made._command_run({"run_id": "a1", "program": sweep["program"], "args": values})
        env, python, program, *overrides = ran[-1]
        assert (env, python, program) == ("/usr/bin/env", "python", "scripts/train.py")
        (config,) = expand(overrides)
        assert config.surrogate.beta == values["surrogate.beta"]["value"]
        assert config.neuron.mode == values["neuron"]["value"]
        assert config.logger.mode == "online"
    metric = sweep["metric"]["name"].removesuffix(".min")
    assert find_metric("spike_matching", *reversed(metric.split("/"))).summary.split(",")[0] == "min"


def test_runs_of_joblib_share_the_cores(train, tmp_path):
    require_plugin("joblib")
    (tmp_path / "go").touch()
    finish(train("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2"))
    values, threads = records(tmp_path)
    assert values == [course(1), course(2)]
    assert all((used == max(CORES // 2, 1)).all() for used in threads)


def test_a_job_before_its_time_limit_saves_a_checkpoint_and_goes_on_in_the_queue(train, tmp_path):
    """submitit's SIGUSR2; without our own handler it would leave in the middle of an epoch, with nothing saved."""
    require_plugin("submitit_local")
    sweep = train("-m", "hydra/launcher=submitit_local", "seed=1")
    (config,) = wait_for(lambda: list(tmp_path.glob("runs/waiting/*/config.json")), sweep)
    time.sleep(0.5)  # until it is training; before, there is nothing to save and submitit deals with the signal alone
    (number,) = (path.name for path in (tmp_path / "runs" / ".submitit").iterdir() if path.name.isdigit())
    job = Path(f"/proc/{number}/task/{number}/children")
    if not job.exists():
        pytest.skip("finds the process of the job in /proc")
    os.kill(int(job.read_text()), signal.SIGUSR2)
    wait_for((config.parent / "checkpoint.pt").exists, sweep)
    (tmp_path / "go").touch()
    finish(sweep)
    assert json.loads((config.parent / "finished.json").read_text())["from"] == 2
    values, threads = records(tmp_path)
    assert values == [course(1)]
    assert threads[0].tolist() == [1]  # cpus_per_task


def test_a_signal_ends_a_sweep_and_not_only_the_run_that_gets_it(train, tmp_path):
    sweep = train("seed=1,2", "-m")  # amid the overrides
    wait_for(lambda: list(tmp_path.glob("runs/waiting/*/config.json")), sweep)
    time.sleep(0.5)  # until it is training
    sweep.send_signal(signal.SIGTERM)
    _, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 143
    assert errors == "error: interrupted by SIGTERM; the same command goes on from here\n"
    assert len(list(tmp_path.glob("runs/waiting/*/checkpoint.pt"))) == 1
    assert len(list(tmp_path.glob("runs/waiting/*"))) == 1


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_every_run_that_fails_is_named_and_the_others_go_on(script, launcher, tmp_path):
    require_plugin(launcher) if launcher != "basic" else None
    small = (
        "trainer.epochs=1",
        "task.target.rows=9",
        "task.target.steps=9",
        "logger=none",
        f"runs={tmp_path / 'runs'}",
    )
    words = ("seed=1,-1,2", "surrogate.beta=-3,10")
    done = script("train.py", "-m", *words, *small, f"hydra/launcher={launcher}")
    assert done.returncode == 2
    named = [line for line in done.stderr.splitlines() if line.startswith("error: ") and "must be" in line]
    assert len(named) == 4
    assert sum("seed=-1" in line and "seed = -1: must be an integer" in line for line in named) == 2
    assert sum("surrogate.beta=-3" in line and "surrogate.beta = -3: must be" in line for line in named) == 2
    last = done.stderr.splitlines()[-1]
    failed = (
        "seed=1 surrogate.beta=-3",
        "seed=-1 surrogate.beta=-3",
        "seed=-1 surrogate.beta=10",
        "seed=2 surrogate.beta=-3",
    )
    assert last == f"error: 4 of 6 runs failed: {', '.join(failed)}; the same command tries them again"
    assert len(list(tmp_path.rglob("finished.json"))) == 2
    assert not list(tmp_path.rglob(".refused"))


class Signalled:
    """A task that is sent a signal in its second epoch."""

    may_be_nan = frozenset()

    def state(self):
        return {}

    def epoch(self, n):
        if n == 1:
            os.kill(os.getpid(), signal.SIGUSR2)
        return []

    def summary(self, rows):
        return ""


@pytest.mark.parametrize("refuses", [False, True])
def test_who_handled_the_signal_before_is_called_with_the_checkpoint_saved(tmp_path, refuses):
    seen = []

    def requeue(number, frame):
        seen.append(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epoch"])
        if refuses:
            raise RuntimeError("timed out too often")
        raise SystemExit(-1)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        with pytest.raises(Interrupted if refuses else SystemExit):
            run_task(Signalled(), 9, tmp_path, {}, 1e9)
        assert seen == [2]
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_of_two_processes_in_one_run_directory_the_second_waits_and_has_nothing_to_do(train, tmp_path):
    first = train("seed=1")
    (config,) = wait_for(lambda: list(tmp_path.glob("runs/waiting/*/config.json")), first)
    second = train("seed=1")
    said = second.stdout.readline()
    assert "another process is training this run, waiting for it" in said
    assert not (config.parent / "finished.json").exists()
    (tmp_path / "go").touch()
    finish(first)
    assert "finished before, nothing to do" in finish(second)
    assert records(tmp_path)[0] == [course(1)]


def test_two_processes_that_need_the_same_data_make_it_once(tmp_path):
    code = """
import hashlib, sys
from sgtheory.data import open_dataset
made = []
data = open_dataset("spoken_digits", sys.argv[1], train=10, test=2, progress=lambda ready, total: made.append(ready))
print(len(made), hashlib.sha256(data.train.times.tobytes() + data.test.times.tobytes()).hexdigest())
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    (made, content), (made_again, same) = (process.communicate(timeout=600)[0].split() for process in both)
    assert sorted([int(made), int(made_again)]) == [0, 12]
    assert content == same


def test_the_commands_of_the_document_are_valid():
    text = (ROOT / "docs" / "sweeps.md").read_text()
    commands = [
        shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S) for line in block.splitlines()
    ]
    jobs = []
    for python, script, *arguments in commands:
        assert python == "python"
        if script == "scripts/collect.py":
            collect.parser().parse_args(arguments)
        else:
            jobs.append(len(expand([argument for argument in arguments if argument != "-m"])))
    assert jobs == [9, 6, 10, 6]
    keys = [override for override in re.findall(r"`'(.*?)'`", text) if "hydra.launcher" in override]
    assert len(expand(["hydra/launcher=submitit_slurm", *keys])) == 1
