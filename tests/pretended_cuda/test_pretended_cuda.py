"""The package as on a GPU machine: on a pretended device, with the kernels in Triton's interpreter."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TORCH = Path(torch.__file__).parent


@pytest.fixture(scope="session")
def environment(interpreter, tmp_path_factory):
    """What a process needs to have the device: guard.cpp compiled against the headers of this PyTorch, and more."""
    if torch.version.cuda or not shutil.which("g++"):
        pytest.skip("needs g++ and a build of PyTorch without CUDA")
    library = tmp_path_factory.mktemp("guard") / "guard.so"
    command = ["g++", "-std=c++20", "-shared", "-fPIC", "-O1", f"-I{TORCH / 'include'}", str(HERE / "guard.cpp")]
    compiled = subprocess.run(
        [*command, "-o", str(library), f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu"], capture_output=True, text=True
    )
    if compiled.returncode:
        pytest.skip(f"guard.cpp does not compile here: {compiled.stderr.splitlines()[0]}")
    return {**os.environ, "TRITON_INTERPRET": "1", "GUARD": str(library)}


def test_on_the_device(environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "on_device.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


PRETEND = "import pretended; pretended.pretend()\n"
WRONG_LOGARITHM = "import triton, sgtheory.lif.cuda.functions as f; f.LN2 = triton.language.constexpr(0.7)\n"


@pytest.fixture
def check(environment, tmp_path):
    """Run scripts/cuda_check.py, every process of which has the device and runs some code at its start."""

    def run(code, *arguments):
        (tmp_path / "sitecustomize.py").write_text(PRETEND + code)
        path = os.pathsep.join(map(str, (tmp_path, HERE, ROOT)))
        command = [sys.executable, str(ROOT / "scripts" / "cuda_check.py"), "--quick", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={**environment, "PYTHONPATH": path}
        )
        return done, json.loads((tmp_path / "cuda-check.json").read_text())

    return run


def test_a_wrong_kernel_is_found_and_named(check):
    done, found = check(WRONG_LOGARITHM, "--steps", "layers")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed: layers" in done.stdout
    assert [step["verdict"] for step in found["steps"]] == ["passed", "failed"]
    assert "spikes are not those of the reference (dense" in found["steps"][1]["what"]
    assert found["finished"]


@pytest.mark.slow
def test_the_whole_check(check):
    done, found = check("", "--minutes", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(found["steps"]) + 1
    verdicts = {step["step"]: step["verdict"] for step in found["steps"]}
    skipped = [name for name, verdict in verdicts.items() if verdict == "skipped"]
    assert set(skipped) <= {"idle", "sanitizer"}  # there is no profiler of the device, and no tool
