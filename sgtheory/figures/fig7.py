"""Figure 7: deterministic and stochastic convolutional spiking networks trained to classify spoken digits.

Where there are stochastic networks only, what needs both kinds is left out.
"""

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
from sgtheory.figures._seeds import (
    before_and_after,
    by_mode,
    mean_curve,
    modes_of,
    paired,
    plot_curve,
    plot_seeds,
    seed_of,
)
from sgtheory.figures._statistics import mean_interval, no_difference, over_seeds, power_text
from sgtheory.metrics import fano_factor

TESTED = {"own": "accuracy", "other": "accuracy_other_mode"}  # neuron mode of the test: metric
# how the test set is divided, and the marker in panel D
SPEAKERS = {
    "known_speakers": ("speakers also in training", "^"),
    "new_speakers": ("other speakers", "v"),
}
BEST = "_best_validation"  # of a metric: with the weights of the epoch that was best in validation
AUTHORS = 0.02  # by which the stochastic network is better, read off the authors' curves
END = 10  # accuracies at the end of training are averaged over the last tenth of the epochs
PAPER_EPOCHS, PAPER_SAMPLES = 200, 7340  # what decides where small differences count
FAILURE = 0.1  # a loss of accuracy that does matter
LINES = {"training": ":", "validation": "-"}
DETAIL = 0.75  # accuracy from which on panel B shows curves that reach it early
HIGH = 0.75  # of the Fano factor before training, or of 1
VARIABLE = 0.5  # Fano factor, half of that of a Poisson process
DATA = "SHD (regenerated) in place of SHD where the scale says so"
# of the network: what the ids of its claims begin with, and what its scale says
NETWORKS = {
    "paper": ("C11.", ""),
    "authors' code": ("C11.authors", "; as in the authors' code: delay of 1 step, 349 steps, upper_strength 0.1"),
}
SETTLES = "more seeds, at the scale of the paper"
ESTIMATOR = "counts in windows of 20 ms, 400 trials of one test sample"


def measure(runs, **_) -> dict:
    """Curves over seeds, activity of a stochastic network, and the paper's claims.

    Args:
        runs: finished runs of the classification task on the same data, with escape noise, or in both neuron modes.
            Then those whose seed is there in one mode only are left out, and counted in ``scale``.

    Raises:
        UserError: if there is no run with escape noise, if no seed is there in both modes although there are runs in
            both, or if the runs differ in data, epochs or batch size.
    """
    modes = modes_of(runs)
    if "escape_noise" not in modes:
        raise UserError("figure 7 needs a run with escape noise: neuron=escape_noise")
    pairs, left_out = paired(runs)
    grouped = by_mode(pairs, "figure 7", modes)
    data = common_data(pairs, "figure 7")
    example = max(grouped["escape_noise"], key=_right_answers)
    layers = sorted((name for name in example.rasters if name.startswith("hidden")), key=lambda name: int(name[6:]))
    numbers = {
        "seeds": [seed_of(run) for run in grouped["escape_noise"]],
        **data,
        "dt": example.config["neuron"]["dt"],
        "class_names": [str(name) for name in example.rasters["class_names"]],
        "steps": example.rasters["input"].shape[1],
        "neurons": {layer: example.rasters[layer].shape[2] for layer in ("input", *layers)},
        "example": seed_of(example),
        "typical_count": float(example.config["task"].get("upper_count", 7.0)),
        "samples": _samples(example.rasters, layers),
        "trials": _trials(example.rasters),
        "accuracy": {mode: {split: mean_curve(grouped[mode], "accuracy", split) for split in SPLITS} for mode in modes},
        "fano": {layer: mean_curve(grouped["escape_noise"], "fano", layer) for layer in layers},
        "fano_step": {
            layer: mean_curve(grouped["escape_noise"], "fano_step", layer)
            for layer in layers
            if all(len(run.series("fano_step", layer)) for run in grouped["escape_noise"])
        },
        "gap": _gap(grouped["escape_noise"]),
    }
    numbers["chance"] = 1 / len(numbers["class_names"])
    numbers["network"] = _network(example.config)
    numbers["scale"] = scale(numbers) + NETWORKS[numbers["network"]][1]
    if left_out:
        names = ", ".join(f"{LABELS[run.config['neuron']['mode']]} seed {seed_of(run)}" for run in left_out)
        numbers["scale"] += f"; without the other mode, left out: {names}"
    numbers["final"] = _final(grouped, layers)
    numbers["class_accuracy"] = {mode: _class_accuracy(grouped[mode]) for mode in modes}
    return numbers


