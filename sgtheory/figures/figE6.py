"""Figure E6 (not in the paper): where descent along surrogate gradients stops (Section 4.1 says that it need not find
minima)."""

import itertools
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from sgtheory.claims import Claim
from sgtheory.figures._descent import descend, expected_losses
from sgtheory.figures._output import panel_letter
from sgtheory.figures._statistics import median_interval, median_text
from sgtheory.neurons import SigmoidDerivative
from sgtheory.theory import LIF_NEURON, ScoreFunction, SurrogateGradient, agreement, random_lif_objective

KNOWN = 0.3  # a gradient is compared with references of at most this relative error


def _gradients(objective, surrogate, batches, paths, reference_paths, seed) -> dict[str, np.ndarray]:
    """Agreement of the mean surrogate gradient with the reference at each of n sets of parameters, by layer, and the
    lengths of both; [n]."""
    count, rng = len(objective.parameters), torch.Generator().manual_seed(seed)
    exact, mine = (
        torch.stack([estimator.sample(objective, count, rng) for _ in range(batches)], 1)  # [n, batch, parameter]
        for estimator in (ScoreFunction(baseline=True, paths=reference_paths), replace(surrogate, paths=paths))
    )
    first = objective.net.shapes[0][0] * objective.net.shapes[0][1]
    parts = {"all": slice(None), "hidden": slice(first), "output": slice(-objective.net.shapes[-1][1], None)}
    found = {f"cosine_{name}": [] for name in parts}
    found |= {f"known_{name}": [] for name in parts} | {"exact": [], "surrogate": []}
    for a, b in zip(mine, exact, strict=True):
        for name, at in parts.items():
            compared = agreement(a[:, at], b[:, at])
            found[f"cosine_{name}"].append(compared.cosine)
            found[f"known_{name}"].append(float(compared.reference_error < KNOWN))
        found["exact"].append(float(b.mean(0).norm()))
        found["surrogate"].append(float(a.mean(0).norm()))
    return {key: np.array(values) for key, values in found.items()}


def measure(
    inputs: int = 12,
    hidden: int = 8,
    outputs: int = 2,
    steps: int = 40,
    rate: float = 0.05,
    betas: tuple[float, ...] = (5.0, 10.0, 20.0),
    attached: tuple[float, ...] = (10.0,),
    tasks: int = 2,
    nets: int = 8,
    updates: int = 300,
    further: int = 100,
    learning_rate: float = 0.1,
    paths: int = 100,
    unbiased_paths: int = 200,
    batches: int = 12,
    reference_paths: int = 500,
    evaluation_paths: int = 4000,
    checkpoints: int = 4,
    seed: int = 0,
) -> dict:
    """Train small nets of LIF neurons along the mean surrogate gradient until they stop, and go on in two ways: along
    the surrogate gradient again, and along the unbiased gradient of the expected loss.

    Args:
        inputs, hidden, outputs: sizes; the loss is the van Rossum distance to random spike trains.
        steps: time steps of 1 ms.
        rate: mean firing probability in a step, before training and of the targets.
        betas: steepness of escape noise and of the matched surrogate, reset detached.
        attached: the same with the reset attached.
        tasks: pairs of input and target for each condition; ``nets``: random initial weights for each.
        updates, further: of the weights, before and after the switch; in both, the learning rate falls to zero.
        learning_rate: of Adam (unit of the weights).
        paths, unbiased_paths: runs averaged in one surrogate, and in one unbiased estimate.
        batches, reference_paths: averages and runs in each of them for the gradients at checkpoints.
        evaluation_paths: runs for each value of the expected loss.
        checkpoints: number of points before the switch at which losses and gradients are found.
        seed: of everything.
    """
    made = []
    for kind, beta in [*(("detached", b) for b in betas), *(("attached", b) for b in attached)]:
        arms = []
        for task in range(tasks):
            neurons = replace(LIF_NEURON, reset_gradient=kind)
            settings = {"neurons": neurons, "rate": rate}
            first = seed + task * nets
            starts = [
                random_lif_objective((inputs, hidden, outputs), steps, beta, first + k, **settings) for k in range(nets)
            ]
            # weights of their own, the input and the target of the first
            objective = replace(starts[0], parameters=torch.stack([start.parameters for start in starts]))
            surrogate = SurrogateGradient(SigmoidDerivative(beta), paths=paths)
            unbiased = ScoreFunction(baseline=True, paths=unbiased_paths)
            chosen = set(np.linspace(0, updates, checkpoints).astype(int).tolist())
            curve, angles = [], []

            def look(update, here, chosen=chosen, curve=curve, angles=angles, surrogate=surrogate):
                if update in chosen:
                    curve.append(expected_losses(here, evaluation_paths, seed))
                    angles.append(_gradients(here, surrogate, batches, paths, reference_paths, seed + 1))

            rng = torch.Generator().manual_seed(seed + task)
            stopped = descend(objective, surrogate, updates, (learning_rate,), rng, look)
            look(updates, stopped)
            ends = {
                name: expected_losses(
                    descend(stopped, estimator, further, (learning_rate,), rng), evaluation_paths, seed
                )
                for name, estimator in (("surrogate", surrogate), ("unbiased", unbiased))
            }
            arms.append(
                {
                    "loss": np.array(curve),  # [checkpoint, mean and error, net]
                    **{key: np.array([angle[key] for angle in angles]) for key in angles[0]},  # [checkpoint, net]
                    **{f"after_{name}": values for name, values in ends.items()},
                }
            )
        joined = {key: np.concatenate([arm[key] for arm in arms], axis=-1) for key in arms[0]}
        made.append({"reset": kind, "beta": beta, **joined})
    return {
        "scale": f"{tasks} tasks x {nets} nets a condition, {updates} + {further} updates",
        "conditions": made,
        "updates": updates,
        "further": further,
        "checkpoints": np.linspace(0, updates, checkpoints).astype(int),
        "sizes": (inputs, hidden, outputs),
        "steps": steps,
        "learning_rate": learning_rate,
    }


