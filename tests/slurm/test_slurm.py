"""A sweep on a real SLURM of one node: cancelled, put back into the queue, submitted again, collected."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgtheory.training import expand, find_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SWEEP = (
    *("task.hidden=20", "task.inputs=20", "task.target.rows=20", "task.target.steps=30", "task.measure_every=100"),
    *("trainer.epochs=6000", "trainer.checkpoint_every=0.5", "surrogate.beta=5,10,20", "seed=1,2,3,4"),
)
JOBS = (*SWEEP, "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.array_parallelism=2")


@pytest.fixture(scope="module")
def slurm():
    """Environment in which sbatch, squeue and scancel talk to a cluster of one node."""
    if missing := [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)]:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("a SLURM cluster is started by root")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install hydra-submitit-launcher")
    command = ["sh", str(Path(__file__).with_name("one_node.sh")), "sh", "-c", "echo $SLURM_CONF; cat"]
    cluster = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    conf = cluster.stdout.readline().strip()
    assert conf, "the cluster did not start"
    yield {**os.environ, "SLURM_CONF": conf, "OMP_WAIT_POLICY": "passive"}
    cluster.stdin.close()
    assert cluster.wait(timeout=600) == 0


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return found


@pytest.fixture
def train():
    """Start a sweep; ended with the test."""
    started = []

    def start(arguments, environment):
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finished(run):
    return json.loads((run / "finished.json").read_text())


def test_a_sweep_goes_on_after_a_cancelled_and_a_requeued_job_and_is_collected(slurm, train, script, tmp_path):
    runs = [find_run(config) for config in expand([*SWEEP, f"runs={tmp_path / 'slurm'}"])]
    names = [str(run.relative_to(tmp_path / "slurm")) for run in runs]
    requeued, cancelled = 2, 11

    def call(*command):
        done = subprocess.run(command, env=slurm, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    sweep = train([*JOBS, f"runs={tmp_path / 'slurm'}"], slurm)
    wait_for((runs[requeued] / "checkpoint.pt").exists, sweep)
    array = call("squeue", "--noheader", "--format=%F").split()[0]
    # it insists when the job answers by leaving, so it is not waited for
    scancel = subprocess.Popen(
        ["scancel", "--signal=USR2", f"{array}_{requeued}"], env=slurm, stderr=subprocess.DEVNULL
    )
    wait_for((runs[cancelled] / "checkpoint.pt").exists, sweep)
    scancel.kill()
    scancel.wait()
    call("scancel", f"{array}_{cancelled}")
    call("scontrol", "update", f"JobId={array}_{requeued}", "StartTime=now")  # SLURM would take it up after two minutes
    _, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 143, errors
    assert "interrupted by SIGTERM; the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert [run for run in runs if not (run / "finished.json").exists()] == [runs[cancelled]]
    assert finished(runs[requeued])["from"] > 0
    before = [finished(run) for run in runs[:cancelled]]
    collected = script("collect.py", tmp_path / "slurm", "--metric", "l2")
    assert f"unfinished or diverged: {names[cancelled]}" in collected.stdout

    sweep = train([*JOBS, f"runs={tmp_path / 'slurm'}"], slurm)
    _, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, errors
    assert finished(runs[cancelled])["from"] > 0
    assert [finished(run) for run in runs[:cancelled]] == before

    sweep = train([*SWEEP, f"runs={tmp_path / 'basic'}"], {**os.environ, "OMP_NUM_THREADS": "1"})
    _, errors = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, errors
    for name, run in zip(names, runs, strict=True):
        assert (run / "records.csv").read_bytes() == (tmp_path / "basic" / name / "records.csv").read_bytes()
    tables = []
    for folder in ("slurm", "basic"):
        collected = script("collect.py", tmp_path / folder, "--csv", tmp_path / f"{folder}.csv")
        assert collected.returncode == 0, collected.stderr
        tables.append((tmp_path / f"{folder}.csv").read_text())
    assert tables[0] == tables[1]
    rows = [line.split(",") for line in tables[0].splitlines()]
    assert {(row[rows[0].index("surrogate.beta")], row[rows[0].index("n")]) for row in rows[1:]} >= {
        *((beta, "4") for beta in ("5", "10", "20"))
    }


def test_a_sweep_that_is_not_waited_for_goes_on_without_its_command(slurm, train, tmp_path):
    sweep = [*JOBS, "surrogate.beta=5", "seed=1,2", "trainer.epochs=300", f"runs={tmp_path}"]
    process = train([*sweep, "--no-wait"], slurm)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    job = output.split()[3].rstrip(":")
    deadline = time.monotonic() + 300
    while subprocess.run(["squeue", "--noheader", f"--job={job}"], env=slurm, capture_output=True, text=True).stdout:
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.5)
    assert len(list(tmp_path.rglob("finished.json"))) == 2