def _network(config: dict) -> str:
    """Which of :data:`NETWORKS`; one that is neither counts as the paper's."""
    found = config["neuron"].get("delay"), config["task"].get("steps"), config["task"].get("upper_strength")
    return "authors' code" if found == (1, 349, 0.1) else "paper"


def _right_answers(run) -> int:
    """How many of the samples that are shown the network answers rightly."""
    return int((run.rasters["readout"].max(axis=1).argmax(axis=1) == run.rasters["labels"]).sum())


def _gap(runs) -> dict:
    """Validation accuracy without noise minus that with it, [seed, epoch], at the epochs where both were measured."""
    pairs = [(run.series(TESTED["other"], "validation"), run.series(TESTED["own"], "validation")) for run in runs]
    gaps = [(without - noisy).dropna() for without, noisy in pairs]
    return {"epoch": gaps[0].index.to_numpy(), "values": np.stack([gap.to_numpy() for gap in gaps])}


def _slope(gap: dict) -> tuple[float, float]:
    """Change per 10 epochs of a gap after the first quarter of the epochs, and the half-width of its 95 % interval.

    Over seeds it is Student's; of a single seed that of the regression line. NaN if there are fewer than three epochs.
    """
    epoch, values = np.asarray(gap["epoch"], dtype=np.float64), np.asarray(gap["values"])
    late = epoch >= epoch[-1] / 4
    if np.count_nonzero(late) < 3:
        return math.nan, math.nan
    fits = [stats.linregress(epoch[late] / 10, each[late]) for each in values]
    if len(fits) > 1:
        return mean_interval([fit.slope for fit in fits])
    return fits[0].slope, float(stats.t.ppf(0.975, np.count_nonzero(late) - 2) * fits[0].stderr)


def _samples(rasters, layers) -> list[dict]:
    """Two samples on their way through the network: spikes as steps and neurons, readout potentials [time, class]."""
    samples = []
    for index, label in enumerate(rasters["labels"]):
        readout = rasters["readout"][index].astype(np.float64)
        spikes = {layer: np.nonzero(rasters[layer][index]) for layer in ("input", *layers)}
        samples.append(
            {
                "label": int(label),
                "largest": int(readout.max(axis=0).argmax()),
                "spikes": {layer: {"step": step, "neuron": neuron} for layer, (step, neuron) in spikes.items()},
                "readout": readout.round(4),
            }
        )
    return samples


def _trials(rasters) -> list[dict]:
    """Spikes of example neurons over trials with one and the same sample."""
    spikes = rasters["trials"]
    examples = []
    for column, (layer, neuron) in enumerate(zip(rasters["trials_layers"], rasters["trials_neurons"], strict=True)):
        trial, step = np.nonzero(spikes[:, :, column])
        examples.append(
            {"layer": int(layer), "neuron": int(neuron), "trials": len(spikes), "trial": trial, "step": step}
        )
    return examples


def _final(grouped, layers) -> dict:
    """What the trained networks do, one value for each seed."""

    def each(measure):
        return {mode: np.array([measure(run) for run in runs]) for mode, runs in grouped.items()}

    def last(metric, layer):
        return each(lambda run: values.iloc[-1] if len(values := run.series(metric, layer)) else math.nan)

    stochastic = grouped["escape_noise"]
    fano = {layer: [run.series("fano", layer) for run in stochastic] for layer in layers}
    return {
        **{s: {mode: accuracy_at_the_end(runs, s, END) for mode, runs in grouped.items()} for s in SPLITS},
        "test": {tested: last(metric, "test") for tested, metric in TESTED.items()},
        "test_best_validation": {tested: last(f"{metric}{BEST}", "test") for tested, metric in TESTED.items()},
        "test_by_speakers": {
            group: {tested: last(metric, f"test_{group}") for tested, metric in TESTED.items()} for group in SPEAKERS
        },
        "validation_last": {tested: last(metric, "validation") for tested, metric in TESTED.items()},
        "rate": {layer: last("rate", layer) for layer in layers},
        "fano": {
            layer: {
                "before": np.array([values.iloc[0] for values in each_seed]),
                "lowest": np.array([values.min() for values in each_seed]),
                "after": np.array([values.iloc[-1] for values in each_seed]),
            }
            for layer, each_seed in fano.items()
        },
        "fano_step": {layer: before_and_after(stochastic, "fano_step", layer) for layer in layers},
        "trials": {
            "fano": np.array([_fano_of_trials(run) for run in stochastic]),
            "repeated": np.array([_repeated(run.rasters["trials"]) for run in stochastic]),
        },
    }


