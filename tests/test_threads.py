"""Threads: how they wait, and what happens to them after a fork."""

import os
import subprocess
import sys

import pytest

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
            print("works", pool.map_async(work, [recurrent] * 2).get(timeout=40))
        except Exception as error:
            print(type(error).__name__, str(error)[:90])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("computed", [False, True])
def test_forked_processes_work_or_say_in_one_sentence_why_not(computed):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", FORK.replace("COMPUTED", str(computed))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    refused = "UserError this process was forked after sgtheory had computed with threads"
    expected = [refused, refused] if computed else ["works [0, 0]", "works [0, 0]"]
    assert [line[: len(e)] for line, e in zip(done.stdout.splitlines(), expected, strict=True)] == expected, done.stderr


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_threads_do_not_spin_unless_the_user_wants_it(given, expected):
    """OpenMP itself says how it waits, as it is when sgtheory is imported first."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | {"OMP_DISPLAY_ENV": "true"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", "import sgtheory.lif"], env=environment, capture_output=True, text=True, timeout=200
    )
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("this OpenMP does not say how it waits")
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr
