"""Figure 6: deterministic and stochastic spiking networks trained with surrogate gradients to match spike trains."""

import numpy as np
from matplotlib.figure import Figure

from sgtheory.claims import Claim
from sgtheory.figures._output import COLOURS, LABELS, panel_letter
from sgtheory.figures._seeds import NEURON_MODES, by_mode, mean_curve, plot_curve, plot_seeds, seed_of
from sgtheory.figures._statistics import mean_interval, over_seeds

LAYERS = ("hidden", "output")
METRICS = {"l2": "L2 distance", "van_rossum": "van Rossum distance"}
LAST = 50  # epochs at the end of training over which a loss is averaged


def measure(runs, **_) -> dict:
    """Curves over seeds, rasters of the first seed and the paper's claims.

    Args:
        runs: finished runs of the spike-matching task, both neuron modes, the same seeds in both.

    Raises:
        UserError: if a mode or a seed is missing.
    """
    grouped = by_mode(runs, "figure 6")
    first = {mode: grouped[mode][0] for mode in NEURON_MODES}
    epochs = int(first["deterministic"].config["trainer"]["epochs"])
    count = len(grouped["deterministic"])
    numbers = {
        "scale": f"{count} seed{'s' * (count != 1)}, {epochs} epochs",
        "seeds": [seed_of(run) for run in grouped["deterministic"]],
        "epochs": epochs,
        "dt": first["deterministic"].config["neuron"]["dt"],
        "input": first["deterministic"].rasters["input"],
        "target": first["deterministic"].rasters["target"],
        "rasters": {
            mode: {layer: {when: run.rasters[f"{layer}_{when}"] for when in ("before", "after")} for layer in LAYERS}
            for mode, run in first.items()
        },
        "curves": {
            metric: {mode: mean_curve(grouped[mode], metric, "output") for mode in NEURON_MODES} for metric in METRICS
        },
        "fano": {layer: mean_curve(grouped["escape_noise"], "fano", layer) for layer in LAYERS},
    }
    return numbers | {"final": _final(grouped)}


def _final(grouped) -> dict:
    """What the trained networks do, one value for each seed; losses averaged over the last epochs."""

    def last(metric, layer, epochs=1):
        return {
            mode: np.array([run.series(metric, layer).iloc[-epochs:].mean() for run in runs])
            for mode, runs in grouped.items()
        }

    stochastic = grouped["escape_noise"]
    final = {metric: last(metric, "output", LAST) for metric in METRICS}
    final |= {f"{metric}_other_mode": last(f"{metric}_other_mode", "output") for metric in METRICS}
    final |= {f"rate_{layer}": last("rate", layer) for layer in LAYERS}
    final |= {f"isi_cv_{layer}": last("isi_cv", layer) for layer in LAYERS}
    final["van_rossum_of_mean"] = np.array([run.series("van_rossum_of_mean", "output").iloc[-1] for run in stochastic])
    final["fano"] = {
        layer: {
            when: np.array([run.series("fano", layer).iloc[index] for run in stochastic])
            for when, index in (("before", 0), ("after", -1))
        }
        for layer in LAYERS
    }
    return final


def claims(numbers: dict) -> list[Claim]:
    """C10: losses, Fano factors and activity of the trained networks."""
    final = numbers["final"]

    def both(name):
        values = final[name]
        return f"deterministic {over_seeds(values[NEURON_MODES[0]])}, stochastic {over_seeds(values[NEURON_MODES[1]])}"

    def difference(name):
        return mean_interval(final[name][NEURON_MODES[1]] - final[name][NEURON_MODES[0]])

    claims = []
    gap, error = difference("l2")
    claims.append(
        Claim(
            "C10.1",
            "At the resolution of one time step the deterministic network matches better (lower L2 distance)",
            f"{both('l2')}; difference {gap:.3g} ± {error:.2g} (95 %)",
            "difference above 0 (read off the authors' curves: 20 against 23.5)",
            gap > error,
        )
    )
    gap, error = difference("van_rossum")
    noise = final["van_rossum"][NEURON_MODES[1]] - final["van_rossum_of_mean"]
    rest, rest_error = mean_interval(final["van_rossum_of_mean"] - final["van_rossum"][NEURON_MODES[0]])
    silent, silent_error = mean_interval(
        final["van_rossum_other_mode"][NEURON_MODES[1]] - final["van_rossum"][NEURON_MODES[0]]
    )
    claims.append(
        Claim(
            "C10.2",
            "In the van Rossum distance there is no difference between the two networks",
            f"{both('van_rossum')}; difference {gap:.3g} ± {error:.2g} (95 %). Trial-to-trial noise makes "
            f"{noise.mean():.3g} of the stochastic distance; that of the filtered output averaged over trials differs "
            f"from the deterministic one by {rest:.3g} ± {rest_error:.2g}; that of the same weights without noise by "
            f"{silent:.3g} ± {silent_error:.2g}",
            "in one of the three forms an interval that contains 0 (read off the authors' curves: 0.11 against 0.15)",
            bool(abs(gap) <= error or abs(silent) <= silent_error),
            qualification=""
            if abs(gap) <= error
            else "not in a single trial, nor in the mean over trials; only for the stochastically trained weights run "
            "without noise",
            undecided="an interval without noise that is narrower than the difference in one trial"
            if abs(silent) <= silent_error and error < abs(gap) <= silent_error
            else "",
            choice=f"mean over the last {LAST} epochs; without noise at the last epoch only, of trained weights",
            power=f"without noise a difference of {silent_error:.2g} would be found; in one trial it is {gap:.2g}",
            settles="more seeds, and the same epochs and trials in all three forms",
        )
    )
    for number, layer in enumerate(LAYERS, start=3):
        before, after = final["fano"][layer]["before"], final["fano"][layer]["after"]
        gap, error = mean_interval(before - after)
        claims.append(
            Claim(
                f"C10.{number}",
                f"The Fano factor of the stochastic network falls during training, {layer} layer",
                f"{over_seeds(before)} to {over_seeds(after)}; fall {gap:.3g} ± {error:.2g} (95 %)",
                {"hidden": "a fall (authors' curves: 0.76 to 0.6)", "output": "a fall (0.78 to 0.55)"}[layer],
                gap > error,
            )
        )
    gap, error = difference("rate_hidden")
    claims.append(
        Claim(
            "C10.5",
            "Hidden activity is visibly different between the two trained networks",
            f"hidden rate {both('rate_hidden')} Hz, CV of inter-spike intervals {both('isi_cv_hidden')}; "
            f"difference of rates {gap:.3g} ± {error:.2g} Hz (95 %)",
            "different rates (read off the authors' plots: 25 and 55 Hz; CV 1.1 and 1.5)",
            abs(gap) > error,
        )
    )
    return claims


