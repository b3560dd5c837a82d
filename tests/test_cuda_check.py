"""scripts/cuda_check.py where there is no GPU; tests/pretended_cuda runs it on a pretended one."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    import cuda_check_steps

    return cuda_check_steps


def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    command = [sys.executable, str(SCRIPTS / "cuda_check.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("There is no GPU to check: ")
    assert len(done.stdout.splitlines()) == 1
    assert not done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--minutes", "0"), "--minutes 0 must be a finite number above 0"),
        (("--minutes", "nan"), "--minutes nan must be a finite number above 0"),
        (("--json", "no/such.json"), "--json no/such.json is not a file in a folder that is there"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(arguments, said, tmp_path):
    command = [sys.executable, str(SCRIPTS / "cuda_check.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with code -11: nothing was said"),
        ("raise SystemExit('out of luck')", "ended with code 1: out of luck"),
        ("while True: pass", "hung, and was ended"),
    ],
)
def test_a_step_that_ends_without_a_verdict_has_failed(code, what, tmp_path, monkeypatch, steps):
    import cuda_check

    (tmp_path / "cuda_check_steps.py").write_text(code)
    monkeypatch.setattr(cuda_check, "__file__", str(tmp_path / "cuda_check.py"))
    monkeypatch.setattr(cuda_check, "GRACE", 2)
    step = cuda_check.run_step("layers", 0.0, quick=True)
    assert (step["step"], step["verdict"], step["what"]) == ("layers", "failed", what)


def test_every_step_has_its_time(steps):
    import cuda_check

    assert list(cuda_check.STEPS) == list(steps.STEPS)


def test_a_sanitizer_that_finds_something_fails(tmp_path, monkeypatch, steps):
    report = steps.Report(tmp_path / "step.json", float("inf"), quick=True)
    monkeypatch.setattr(steps.shutil, "which", lambda name, path=None: None)
    with pytest.raises(steps.Skipped, match="is not there"):
        steps.sanitizer(report)
    monkeypatch.setattr(steps.shutil, "which", lambda name, path=None: f"/opt/{name}")
    finds = {"memcheck": 0, "racecheck": 9}

    def run(command, **options):
        tool = command[command.index("--tool") + 1]
        Path(command[command.index("layers") + 1]).write_text(
            json.dumps({"verdict": "passed", "what": "3 layers", "numbers": {"cases": 3}})
        )
        said = f"========= ERROR SUMMARY: {finds[tool]} errors\n"
        return SimpleNamespace(returncode=finds[tool], stdout=said, stderr="")

    monkeypatch.setattr(steps.subprocess, "run", run)
    with pytest.raises(AssertionError, match=r"racecheck: .*9 errors"):
        steps.sanitizer(report)
    assert report.numbers["memcheck"].endswith("0 errors")


def test_what_a_profile_says_of_the_device(steps):
    """Two kernels that overlap, a gap, a copy: idle for 30 of 100 microseconds."""

    def event(name, start, end, device="DeviceType.CUDA"):
        return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(start=start, end=end))

    events = [
        event("aten::add", 0, 500, "DeviceType.CPU"),
        event("cudaStreamSynchronize", 0, 500, "DeviceType.CPU"),
        event("Memcpy DtoH (Device -> Pageable)", 190, 200),
        event("forward_kernel", 100, 150),
        event("backward_kernel", 140, 160),
    ]
    found = steps.timeline(events)
    assert found["idle"] == pytest.approx(0.3)
    assert [name for name, _, _ in found["kernels"]] == ["forward_kernel", "backward_kernel", events[2].name]
    assert (found["copies"], found["waits"], found["milliseconds"]) == (1, 1, 0.1)
    assert steps.timeline([])["kernels"] == []
