"""Runs of both neuron modes, repeated over seeds: grouped, averaged and plotted."""

import numpy as np

from sgtheory.errors import UserError
from sgtheory.training import NEURON_MODES

POINTS = 400  # of a curve; more cannot be told apart in print


def seed_of(run) -> int:
    return run.config["seed"]


def modes_of(runs) -> list[str]:
    """The neuron modes in which there are runs."""
    found = {run.config["neuron"]["mode"] for run in runs}
    return [mode for mode in NEURON_MODES if mode in found]


def paired(runs) -> tuple[list, list]:
    """The runs whose seed is there in every neuron mode in which there are runs, and the others."""
    each = [{seed_of(r) for r in runs if r.config["neuron"]["mode"] == mode} for mode in modes_of(runs)]
    seeds = set.intersection(*each) if each else set()
    return [r for r in runs if seed_of(r) in seeds], [r for r in runs if seed_of(r) not in seeds]


def by_mode(runs, figure: str, modes=NEURON_MODES) -> dict[str, list]:
    """The runs of each of some neuron modes, in the order of their seeds.

    Raises:
        UserError: naming ``figure``, if there is no run, if a seed is missing in one of the modes, or if several runs
            with the same seed differ in something else.
    """
    grouped = {mode: sorted((r for r in runs if r.config["neuron"]["mode"] == mode), key=seed_of) for mode in modes}
    seeds = [[seed_of(run) for run in group] for group in grouped.values()]
    if any(len(set(each)) < len(each) for each in seeds):
        raise UserError(f"{figure} needs one run for each seed and neuron mode: give every other setting one value")
    if not seeds[0] or seeds[0] != seeds[-1]:
        raise UserError(f"{figure} needs the same seeds in both neuron modes: neuron=deterministic,escape_noise")
    return grouped


def mean_curve(runs, metric: str, layer: str) -> dict:
    """Mean and standard deviation over seeds, averaged in blocks of epochs."""
    series = [run.series(metric, layer) for run in runs]
    block = max(1, len(series[0]) // POINTS)
    length = len(series[0]) // block * block
    values = np.stack([s.to_numpy()[:length].reshape(-1, block).mean(axis=1) for s in series])
    epoch = series[0].index.to_numpy()[:length].reshape(-1, block).mean(axis=1)
    spread = values.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros_like(values[0])
    return {"epoch": epoch, "mean": values.mean(axis=0), "sd": spread}


def before_and_after(runs, metric: str, layer: str) -> dict:
    """First and last value of a metric, one for each run; empty if it was not recorded."""
    series = [run.series(metric, layer) for run in runs]
    ends = {"before": 0, "after": -1} if len(series[0]) else {}
    return {when: np.array([values.iloc[at] for values in series]) for when, at in ends.items()}


def plot_curve(axes, curve: dict, colour: str, **style) -> None:
    """The mean as a line, one standard deviation to either side as a band."""
    epoch, mean, sd = (np.asarray(curve[key]) for key in ("epoch", "mean", "sd"))
    axes.plot(epoch, mean, color=colour, **style)
    axes.fill_between(epoch, mean - sd, mean + sd, color=colour, alpha=0.3, linewidth=0)


def plot_seeds(axes, position: float, values, colour: str, alpha: float) -> None:
    """The mean as a bar, and a dot for each seed."""
    axes.bar(position, np.mean(values), 0.36, color=colour, alpha=alpha, linewidth=0)
    shift = np.linspace(-0.08, 0.08, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(position + shift, values, "o", color="0.15", markersize=2.5)
