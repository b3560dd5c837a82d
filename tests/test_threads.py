"""Threads: how they wait, and what happens to them after a fork."""

import os
import subprocess
import sys

import pytest
import torch

from sgtheory.threads import run_blocks, share_tasks

FORK = """
import multiprocessing
import torch
from sgtheory.lif import LIF, Noise, lif
from sgtheory.neurons import LIFParameters, SuperSpike

def work(recurrent):
    weight = torch.zeros(100, 100) if recurrent else None
    spikes, _ = lif(torch.ones(4, 50, 100), LIFParameters(), SuperSpike(10.0), recurrent=weight)
    return int(spikes[0, 0, 0])

if COMPUTED:
    work(False)
with multiprocessing.get_context("fork").Pool(2) as pool:
    for recurrent in (False, True):
        try:
            print("works", pool.map_async(work, [recurrent] * 2).get(timeout=300))
        except Exception as error:
            print(type(error).__name__, str(error)[:90])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("computed", [False, True])
def test_forked_processes_compute(computed):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", FORK.replace("COMPUTED", str(computed))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.splitlines() == ["works [0, 0]", "works [0, 0]"], done.stderr


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_threads_do_not_spin_unless_the_user_wants_it(given, expected):
    """OpenMP itself says how it waits, as it is when sgtheory is imported first."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | {"OMP_DISPLAY_ENV": "true"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", "import sgtheory.lif"], env=environment, capture_output=True, text=True, timeout=600
    )
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("this OpenMP does not say how it waits")
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr


SPINNING = """
import resource, threading, time
import torch
import sgtheory.lif
torch.set_num_threads(2)
x = torch.zeros(2**20)
for _ in range(5):
    x.add_(1)
used = 0.0
for _ in range(50):
    x.add_(1)  # by two threads, one of which then waits for more
    before = time.process_time()
    time.sleep(0.02)
    used += time.process_time() - before
print(used)
"""


def test_threads_of_a_pytorch_that_was_imported_before_do_not_spin():
    """While nothing is computed, no processor time is used; threads that spin use milliseconds of every wait."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    run = {"capture_output": True, "text": True, "timeout": 600}
    used = [
        float(subprocess.run([sys.executable, "-c", code], env=environment, **run).stdout)
        for code in (SPINNING.replace("import sgtheory.lif\n", ""), SPINNING)
    ]
    if used[0] < 0.05:
        pytest.skip("the threads of this PyTorch do not spin anyway")
    assert used[1] < used[0] / 3


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_task_is_done_once(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for tasks in (0, 1, 4, 97):
            done = []
            share_tasks(lambda first, last: done.extend(range(first, last)), tasks, 2**20)  # noqa: B023
            assert sorted(done) == list(range(tasks))
            assert run_blocks(lambda n: n * n, range(tasks)) == [n * n for n in range(tasks)]
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_thread_is_the_caller_s():
    def kernel(first, last):
        raise ValueError("here")

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match="here"):
            share_tasks(kernel, 10, 2**20)
    finally:
        torch.set_num_threads(before)