def _fano_of_trials(run) -> float:
    window = run.config["task"]["fano_window"] / run.config["neuron"]["dt"]
    return fano_factor(run.rasters["trials"], max(1, round(window)))


def _repeated(spikes: np.ndarray) -> float:
    """Share of spikes that another trial has too, at the same step or one to either side (mean over pairs of trials).

    Args:
        spikes: 0 or 1, [trial, time, neuron].
    """
    trials = len(spikes)
    near = spikes.astype(np.int64)
    near[:, 1:] |= spikes[:, :-1]
    near[:, :-1] |= spikes[:, 1:]
    others = near.sum(axis=0) - near  # trials with such a spike, without the trial itself
    total = np.count_nonzero(spikes)
    return float(others[spikes > 0].sum() / (total * (trials - 1))) if total and trials > 1 else math.nan


def _class_accuracy(runs) -> dict:
    """Share of the test samples of each class that were recognised, over all seeds; NaN for a class without any."""
    accuracy = {}
    for tested, name in (("own", "confusion"), ("other", "confusion_other_mode")):
        counts = sum(run.rasters[name] for run in runs)
        samples = counts.sum(axis=1)
        accuracy[tested] = np.where(samples > 0, counts.diagonal() / np.maximum(samples, 1), np.nan)
    return accuracy


def _difference(first, second, samples: int) -> tuple[float, float, str]:
    """Mean of ``first - second`` over seeds, its error, and both as text.

    The error is the half-width of Student's 95 % interval over the paired seeds. A single seed says nothing of the
    spread over seeds: its error is the binomial one of ``samples`` test samples.
    """
    gap, error = mean_interval(first - second)
    source = f"95 %, {len(first)} paired seeds"
    if len(first) == 1:
        error = binomial_error((first[0], second[0]), samples)
        source = f"95 %, binomial error of {samples} samples, 1 seed"
    return gap, error, f"{gap:+.3g} ± {error:.2g} ({source})"


def _other_tests(final: dict) -> str:
    """Test accuracies by speakers, and of the epoch that was best in validation, of the runs that recorded them."""
    parts = [(label, final["test_by_speakers"][group]["own"]) for group, (label, _) in SPEAKERS.items()] + [
        ("with the weights of the epoch that was best in validation", final["test_best_validation"]["own"])
    ]
    text = ""
    for label, values in parts:
        means = []
        for mode, of_seeds in values.items():
            known = of_seeds[np.isfinite(of_seeds)]
            some = f" in {len(known)} of {len(of_seeds)} runs" if len(known) < len(of_seeds) else ""
            means += [f"{LABELS[mode]} {over_seeds(known)}{some}"] if len(known) else []
        text += f", {label} {', '.join(means)}" if means else ""
    return text


def claims(numbers: dict) -> list[Claim]:
    """Those of the paper; of stochastic networks alone the ones that need no deterministic one."""
    prefix, both = NETWORKS[numbers["network"]][0], len(numbers["final"]["test"]["own"]) > 1
    reduced = numbers["epochs"] < PAPER_EPOCHS or numbers["training_samples"] < PAPER_SAMPLES
    larger = f"{PAPER_EPOCHS} epochs and {PAPER_SAMPLES} training samples decide" if reduced else ""
    if not reduced and len(numbers["seeds"]) < 2:  # the spread over seeds is larger than the binomial error of one
        larger = "two seeds or more decide"
    return [
        _learning(numbers, prefix, both),
        *(_comparison(numbers, prefix, larger) if both else ()),
        _without_noise(numbers, prefix, larger),
        *([_with_noise(numbers, prefix)] if both else ()),
        *_variability(numbers, prefix),
    ]


