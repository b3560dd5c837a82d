"""Two sets of results, number by number: two machines, two seeds, two versions."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgtheory.errors import UserError
from sgtheory.report._ledger import read_figure
from sgtheory.training import FINISHED, Run, load_run

TAIL = 0.1  # records are compared by their mean over this last part of the epochs
SHOWN = 40  # lines of the table
VERDICT = "verdict"
NOT_NUMBERS = ("claims", "provenance")
ELSEWHERE = ("version", "trainer.backend", "trainer.device")  # of a configuration: who ran it


@dataclass(frozen=True)
class Difference:
    """One number or array of numbers in both sets.

    Args:
        where: figure or run.
        what: name of the number.
        first, second: what it is in either set, as text.
        relative: largest difference over the largest value; inf if the two cannot be compared.
    """

    where: str
    what: str
    first: str
    second: str
    relative: float


def compare(first: Path, second: Path, absolute: float) -> list[Difference]:
    """All numbers of the figures (\\*.json) and finished runs in two folders, compared.

    Verdicts of claims are compared as well. Runs with the same configuration, whoever ran them, are compared one to
    one; the others by the mean over those that differ in seeds alone. What is in one folder only is a difference.

    Args:
        first, second: folders.
        absolute: numbers that are no further apart than this are equal: rounding errors differ between machines.

    Raises:
        UserError: if a folder is not there or the two have nothing in common, or a file cannot be read.
    """
    folders = (Path(first), Path(second))
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder of figures or runs")
    figures = [_figures(folder) for folder in folders]
    runs = [[load_run(path.parent) for path in sorted(folder.rglob(FINISHED))] for folder in folders]
    groups = _matched(*runs)
    in_common = set(figures[0]) & set(figures[1]) or any(a and b for a, b in groups.values())
    if not in_common:
        raise UserError(f"{first} and {second} have no figure (NAME.json) and no finished run in common")
    differences = []
    for name in sorted(set(figures[0]) | set(figures[1])):
        differences += _each(name, *(dict(_leaves(f[name])) if name in f else None for f in figures), absolute)
    for name, pair in groups.items():
        differences += _each(name, *(_means(group) if group else None for group in pair), absolute)
    return differences


def against_published(numbers: dict, published: Path) -> str:
    """One line: whether a figure has the published verdicts, and how far its numbers lie from the published ones.

    Of trained figures the means over seeds are compared (``final``), in units of the published standard deviation over
    seeds; of figures without seeds every number, relative to the largest in its array.

    Args:
        numbers: of the figure, with its ``claims``, as :func:`sgtheory.claims.to_json` gives them.
        published: file with those of the release.
    """
    theirs = read_figure(published)
    verdicts = [{claim["id"]: claim["verdict"] for claim in side["claims"]} for side in (numbers, theirs)]
    both = [id for id in verdicts[0] if id in verdicts[1]]
    differ = [
        f"{id} {verdicts[0][id]} (published: {verdicts[1][id]})" for id in both if len({v[id] for v in verdicts}) > 1
    ]
    found = f"other verdicts: {'; '.join(differ)}" if differ else f"same verdicts ({len(both)})"
    trained = theirs.get("seeds") is not None and "final" in theirs
    sides = [
        side["final"] if trained else {k: v for k, v in side.items() if k not in NOT_NUMBERS}
        for side in (numbers, theirs)
    ]
    ours, theirs = (dict(_leaves(side)) for side in sides)
    deviations = {name: _deviation(ours[name], theirs[name], trained) for name in ours if name in theirs}
    deviations = {name: value for name, value in deviations.items() if math.isfinite(value)}
    name = max(deviations, key=deviations.get, default=None)
    if name is None:
        return f"published {published.name}: {found}; no numbers to compare"
    unit = " s.d. over seeds" if trained else " of the largest value"
    where = f" ({name})" if deviations[name] else ""
    return f"published {published.name}: {found}; largest deviation {deviations[name]:.2g}{unit}{where}"


def _deviation(ours, theirs, seeds: bool) -> float:
    """Difference of the means over seeds in published s.d.; without seeds the relative difference."""
    if not seeds:
        return relative_difference(ours, theirs)
    arrays = all(isinstance(side, np.ndarray) and side.ndim == 1 for side in (ours, theirs))
    if not arrays or len(theirs) < 2 or not (spread := theirs.std(ddof=1)) > 0:
        return math.nan
    return float(abs(ours.mean() - theirs.mean()) / spread)


def show_differences(differences: list[Difference], tolerance: float, console: Console) -> bool:
    """Print what differs by more than ``tolerance``; returns whether nothing does."""
    beyond = [d for d in differences if not d.relative <= tolerance]
    beyond.sort(key=lambda d: (not d.what.startswith(VERDICT), -d.relative))
    if beyond:
        table = Table()
        for column in ("where", "what", "first", "second"):
            table.add_column(column, overflow="fold")
        table.add_column("difference", justify="right", no_wrap=True)
        for d in beyond[:SHOWN]:
            texts = (d.where, d.what, d.first, d.second, "-" if math.isinf(d.relative) else f"{d.relative:.2g}")
            table.add_row(*map(Text, texts))
        console.print(table)
        if len(beyond) > SHOWN:
            console.print(f"... and {len(beyond) - SHOWN} more")
    largest = max((d.relative for d in differences if d.relative <= tolerance), default=0.0)
    equal = len(differences) - len(beyond)
    console.print(
        f"{equal} of {len(differences)} equal within {tolerance:g} (largest difference of these {largest:.2g})"
    )
    return not beyond


def _figures(folder: Path) -> dict[str, dict]:
    """The numbers of the figures in a folder, without how they were made, with the verdicts of their claims."""
    figures = {}
    for path in sorted(folder.glob("*.json")):
        numbers = read_figure(path)
        verdicts = {f"{VERDICT} of {claim['id']}": claim["verdict"] for claim in numbers["claims"]}
        figures[path.name] = {k: v for k, v in numbers.items() if k not in NOT_NUMBERS} | verdicts
    return figures


def _leaves(value, name: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of numbers, arrays of numbers and texts in nested dictionaries and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        array = _array(value)
        if array is not None:
            yield name, array
        else:
            for index, inner in enumerate(value):
                yield from _leaves(inner, f"{name}[{index}]")
    else:
        array = _array(value)
        yield name, value if array is None else array


def _array(value) -> np.ndarray | None:
    """Numbers, null or nested lists of them as an array; rows of a raster, texts of 0 and 1, as well."""
    if isinstance(value, list) and value and all(isinstance(row, str) and not row.strip("01") for row in value):
        value = [[int(s) for s in row] for row in value]
    try:
        array = np.array(value)
        if array.dtype.kind in "US":
            return None
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _each(where: str, first: dict | None, second: dict | None, absolute: float) -> list[Difference]:
    if first is None or second is None:
        texts = ["not there" if side is None else "there" for side in (first, second)]
        return [Difference(where, "", *texts, math.inf)]
    absent = object()
    found = []
    for name in dict.fromkeys([*first, *second]):
        a, b = first.get(name, absent), second.get(name, absent)
        texts = ["not there" if side is absent else _text(side) for side in (a, b)]
        relative = math.inf if a is absent or b is absent else relative_difference(a, b, absolute)
        found.append(Difference(where, name, *texts, relative))
    return found


def relative_difference(a, b, absolute: float = 0.0) -> float:
    """Largest difference of two arrays over their largest value, 0 up to ``absolute``; inf where they do not compare.

    >>> relative_difference(np.array([1.0, 2.0]), np.array([1.0, 1.9]))
    0.05000000000000002
    """
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return 0.0 if not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray) and a == b else math.inf
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return math.inf
    with np.errstate(invalid="ignore"):  # infinite in both
        distance = _largest(a - b)
    return 0.0 if distance <= absolute else float(distance / _largest([a, b]))


def _largest(values) -> float:
    """Absolute value of the largest, of those that are numbers."""
    absolute = np.abs(values)
    return absolute[~np.isnan(absolute)].max(initial=0.0)


def _text(value) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    if not value.ndim:
        return f"{value:.6g}"
    known = value[~np.isnan(value)]
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are not those of any figure
        mean = known.mean() if known.size else math.nan
    return f"{'x'.join(map(str, value.shape))} numbers, mean {mean:.6g}"


def _matched(first: list[Run], second: list[Run]) -> dict[str, tuple[list[Run], list[Run]]]:
    """Runs of both sets that belong together: the same configuration, or the same but for seeds."""
    in_common = set.intersection(*({_configuration(run, seeds=True) for run in runs} for runs in (first, second)))
    groups = defaultdict(lambda: ([], []))
    for side, runs in enumerate((first, second)):
        for run in runs:
            whole = _configuration(run, seeds=True)
            groups[whole if whole in in_common else _configuration(run, seeds=False)][side].append(run)
    return {_name(key in in_common, *pair): pair for key, pair in groups.items()}


def _name(same_seeds: bool, first: list[Run], second: list[Run]) -> str:
    name = (first or second)[0].directory.name
    seeds = (", ".join(str(run.config["seed"]) for run in runs) for runs in (first, second))
    return name if same_seeds or not (first and second) else f"{name} (seeds {' | '.join(seeds)})"


def _configuration(run: Run, seeds: bool) -> str:
    """The configuration of a run as text, without who ran it, on request without seeds."""

    def kept(value, name=""):
        if not isinstance(value, dict):
            return value
        inner = {key: f"{name}.{key}" if name else key for key in value}
        return {
            key: kept(value[key], path)
            for key, path in inner.items()
            if path not in ELSEWHERE and (seeds or not key.endswith("seed"))
        }

    return json.dumps(kept(run.config), sort_keys=True)


def _means(runs: list[Run]) -> dict[str, np.ndarray]:
    """Mean over runs and over the last epochs of every metric."""
    values = defaultdict(list)
    for run in runs:
        for (metric, layer), rows in run.records.groupby(["metric", "layer"]):
            last = rows.epoch > (1 - TAIL) * rows.epoch.max()
            tail = rows.value[last] if last.any() else rows.value
            values[f"{metric}, {layer}"].append(tail.mean())
    return {name: np.array(np.mean(each)) for name, each in values.items()}
