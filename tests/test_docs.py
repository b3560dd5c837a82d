"""What the documents tell a reader to type works as written."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from sgtheory.training import expand


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


def commands():
    """(document, words) of every command of this package in the README and docs, continued lines joined."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?: {4})?((?:python scripts/|make [a-zA-Z]).*)$", text, flags=re.M):
            yield path.name, shlex.split(line, comments=True)


def test_every_command_in_the_documents_can_be_given():
    """Scripts and targets are there, and overrides compose; what a command does is tested where it belongs."""
    seen = {"train.py": 0, "figure.py": 0, "make": 0}
    for document, words in commands():
        if words[0] == "make":
            assert subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True).returncode == 0, words
            seen["make"] += 1
            continue
        script, *arguments = words[1:]
        assert (ROOT / script).is_file(), (document, words)
        name = script.removeprefix("scripts/")
        if name in seen and document != "extending.md":
            own = ("output=", "records=", "-m", "hydra/launcher=", "hydra.launcher.")
            assert expand([argument for argument in arguments if not argument.startswith(own)]), (document, words)
            seen[name] += 1
    assert min(seen.values()) > 1, seen


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path):
    """All that train or draw within a minute, with the picture that they ask for."""
    shutil.copy(ROOT / "sgtheory" / "data" / "radcliffe.png", tmp_path / "my_picture.jpg")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    ran = 0
    for document, words in commands():
        if document == "README.md" and words[1] == "scripts/train.py":
            done = subprocess.run(
                [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, (words, done.stderr)
            ran += 1
    assert ran > 4
    assert len(list((tmp_path / "runs").rglob("finished.json"))) > ran


@pytest.mark.parametrize("document", ["docs/classification.md", "docs/lif-core.md"])
def test_examples_in_python_run(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    examples = [text for language, text in blocks(ROOT / document) if language == "python"]
    assert examples
    for text in examples:
        exec(compile(text, document, "exec"), {})