def _of_modes(values: dict) -> str:
    return ", ".join(f"{LABELS[mode]} {over_seeds(of_seeds)}" for mode, of_seeds in values.items())


def _learning(numbers, prefix, both) -> Claim:
    final, learnt = numbers["final"], (1 + numbers["chance"]) / 2
    return Claim(
        f"{prefix}1",
        "Both networks learn the task" if both else "The stochastic network learns the task",
        f"{numbers['scale']}. Accuracy in training {_of_modes(final['training'])}; in validation "
        f"{_of_modes(final['validation'])}; in the test {_of_modes(final['test']['own'])}{_other_tests(final)}; chance "
        f"{numbers['chance']:.3g}",
        f"validation above {learnt:.3g}, half way from chance to 1, in every run (read off the authors' curves: "
        "stochastic 0.965 to 0.97, deterministic 0.945 to 0.95, after 200 epochs on SHD)",
        all(bool((of_seeds > learnt).all()) for of_seeds in final["validation"].values()),
        decides=f"validation accuracy {_of_modes(final['validation'])}",
        source="Section 6 and Figure 7 B, preprint: the stochastic network learned to solve the task",
        choice=f"accuracies are means over the last tenth of the epochs, of the test after the last epoch; {DATA}",
    )


def _comparison(numbers, prefix, larger) -> list[Claim]:
    """Stochastic against deterministic networks, each in its own mode."""
    validation = numbers["final"]["validation"]
    gap, error, text = _difference(
        validation["escape_noise"], validation["deterministic"], numbers["validation_samples"]
    )
    better, smaller = gap > error, gap + error < AUTHORS
    worse = gap < -error
    as_good = not worse and gap - error >= -UNDECIDED
    common = {
        "measured": f"{_of_modes(validation)}; difference {text}",
        "decides": f"difference in validation {gap:+.3f} ± {error:.2g}",
        "choice": DATA,
        "power": power_text(error, len(numbers["seeds"]) - 1 or numbers["validation_samples"]),
        "settles": SETTLES,
    }
    return [
        Claim(
            f"{prefix}2",
            "The stochastic network is at least as good as the deterministic one in validation",
            expected=f"not below 0 by more than the error, and an interval above -{UNDECIDED}",
            holds=as_good,
            undecided=larger or ("" if as_good or worse else f"an interval above -{UNDECIDED} or below 0"),
            source="Section 6, preprint: comparable training and validation accuracy",
            **common,
        ),
        Claim(
            f"{prefix}better",
            f"The stochastic network is better in validation, by about {AUTHORS}",
            expected=f"a difference above 0 by more than the error; contradicted if {AUTHORS} lies above its interval",
            holds=better,
            undecided=larger or ("" if better or smaller else f"an interval that excludes 0 or {AUTHORS}"),
            source="Section 7, preprint: comparable or better performance; Figure 7 B, read off the authors' curves",
            **common,
        ),
    ]


def _without_noise(numbers, prefix, larger) -> Claim:
    """The stochastic networks in the other mode, in the test and in validation."""
    final = numbers["final"]
    noisy, silent = (final["test"][tested]["escape_noise"] for tested in ("own", "other"))
    gap, error, text = _difference(silent, noisy, numbers["test_samples"])
    before, after = (final["validation_last"][tested]["escape_noise"] for tested in ("own", "other"))
    known = bool(np.isfinite(after).all())
    gaps = [(gap, error)] + [_difference(after, before, numbers["validation_samples"])[:2]] * known
    slope, slope_error = _slope(numbers["gap"])
    equal, wide = no_difference(gaps, SMALL, UNDECIDED)
    return Claim(
        f"{prefix}3",
        "The stochastic network does equally well when tested without noise",
        f"test accuracy with noise {over_seeds(noisy)}, without {over_seeds(silent)}; difference {text}"
        + ("; in validation {:+.3g} ± {:.2g}".format(*gaps[-1]) if known else "")
        + (
            f"; slope of the latter {10 * slope:+.2g} ± {10 * slope_error:.2g} per 100 epochs" if slope == slope else ""
        ),
        f"in both a difference within the error or of at most {SMALL}, and an interval between -{UNDECIDED} and"
        f" {UNDECIDED}",
        equal,
        undecided=larger or wide,
        decides="; ".join(
            f"{where} {gap:+.3f} ± {error:.2g}"
            for where, (gap, error) in zip(("test", "validation"), gaps, strict=False)
        ),
        source="Section 6 and Figure 7 D, preprint: performs equally well in a deterministic environment",
        choice=f"what counts as equal; the slope is that after the first quarter of the epochs; {DATA}",
        power=power_text(error, len(noisy) - 1 or numbers["test_samples"], " (test)"),
        settles=SETTLES,
    )


