"""Commands with input that cannot be used: one sentence on stderr, exit code 2, and nothing written."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from valid_files import CLAIM, CONFIG, FINISHED, write_classification_replay, write_json, write_records

from sgtheory.command import report_errors


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with files of every kind that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "bad/run/config.json": b'{"seed": 1',
        "bad/run/finished.json": b"{}",
        "shd/shd_train.h5": b"\x89HDF\r\n\x1a\n" + bytes(99),
        "shd/shd_test.h5": b"",
        "figures/fig1.json": b"[",
        "sounds/word/one.wav": b"RIFFxxxx",
        "sums.txt": b"\xff\xfe",
        "picture.png": b"\x89PNG",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    for mode in ("deterministic", "escape_noise"):  # a finished run of which most is missing
        run = Path("runs") / mode
        run.mkdir(parents=True)
        write_records(run / "records.csv")
        write_json(CONFIG | {"neuron": {"mode": mode}})(run / "config.json")
        write_json(FINISHED)(run / "finished.json")
    Path("other").mkdir()
    write_json({"claims": [CLAIM | {"verdict": "perhaps"}]})(Path("other/fig6.json"))
    return tmp_path


MISTAKES = [
    ("figure experiment=fig6 records=bad", "config.json cannot be read"),
    ("figure experiment=fig6 records=runs", "records=runs: fig6 cannot be drawn from these runs"),
    ("figure experiment=fig7 records=runs", "records=runs: fig7 cannot be drawn from these runs"),
    ("figure experiment=fig6 records=nowhere", "there are no finished runs of fig6 in nowhere"),
    ("figure experiment=fig6 records=", "records= has no value"),
    ("figure experiment=3", "must be a string or a list"),
    ("figure experiment=fig1 figure.module=../os", "there is no such module"),
    ("figure a=b=[", "mismatched input"),
    ("collect bad", "config.json cannot be read"),
    ("collect picture.png", "there is no folder picture.png"),
    ("report --diff bad bad", "config.json cannot be read"),
    ("report --diff figures figures", "fig1.json cannot be read"),
    ("report --diff other picture.png", "picture.png is not a folder"),
    ("report --figures nowhere", "--figures nowhere: there is no such folder"),
    ("figure fig1", "'fig1' is not an argument of this command: KEY=VALUE, for example experiment=fig1"),
    ("figure experiment=fig1 --lnog", "'--lnog' is not an argument of this command"),
    ("figure experiment=fig1 figure.bta=5", "Could not override 'figure.bta'. There is no such key"),
    ("report --figures figures", "fig1.json cannot be read"),
    ("report --html --figures other", "must have the verdict"),
    ("make_spikes sounds out.h5", "one.wav cannot be used"),
    ("make_spikes sounds out.h5 files=picture.png", "picture.png cannot be read"),
    ("fetch_data shd data.md5sums=sums.txt", "sums.txt cannot be read"),
    ("evaluate", "RUN is missing"),
    ("evaluate bad/run", "config.json cannot be read"),
    ("evaluate bad/run data.dri=x", "there is no setting 'data.dri': the settings are data.dir"),
    ("evaluate bad/run --upgrade", "'--upgrade' is not an argument of this command"),
    ("export bad/run out.nir", "config.json cannot be read"),
    ("export runs out.nir", "runs holds no finished run"),
    ("export runs/deterministic", "OUT is missing"),
    ("export runs/deterministic out.nir euler_step=x", "euler_step = x must be a number of seconds"),
    ("fetch_data shd data.dir=shd", "its MD5 sum is not that of the file of SHD"),
]


@pytest.mark.parametrize(("command", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(command, message, folder, capsys):
    name, *arguments = command.split()
    before = sorted(folder.rglob("*"))
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as end, report_errors():
        sys.exit(module.main(arguments))
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["task=3"], 2, "must be a string or a list"),
        (["task.hidden=1000000000000"], 1, "there is not enough memory"),
    ],
)
def test_training_ends_with_a_sentence(arguments, code, message, folder, script):
    before = sorted(folder.rglob("*"))
    done = script("train.py", *arguments, "logger=none", f"runs={folder / 'new'}", cwd=folder)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path for path in sorted(folder.rglob("*")) if path.is_file()] == [path for path in before if path.is_file()]


def test_a_replay_may_lie_in_the_folder_of_the_run(folder, script):
    write_classification_replay(folder / "pass.npz")
    small = ["task.channels=[6]", "task.kernels=[5]", "task.strides=[2]", "task.paddings=[0]"]
    small += ["task.recurrent_kernels=[3]", "task.sigma_u=1", "data=none"]
    done = script(
        "train.py", "task=classification", *small, "task.replay=pass.npz", f"hydra.run.dir={folder}", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "pass.out.npz").is_file()
    assert os.path.isdir(folder / "runs")


def test_who_reads_the_output_may_go_away():
    """As `| head` does: nothing is said of it, and the exit code is that of the signal."""
    read, write = os.pipe()
    os.close(read)
    code = "from sgtheory.command import report_errors\nwith report_errors():\n    print('a line')"
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.stderr, done.returncode) == ("", 128 + signal.SIGPIPE)


def test_an_interruption_while_libraries_load_is_one_sentence():
    code = "import sgtheory.command\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("error: interrupted\n", -signal.SIGINT)
