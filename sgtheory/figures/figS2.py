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
    same,
    scale,
)
from sgtheory.figures._output import COLOURS, LABELS, panel_letter
from sgtheory.figures._seeds import NEURON_MODES, by_mode, mean_curve, plot_curve, plot_seeds, seed_of
from sgtheory.figures._statistics import plus_minus

GRADIENTS = ("detached", "attached")
# classes of sgtheory.neurons in the order of their peaks: how they are called, and their peak in words
SCALED = {"ScaledSigmoidDerivative": ("sigmoid' / β", "1/4"), "SuperSpike": ("SuperSpike", "1")}
UNSCALED = {"SigmoidDerivative": ("sigmoid'", "β/4"), "ScaledSuperSpike": ("β SuperSpike", "β")}
SURROGATES = SCALED | UNSCALED
LINES = {"training": ":", "validation": "-"}
DETACHED = "0.45"
END = 4  # accuracies at the end of training are averaged over the last quarter of the epochs


def measure(runs, **_) -> dict:
    """Learning curves and final accuracy of each surrogate derivative with the reset attached and detached.

    Args:
        runs: finished runs of the classification task on the same data, for both neuron modes, both values of
            ``neuron.reset_gradient`` and each surrogate derivative, with the same seeds. Claims need the four
            surrogates of the paper; others are drawn.

    Raises:
        UserError: if one of the runs is missing, or they differ in data, epochs, batch size or recurrence.
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
        "chance": 1 / len(runs[0].rasters["class_names"]),
        "beta": {
            name: grouped[name][GRADIENTS[0]][NEURON_MODES[0]][0].config["surrogate"].get("beta") for name in names
        },
        "curves": _each(grouped, names, lambda cell: {s: mean_curve(cell, "accuracy", s) for s in SPLITS}),
        "final": _each(grouped, names, _final),
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


def _final(runs) -> dict:
    """Accuracy, one value for each seed: at the end of training, averaged over all epochs, and in the test."""
    return {
        **{split: accuracy_at_the_end(runs, split, END) for split in SPLITS},
        "all_epochs": np.array([run.series("accuracy", "training").mean() for run in runs]),
        "test": np.array([run.series("accuracy", "test").iloc[-1] for run in runs]),
    }


def _compare(first: dict, second: dict, samples: int) -> dict:
    """Paired differences of accuracies, for each key of ``first`` and ``second``: mean, its error, both as text.

    The error is the half-width of a 95 % interval. Few seeds say little about the spread of a single difference, so
    its variance is pooled over all of them; one seed says nothing, and the error is the binomial one of ``samples``.
    """
    differences = {key: first[key] - second[key] for key in first}
    seeds = len(next(iter(differences.values())))
    if seeds > 1:
        spread = math.sqrt(np.mean([values.var(ddof=1) for values in differences.values()]))
        pooled = float(stats.t.ppf(0.975, len(differences) * (seeds - 1)) * spread / math.sqrt(seeds))
        errors = dict.fromkeys(differences, pooled)
    else:
        errors = {key: binomial_error((first[key][0], second[key][0]), samples) for key in first}
    return {key: (d.mean(), errors[key], f"{d.mean():+.3f} ± {errors[key]:.2g}") for key, d in differences.items()}


def claims(numbers: dict) -> list[Claim]:
    final = numbers["final"]
    if missing := [name for name in SURROGATES if name not in final[NEURON_MODES[0]]]:
        raise UserError(f"figure S2 needs all four surrogates of the paper: there is no run with {', '.join(missing)}")

    def accuracies(measure, gradient):
        return {(mode, name): final[mode][name][gradient][measure] for mode in NEURON_MODES for name in SURROGATES}

    attached, detached = (accuracies("validation", gradient) for gradient in ("attached", "detached"))
    reset = _compare(attached, detached, numbers["validation_samples"])
    trained = accuracies("all_epochs", "detached")
    pairs = {"SigmoidDerivative": "ScaledSigmoidDerivative", "ScaledSuperSpike": "SuperSpike"}
    unscaled = {(mode, name): trained[mode, name] for mode in NEURON_MODES for name in pairs}
    slower = _compare(unscaled, {key: trained[key[0], pairs[key[1]]] for key in unscaled}, numbers["training_samples"])
    several = len(numbers["seeds"]) > 1
    source = f"95 %, {len(numbers['seeds'])} seeds, spread pooled" if several else "95 %, binomial, 1 seed"

    def compared(mode, names):
        return "; ".join(
            f"{SURROGATES[name][0]} attached {plus_minus(attached[mode, name])}, detached "
            f"{plus_minus(detached[mode, name])}, difference {reset[mode, name][2]}"
            for name in names
        )

    def claim(number, statement, mode, measured, expected, holds):
        return Claim(
            f"C9.{number}",
            f"{statement} ({LABELS[mode]} network)",
            f"{measured} ({source})",
            expected,
            holds,
            undecided="" if numbers["network"] == "recurrent" else "the paper's network is recurrent, this one is not",
            settles="make figS2 PROFILE=recurrent",
        )

    alike, worse, slow = [], [], []
    for number, mode in enumerate(NEURON_MODES, start=1):
        alike.append(
            claim(
                number,
                "With surrogates scaled by 1/β, back-propagation through the reset makes no difference",
                mode,
                f"{numbers['scale']}. Validation accuracy: {compared(mode, SCALED)}",
                f"differences within the error, of which at most {UNDECIDED} counts, or of at most {SMALL}",
                all(same(gap, error) for gap, error, _ in (reset[mode, name] for name in SCALED)),
            )
        )
        worse.append(
            claim(
                number + 2,
                "Without this scaling, back-propagation through the reset is worse",
                mode,
                f"Validation accuracy: {compared(mode, UNSCALED)}",
                f"with both surrogates a fall by more than the error and more than {SMALL}",
                all(bool(gap < -max(error, SMALL)) for gap, error, _ in (reset[mode, name] for name in UNSCALED)),
            )
        )
        slow.append(
            claim(
                number + 4,
                "Omitting the scaling slows down learning, even with the reset detached",
                mode,
                "Training accuracy averaged over all epochs, without minus with scaling: "
                + ", ".join(f"{SURROGATES[pairs[name]][0]} {slower[mode, name][2]}" for name in pairs),
                "with both surrogates lower by more than the error",
                all(bool(gap < -error) for gap, error, _ in (slower[mode, name] for name in pairs)),
            )
        )
    return alike + worse + slow


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
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    curves.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.6)
    figure.supxlabel(numbers["scale"], fontsize=6.5, color="0.3")
    return figure


def _title(name: str, beta: float | None) -> str:
    label, peak = SURROGATES.get(name, (name, None))
    details = [f"peak {peak}"] * bool(peak) + [f"β = {beta:g}"] * (beta is not None)
    return "\n".join((label, ", ".join(details)))


def _draw_curves(axes, numbers, mode, name) -> None:
    for gradient, colour in zip(GRADIENTS, (DETACHED, COLOURS[mode]), strict=True):
        for split, line in LINES.items():
            plot_curve(axes, numbers["curves"][mode][name][gradient][split], colour, linestyle=line)
    axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlim=(0, numbers["epochs"]), ylim=(0, 1))


def _draw_final(axes, numbers, mode, names) -> None:
    """C, D: means over seeds as bars, and a dot for each seed."""
    for offset, gradient, colour in zip((-0.2, 0.2), GRADIENTS, (DETACHED, COLOURS[mode]), strict=True):
        for position, name in enumerate(names):
            values = numbers["final"][mode][name][gradient]["validation"]
            plot_seeds(axes, position + offset, values, colour, 0.6)
    axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
    axes.set_xticks(range(len(names)), [SURROGATES.get(name, (name,))[0] for name in names])
    axes.set(ylim=(0, 1), title=LABELS[mode])
