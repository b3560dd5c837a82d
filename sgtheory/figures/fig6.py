"""Figure 6: deterministic and stochastic spiking networks trained with surrogate gradients to match spike trains."""

import numpy as np
from matplotlib.figure import Figure

from sgtheory.claims import Claim
from sgtheory.errors import UserError
from sgtheory.figures._output import COLOURS, LABELS, caption, panel_letter
from sgtheory.figures._seeds import NEURON_MODES, before_and_after, by_mode, mean_curve, plot_curve, plot_seeds, seed_of
from sgtheory.figures._statistics import mean_interval, no_difference, over_seeds, power_text

LAYERS = ("hidden", "output")
METRICS = {"l2": "L2 distance", "van_rossum": "van Rossum distance"}
LAST = 50  # epochs at the end of training over which a loss is averaged
# forms of the stochastic network's van Rossum distance
FORMS = {
    "van_rossum_trials": "of single trials",
    "van_rossum_of_mean_corrected": "of the mean over trials",
    "van_rossum_without_noise": "of the same weights without noise",
}
# of the deterministic distance: a difference that does not matter; a wider error decides nothing
SMALL, UNDECIDED = 0.05, 0.15
LITTLE = 0.1  # of a Fano factor: a fall that does not amount to much
WINDOWED = "fano_window"  # the estimator of Figure 7
ESTIMATORS = {"fano": "in single steps (10 trials)", WINDOWED: "of counts in 20 ms (400 trials)"}


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
    forms = {form: [run.series(form, "output") for run in stochastic] for form in FORMS}
    final["van_rossum_forms"] = {form: np.array([v.mean() for v in values]) for form, values in forms.items()}
    epochs = next(iter(forms.values()))[0].index
    if not len(epochs):
        raise UserError("figure 6 needs runs with task.last_epochs above 0, for the distances at the end of training")
    own = [run.series("van_rossum", "output") for run in grouped["deterministic"]]
    final["van_rossum_matched"] = np.array([values[values.index.isin(epochs)].mean() for values in own])
    for estimator in ("fano", WINDOWED):
        final[estimator] = {layer: before_and_after(stochastic, estimator, layer) for layer in LAYERS}
    return final


def _fall(fano: dict) -> tuple[float, float, str]:
    """How far a Fano factor falls, the error of that, and both in words."""
    gap, error = mean_interval(fano["before"] - fano["after"])
    text = f"{over_seeds(fano['before'])} to {over_seeds(fano['after'])}, fall {gap:.3g} ± {error:.2g} (95 %)"
    return gap, error, text


def _van_rossum_claim(numbers: dict) -> Claim:
    """C10.2, in three forms."""
    final = numbers["final"]
    forms, reference = final["van_rossum_forms"], final["van_rossum_matched"]
    size = reference.mean()
    gaps = {FORMS[form]: mean_interval(values - reference) for form, values in forms.items()}
    found = {name: no_difference([(gap / size, error / size)], SMALL, UNDECIDED) for name, (gap, error) in gaps.items()}
    wider = "narrower intervals, from more seeds" * any(wide for _, wide in found.values())
    equal = [name for name, (none, _) in found.items() if none]
    different = [name for name, (none, wide) in found.items() if not none and not wide]
    return Claim(
        "C10.2",
        "In the van Rossum distance there is no difference between the two networks",
        f"deterministic {over_seeds(reference)}; stochastic minus deterministic: "
        + ", ".join(f"{name} {gap:+.3g} ± {error:.2g}" for name, (gap, error) in gaps.items())
        + f" (95 %, {len(reference)} seeds)",
        f"in one of the three forms a difference within the error or of at most {100 * SMALL:g} %, and an interval"
        f" between -{100 * UNDECIDED:g} and {100 * UNDECIDED:g} %, of the deterministic distance (read off the"
        " authors' curves: 0.11 against 0.15)",
        bool(equal),
        decides="; ".join(f"{name} {gap:+.3g} ± {error:.2g}" for name, (gap, error) in gaps.items()),
        qualification=f"only {' and '.join(equal)}, not {' or '.join(different)}" if equal and different else "",
        undecided="" if equal else wider,
        source="Section 6 and Figure 6 B, preprint: no difference in loss; one trial of one network is drawn there",
        choice="the form; the last epochs of training (task.last_epochs = 40, task.last_trials = 40), the distance of "
        "the mean corrected for their number; what counts as small",
        power=power_text(gaps[FORMS["van_rossum_without_noise"]][1], len(reference) - 1, " (without noise)"),
        settles="more seeds",
    )


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
            decides=f"L2 difference {gap:+.3g} ± {error:.2g}",
            source="Section 6 and Figure 6 B, preprint: outperformed the stochastic SNN at 1 ms",
            choice="the picture is our own drawing of the same building; likelihood rule, as in the authors' code",
            settles="the authors' picture (docs/discrepancies.md has the command)",
        )
    )
    claims.append(_van_rossum_claim(numbers))
    for number, layer in enumerate(LAYERS, start=3):
        falls = {name: _fall(final[name][layer]) for name in ("fano", WINDOWED) if final[name][layer]}
        (gap, error, text), *other = falls.values()
        also = f"; {ESTIMATORS[WINDOWED]} {other[0][2]}" if other else ""
        share = other[0][0] / np.mean(final[WINDOWED][layer]["before"]) if other else 1.0
        claims.append(
            Claim(
                f"C10.{number}",
                f"The Fano factor of the stochastic network falls during training, {layer} layer",
                f"{ESTIMATORS['fano']} {text}{also}",
                {"hidden": "a fall (authors' curves: 0.76 to 0.6)", "output": "a fall (0.78 to 0.55)"}[layer],
                gap > error,
                decides=f"fall {gap:.3g} ± {error:.2g}"
                + (f"; in 20 ms {other[0][0]:.3g} ± {other[0][1]:.2g}" if other else ""),
                qualification=f"in single steps: of counts in 20 ms it falls by {100 * share:.0f} %"
                if share < LITTLE
                else "",
                source="Section 6 and Figure 6 E, preprint: dropped during training",
                choice="the estimator: the paper has that of single steps here and that of 20 ms in Figure 7",
                settles="windows of other lengths",
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
            decides=f"difference of hidden rates {gap:.3g} ± {error:.2g} Hz",
            source="Section 6 and Figure 6 D, preprint: visibly different hidden layer activity",
            choice="rate and CV stand for what is visible",
            settles="another measure of activity",
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
        plot_curve(axes, numbers["fano"][layer], COLOURS["escape_noise"], label="1 ms, 10 trials")
        if windowed := numbers["final"][WINDOWED][layer]:
            ends = (windowed["before"], windowed["after"])
            style = {"color": "0.3", "marker": "o", "mfc": "none", "markersize": 3.5, "clip_on": False, "zorder": 5}
            mean, sd = [np.mean(v) for v in ends], [np.std(v, ddof=1) if len(v) > 1 else 0 for v in ends]
            axes.errorbar((0, numbers["epochs"]), mean, sd, linestyle=":", label="20 ms, 400 trials", **style)
        axes.set(xlabel="epoch", ylabel="Fano factor", title=f"{layer} layer", xlim=(0, numbers["epochs"]))
        axes.set_ylim(0, 1)
        if not column:
            axes.legend(fontsize=6)
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
    caption(
        figure,
        numbers["scale"],
        "Lines, circles: mean and s.d. over seeds; bars and dots: mean and seeds",
        "A, C, D: the first seed",
    )
    return figure
