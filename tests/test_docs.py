"""What the documents tell a reader to type works as written."""

import re
import shlex
import subprocess
import sys

from conftest import ROOT


def blocks(path):
    """Language and text of each fenced block."""
    return re.findall(r"```(\w+)\n(.*?)```", path.read_text(), flags=re.S)


def test_extending_works_as_written(tmp_path):
    """Files are named in a comment at their top; commands run in a folder of their own, beside the scripts."""
    commands = []
    for language, text in blocks(ROOT / "docs" / "extending.md"):
        if language == "bash":
            commands += text.strip().splitlines()
        else:
            path = tmp_path / re.search(r"^# (\S+\.(py|yaml))$", text, flags=re.M)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    assert len(commands) == 5
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    for command in commands:
        words = shlex.split(command)
        environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
        while "=" in words[0]:
            key, _, value = words.pop(0).partition("=")
            environment[key] = value
        assert words.pop(0) == "python"
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    finished = {path.parent.parent.name for path in (tmp_path / "runs").rglob("finished.json")}
    assert finished == {"spike_matching", "classification", "rate"}
    assert len(list((tmp_path / "runs" / "rate").rglob("finished.json"))) == 3
