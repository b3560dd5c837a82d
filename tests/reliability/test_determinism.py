"""The same seed gives the same bits in another process and with another number of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("determinism_cases.py")


def start(size, threads, *cases, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": "4", **environment}
    command = [sys.executable, str(FILE), size, *cases]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def checksums(process):
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 0
    return json.loads(output)


def test_one_and_two_threads_in_two_processes():
    found = [checksums(start("small", threads)) for threads in (1, 2)]
    assert found[0] == found[1]
    # they are not all of the same thing; reference and CPU may agree, and so do the two memory options of the network
    assert len(set(found[0].values())) >= len(found[0]) - 3 > 10


@pytest.fixture(scope="module")
def of_one_thread():
    return checksums(start("large", 1))


@pytest.mark.torture
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_any_number_of_threads(threads, of_one_thread):
    """Sizes at which libraries use several threads."""
    assert checksums(start("large", threads)) == of_one_thread


@pytest.mark.slow
def test_the_order_in_which_kernels_are_compiled(tmp_path):
    """What one kernel calls must not take over how another one is compiled."""
    found = []
    for order in (["layers", "network"], ["network", "layers"]):
        environment = {"NUMBA_CACHE_DIR": str(tmp_path / order[0])}
        found.append(checksums(start("small", 1, *order, **environment)))
    assert found[0] == found[1]
