"""Figure 7: deterministic and stochastic convolutional spiking networks trained to classify spoken digits."""

import math

import numpy as np
from matplotlib.figure import Figure

from sgtheory.claims import Claim
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
from sgtheory.figures._statistics import mean_interval, over_seeds
from sgtheory.metrics import fano_factor

TESTED = {"own": "accuracy", "other": "accuracy_other_mode"}  # neuron mode of the test: metric
END = 10  # accuracies at the end of training are averaged over the last tenth of the epochs
PAPER_EPOCHS, PAPER_SAMPLES = 200, 7340  # what decides where small differences count
FAILURE = 0.1  # a loss of accuracy that does matter
HIGH = 0.75  # of the Fano factor before training, or of 1
VARIABLE = 0.5  # Fano factor, half of that of a Poisson process


def measure(runs, **_) -> dict:
    """Curves over seeds, activity of the first stochastic network, and the paper's claims.

    Args:
        runs: finished runs of the classification task on the same data, both neuron modes, the same seeds in both.

    Raises:
        UserError: if a mode or a seed is missing, or the runs differ in data, epochs or batch size.
    """
    grouped = by_mode(runs, "figure 7")
    data = common_data(runs, "figure 7")
    example = grouped["escape_noise"][0]
    layers = sorted((name for name in example.rasters if name.startswith("hidden")), key=lambda name: int(name[6:]))
    numbers = {
        "seeds": [seed_of(run) for run in grouped["escape_noise"]],
        **data,
        "dt": example.config["neuron"]["dt"],
        "class_names": [str(name) for name in example.rasters["class_names"]],
        "steps": example.rasters["input"].shape[1],
        "neurons": {layer: example.rasters[layer].shape[2] for layer in ("input", *layers)},
        "samples": _samples(example.rasters, layers),
        "trials": _trials(example.rasters),
        "accuracy": {
            mode: {split: mean_curve(grouped[mode], "accuracy", split) for split in SPLITS} for mode in NEURON_MODES
        },
        "fano": {layer: mean_curve(grouped["escape_noise"], "fano", layer) for layer in layers},
    }
    numbers["chance"] = 1 / len(numbers["class_names"])
    numbers["scale"] = scale(numbers)
    numbers["final"] = _final(grouped, layers)
    numbers["class_accuracy"] = {mode: _class_accuracy(grouped[mode]) for mode in NEURON_MODES}
    return numbers


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
        return each(lambda run: run.series(metric, layer).iloc[-1])

    stochastic = grouped["escape_noise"]
    fano = {layer: [run.series("fano", layer) for run in stochastic] for layer in layers}
    return {
        **{s: {mode: accuracy_at_the_end(runs, s, END) for mode, runs in grouped.items()} for s in SPLITS},
        "test": {tested: last(metric, "test") for tested, metric in TESTED.items()},
        "rate": {layer: last("rate", layer) for layer in layers},
        "fano": {
            layer: {
                "before": np.array([values.iloc[0] for values in each_seed]),
                "lowest": np.array([values.min() for values in each_seed]),
                "after": np.array([values.iloc[-1] for values in each_seed]),
            }
            for layer, each_seed in fano.items()
        },
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


def claims(numbers: dict) -> list[Claim]:
    final, test = numbers["final"], numbers["final"]["test"]

    def both(values):
        return ", ".join(f"{LABELS[mode]} {over_seeds(values[mode])}" for mode in NEURON_MODES)

    learnt = (1 + numbers["chance"]) / 2
    reduced = numbers["epochs"] < PAPER_EPOCHS or numbers["training_samples"] < PAPER_SAMPLES
    larger = f"{PAPER_EPOCHS} epochs and {PAPER_SAMPLES} training samples decide" if reduced else ""
    if not reduced and len(numbers["seeds"]) < 2:  # the spread over seeds is larger than the binomial error of one
        larger = "two seeds or more decide"
    claims = [
        Claim(
            "C11.1",
            "Both networks learn the task",
            f"{numbers['scale']}. Accuracy in training {both(final['training'])}; in validation "
            f"{both(final['validation'])}; in the test {both(test['own'])}; chance {numbers['chance']:.3g}",
            f"validation above {learnt:.3g}, half way from chance to 1, in every run (read off the authors' curves: "
            "stochastic 0.965 to 0.97, deterministic 0.945 to 0.95, after 200 epochs on SHD)",
            all(bool((final["validation"][mode] > learnt).all()) for mode in NEURON_MODES),
        )
    ]
    stochastic, deterministic = (final["validation"][mode] for mode in ("escape_noise", "deterministic"))
    gap, error, text = _difference(stochastic, deterministic, numbers["validation_samples"])
    claims.append(
        Claim(
            "C11.2",
            "The stochastic network is at least as good as the deterministic one in validation",
            f"{both(final['validation'])}; difference {text}",
            f"not below 0 by more than the error, of which at most {UNDECIDED} counts (read off the authors' curves: "
            "0.02 better)",
            gap >= -min(error, UNDECIDED),
            undecided=larger,
            power=f"a difference of {error:.2g} would have been found",
            settles="make fig7 PROFILE=paper",
        )
    )
    gap, error, text = _difference(test["other"]["escape_noise"], test["own"]["escape_noise"], numbers["test_samples"])
    if abs(gap) <= min(error, UNDECIDED):
        reason = "within the error"
    elif abs(gap) <= SMALL:
        reason = f"beyond the error, but at most {SMALL}"
    else:
        reason = f"more than {SMALL}, and more than an error that could count"
    claims.append(
        Claim(
            "C11.3",
            "The stochastic network does equally well when tested without noise",
            f"test accuracy with noise {over_seeds(test['own']['escape_noise'])}, without "
            f"{over_seeds(test['other']['escape_noise'])}; difference {text}: {reason}",
            f"a difference within the error, of which at most {UNDECIDED} counts, or of at most {SMALL}",
            same(gap, error),
            undecided=larger,
            power=f"a difference of {error:.2g} would have been found",
            settles="make fig7 PROFILE=paper",
        )
    )
    gap, error, text = _difference(
        test["other"]["deterministic"], test["own"]["deterministic"], numbers["test_samples"]
    )
    claims.append(
        Claim(
            "C11.4",
            "The deterministic network fails when tested with noise",
            f"test accuracy without noise {over_seeds(test['own']['deterministic'])}, with "
            f"{over_seeds(test['other']['deterministic'])}; difference {text}",
            f"a fall by more than the error and more than {FAILURE}",
            gap < -max(error, FAILURE),
        )
    )
    for number, (layer, fano) in enumerate(final["fano"].items(), start=5):
        share = fano["after"] / np.minimum(fano["before"], 1)
        claims.append(
            Claim(
                f"C11.{number}",
                f"The Fano factor of the stochastic network stays high during training, hidden layer {layer[6:]}",
                f"before training {over_seeds(fano['before'])}, lowest {over_seeds(fano['lowest'])}, after "
                f"{over_seeds(fano['after'])}; {over_seeds(fano['after'] / fano['before'])} of the first value",
                f"at least {HIGH} of the value before training, or of that of a Poisson process (1) if it was above "
                "(in spike-train matching two thirds are left)",
                bool(share.mean() >= HIGH),
            )
        )
    trials = final["trials"]
    claims.append(
        Claim(
            f"C11.{5 + len(final['fano'])}",
            "Trial-to-trial variability is preserved in the trained stochastic network",
            f"{len(numbers['trials'])} example neurons, {numbers['trials'][0]['trials']} trials of one sample: Fano "
            f"factor {over_seeds(trials['fano'])}; two trials share {over_seeds(trials['repeated'])} of their spikes "
            "(± 1 step)",
            f"a Fano factor above {VARIABLE} in every run (0 without noise, 1 for a Poisson process)",
            bool((trials["fano"] > VARIABLE).all()),
        )
    )
    return claims


def draw(numbers: dict) -> Figure:
    """The panels A-E of the paper's figure."""
    figure = Figure(figsize=(6.7, 8.2))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 0.24))
    left, right = upper.subfigures(1, 2, width_ratios=(1, 0.72))
    _draw_activity(left, numbers)
    curves, fano, test = right.subplots(3, 1)
    _draw_accuracy(curves, numbers)
    _draw_fano(fano, numbers)
    _draw_test(test, numbers)
    _draw_trials(lower, numbers)
    figure.supxlabel(numbers["scale"], fontsize=6.5, color="0.3")
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
    for mode in NEURON_MODES:
        for split, line in zip(SPLITS, (":", "-"), strict=True):
            curve = numbers["accuracy"][mode][split]
            plot_curve(axes, curve, COLOURS[mode], linestyle=line, label=f"{LABELS[mode]}, {split}")
    axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--", label="chance")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="accuracy", xlim=(0, numbers["epochs"]), ylim=(0, 1))
    axes.legend()
    panel_letter(axes, "B")


