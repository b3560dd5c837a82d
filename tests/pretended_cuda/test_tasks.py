"""The tasks as on a GPU machine, with a pretended device and the kernels in Triton's interpreter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
TORCH = Path(torch.__file__).parent


@pytest.fixture(scope="session")
def guard(tmp_path_factory):
    """guard.cpp compiled against the headers of this PyTorch."""
    pytest.importorskip("triton", reason="triton is not installed")
    if torch.version.cuda or not shutil.which("g++"):
        pytest.skip("needs g++ and a build of PyTorch without CUDA")
    library = tmp_path_factory.mktemp("guard") / "guard.so"
    command = ["g++", "-std=c++20", "-shared", "-fPIC", "-O1", f"-I{TORCH / 'include'}", str(HERE / "guard.cpp")]
    made = subprocess.run(
        [*command, "-o", str(library), f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu"], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"guard.cpp does not compile here: {made.stderr.splitlines()[0]}")
    return library


@pytest.mark.parametrize(
    ("mode", "task"),
    [
        ("escape_noise", "classification"),
        ("deterministic", "classification"),
        ("escape_noise", "likelihood"),
        ("deterministic", "surrogate"),
    ],
)
def test_a_task_records_on_the_device_what_it_records_on_the_cpu(guard, mode, task):
    """With bounds of the copies of an update: two waits more would be seen."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "GUARD": str(guard)}
    done = subprocess.run(
        [sys.executable, str(HERE / "run_tasks.py"), mode, task], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