def _with_noise(numbers, prefix) -> Claim:
    """The deterministic networks in the other mode."""
    own, other = (numbers["final"]["test"][tested]["deterministic"] for tested in ("own", "other"))
    gap, error, text = _difference(other, own, numbers["test_samples"])
    return Claim(
        f"{prefix}4",
        "The deterministic network fails when tested with noise",
        f"test accuracy without noise {over_seeds(own)}, with {over_seeds(other)}; difference {text}",
        f"a fall by more than the error and more than {FAILURE}",
        gap < -max(error, FAILURE),
        decides=f"test {gap:+.3f} ± {error:.2g}",
        source="Section 6 and Figure 7 D, preprint: does not perform well under stochastic spike generation",
        choice=f"what counts as a failure; {DATA}",
        settles=SETTLES,
    )


def _variability(numbers, prefix) -> list[Claim]:
    """Fano factors of the stochastic networks during training, and of their trained neurons over trials."""
    final, claims = numbers["final"], []
    for number, (layer, fano) in enumerate(final["fano"].items(), start=5):
        share = fano["after"] / np.minimum(fano["before"], 1)
        step = final["fano_step"][layer]
        also = f"; in single steps {over_seeds(step['before'])} to {over_seeds(step['after'])}" if step else ""
        claims.append(
            Claim(
                f"{prefix}{number}",
                f"The Fano factor of the stochastic network stays high during training, hidden layer {layer[6:]}",
                f"before training {over_seeds(fano['before'])}, lowest {over_seeds(fano['lowest'])}, after "
                f"{over_seeds(fano['after'])}; {over_seeds(fano['after'] / fano['before'])} of the first value{also}",
                f"at least {HIGH} of the value before training, or of that of a Poisson process (1) if it was above "
                "(in spike-train matching two thirds are left)",
                bool(share.mean() >= HIGH),
                decides=f"{over_seeds(fano['before'])} to {over_seeds(fano['after'])}",
                source="Section 6 and Figure 7 C, preprint: the Fano factor remained high during training",
                choice=f"what counts as high; {ESTIMATOR}",
                settles="other samples; the other estimator, of single time steps",
            )
        )
    trials = final["trials"]
    claims.append(
        Claim(
            f"{prefix}{5 + len(final['fano'])}",
            "Trial-to-trial variability is preserved in the trained stochastic network",
            f"{len(numbers['trials'])} example neurons, {numbers['trials'][0]['trials']} trials of one sample: Fano "
            f"factor {over_seeds(trials['fano'])}; two trials share {over_seeds(trials['repeated'])} of their spikes "
            "(at most one step apart)",
            f"a Fano factor above {VARIABLE} in every run (0 without noise, 1 for a Poisson process)",
            bool((trials["fano"] > VARIABLE).all()),
            decides=f"Fano factor {over_seeds(trials['fano'])}",
            source="Section 6 and Figure 7 E, preprint: high variability across trials for the same input",
            choice="of each layer the neuron whose mean count is nearest to the bound of the activity penalty",
            settles="all neurons, as in the claims before",
        )
    )
    return claims