def _draw_fano(axes, numbers) -> None:
    """C: Fano factor of each hidden layer of the stochastic network."""
    for (layer, curve), line in zip(numbers["fano"].items(), ("-", "--", "-.", ":") * 9, strict=False):
        plot_curve(axes, curve, COLOURS["escape_noise"], linestyle=line, label=layer.replace("hidden", "hidden layer "))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="Fano factor", xlim=(0, numbers["epochs"]))
    axes.set_ylim(0, max(1.05, axes.get_ylim()[1]))
    axes.legend()
    panel_letter(axes, "C")


def _draw_test(axes, numbers) -> None:
    """D: test accuracy in the neuron mode of the training and in the other one."""
    modes = tuple(reversed(NEURON_MODES))
    bars = [(group, offset) for group in range(len(modes)) for offset in (-0.2, 0.2)]
    for (group, offset), (tested, alpha) in zip(bars, (("own", 1.0), ("other", 0.4)) * len(modes), strict=True):
        values = numbers["final"]["test"][tested][modes[group]]
        plot_seeds(axes, group + offset, values, COLOURS[modes[group]], alpha)
    axes.axhline(numbers["chance"], color="0.5", linewidth=0.6, linestyle="--")
    axes.set_xticks([group + offset for group, offset in bars], ["own", "other"] * len(modes))
    axes.set_xticks(range(len(modes)), [f"\n{LABELS[mode]}" for mode in modes], minor=True, fontsize=8)
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set(ylabel="test accuracy", ylim=(0, 1), xlabel="network, and neuron mode of the test")
    panel_letter(axes, "D")


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
