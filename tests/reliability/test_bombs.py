"""Files that unpack to, or declare, far more than they hold are refused, with little memory; see bombs.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HARNESS = Path(__file__).with_name("bombs.py")


@pytest.mark.fuzz
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the address space of a process is not known")
def test_bombs_are_refused_within_400_mib(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "scripts")}
    command = [sys.executable, str(HARNESS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    outcomes = dict(line.split("\t")[::2] for line in done.stdout.splitlines())
    assert len(outcomes) > 20
    assert [name for name, outcome in outcomes.items() if not outcome.startswith("refused: ")] == []
    assert [name for name, outcome in outcomes.items() if name not in outcome] == []