def _name(condition: dict) -> str:
    return f"beta = {condition['beta']:g}, {condition['reset']}"


def advantage(condition: dict) -> np.ndarray:
    """By how much lower the expected loss is after the unbiased updates than after as many surrogate ones, in units of
    the latter; [net]."""
    surrogate, unbiased = (np.asarray(condition[f"after_{name}"])[0] for name in ("surrogate", "unbiased"))
    return 1 - unbiased / surrogate


def _rest(condition: dict) -> np.ndarray:
    """By how much the further surrogate updates lower the loss at the stop; [net]."""
    return 1 - np.asarray(condition["after_surrogate"])[0] / np.asarray(condition["loss"])[-1, 0]


def _known_cosine(condition: dict, layer: str) -> np.ndarray:
    """[checkpoint, net]; NaN where the reference is not known well enough."""
    return np.where(np.asarray(condition[f"known_{layer}"]) > 0, np.asarray(condition[f"cosine_{layer}"]), np.nan)


def claims(numbers: dict) -> list[Claim]:
    """E6: surrogate descent stops where the expected loss has a gradient; and how the two align on the way."""
    conditions, scale = numbers["conditions"], numbers["scale"]
    choice = (
        f"nets {'-'.join(map(str, numbers['sizes']))}, {numbers['steps']} steps of 1 ms, van Rossum loss, Adam with"
        f" learning rate {numbers['learning_rate']:g} falling to 0; medians over nets, 95 % bootstrap intervals"
    )
    detached = [c for c in conditions if c["reset"] == "detached"]
    medians = [median_interval(advantage(c)) for c in detached]
    last = {_name(c): np.asarray(c["exact"])[-1] / np.asarray(c["exact"])[0] for c in conditions}
    halted = {_name(c): np.asarray(c["surrogate"])[-1] / np.asarray(c["surrogate"])[0] for c in conditions}
    steepest = max(detached, key=lambda c: c["beta"])
    cosines = _known_cosine(steepest, "all")
    change = cosines[-1] - cosines[0]
    return [
        Claim(
            "E6.stops",
            "Where descent along surrogate gradients stops, the expected loss can still fall",
            "expected loss after unbiased updates below that after as many further surrogate ones: "
            + "; ".join(
                f"{_name(c)}: {median_text(advantage(c))}, in {(advantage(c) > 0).sum()} of {len(advantage(c))} nets"
                for c in conditions
            )
            + "; the further surrogate updates lower it by "
            + ", ".join(median_text(_rest(c)) for c in conditions)
            + f" ({scale})",
            "the interval of the median above 0 in every condition with the reset detached",
            all(low > 0 for _, low, _ in medians),
            undecided="more nets" if any(low <= 0 < high for _, low, high in medians) else "",
            choice=choice,
        ),
        Claim(
            "E6.stationary",
            "Both gradients shrink on the way to the stop, and the surrogate one shrinks more",
            "length at the stop over that before training, surrogate / exact: "
            + "; ".join(f"{name} {median_text(halted[name])} / {median_text(last[name])}" for name in last),
            "surrogate gradients fall to a smaller part than exact ones (medians of all detached conditions)",
            all(np.median(halted[_name(c)]) < np.median(last[_name(c)]) for c in detached),
            choice=choice,
        ),
        Claim(
            "E6.angle",
            f"Training turns the surrogate gradient away from the exact one ({_name(steepest)})",
            f"cosine before {median_text(cosines[0])}, at the stop {median_text(cosines[-1])}; change "
            f"{median_text(change)} ({np.isfinite(change).sum()} of {len(change)} nets)",
            "the interval of the median change is below 0",
            bool(median_interval(change)[2] < 0),
            undecided="" if median_interval(change)[2] < 0 or median_interval(change)[0] > 0 else "more nets or paths",
            choice=choice + f"; references of relative error below {KNOWN:g}",
        ),
    ]