def draw(numbers: dict) -> Figure:
    """The panels A-E of the paper's figure; F, what the stochastic network loses without noise over epochs."""
    figure = Figure(figsize=(6.9, 8.8))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 0.22))
    left, right = upper.subfigures(1, 2, width_ratios=(1, 0.8))
    _draw_activity(left, numbers)
    curves, fano, test, gap = right.subplots(4, 1, height_ratios=(1.4, 1, 1.2, 1))
    _draw_accuracy(curves, numbers)
    _draw_fano(fano, numbers)
    _draw_test(test, numbers)
    _draw_gap(gap, numbers)
    _draw_trials(lower, numbers)
    right = all(sample["label"] == sample["largest"] for sample in numbers["samples"])
    caption(
        figure,
        numbers["scale"],
        "Lines: mean and s.d. over seeds; dots: seeds",
        f"A, E: stochastic network of seed {numbers['example']}",
        f"A: the first test samples of two classes{' that it answers rightly' * right}",
        "C: counts in windows of 20 ms" + ", grey: in single steps" * bool(numbers["fano_step"]),
        "E: one test sample; of each layer the neuron whose mean count is nearest to "
        f"{numbers['typical_count']:g}, the bound of the activity penalty",
    )
    return figure


def _draw_activity(figure, numbers) -> None:
    """A: two samples from the input to the readout."""
    layers = list(numbers["neurons"])
    rows = figure.subplots(len(layers) + 1, 2, sharex=True, sharey="row")
    milliseconds = 1e3 * numbers["dt"]
    time = milliseconds * np.arange(numbers["steps"])
    for column, sample in enumerate(numbers["samples"]):
        for axes, layer in zip(rows[:, column], layers, strict=False):
            spikes = sample["spikes"][layer]
            axes.plot(time[spikes["step"]], spikes["neuron"], "k.", markersize=0.7, markeredgewidth=0, rasterized=True)
            axes.set(xlim=(0, milliseconds * numbers["steps"]), ylim=(numbers["neurons"][layer], 0))
            axes.set_yticks((0, numbers["neurons"][layer]))
            axes.spines[["top", "right"]].set_visible(True)
        readout = rows[-1, column]
        readout.plot(time, sample["readout"], color="0.75", linewidth=0.5)
        names = numbers["class_names"]
        label, largest = sample["label"], sample["largest"]
        if largest != label:
            potential = sample["readout"][:, largest]
            readout.plot(time, potential, color="0.2", linewidth=1, label=f"largest: {names[largest]}")
        readout.plot(time, sample["readout"][:, label], color=COLOURS["escape_noise"], label=names[label])
        readout.legend(loc="upper left", handlelength=1, borderaxespad=0.1)
        readout.set_xlabel("time (ms)")
        rows[0, column].set_title(f"{LABELS['escape_noise']}, “{names[label]}”", color=COLOURS["escape_noise"])
    for axes, layer in zip(rows[:, 0], layers, strict=False):
        axes.set_ylabel(layer.replace("hidden", "hidden layer "))
    low, high = rows[-1, 0].get_ylim()
    rows[-1, 0].set(ylabel="readout potential", ylim=(low, high + 0.35 * (high - low)))  # room for the legend
    figure.align_ylabels(rows[:, 0])
    panel_letter(rows[0, 0], "A")


def _draw_accuracy(axes, numbers) -> None:
    """B: accuracy during training."""
    curves = {(mode, split): curve for mode, of in numbers["accuracy"].items() for split, curve in of.items()}
    for (mode, split), curve in curves.items():
        plot_curve(axes, curve, COLOURS[mode], linestyle=LINES[split])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="accuracy", xlim=(0, numbers["epochs"]), ylim=(0, 1))
    panel_letter(axes, "B")
    reached = [np.asarray(curve["epoch"])[np.asarray(curve["mean"]) > DETAIL] for curve in curves.values()]
    late = max((epochs[0] if len(epochs) else math.inf) for epochs in reached)
    if late < numbers["epochs"] / 4:  # most of the curves would lie in a corner
        axes.set_ylim(DETAIL, 1.01)
        inset = axes.inset_axes((0.62, 0.17, 0.36, 0.27))
        for (mode, split), curve in curves.items():
            plot_curve(inset, curve, COLOURS[mode], linestyle=LINES[split])
        inset.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
        inset.set(xlim=(0, 2 * late), ylim=(0, 1), yticks=(0, 1))
        inset.tick_params(labelsize=6)
        style = {"loc": "center", "bbox_to_anchor": (0.68, 0.57), "ncols": 2, "fontsize": 6}
    else:
        axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
        style = {}
    handles = [Line2D([], [], color=COLOURS[mode], label=LABELS[mode]) for mode in numbers["accuracy"]]
    handles += [Line2D([], [], color="0.35", linestyle=line, label=split) for split, line in LINES.items()]
    axes.legend(handles=handles, **style)


