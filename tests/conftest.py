"""Settings of the whole suite."""

import os

# Small problems gain nothing from threads, and threads that wait for each other actively stall a busy machine. Read by
# the libraries when they are imported; tests of the number of threads set it themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["WANDB_MODE"] = "disabled"  # takes a second for each run; tests of the logger turn it on

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# a busy machine is not a failure; the same examples everywhere, `make torture` looks for others
settings.register_profile("sgtheory", deadline=None, derandomize=True)
settings.register_profile("torture", deadline=None, max_examples=3000)
settings.load_profile("sgtheory")


@pytest.fixture(scope="session")
def script():
    """Run a script of the repository as a user would; returns the finished process."""

    def run(name: str, *arguments, **kwargs) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **kwargs.pop("env", {})}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, **kwargs)

    return run


@pytest.fixture(scope="session")
def interpreter():
    """Skips where Triton cannot interpret kernels."""
    import numpy as np

    triton = pytest.importorskip("triton", reason="triton is not installed")
    of_numpy, of_triton = (tuple(map(int, m.__version__.split(".")[:2])) for m in (np, triton))
    if of_numpy >= (2, 4) and of_triton < (3, 7):
        pytest.skip(f"the interpreter of triton {triton.__version__} needs numpy < 2.4, and this is {np.__version__}")
