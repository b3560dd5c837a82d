"""Figure S2: learning with and without back-propagation through the reset, surrogates scaled by 1 / beta or not."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from sgtheory.claims import Claim
from sgtheory.errors import UserError
from sgtheory.figures._classification import (
    SMALL,
    SPLITS,
    UNDECIDED,
    accuracy_at_the_end,
    binomial_error,
    common_data,
    scale,
)
from sgtheory.figures._output import COLOURS, LABELS, caption, panel_letter
from sgtheory.figures._seeds import NEURON_MODES, by_mode, mean_curve, plot_curve, plot_seeds, seed_of
from sgtheory.figures._statistics import no_difference, over_seeds, power_text

GRADIENTS = ("detached", "attached")
# classes of sgtheory.neurons in the order of their peaks: how they are called, and their peak in words
SCALED = {"ScaledSigmoidDerivative": ("sigmoid' / β", "1/4"), "SuperSpike": ("SuperSpike", "1")}
UNSCALED = {"SigmoidDerivative": ("sigmoid'", "β/4"), "ScaledSuperSpike": ("β SuperSpike", "β")}
SURROGATES = SCALED | UNSCALED
LINES = {"training": ":", "validation": "-"}
DETACHED = "0.45"
END = 4  # accuracies at the end of training are averaged over the last quarter of the epochs
# what the ids of the claims begin with, and what of the network is our choice
NETWORKS = {
    "recurrent": ("C9.", "Figure S2 of the preprint does not state its scale: 8 epochs"),
    "feed-forward": ("C9.ff", "the paper's network is recurrent; in this one the reset is the only loop in time"),
}
KINDS = {  # of claims, in the order of their numbers, one for each neuron mode: what is said, and where
    "alike": (
        "With surrogates scaled by 1/β, back-propagation through the reset makes no difference",
        "Section 5 and Figure S2, preprint: no difference whether the reset is differentiated, with the scaling",
    ),
    "worse": (
        "Without this scaling, back-propagation through the reset is worse",
        "Section 5 and Figure S2, preprint: without the scaling it negatively affects performance",
    ),
    "slow": (
        "Omitting the scaling slows down learning, even with the reset detached",
        "Section 7 and Figure S2 C, preprint: omitting the scaling slowed down learning",
    ),
}
PAIRS = dict(zip(UNSCALED, SCALED, strict=True))  # the same without scaling and with it
DIVERGES = "diverges with the reset detached, too; a lower learning rate decides"


def measure(runs, **_) -> dict:
    """Learning curves and final accuracy of each surrogate derivative with the reset attached and detached.

    Args:
        runs: finished runs of the classification task on the same data, for both neuron modes, both values of
            ``neuron.reset_gradient`` and each surrogate derivative, with the same seeds. Claims need the four
            surrogates of the paper; others are drawn. Of a run that has diverged there is only the epoch.

    Raises:
        UserError: if one of the runs is missing, or they differ in data, epochs, batch size or recurrence, or all
            have diverged.
    """
    grouped = _grouped(runs)
    names = sorted(grouped, key=lambda name: list(SURROGATES).index(name) if name in SURROGATES else len(SURROGATES))
    data = common_data(runs, "figure S2")
    seeds = [seed_of(run) for run in grouped[names[0]][GRADIENTS[0]][NEURON_MODES[0]]]
    return {
        "seeds": seeds,
        **data,
        "network": _network(runs),
        "scale": f"{_network(runs)} network; {scale(data | {'seeds': seeds})}",
        "chance": 1 / next(len(run.rasters["class_names"]) for run in runs if run.diverged_in is None),
        "beta": {
            name: grouped[name][GRADIENTS[0]][NEURON_MODES[0]][0].config["surrogate"].get("beta") for name in names
        },
        "curves": _each(grouped, names, _curves),
        "final": _each(grouped, names, _final),
        "diverged_in": _each(grouped, names, _diverged_in),
    }


def _grouped(runs) -> dict:
    """Runs by surrogate derivative, reset gradient and neuron mode, sorted by seed."""
    grouped = {}
    for name in sorted({_surrogate(run) for run in runs}):
        grouped[name] = {}
        for gradient in GRADIENTS:
            chosen = [r for r in runs if _surrogate(r) == name and r.config["neuron"]["reset_gradient"] == gradient]
            grouped[name][gradient] = by_mode(chosen, f"figure S2 ({name}, reset {gradient})")
    seeds = {tuple(seed_of(r) for r in modes[NEURON_MODES[0]]) for cell in grouped.values() for modes in cell.values()}
    if len(seeds) != 1:
        raise UserError("figure S2 needs the same seeds for every surrogate, with the reset attached and detached")
    return grouped


def _network(runs) -> str:
    """Recurrent or feed-forward: whether the reset is the only loop through which errors pass back in time."""
    kinds = {"recurrent" if any(run.config["task"]["recurrent_kernels"]) else "feed-forward" for run in runs}
    if len(kinds) > 1:
        raise UserError("figure S2 needs runs of one network, not some with and some without recurrent connections")
    return kinds.pop()


def _surrogate(run) -> str:
    return run.config["surrogate"]["_target_"].rpartition(".")[2]


def _each(grouped, names, measure) -> dict:
    """``measure`` of the runs of each cell: mode, surrogate, reset gradient."""
    return {
        mode: {name: {g: measure(grouped[name][g][mode]) for g in GRADIENTS} for name in names} for mode in NEURON_MODES
    }


def _curves(runs) -> dict:
    """Of the runs that have not diverged; empty if all have."""
    trained = [run for run in runs if run.diverged_in is None]
    return {split: mean_curve(trained, "accuracy", split) for split in SPLITS} if trained else {}


def _final(runs) -> dict:
    """Accuracy, one value for each seed, NaN of a run that diverged: at the end of training, averaged over all epochs,
    and in the test."""

    def each(measure):
        return np.array([measure(run) if run.diverged_in is None else math.nan for run in runs])

    return {
        **{split: each(lambda run, split=split: accuracy_at_the_end([run], split, END)[0]) for split in SPLITS},
        "all_epochs": each(lambda run: run.series("accuracy", "training").mean()),
        "test": each(lambda run: run.series("accuracy", "test").iloc[-1]),
    }


def _diverged_in(runs) -> np.ndarray:
    """The epoch in which each run diverged, NaN if it did not."""
    return np.array([math.nan if run.diverged_in is None else run.diverged_in for run in runs])


def _compare(first: dict, second: dict, samples: int, chance: float) -> dict:
    """Paired differences of accuracies, for each key of ``first`` and ``second``: mean, its error, both as text, and
    degrees of freedom.

    The error is the half-width of a 95 % interval. Few seeds say little about the spread of a single difference, so
    its variance is pooled over those of them in which every run has learned; NaN, of a run that has not, counts as
    ``chance``, which has no spread. One seed says nothing, and the error is the binomial one of ``samples``.
    """
    whole = {key for key in first if np.isfinite(first[key]).all() and np.isfinite(second[key]).all()}
    first, second = ({k: np.nan_to_num(v, nan=chance) for k, v in each.items()} for each in (first, second))
    differences = {key: first[key] - second[key] for key in first}
    seeds = len(next(iter(differences.values())))
    found = {}
    for key, values in differences.items():
        if seeds > 1:
            like = whole if key in whole else {key}
            spread = math.sqrt(np.mean([differences[each].var(ddof=1) for each in like]))
            degrees = len(like) * (seeds - 1)
            error = float(stats.t.ppf(0.975, degrees) * spread / math.sqrt(seeds))
        else:
            degrees, error = samples, binomial_error((first[key][0], second[key][0]), samples)
        found[key] = values.mean(), error, f"{values.mean():+.3f} ± {error:.2g}", degrees
    return found


def _comparable(numbers: dict, mode: str, name: str) -> bool:
    """Whether there is a seed with which a network has learned with the reset attached or detached."""
    diverged = [np.isfinite(np.asarray(numbers["diverged_in"][mode][name][gradient])) for gradient in GRADIENTS]
    return not np.logical_and(*diverged).all()


def _still_learning(numbers: dict, mode: str, names) -> bool:
    """Whether the training accuracy of one of the networks rises in the last epoch by more than counts."""
    curves = [c["training"]["mean"] for name in names for c in numbers["curves"][mode][name].values() if c]
    return any(curve[-1] - curve[-2] > SMALL for curve in curves)


def _diverged(numbers: dict, mode: str, name: str, gradient: str) -> str:
    """How many runs of a cell have diverged, and in which epochs; empty if none."""
    cell = np.asarray(numbers["diverged_in"][mode][name][gradient])
    epochs = cell[np.isfinite(cell)]
    when = ", ".join(f"{epoch:.0f}" for epoch in np.unique(epochs))
    return f"{len(epochs)} of {len(cell)} NaN in epoch {when}" if len(epochs) else ""


def claims(numbers: dict) -> list[Claim]:
    if missing := [name for name in SURROGATES if name not in numbers["final"][NEURON_MODES[0]]]:
        raise UserError(f"figure S2 needs all four surrogates of the paper: there is no run with {', '.join(missing)}")
    reset, slower = _attached_or_detached(numbers), _scaled_or_not(numbers)
    return [
        *(_alike(numbers, reset, mode) for mode in NEURON_MODES),
        *(_worse(numbers, reset, mode) for mode in NEURON_MODES),
        *(_slow(numbers, slower, mode) for mode in NEURON_MODES),
    ]


def _accuracies(numbers: dict, measure: str, gradient: str) -> dict:
    """One value for each seed, of each mode and surrogate."""
    return {
        (mode, name): numbers["final"][mode][name][gradient][measure] for mode in NEURON_MODES for name in SURROGATES
    }


def _attached_or_detached(numbers: dict) -> dict:
    """Differences in validation accuracy, attached minus detached, of each mode and surrogate that can be compared."""
    attached, detached = (_accuracies(numbers, "validation", gradient) for gradient in ("attached", "detached"))
    found = {}
    for kind in (SCALED, UNSCALED):  # whose spreads over seeds have nothing to do with each other
        keys = [key for key in attached if key[1] in kind and _comparable(numbers, *key)]
        pair = ({key: each[key] for key in keys} for each in (attached, detached))
        found |= _compare(*pair, numbers["validation_samples"], numbers["chance"]) if keys else {}
    return found


def _scaled_or_not(numbers: dict) -> dict:
    """Differences in training accuracy over all epochs, without scaling minus with it, where a network learns."""
    trained = _accuracies(numbers, "all_epochs", "detached")
    pairs = {(mode, name): (mode, PAIRS[name]) for mode in NEURON_MODES for name in PAIRS}
    pairs = {key: partner for key, partner in pairs.items() if np.isfinite([trained[key], trained[partner]]).any()}
    unscaled, scaled = {key: trained[key] for key in pairs}, {key: trained[pairs[key]] for key in pairs}
    return _compare(unscaled, scaled, numbers["training_samples"], numbers["chance"]) if pairs else {}


def _claim(numbers: dict, kind: str, mode: str, measured: str, expected: str, holds: bool, wide: str, **more) -> Claim:
    """One of KINDS about one neuron mode; ``wide`` is what would decide it."""
    seeds, (prefix, choice) = len(numbers["seeds"]), NETWORKS[numbers["network"]]
    statement, source = KINDS[kind]
    network = f"{LABELS[mode]}{'' if numbers['network'] == 'recurrent' else ' feed-forward'} network"
    cells = [(m, name, gradient) for m in NEURON_MODES for name in SURROGATES for gradient in GRADIENTS]
    pooled = "spread pooled" + " where no run diverged" * any(_diverged(numbers, *cell) for cell in cells)
    interval = f"95 %, {seeds} seeds, {pooled}" if seeds > 1 else "95 %, binomial, 1 seed"
    return Claim(
        f"{prefix}{1 + len(NEURON_MODES) * list(KINDS).index(kind) + NEURON_MODES.index(mode)}",
        f"{statement} ({network})",
        f"{measured} ({interval})",
        expected,
        holds,
        undecided=wide if seeds > 1 else "two seeds or more decide",
        source=source,
        choice=f"{choice}; a run that diverges counts with the accuracy of chance, {numbers['chance']:g}",
        **more,
    )


def _alike(numbers: dict, reset: dict, mode: str) -> Claim:
    names = [name for name in SCALED if (mode, name) in reset]
    equal, wide = no_difference([reset[mode, name][:2] for name in names], SMALL, UNDECIDED)
    rising = _still_learning(numbers, mode, names)
    if rising and not equal:
        more = f"more epochs than {numbers['epochs']}, after which accuracy in training still rises"
        wide = "; ".join(filter(None, (wide, more)))
    widest = max((reset[mode, name] for name in names), key=lambda found: found[1], default=(0, math.inf, "", 1))
    return _claim(
        numbers,
        "alike",
        mode,
        f"{numbers['scale']}. Validation accuracy: {_compared(numbers, reset, mode, SCALED)}",
        f"differences within the error or of at most {SMALL}, and intervals between -{UNDECIDED} and {UNDECIDED}",
        equal,
        wide if names else f"every network {DIVERGES}",
        qualification=f"after {numbers['epochs']} epochs; accuracy in training still rises" if rising else "",
        decides=_differences(reset, mode, names),
        power=power_text(widest[1], widest[3]),
        settles="more seeds or epochs, in which a smaller difference would show",
    )


def _worse(numbers: dict, reset: dict, mode: str) -> Claim:
    names = [name for name in UNSCALED if (mode, name) in reset]
    fall, wide = _lower(numbers, [reset[mode, name][:2] for name in names], SMALL)
    return _claim(
        numbers,
        "worse",
        mode,
        f"Validation accuracy: {_compared(numbers, reset, mode, UNSCALED)}",
        f"with both surrogates, or the one that learns, a fall by more than the error and more than {SMALL}",
        fall,
        wide if names else f"every network {DIVERGES}",
        qualification="; ".join(f"{SURROGATES[name][0]} {DIVERGES}" for name in UNSCALED if name not in names),
        decides=_differences(reset, mode, names),
        settles="more seeds or epochs",
    )


def _slow(numbers: dict, slower: dict, mode: str) -> Claim:
    names = [name for name in PAIRS if (mode, name) in slower]
    fall, wide = _lower(numbers, [slower[mode, name][:2] for name in names], 0.0)
    measured = ", ".join(
        ", ".join(
            filter(None, (f"{SURROGATES[name][0]} {slower[mode, name][2]}", _diverged(numbers, mode, name, "detached")))
        )
        for name in names
    )
    return _claim(
        numbers,
        "slow",
        mode,
        f"Training accuracy averaged over all epochs, without minus with scaling: {measured}",
        "with both surrogates lower by more than the error",
        fall,
        wide if len(names) == len(PAIRS) else "a lower learning rate, as networks diverge with scaling, too",
        qualification=_counted(numbers, mode),
        decides=_differences(slower, mode, names),
        settles="more seeds or epochs",
    )


def _lower(numbers: dict, gaps: list[tuple], least: float) -> tuple[bool, str]:
    """Whether all differences are falls by more than the error and ``least``, and what would decide it if not."""
    fall = all(bool(gap < -max(error, least)) for gap, error in gaps)
    possible = not fall and all(gap - error < -SMALL for gap, error in gaps)
    return fall, f"narrower intervals than those of {len(numbers['seeds'])} seeds" * possible


def _compared(numbers: dict, reset: dict, mode: str, names) -> str:
    """Validation accuracy with the reset attached and detached, and the difference, in words."""

    def ended(name, gradient):
        values = numbers["final"][mode][name][gradient]["validation"]
        rest = over_seeds(values[np.isfinite(values)]) if np.isfinite(values).any() else ""
        return f"{gradient} {', '.join(filter(None, (rest, _diverged(numbers, mode, name, gradient))))}"

    return "; ".join(
        f"{SURROGATES[name][0]} {ended(name, 'attached')}, {ended(name, 'detached')}"
        + (f", difference {reset[mode, name][2]}" if (mode, name) in reset else "")
        for name in names
    )


def _differences(found: dict, mode: str, names) -> str:
    return ", ".join(f"{SURROGATES[name][0]} {found[mode, name][2]}" for name in names)


def _counted(numbers: dict, mode: str) -> str:
    """How many detached networks are in the comparison with the accuracy of chance."""
    text = []
    for names, scaling in ((PAIRS, "without"), (PAIRS.values(), "with")):
        runs = np.concatenate([np.asarray(numbers["diverged_in"][mode][name]["detached"]) for name in names])
        if diverged := np.isfinite(runs).sum():
            text.append(f"{diverged} of {len(runs)} networks {scaling} scaling diverge")
    return "; ".join(text)


def draw(numbers: dict) -> Figure:
    """Learning curves of each surrogate, a row for each neuron mode, and validation accuracy at the end."""
    names = list(numbers["beta"])
    figure = Figure(figsize=(6.9, 5.8))
    curves, final = figure.subfigures(2, 1, height_ratios=(1, 0.5))
    panels = curves.subplots(len(NEURON_MODES), len(names), sharex=True, sharey=True, squeeze=False)
    for row, mode, letter in zip(panels, NEURON_MODES, "AB", strict=True):
        for axes, name in zip(row, names, strict=True):
            _draw_curves(axes, numbers, mode, name)
        row[0].set_ylabel(f"{LABELS[mode]}\naccuracy")
        panel_letter(row[0], letter)
    for top, bottom, name in zip(panels[0], panels[-1], names, strict=True):
        top.set_title(_title(name, numbers["beta"][name]))
        bottom.set_xlabel("epoch")
    for axes, mode, letter in zip(final.subplots(1, len(NEURON_MODES), sharey=True), NEURON_MODES, "CD", strict=True):
        _draw_final(axes, numbers, mode, names)
        panel_letter(axes, letter)
    final.axes[0].set_ylabel("validation accuracy\nat the end")
    attached = {f"{LABELS[mode]}, reset attached": {"color": COLOURS[mode]} for mode in NEURON_MODES}
    splits = {split: {"color": "0.35", "linestyle": line} for split, line in LINES.items()}
    styles = {"reset detached": {"color": DETACHED}, **attached, **splits}
    if any(_diverged(numbers, mode, name, g) for mode in NEURON_MODES for name in names for g in GRADIENTS):
        styles["diverged"] = {"color": "0.35", "marker": "x", "linestyle": ""}
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    curves.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.4, columnspacing=1.1)
    meaning = "Lines: mean and s.d. over seeds that have not diverged; bars and dots: mean and seeds"
    caption(figure, numbers["scale"], meaning)
    return figure


def _title(name: str, beta: float | None) -> str:
    label, peak = SURROGATES.get(name, (name, None))
    details = [f"peak {peak}"] * bool(peak) + [f"β = {beta:g}"] * (beta is not None)
    return "\n".join((label, ", ".join(details)))


def _draw_curves(axes, numbers, mode, name) -> None:
    for row, (gradient, colour) in enumerate(zip(GRADIENTS, (DETACHED, COLOURS[mode]), strict=True)):
        for split, curve in numbers["curves"][mode][name][gradient].items():
            plot_curve(axes, curve, colour, linestyle=LINES[split])
        if text := _diverged(numbers, mode, name, gradient):
            axes.text(0.04, 0.95 - 0.09 * row, text, color=colour, transform=axes.transAxes, va="top", fontsize=6)
    axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlim=(0, numbers["epochs"]), ylim=(0, 1))


def _draw_final(axes, numbers, mode, names) -> None:
    """C, D: means over seeds as bars, a dot for each seed, and a cross at the bottom for one that diverged."""
    for offset, gradient, colour in zip((-0.2, 0.2), GRADIENTS, (DETACHED, COLOURS[mode]), strict=True):
        for position, name in enumerate(names):
            values = np.asarray(numbers["final"][mode][name][gradient]["validation"])
            trained = values[np.isfinite(values)]
            if trained.size:
                plot_seeds(axes, position + offset, trained, colour, 0.6)
            diverged = position + offset + 0.08 * np.linspace(-1, 1, len(values))[: len(values) - len(trained)]
            axes.plot(diverged, np.full(len(diverged), 0.02), "x", color=colour, markersize=4)
    axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
    axes.set_xticks(range(len(names)), [SURROGATES.get(name, (name,))[0] for name in names])
    axes.set(ylim=(0, 1), title=LABELS[mode])
