"""Train for a long time and watch the memory.

    python tests/reliability/soak.py MINUTES [OVERRIDE ...]      # of scripts/train.py task=classification

Prints a line of JSON: minutes, epochs, memory (resident, MB) after the first quarter and at the end, and what was
wrong: memory that grew by more than a hundredth between them, an epoch without records, an exit code that is not that
of SIGTERM.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
EVERY = 5.0  # seconds between looks


def resident(pid: int) -> float:
    """MB of memory that a process occupies."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmRSS"))


def soak(minutes: float, overrides: list[str], folder: str) -> dict:
    command = [
        sys.executable,
        str(TRAIN),
        "task=classification",
        "trainer.epochs=1000000",
        f"runs={folder}",
        *overrides,
    ]
    training = subprocess.Popen(command)
    began, memory = time.monotonic(), []
    while training.poll() is None and time.monotonic() - began < 60 * minutes:
        time.sleep(EVERY)
        memory.append(resident(training.pid))
    training.send_signal(signal.SIGTERM)
    code = training.wait()
    (table,) = Path(folder).rglob("records.csv")
    records = pd.read_csv(table)
    epochs = records.epoch[records.metric == "accuracy"]
    found = {"minutes": minutes, "epochs": int(epochs.max()), "first": memory[len(memory) // 4], "last": memory[-1]}
    found |= {"largest": max(memory), "wrong": []}
    if found["last"] > 1.01 * found["first"]:
        found["wrong"].append("memory grows")
    if set(epochs) != set(range(found["epochs"] + 1)):
        found["wrong"].append("epochs without records")
    if code != 128 + signal.SIGTERM:
        found["wrong"].append(f"exit code {code}")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        outcome = soak(float(sys.argv[1]), sys.argv[2:], name)
    print(json.dumps(outcome))
    sys.exit(bool(outcome["wrong"]))
