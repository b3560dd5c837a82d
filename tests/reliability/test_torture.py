"""Commands that are killed, started several times at once, or have no room on the disk; see harness.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torture
HARNESS = [sys.executable, str(Path(__file__).with_name("harness.py"))]
IN_NAMESPACE = ["unshare", "--map-root-user", "--mount"]  # where anybody may mount a small disk


def outcomes(command: list[str]) -> list[dict]:
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        print(json.dumps(line))
    assert done.returncode == 0, [line["wrong"] for line in lines if line["wrong"]] or done.stderr
    return lines


def test_a_killed_command_ends_as_if_nothing_had_happened_when_it_is_given_again():
    lines = outcomes([*HARNESS, "kill", "30"])
    assert sum(line.get(name, 0) for line in lines for name in ("SIGINT", "SIGTERM", "SIGKILL")) >= 200


def test_the_same_command_several_times_at_once():
    outcomes([*HARNESS, "together", "3"])


def test_a_full_and_a_read_only_disk():
    try:
        mounted = subprocess.run([*IN_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare on this system")
    if mounted.returncode:
        pytest.skip("this system lets nobody but root mount a small disk")
    lines = outcomes([*IN_NAMESPACE, *HARNESS, "disk", "12"])
    assert all(line["No space left on device"] for line in lines)