def draw(numbers: dict):
    """Loss on the way and after the switch; what each net gains; cosine and lengths along training."""
    figure = plt.figure(figsize=(6.9, 5.4))
    panels = figure.subplots(2, 2)
    at = np.asarray(numbers["checkpoints"])
    colours = ["#E6A532", "#C0504D", "#6B4C9A", "#008CA5", "#5B8C3E"]
    for condition, colour in zip(numbers["conditions"], itertools.cycle(colours), strict=False):
        loss = np.asarray(condition["loss"])[:, 0]
        style = "-" if condition["reset"] == "detached" else "--"
        start = loss[0]
        middle, low, high = np.array([median_interval(row / start) for row in loss]).T
        label = f"β = {condition['beta']:g}, reset {condition['reset']}"
        panels[0, 0].plot(at, middle, f"o{style}", color=colour, markersize=2.5, label=label)
        end = at[-1] + numbers["further"]
        for name, marker, line in (("surrogate", "s", ":"), ("unbiased", "*", "-")):
            after = median_interval(np.asarray(condition[f"after_{name}"])[0] / start)
            error = [[after[0] - after[1]], [after[2] - after[0]]]
            panels[0, 0].plot([at[-1], end], [middle[-1], after[0]], line, color=colour, linewidth=0.8)
            panels[0, 0].errorbar([end], [after[0]], error, fmt=marker, color=colour, markersize=5, elinewidth=0.8)
        middle, low, high = np.array([median_interval(row) for row in _known_cosine(condition, "all")]).T
        panels[1, 0].plot(at, middle, f"o{style}", color=colour, markersize=2.5)
        panels[1, 0].fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        for key, line in (("surrogate", ":"), ("exact", "-")):
            length = np.asarray(condition[key])
            middle = np.median(length / length[0], axis=1)
            panels[1, 1].plot(at, middle, line, color=colour)
    panels[0, 0].axvline(at[-1], color="0.7", linewidth=0.6)
    panels[0, 0].plot([], [], "s:", color="0.4", markersize=4, label="then surrogate")
    panels[0, 0].plot([], [], "*-", color="0.4", markersize=6, label="then unbiased")
    panels[0, 0].set(xlabel="update", ylabel="expected loss / initial", yscale="log")
    ticks = (0.15, 0.2, 0.3, 0.5, 1)
    panels[0, 0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panels[0, 0].minorticks_off()
    _draw_falls(panels[0, 1], numbers["conditions"], colours)
    panels[1, 0].set(xlabel="update", ylabel="cosine, surrogate to exact")
    panels[1, 1].plot([], [], ":", color="0.4", label="surrogate gradient")
    panels[1, 1].plot([], [], "-", color="0.4", label="exact gradient")
    panels[1, 1].set(xlabel="update", ylabel="length / initial length", yscale="log")
    panels[1, 1].legend(fontsize=6.5)
    for axes, letter in zip(panels.flat, "ABCD", strict=True):
        panel_letter(axes, letter)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=6.5)
    figure.supxlabel(
        "Does surrogate descent stop at a minimum of the expected loss? Median over nets, 95 % interval\n"
        f"({numbers['scale']})",
        fontsize=7,
        color="0.3",
    )
    return figure


def _draw_falls(axes, conditions, colours):
    rng = np.random.default_rng(0)
    for row, (condition, colour) in enumerate(zip(conditions, itertools.cycle(colours), strict=False)):
        ratio = 1 - advantage(condition)
        axes.plot(ratio, row + rng.uniform(-0.2, 0.2, len(ratio)), ".", color=colour, markersize=5, alpha=0.7)
        middle, low, high = median_interval(ratio)
        axes.errorbar([middle], [row], xerr=[[middle - low], [high - middle]], fmt="D", color="0.1", markersize=4)
    axes.axvline(1, color="0.7", linewidth=0.6)
    axes.set_xscale("log")
    ticks = (0.5, 0.7, 1, 2, 3)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(conditions)), [f"β = {c['beta']:g}\n{c['reset']}" for c in conditions], fontsize=6.5)
    axes.invert_yaxis()
    axes.set(xlabel="loss, then unbiased / then surrogate")