def draw(numbers: dict) -> Figure:
    """The panels A-E of the paper's figure; F, each network in its own and in the other mode."""
    figure = Figure(figsize=(6.9, 8.4))
    grid = figure.add_gridspec(4, 4, height_ratios=(1, 1, 1, 0.85))
    top = grid[0, :].subgridspec(1, 5)
    milliseconds = 1e3 * numbers["dt"]

    def raster(axes, spikes, title, labelled):
        steps, neurons = spikes.shape
        axes.imshow(spikes.T, aspect="auto", extent=(0, steps * milliseconds, neurons, 0), rasterized=True)
        axes.set_title(title)
        axes.set_xticks((0, 100, round(steps * milliseconds)))
        axes.set_yticks((0, neurons))
        axes.spines[["top", "right"]].set_visible(True)
        if labelled:
            axes.set_ylabel("neuron", labelpad=-8)
        else:
            axes.set_yticklabels(())

    for column, (name, title) in enumerate((("input", "input spikes"), ("target", "target spikes"))):
        axes = figure.add_subplot(top[column])
        raster(axes, numbers[name], title, not column)
        axes.set_xlabel("time (ms)")
        if not column:
            panel_letter(axes, "A")
    scales = (("l2", {}), ("van_rossum", {"yscale": "log"}), ("van_rossum", {"ylim": (0, 1)}))
    for column, (metric, scale) in enumerate(scales, start=2):
        axes = figure.add_subplot(top[column])
        for mode in NEURON_MODES:
            plot_curve(axes, numbers["curves"][metric][mode], COLOURS[mode], label=LABELS[mode])
        axes.set(xlabel="epoch", ylabel=METRICS[metric], xlim=(0, numbers["epochs"]), **scale)
        if "yscale" in scale:
            axes.set_ylim(bottom=0.7 * min(curve["mean"].min() for curve in numbers["curves"][metric].values()))
        if metric == "l2":
            axes.legend()
            panel_letter(axes, "B")
    for row, (layer, letter) in enumerate((("output", "C"), ("hidden", "D")), start=1):
        for column, (mode, when) in enumerate((m, w) for m in NEURON_MODES for w in ("before", "after")):
            axes = figure.add_subplot(grid[row, column])
            raster(axes, numbers["rasters"][mode][layer][when], f"{LABELS[mode]}\n{when}", not column)
            axes.spines[:].set_edgecolor(COLOURS[mode])
            axes.spines[:].set_linewidth(1.5)
            axes.title.set_color(COLOURS[mode])
            axes.set_xlabel("time (ms)")
            if not column:
                axes.set_ylabel(f"{layer} neuron", labelpad=-8)
                panel_letter(axes, letter)
    shared = None
    for column, layer in enumerate(LAYERS):
        axes = shared = figure.add_subplot(grid[3, column], sharey=shared)
        plot_curve(axes, numbers["fano"][layer], COLOURS["escape_noise"])
        axes.set(xlabel="epoch", ylabel="Fano factor", title=f"{layer} layer", xlim=(0, numbers["epochs"]))
        if not column:
            panel_letter(axes, "E")
    for column, (metric, label) in enumerate(METRICS.items(), start=2):
        axes = figure.add_subplot(grid[3, column])
        for x, mode in enumerate(NEURON_MODES):
            plot_seeds(axes, x - 0.2, numbers["final"][metric][mode], COLOURS[mode], 1.0)
            plot_seeds(axes, x + 0.2, numbers["final"][f"{metric}_other_mode"][mode], COLOURS[mode], 0.4)
        axes.set_xticks([x + shift for x in range(2) for shift in (-0.2, 0.2)], ["own", "other"] * 2, rotation=45)
        axes.set(ylabel=label, xlabel="neuron mode")
        if metric == "l2":
            panel_letter(axes, "F")
    return figure