def _draw_fano(axes, numbers) -> None:
    """C: Fano factor of each hidden layer of the stochastic network, in windows of 20 ms and, grey, in single steps."""
    for (layer, curve), line in zip(numbers["fano"].items(), ("-", "--", "-.", ":") * 9, strict=False):
        plot_curve(axes, curve, COLOURS["escape_noise"], linestyle=line, label=layer.replace("hidden", "hidden layer "))
        if layer in numbers["fano_step"]:
            plot_curve(axes, numbers["fano_step"][layer], "0.5", linestyle=line)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="Fano factor", xlim=(0, numbers["epochs"]))
    axes.set_ylim(0, max(1.05, axes.get_ylim()[1]))
    axes.legend()
    panel_letter(axes, "C")


def _draw_test(axes, numbers) -> None:
    """D: test accuracy in the neuron mode of the training and in the other one, also by speakers."""
    modes = tuple(reversed(numbers["accuracy"]))
    bars = [(group, offset) for group in range(len(modes)) for offset in (-0.2, 0.2)]
    for (group, offset), (tested, alpha) in zip(bars, (("own", 1.0), ("other", 0.4)) * len(modes), strict=True):
        values = numbers["final"]["test"][tested][modes[group]]
        plot_seeds(axes, group + offset, values, COLOURS[modes[group]], alpha)
        for speakers, (_, marker) in SPEAKERS.items():
            mean = np.mean(numbers["final"]["test_by_speakers"][speakers][tested][modes[group]])
            axes.plot(group + offset + 0.13, mean, marker, color="0.15", mfc="none", markersize=3.5)
    if np.isfinite(mean):
        style = {"color": "0.15", "mfc": "none", "linestyle": ""}
        handles = [Line2D([], [], marker=marker, label=label, **style) for label, marker in SPEAKERS.values()]
        axes.legend(handles=handles, loc="upper right", ncols=2, fontsize=6, handletextpad=0)
    axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
    axes.set_xticks([group + offset for group, offset in bars], ["own", "other"] * len(modes))
    axes.set_xticks(range(len(modes)), [f"\n{LABELS[mode]}" for mode in modes], minor=True, fontsize=8)
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set(xlim=(-0.5, len(modes) - 0.5), ylim=(0, 1.2), yticks=(0, 0.5, 1))
    axes.set(ylabel="test accuracy", xlabel="network, and neuron mode of the test")
    panel_letter(axes, "D")


def _draw_gap(axes, numbers) -> None:
    """F: validation accuracy of the stochastic network without noise minus that with it, a line for each seed."""
    gap = numbers["gap"]
    axes.plot(
        gap["epoch"], np.asarray(gap["values"]).T, "o-", color=COLOURS["escape_noise"], markersize=2, linewidth=0.8
    )
    axes.axhline(0, color="0.5", linewidth=0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    lowest = np.asarray(gap["values"])[:, 1:].min(initial=-0.05)
    axes.set(xlabel="epoch", ylabel="without - with noise", xlim=(0, numbers["epochs"]), ylim=(1.2 * lowest, 0.05))
    panel_letter(axes, "F")


def _draw_trials(figure, numbers) -> None:
    """E: the same sample again and again."""
    panels = figure.subplots(1, len(numbers["trials"]), sharey=True, squeeze=False)[0]
    milliseconds = 1e3 * numbers["dt"]
    for axes, example in zip(panels, numbers["trials"], strict=True):
        time, trial = milliseconds * example["step"], example["trial"] + 1
        axes.plot(time, trial, "|", color="k", markersize=2.2, markeredgewidth=0.6)
        axes.set(xlim=(0, milliseconds * numbers["steps"]), ylim=(example["trials"] + 1, 0))
        axes.set(xlabel="time (ms)", title=f"hidden layer {example['layer']}, neuron {example['neuron']}")
        axes.spines[["top", "right"]].set_visible(True)
        axes.title.set_color(COLOURS["escape_noise"])
    panels[0].set_ylabel("trial")
    panels[0].set_yticks((1, numbers["trials"][0]["trials"]))
    panel_letter(panels[0], "E")
