"""How a figure was made: what is written next to its numbers."""

import shlex
from collections.abc import Sequence

from sgtheory.environment import versions
from sgtheory.reading import read_json, require_kinds
from sgtheory.training import FINISHED, Run


def provenance(arguments: Sequence[str], settings: dict, runs: Sequence[Run]) -> dict:
    """Arguments, settings, software, machine and runs behind a figure, as plain values.

    The same figure made again on the same machine gives the same: there is no date, and times are those of the runs.

    Args:
        arguments: of scripts/figure.py.
        settings: that ``compute`` got.
        runs: that it got; every run brings its own versions and time, each neuron mode its configuration.
    """
    kept = [a for a in arguments if not a.startswith(("output=", "runs="))]  # where, not what
    made = {"arguments": kept, "settings": settings, "versions": versions()}
    if runs:
        made["runs"] = [{"name": run.directory.name, "seed": run.config["seed"], **_finished(run)} for run in runs]
        made["configs"] = {run.config["neuron"]["mode"]: run.config for run in reversed(runs)}
    return made


def _finished(run: Run) -> dict:
    path = run.directory / FINISHED
    values = read_json(path, "what a finished run has written")
    require_kinds(path, values, {"seconds": float, "versions": dict}, needed=False)
    return values


def command(name: str, made: dict) -> str:
    """The command that makes the figure ``name`` again: a target of the Makefile, or a script if it had arguments.

    >>> command("fig6_quick", {})
    'make fig6 PROFILE=quick'
    >>> command("fig1", {"arguments": ["experiment=fig1", "figure.beta=5"]})
    'python scripts/figure.py experiment=fig1 figure.beta=5'
    """
    arguments = [a for a in (made.get("arguments") or ()) if a != f"experiment={name}"]
    target, _, profile = name.partition("_")
    words = ["make", target, *([f"PROFILE={profile}"] if profile else [])]
    if arguments == ["records=reference"]:
        return " ".join([*words, "RECORDS=reference"])
    if not arguments:
        return " ".join(words)
    overrides = shlex.join([f"experiment={name}", *arguments])
    drawn = f"python scripts/figure.py {overrides}"
    trained_here = made.get("runs") and not any(a.startswith("records=") for a in arguments)
    return f"python scripts/train.py -m {overrides} && {drawn}" if trained_here else drawn
