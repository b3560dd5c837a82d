"""Disturb commands; the same command has to end with the same files as one that nobody disturbed.

    python tests/reliability/harness.py kill ROUNDS [CASE ...] [--seed N]
    python tests/reliability/harness.py together ROUNDS [CASE ...]
    unshare -rm python tests/reliability/harness.py disk ROUNDS [CASE ...]

kill: sends SIGINT, SIGTERM or SIGKILL after a random time, once or twice, and then lets the command finish.
together: starts the command several times at once.
disk: gives it a disk (tmpfs) that is too small by a random amount, then a read-only one, then one with room.

Every round begins in an empty folder. Prints a line of JSON for each case: rounds, what was done, exit codes, and what
was wrong. All imports are done once, and each command runs in a fork: most of the time goes into what is to be
disturbed. The threads of OpenMP do not survive a fork, so that numba uses its own.
"""

import os

os.environ |= {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import argparse
import atexit
import collections
import contextlib
import functools
import hashlib
import json
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import torch

import sgtheory.figures.fig1
import sgtheory.tasks.classification
import sgtheory.tasks.spike_matching  # noqa: F401
from sgtheory.data import SpikeDataset, write_shd
from sgtheory.training import load_run

sys.path.append(str(Path(__file__).resolve().parents[1] / "data"))
from server import Server

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
SMALL = ("task.hidden=20", "task.inputs=20", "task.target.rows=20", "task.target.steps=30", "task.measure_every=5")
OFTEN = ("trainer.checkpoint_every=0.01", "logger=none")
TINY = (
    *("task.channels=[4]", "task.kernels=[5]", "task.strides=[2]", "task.paddings=[0]", "task.recurrent_kernels=[3]"),
    *("data.train=60", "data.test=20"),
    "task.batch_size=10",
    "task.fano_trials=4",
    "task.measure_every=2",
)


@dataclass(frozen=True)
class Case:
    """A command and what it leaves.

    ``contents(folder)`` maps names to whatever has to be equal, and raises if a file is not whole.
    """

    command: Callable[[Path], list[str]]
    contents: Callable[[Path], dict]


def run_contents(folder: Path) -> dict:
    """Records, rasters and the last state of all runs that have begun, but for the time they took."""
    found = {}
    for config in folder.rglob("config.json"):
        directory = config.parent
        json.loads(config.read_text())
        if (directory / "checkpoint.pt").exists():
            state = torch.load(directory / "checkpoint.pt", weights_only=True)["state"]
            found |= {f"{directory.name}/state/{k}": v for k, v in state.items()}
        if (directory / "finished.json").exists():
            load_run(directory)
            names = ("records.csv", "rasters.npz")
            found |= {f"{directory.name}/{name}": (directory / name).read_bytes() for name in names}
    return found


def file_contents(folder: Path) -> dict:
    """The bytes of all files that have their final name."""
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")}


def data_contents(folder: Path) -> dict:
    """All arrays of the data files."""
    found = {}
    for path in folder.rglob("[!.]*.h5"):
        with h5py.File(path) as file:
            for name in ("labels", "spikes/times", "spikes/units"):
                found |= {f"{path.name}/{name}/{i}": np.asarray(row) for i, row in enumerate(file[name])}
    return found


def training(*arguments: str) -> Case:
    return Case(lambda folder: ["train.py", *arguments, *OFTEN, f"runs={folder / 'runs'}"], run_contents)


@functools.cache
def server() -> tuple[str, Path]:
    """Address of a slow server with two data files, in a process that ends with this one; a file with their sums."""
    folder = Path(tempfile.mkdtemp())
    slow = Server(seconds=0.5)
    for name in ("shd_train.h5", "shd_test.h5"):
        times = [np.sort(np.random.default_rng(i).random(100)) for i in range(50)]
        write_shd(folder / name, SpikeDataset.from_samples(times, [np.arange(100)] * 50, [0] * 50, ["zero"], name))
        slow.files[f"/{name}"] = (folder / name).read_bytes()
        with (folder / "sums").open("a") as sums:
            sums.write(f"{hashlib.md5(slow.files[f'/{name}']).hexdigest()}  {name}\n")
    if not (pid := os.fork()):
        slow.server.serve_forever()
    atexit.register(shutil.rmtree, folder)
    atexit.register(os.kill, pid, signal.SIGKILL)
    return slow.url, folder / "sums"


def downloading(folder: Path) -> list[str]:
    url, sums = server()
    return ["fetch_data.py", "shd", f"data.dir={folder}", f"data.base_url={url}", f"data.md5sums={sums}"]


@functools.cache
def recordings() -> Path:
    """A folder with two recordings of noise."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for i, word in enumerate(("one", "two")):
        (folder / word).mkdir()
        sound = np.random.default_rng(i).normal(size=4000).clip(-3, 3) / 3
        with wave.open(str(folder / word / "noise.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((32767 * sound).astype("<i2").tobytes())
    return folder


def hearing(folder: Path) -> list[str]:
    return ["make_spikes.py", str(recordings()), str(folder / "spikes.h5")]


def run_and_data_contents(folder: Path) -> dict:
    return run_contents(folder) | data_contents(folder)


CASES = {
    "spike matching": training(*SMALL, "trainer.epochs=60"),
    "spike matching, escape noise": training(*SMALL, "neuron=escape_noise", "trainer.epochs=25"),
    "sweep": training("-m", *SMALL, "trainer.epochs=20", "seed=1,2,3"),
    "classification": training("task=classification", "data=randman", *TINY, "trainer.epochs=4"),
    "classification, escape noise": training(
        "task=classification", "data=randman", "neuron=escape_noise", *TINY, "trainer.epochs=3"
    ),
    "figure": Case(lambda folder: ["figure.py", "experiment=fig1", f"output={folder / 'figures'}"], file_contents),
    "data": Case(
        lambda folder: [
            "train.py",
            *("task=classification", "data=spoken_digits", "data.train=6", "data.test=4", f"data.dir={folder}"),
            *(*OFTEN, "task.channels=[2,2,2]", "task.batch_size=4", "task.fano_trials=2", "trainer.epochs=1"),
            f"runs={folder / 'runs'}",
        ],
        run_and_data_contents,
    ),
    "download": Case(downloading, data_contents),
    "recordings": Case(hearing, data_contents),
}


def begin(command: list[str], log: Path) -> int:
    """Run a script in a fork, in a process group of its own, as the shell would; returns its process id."""
    if pid := os.fork():
        return pid
    os.setpgid(0, 0)
    code = 70  # a traceback, unless it ends otherwise
    try:
        for number in SIGNALS[:2]:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = command = [str(SCRIPTS / command[0]), *command[1:]]
        runpy.run_path(command[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def exit_code(pid: int) -> int:
    """Of a process that ends, as a shell gives it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - code if code < 0 else code


def equal(a, b) -> bool:
    if isinstance(a, bytes):
        return a == b
    with contextlib.suppress(AssertionError):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        return True
    return False


def survivors(group: int, seconds: float = 10.0) -> bool:
    """Whether processes that a command has started are still there some time after its end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return True


def difference(found: dict, wanted: dict) -> list[str]:
    """Names of what is missing, additional or not equal."""
    unequal = [name for name in found.keys() & wanted.keys() if not equal(found[name], wanted[name])]
    return sorted(found.keys() ^ wanted.keys()) + sorted(unequal)


@dataclass
class Round:
    """One disturbed command: what happened, and what was wrong."""

    case: Case
    folder: Path
    count: collections.Counter
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.work, self.log = self.folder / "work", self.folder / "log.txt"
        self.work.mkdir(parents=True)

    def begin(self) -> int:
        return begin(self.case.command(self.work), self.log)

    def end(self, pid: int, allowed: tuple[int, ...], after: str) -> int:
        """Wait for a command; its exit code has to be an allowed one, and all files whole."""
        code = exit_code(pid)
        self.count[f"exit code {code}"] += 1
        if code not in allowed:
            self.wrong.append(f"exit code {code} after {after}")
        if survivors(pid):
            self.wrong.append(f"processes are left after {after}")
        try:
            self.case.contents(self.work)
        except Exception as error:
            self.wrong.append(f"a file is not whole after {after}: {error}")
        return code

    def finish(self, wanted: dict) -> None:
        """Let the command end undisturbed, and compare."""
        self.end(self.begin(), (0,), "the last call")
        if not self.wrong:
            self.wrong += [f"{name} differs" for name in difference(self.case.contents(self.work), wanted)]
        self.wrong += [f"{path.name} is left" for path in (self.work / "runs").rglob("*.tmp*")]
        if "Traceback" in self.log.read_text():
            self.wrong.append("a traceback")
        if self.wrong:
            self.wrong.append(self.log.read_text()[-2000:])


def kill(disturbed: Round, seconds: float, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 3)):
        number = SIGNALS[rng.integers(len(SIGNALS))]
        pid = disturbed.begin()
        time.sleep(rng.uniform(0, 1.05 * seconds))
        os.kill(pid, number)
        disturbed.count[number.name] += 1
        disturbed.end(pid, (0, 128 + number), number.name)


def together(disturbed: Round, seconds: float, rng: np.random.Generator) -> None:
    commands = [disturbed.begin() for _ in range(rng.integers(2, 4))]
    for pid in commands:
        disturbed.count["commands"] += 1
        disturbed.end(pid, (0,), "running beside itself")


def disk(disturbed: Round, seconds: float, rng: np.random.Generator) -> None:
    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", disturbed.work], check=True)

    def sentence(reason: str) -> None:
        disturbed.count[reason] += 1
        lines = [line for line in disturbed.log.read_text().splitlines() if line.startswith("error: ")]
        if not (lines and lines[-1].endswith(reason)):
            disturbed.wrong.append(f"the last sentence does not end with: {reason}")

    mount("ro")
    disturbed.end(disturbed.begin(), (1,), "a read-only disk")
    sentence("Read-only file system")
    subprocess.run(["umount", disturbed.work], check=True)
    mount(f"size={4 * round(2 ** rng.uniform(0, 6))}k")
    if disturbed.end(disturbed.begin(), (0, 1), "a full disk") == 1:
        sentence("No space left on device")
    mount("remount", "size=1g")


DISTURBANCES = {"kill": kill, "together": together, "disk": disk}


def undisturbed(case: Case, folder: Path) -> tuple[dict, float]:
    """What the command leaves, and the seconds it takes when all is compiled."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        whole = Round(case, folder, collections.Counter())
        began = time.monotonic()
        whole.end(whole.begin(), (0,), "nothing")
        seconds = time.monotonic() - began
    if whole.wrong:
        sys.exit("\n".join([*whole.wrong, whole.log.read_text()]))
    return case.contents(whole.work), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("disturbance", choices=DISTURBANCES)
    parser.add_argument("rounds", type=int)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], metavar="CASE", default=[])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        for case_name in given.cases or CASES:
            case, rng, wrong = CASES[case_name], np.random.default_rng(given.seed), []
            count: collections.Counter = collections.Counter()
            wanted, seconds = undisturbed(case, Path(name) / "whole")
            for i in range(given.rounds):
                disturbed = Round(case, Path(name) / str(i), count)
                DISTURBANCES[given.disturbance](disturbed, seconds, rng)
                disturbed.finish(wanted)
                wrong += disturbed.wrong
                if given.disturbance == "disk":
                    subprocess.run(["umount", disturbed.work], check=True)
                shutil.rmtree(disturbed.folder)
            failed |= bool(wrong)
            print(json.dumps({"case": case_name, "rounds": given.rounds, **count, "wrong": wrong}), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
