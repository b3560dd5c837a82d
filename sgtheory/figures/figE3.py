"""Figure E3: does the result depend on the steepness of the surrogate derivative, or on the escape function?

What is drawn follows from the runs: one setting is on the horizontal axis, seeds are averaged, and every other setting
that tells the runs of a neuron mode apart makes lines of their own.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sgtheory.claims import Claim
from sgtheory.errors import UserError
from sgtheory.figures._output import COLOURS, LABELS, caption, panel_letter
from sgtheory.figures._seeds import NEURON_MODES
from sgtheory.figures._statistics import mean_interval, no_difference, power_text

# what is measured in the last tenth of the epochs (metric, layer, label), and whether less is better; claims are about
# the first measure
MEASURES = {
    "spike_matching": ((("van_rossum", "output", "van Rossum distance"), ("l2", "output", "L2 distance")), True),
    "classification": (
        (("accuracy", "validation", "validation accuracy"), ("accuracy", "training", "training accuracy")),
        False,
    ),
}
ESCAPE = "task.escape.hidden._target_"
SYMBOLS = {"sigma": "σ", "delta_u": "Δu", "beta": "β"}
STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))

DECADE = 10.0
NEAR = 1.25  # times the best distance
NEAR_ACCURACY = 0.05  # below the best accuracy
AXES = {"surrogate.beta": "steepness β of the surrogate derivative"}
SMALL, UNDECIDED = 0.05, 0.10  # a difference that does not matter; a wider error decides nothing


def measure(runs, axis: str = "surrogate.beta", **_) -> dict:
    """What the networks have learnt at the end of training, over the values of one setting.

    Args:
        runs: finished runs of one task.
        axis: the setting on the horizontal axis, a number, by its name in the configuration.

    Raises:
        UserError: if the runs are of several tasks, if the setting is not a number or always the same one, or if
            the seeds are not the same everywhere.
    """
    tasks = sorted({run.config["task"]["name"] for run in runs})
    if len(tasks) != 1 or tasks[0] not in MEASURES:
        raise UserError(f"figure E3 needs runs of one task, {' or '.join(MEASURES)}; there are {tasks}")
    measures, less_is_better = MEASURES[tasks[0]]
    table = pd.DataFrame([_settings(run) | _learnt(run, measures) for run in runs])
    if axis not in table or table[axis].isna().any() or not pd.api.types.is_numeric_dtype(table[axis]):
        raise UserError(f"figure.axis = {axis}: must be a setting that is a number in every run")
    if table[axis].nunique() < 2 and (ESCAPE not in table or table[ESCAPE].nunique() < 2):
        raise UserError(f"figure E3 needs several values of {axis}, for example {axis}=1,10,100")
    seeds = sorted(table["seed"].unique())
    labels = [label for *_, label in measures]
    lines = [
        {"mode": mode, "settings": _own(settings), **_points(members, axis, seeds, labels)}
        for mode in NEURON_MODES
        for settings, members in _lines(table[table["neuron.mode"] == mode], axis, labels)
    ]
    epochs = ", ".join(map(str, sorted(table["trainer.epochs"].unique())))
    return {
        "task": tasks[0],
        "axis": axis,
        "measures": labels,
        "less_is_better": less_is_better,
        "seeds": seeds,
        "scale": f"{tasks[0].replace('_', ' ')}; {epochs} epochs; seeds {', '.join(map(str, seeds))}",
        "lines": lines,
    }


def _own(settings: dict) -> dict:
    """Without parameters that only other lines have, which are NaN."""
    return {key: value for key, value in settings.items() if value == value}


def _settings(run) -> dict:
    """Everything in the configuration of a run by its dotted name, but the escape noise where there is none."""

    def leaves(node, name):
        if isinstance(node, dict):
            inner = [leaves(child, f"{name}.{key}" if name else key) for key, child in node.items()]
            return {key: value for found in inner for key, value in found.items()}
        return {name: str(node) if isinstance(node, list) else node}

    found = leaves(run.config, "")
    if found["neuron.mode"] == "deterministic":
        return {key: value for key, value in found.items() if not key.startswith("task.escape.")}
    return found


def _learnt(run, measures) -> dict:
    """Mean of each measure over the last tenth of the epochs."""
    epochs = int(run.config["trainer"]["epochs"])
    series = {label: run.series(metric, layer) for metric, layer, label in measures}
    return {label: float(values[values.index > 0.9 * epochs].mean()) for label, values in series.items()}


def _lines(table: pd.DataFrame, axis: str, labels: list[str]) -> list[tuple[dict, pd.DataFrame]]:
    """The runs of each line, and the settings that make it a line of its own.

    A setting that follows from those found before it makes no new lines: the seed of a split that is the seed of the
    run, or the parameters that an escape function has and others have not.
    """
    apart: list[str] = []
    for key in sorted(table.columns.difference([axis, "seed", *labels])):
        if table.groupby([axis, "seed", *apart], dropna=False)[key].nunique(dropna=False).gt(1).any():
            apart.append(key)
    if not apart:
        return [({}, table)] * (len(table) > 0)
    return [(dict(zip(apart, values, strict=True)), members) for values, members in table.groupby(apart, dropna=False)]


def _points(members: pd.DataFrame, axis: str, seeds: list, labels: list[str]) -> dict:
    """Values on the axis, and what was measured there [point, seed]."""
    found = members.groupby([axis, "seed"])[labels].mean()
    x = sorted(members[axis].unique())
    if len(found) < len(x) * len(seeds):
        raise UserError(f"figure E3 needs runs with the same seeds ({', '.join(map(str, seeds))}) for all settings")
    return {"x": np.array(x), "values": {label: found[label].unstack().to_numpy() for label in labels}}


def _name(settings: dict) -> str:
    """The settings of a line in words."""

    def word(key, value):
        if key.endswith("_target_"):
            return value.rpartition(".")[2].removesuffix("Escape")
        key = key.removeprefix(ESCAPE.removesuffix("_target_"))
        return f"{SYMBOLS.get(key, key)} = {value:.3g}" if isinstance(value, float) else f"{key} = {value}"

    return ", ".join(word(key, value) for key, value in settings.items())


def claims(numbers: dict) -> list[Claim]:
    modes = {mode: [line for line in numbers["lines"] if line["mode"] == mode] for mode in NEURON_MODES}
    found = [
        _hardly_depends(numbers, mode, lines)
        for mode, lines in modes.items()
        if lines and all(line["x"].min() > 0 and line["x"].max() >= DECADE * line["x"].min() for line in lines)
    ]
    noise = ESCAPE.removesuffix("_target_")
    escapes = [
        line
        for line in numbers["lines"]
        if ESCAPE in line["settings"] and all(k.startswith(noise) for k in line["settings"])
    ]
    if len(escapes) > 1:
        number = "E3.3" if all(len(line["x"]) == 1 for line in escapes) else "E3.4"
        found.append(_same_escapes(number, numbers, escapes))
    return found


def _hardly_depends(numbers: dict, mode: str, lines: list[dict]) -> Claim:
    """How much worse than the best value the worst one of a decade around it is."""
    label, axis, less = numbers["measures"][0], numbers["axis"], numbers["less_is_better"]
    near = f"{NEAR} times the best" if less else f"the best less {NEAR_ACCURACY}"
    ranges = [_near(line["x"], line["values"][label].mean(axis=1), less) for line in lines]
    worse = [_worst_of_a_decade(line["x"], line["values"][label], less) for line in lines]
    allowed, (gap, error) = NEAR - 1 if less else NEAR_ACCURACY, max(worse)
    at_worst = f"in a decade worse than the best by at most {gap:.2f} ± {error:.2g}{', relative' * less}"
    possible = all(gap - error <= allowed for gap, error in worse)
    wide = possible and any(gap + error > allowed for gap, error in worse)
    return Claim(
        f"E3.{1 + NEURON_MODES.index(mode)}",
        f"The result hardly depends on {axis} over a decade ({LABELS[mode]} network)",
        f"{numbers['scale']}. {_capital(label)}, best and range within {near}: "
        + "; ".join(_range(line, label, span) for line, span in zip(lines, ranges, strict=True))
        + f"; {at_worst} (95 %, {len(numbers['seeds'])} seeds)",
        f"within {near} at all values in a range of a factor {DECADE:g}, on every line; undecided if the interval of"
        " the worst of them leaves that open",
        all(gap <= allowed for gap, _ in worse),
        undecided="narrower intervals, from more seeds" if wide else "",
        decides=at_worst,
        choice=f"what counts as hardly; means over {len(numbers['seeds'])} seeds; the best value and the decade are"
        " chosen by the same runs",
        settles="the scale of Figure 6: 5000 epochs, 5 seeds",
    )


def _near(x: np.ndarray, means: np.ndarray, less_is_better: bool) -> tuple[float, float]:
    """The range of ``x`` around the best mean in which all means are nearly as good."""
    best = means.argmin() if less_is_better else means.argmax()
    good = means <= NEAR * means[best] if less_is_better else means >= means[best] - NEAR_ACCURACY
    low = high = best
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(x) - 1 and good[high + 1]:
        high += 1
    return float(x[low]), float(x[high])


def _worst_of_a_decade(x: np.ndarray, values: np.ndarray, less_is_better: bool) -> tuple[float, float]:
    """In the decade around the best value where this is least: by how much the worst one is worse, relative for
    distances, and the error of that over seeds; ``values`` are [point, seed]."""
    means = values.mean(axis=1) if less_is_better else -values.mean(axis=1)
    best = means.argmin()
    decades = [
        slice(low, high + 1) for low in range(best + 1) for high in range(best, len(x)) if x[high] >= DECADE * x[low]
    ]
    worst = min((each.start + int(means[each].argmax()) for each in decades), key=lambda point: means[point])
    paired = values[worst] / values[best] - 1 if less_is_better else values[best] - values[worst]
    return mean_interval(paired)


def _range(line: dict, label: str, span: tuple[float, float]) -> str:
    means = line["values"][label].mean(axis=1)
    name = _name(line["settings"]) or LABELS[line["mode"]]
    return f"{name} {span[0]:g} to {span[1]:g} (all: {means.min():.3g} to {means.max():.3g})"


def _same_escapes(number: str, numbers: dict, lines: list[dict]) -> Claim:
    """Every escape function against the sigmoid: relative difference of distances, difference of accuracies."""
    label, second = numbers["measures"]
    found = _against_the_sigmoid(numbers, lines)
    gaps = {name: tuple(mean_interval(values) for values in each.values()) for name, each in found.items()}
    pairs = [pair for pair, _ in gaps.values()]
    equal, undecided = no_difference(pairs, SMALL, UNDECIDED)
    words = ", ".join(
        f"{name} {gap:+.3f} ± {error:.2g} ({second} {other:+.3f} ± {other_error:.2g})"
        for name, ((gap, error), (other, other_error)) in gaps.items()
    )
    axis, values = AXES.get(numbers["axis"], numbers["axis"]), np.unique(np.concatenate([line["x"] for line in lines]))
    where = f"at {axis} {values[0]:g}" if len(values) == 1 else f"mean over {len(values)} values of the {axis}"
    return Claim(
        number,
        f"It does not matter which escape function makes the noise ({where})",
        f"{_capital(label)}, {'relative ' * numbers['less_is_better']}difference to"
        f" {_name(_sigmoid(lines)['settings'])}: {words} (95 %, {len(numbers['seeds'])} seeds)",
        f"differences within the error or of at most {SMALL:g}, and intervals between -{UNDECIDED:g} and {UNDECIDED:g}",
        equal,
        undecided=undecided,
        decides="; ".join(
            f"{name}: {gap:+.3f} ± {error:.2g}"
            for name, ((gap, error), _) in sorted(gaps.items(), key=lambda item: -abs(item[1][0][0]))
        ),
        power=power_text(max(error for _, error in pairs), len(numbers["seeds"]) - 1),
        settles="5000 epochs, the scale of Figure 6; other tasks",
        choice="erf and exponential have the slope of the sigmoid at threshold, the matched ones the mean and s.d. of"
        " its noise",
    )


def _sigmoid(lines: list[dict]) -> dict:
    return next((line for line in lines if line["settings"][ESCAPE].endswith("SigmoidEscape")), lines[0])


def _against_the_sigmoid(numbers: dict, lines: list[dict]) -> dict[str, dict[str, np.ndarray]]:
    """Difference of each line to that of the sigmoid, relative for distances, mean over the axis: measure, [seed]."""
    reference, found = _sigmoid(lines), {}
    for line in lines:
        if not np.array_equal(line["x"], reference["x"]):
            raise UserError(f"figure E3 needs the same values of {numbers['axis']} with every escape function")
        if line is not reference:
            gaps = {each: line["values"][each] - reference["values"][each] for each in numbers["measures"]}
            if numbers["less_is_better"]:
                gaps = {each: gap / reference["values"][each] for each, gap in gaps.items()}
            found[_name(line["settings"])] = {each: gap.mean(axis=0) for each, gap in gaps.items()}
    return found


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def draw(numbers: dict) -> Figure:
    """One panel for each measure: mean and standard deviation over seeds, over the setting on the axis."""
    if all(len(line["x"]) == 1 for line in numbers["lines"]):
        return _draw_differences(numbers)
    figure = Figure(figsize=(6.9, 3.2))
    panels = figure.subplots(1, len(numbers["measures"]))
    for axes, label, letter in zip(panels, numbers["measures"], "AB", strict=True):
        for mode in NEURON_MODES:
            lines = [line for line in numbers["lines"] if line["mode"] == mode]
            for line, (dash, marker) in zip(lines, itertools.cycle(STYLES), strict=False):
                values = line["values"][label]
                sd = values.std(axis=1, ddof=1) if values.shape[1] > 1 else None
                name = ", ".join(filter(None, (LABELS[mode], _name(line["settings"]))))
                style = {"color": COLOURS[mode], "linestyle": dash, "marker": marker, "elinewidth": 0.8}
                axes.errorbar(line["x"], values.mean(axis=1), sd, markersize=3.5, label=name, **style)
        if min(line["x"].min() for line in numbers["lines"]) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel=AXES.get(numbers["axis"], numbers["axis"]), ylabel=label)
        panel_letter(axes, letter)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4 if len(names) <= 4 else 3, fontsize=6)
    caption(figure, numbers["scale"], "Mean and s.d. over seeds")
    return figure


def _draw_differences(numbers: dict) -> Figure:
    """Of one value on the axis: difference to the sigmoid, a dot for each seed, mean and 95 % interval."""
    figure = Figure(figsize=(6.9, 2.8))
    found = _against_the_sigmoid(numbers, [line for line in numbers["lines"] if ESCAPE in line["settings"]])
    for axes, label, letter in zip(figure.subplots(1, 2, sharey=True), numbers["measures"], "AB", strict=True):
        for row, each in enumerate(found.values()):
            mean, error = mean_interval(each[label])
            axes.plot(each[label], np.full(len(each[label]), row), "o", color="0.6", markersize=3, mfc="none")
            style = {"color": COLOURS["escape_noise"], "markersize": 5, "capsize": 3, "elinewidth": 1.5}
            axes.errorbar(mean, row, xerr=error if np.isfinite(error) else None, fmt="o", **style)
        axes.axvline(0, color="0.5", linewidth=0.6)
        axes.locator_params(axis="x", nbins=4)
        axes.set_yticks(range(len(found)), found)
        relative = "relative " * numbers["less_is_better"]
        axes.set(xlabel=f"{relative}difference of the {label}\nto the sigmoid", ylim=(len(found) - 0.5, -0.5))
        panel_letter(axes, letter)
    caption(figure, numbers["scale"], "Dots: seeds; mean and 95 % interval")
    return figure
