"""Figure E6 (not in the paper): where descent along surrogate gradients stops (Section 4.1 says that it need not find
minima)."""

import functools
import itertools
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from sgtheory.claims import Claim
from sgtheory.figures._descent import descend, expected_losses
from sgtheory.figures._output import caption, panel_letter
from sgtheory.figures._statistics import (
    all_above,
    contains_zero,
    interval_text,
    median_difference,
    median_interval,
    median_text,
)
from sgtheory.neurons import SigmoidDerivative
from sgtheory.theory import LIF_NEURON, ScoreFunction, SurrogateGradient, agreement, random_lif_objective

KNOWN = 0.3  # a gradient is compared with references of at most this relative error
ENDS = {"before training": 0, "at the stop": -1}  # checkpoints
VARIED = {  # claim, word, and what is varied: key and unit
    "depths": ("E6.depth", "deeper", "hidden_layers", "hidden layer"),
    "durations": ("E6.time", "longer", "steps", "step"),
}
COLOURS = ("#E6A532", "#C0504D", "#6B4C9A", "#008CA5", "#5B8C3E")
AT_ONE_BETA = COLOURS[1]


def _gradients(objective, surrogate, batches, paths, reference_paths, seed) -> dict[str, np.ndarray]:
    """Of the mean surrogate gradient and of that along the path without noise, at each of n sets of parameters: cosine
    to the reference, whether that is known, and the lengths of mean and reference; [n]."""
    count, rng = len(objective.parameters), torch.Generator().manual_seed(seed)
    exact, mine = (
        torch.stack([estimator.sample(objective, count, rng) for _ in range(batches)], 1)  # [n, batch, parameter]
        for estimator in (ScoreFunction(baseline=True, paths=reference_paths), replace(surrogate, paths=paths))
    )
    single = replace(surrogate, path="deterministic").sample(objective, count, rng)  # [n, parameter]
    found = {key: [] for key in ("cosine", "deterministic", "known", "exact", "surrogate")}
    for a, b, path in zip(mine, exact, single, strict=True):
        compared = agreement(a, b)
        found["cosine"].append(compared.cosine)
        found["deterministic"].append(agreement(path.expand(2, -1), b).cosine)
        found["known"].append(float(compared.reference_error < KNOWN))
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
    beta: float = 10.0,
    depths: tuple[int, ...] = (2, 3),
    durations: tuple[int, ...] = (20, 80),
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
        beta, depths, durations: steepness at which the number of hidden layers and the number of steps are varied, each
            by itself, reset detached.
        tasks: pairs of input and target for each condition; ``nets``: random initial weights for each.
        updates, further: of the weights, before and after the switch; in both, the learning rate falls to zero.
        learning_rate: of Adam (unit of the weights).
        paths, unbiased_paths: runs averaged in one surrogate, and in one unbiased estimate.
        batches, reference_paths: averages and runs in each of them for the gradients at checkpoints.
        evaluation_paths: runs for each value of the expected loss.
        checkpoints: number of points before the switch at which losses and gradients are found.
        seed: of everything.
    """

    @functools.cache
    def along_training(kind: str, beta: float, layers: int, duration: int) -> dict:
        sizes, arms = (inputs, *[hidden] * layers, outputs), []
        for task in range(tasks):
            neurons = replace(LIF_NEURON, reset_gradient=kind)
            settings = {"neurons": neurons, "rate": rate}
            first = seed + task * nets
            starts = [random_lif_objective(sizes, duration, beta, first + k, **settings) for k in range(nets)]
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
        return {"reset": kind, "beta": beta, "hidden_layers": layers, "steps": duration, **joined}

    return {
        "scale": f"{tasks} tasks x {nets} nets a condition, {updates} + {further} updates",
        "conditions": [
            *(along_training("detached", b, 1, steps) for b in betas),
            *(along_training("attached", b, 1, steps) for b in attached),
        ],
        "depths": [along_training("detached", beta, layers, steps) for layers in sorted({1, *depths})],
        "durations": [along_training("detached", beta, 1, duration) for duration in sorted({steps, *durations})],
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


def _known(condition: dict, key: str) -> np.ndarray:
    """A cosine, [checkpoint, net]; NaN where the reference is not known well enough."""
    return np.where(np.asarray(condition["known"]) > 0, np.asarray(condition[key]), np.nan)


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
    cosines = _known(steepest, "cosine")
    known = f"; references of relative error below {KNOWN:g}"
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
            **all_above(0, medians, "more nets"),
            decides="fall " + ", ".join(map(interval_text, medians)),
            choice=choice,
        ),
        Claim(
            "E6.stationary",
            "Both gradients shrink on the way to the stop, and the surrogate one shrinks more",
            "length at the stop over that before training, surrogate / exact: "
            + "; ".join(f"{name} {median_text(halted[name])} / {median_text(last[name])}" for name in last),
            "surrogate gradients fall to a smaller part than exact ones (medians of all detached conditions)",
            all(np.median(halted[_name(c)]) < np.median(last[_name(c)]) for c in detached),
            decides="length falls to "
            + ", exact to ".join(
                " to ".join(f"{end([np.median(found[_name(c)]) for c in detached]):.2f}" for end in (min, max))
                for found in (halted, last)
            ),
            choice=choice,
        ),
        Claim(
            "E6.angle",
            f"Training turns the surrogate gradient away from the exact one ({_name(steepest)})",
            f"cosine before {median_text(cosines[0])}, at the stop {median_text(cosines[-1])}; change "
            f"{median_text(change)} ({np.isfinite(change).sum()} of {len(change)} nets)",
            "the interval of the median change is below 0",
            bool(median_interval(change)[2] < 0),
            decides=f"change of cosine {median_text(change)}",
            undecided="more nets or paths" if contains_zero(median_interval(change)) else "",
            choice=choice + known,
        ),
        *_over_depth_and_time(numbers, choice, known),
    ]


def _over_depth_and_time(numbers, choice, known) -> list[Claim]:
    """How direction and gain change with the number of hidden layers and of steps, where these were varied."""
    made, gained, described = [], {}, []
    for key, (topic, more, varied, unit) in VARIED.items():
        group = numbers[key]
        if len(group) == 1:
            continue
        few, many = group[0], group[-1]
        names = ", ".join(f"{c[varied]}" for c in group) + f" {unit}s"
        ends = f"{few[varied]} less {many[varied]}"
        turned = {
            stage: median_difference(_known(few, "cosine")[at], _known(many, "cosine")[at])
            for stage, at in ENDS.items()
        }
        cosines = {
            of: "; ".join(
                f"{stage} {', '.join(median_text(_known(c, of)[at]) for c in group)}" for stage, at in ENDS.items()
            )
            for of in ("cosine", "deterministic")
        }
        counts = [int(np.isfinite(_known(c, "cosine")[-1]).sum()) for c in group]
        nets = len(advantage(few))
        verdict = all_above(0, turned.values(), "more nets")
        if 2 * min(counts[0], counts[-1]) < nets:
            verdict["undecided"] = "more paths of the reference"
        made.append(
            Claim(
                topic,
                f"The {more} the network, the less its surrogate gradient points along the exact one, before training "
                "and where descent stops",
                f"cosine, {names}: {cosines['cosine']}, where the reference is known in {', '.join(map(str, counts))} "
                f"of {nets} nets; {ends}: "
                + ", ".join(f"{stage} {interval_text(gap)}" for stage, gap in turned.items())
                + f"; of the deterministic path: {cosines['deterministic']}",
                f"{ends}: both differences of medians have intervals above 0, references in half of the nets",
                **verdict,
                decides="cosine lower by " + ", ".join(map(interval_text, turned.values())) + " at the stop",
                choice=choice + known,
            )
        )
        gained[more] = median_difference(advantage(many), advantage(few))
        described.append(f"{names} {', '.join(median_text(advantage(c)) for c in group)}")
    if gained:
        made.append(
            Claim(
                "E6.left",
                f"The {' and the '.join(gained)} the network, the more is left to gain where surrogate descent stops",
                "expected loss after unbiased updates below that after as many further surrogate ones: "
                + "; ".join(described)
                + "; difference of the ends "
                + ", ".join(f"{interval_text(gap)} ({more})" for more, gap in gained.items()),
                "the differences of medians have intervals above 0",
                **all_above(0, gained.values(), "more nets"),
                decides="fall "
                + ", ".join(f"{gap[0]:+.2f} [{gap[1]:.2f}, {gap[2]:.2f}] {more}" for more, gap in gained.items()),
                choice=choice,
            )
        )
    return made


def draw(numbers: dict):
    """Loss on the way and after the switch; cosine and lengths along training; what each net gains; cosine and gain
    over depth and time."""
    figure = plt.figure(figsize=(6.9, 5.4))
    panels = figure.subplots(2, 3)
    losses, cosines, lengths = panels[0]
    at = np.asarray(numbers["checkpoints"])
    for condition, colour in zip(numbers["conditions"], itertools.cycle(COLOURS), strict=False):
        loss = np.asarray(condition["loss"])[:, 0]
        style = "-" if condition["reset"] == "detached" else "--"
        start = loss[0]
        middle, low, high = np.array([median_interval(row / start) for row in loss]).T
        label = f"β = {condition['beta']:g}, reset {condition['reset']}"
        losses.plot(at, middle, f"o{style}", color=colour, markersize=2.5, label=label)
        end = at[-1] + numbers["further"]
        for name, marker, line in (("surrogate", "s", ":"), ("unbiased", "*", "-")):
            after = median_interval(np.asarray(condition[f"after_{name}"])[0] / start)
            error = [[after[0] - after[1]], [after[2] - after[0]]]
            losses.plot([at[-1], end], [middle[-1], after[0]], line, color=colour, linewidth=0.8)
            losses.errorbar([end], [after[0]], error, fmt=marker, color=colour, markersize=4, elinewidth=0.8)
        middle, low, high = np.array([median_interval(row) for row in _known(condition, "cosine")]).T
        cosines.plot(at, middle, f"o{style}", color=colour, markersize=2.5)
        cosines.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        for key, line in (("surrogate", ":"), ("exact", "-")):
            length = np.asarray(condition[key])
            middle = np.median(length / length[0], axis=1)
            lengths.plot(at, middle, line, color=colour)
    losses.axvline(at[-1], color="0.7", linewidth=0.6)
    losses.plot([], [], "s:", color="0.4", markersize=4, label="then surrogate")
    losses.plot([], [], "*-", color="0.4", markersize=5, label="then unbiased")
    losses.set(xlabel="update", ylabel="expected loss / initial", yscale="log")
    ticks = (0.15, 0.2, 0.3, 0.5, 1)
    losses.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    losses.minorticks_off()
    cosines.set(xlabel="update", ylabel="cosine, surrogate to exact")
    lengths.plot([], [], ":", color="0.4", label="surrogate gradient")
    lengths.plot([], [], "-", color="0.4", label="exact gradient")
    lengths.set(xlabel="update", ylabel="length / initial length", yscale="log")
    lengths.legend(fontsize=5.5)
    _draw_falls(
        panels[1, 0], {f"β = {c['beta']:g}\n{c['reset']}": c for c in numbers["conditions"]}, itertools.cycle(COLOURS)
    )
    sizes = {
        f"{c[varied]} {unit}{'s' * (c[varied] > 1)}".replace("hidden ", "hidden\n"): c
        for key, (_, _, varied, unit) in VARIED.items()
        for c in numbers[key]
    }
    _draw_angles(panels[1, 1], sizes)
    _draw_falls(panels[1, 2], sizes, itertools.repeat(AT_ONE_BETA))
    for axes in panels[1, 1:]:
        axes.axhline(len(numbers["depths"]) - 0.5, color="0.8", linewidth=0.6)
    for axes, letter in zip(panels.flat, "ABCDEF", strict=True):
        panel_letter(axes, letter)
    handles, labels = losses.get_legend_handles_labels()
    handles += [plt.Line2D([], [], color=c, marker="o", markersize=4) for c in (AT_ONE_BETA, "0.5")]
    handles += [plt.Line2D([], [], color="0.4", marker="o", markersize=4, markerfacecolor="white")]
    labels += ["E: mean over paths", "E: the path without noise", "E, open: before training"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=6.5)
    beta = numbers["depths"][0]["beta"]
    caption(
        figure,
        "Does surrogate descent stop at a minimum of the expected loss? D, F: loss after further updates",
        f"E, F: reset detached, β = {beta:g}",
        f"Median over nets, 95 % interval ({numbers['scale']})",
    )
    return figure


def _rows(axes, names):
    axes.set_yticks(range(len(names)), names, fontsize=6.5)
    axes.invert_yaxis()


def _draw_falls(axes, conditions, colours):
    """Loss after unbiased over that after further surrogate updates, of each net."""
    rng = np.random.default_rng(0)
    for row, (condition, colour) in enumerate(zip(conditions.values(), colours, strict=False)):
        ratio = 1 - advantage(condition)
        axes.plot(ratio, row + rng.uniform(-0.2, 0.2, len(ratio)), ".", color=colour, markersize=4, alpha=0.7)
        middle, low, high = median_interval(ratio)
        axes.errorbar([middle], [row], xerr=[[middle - low], [high - middle]], fmt="D", color="0.1", markersize=3)
    axes.axvline(1, color="0.7", linewidth=0.6)
    axes.set_xscale("log")
    ticks = (0.5, 0.7, 1, 2, 3)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    _rows(axes, conditions)
    axes.set(xlabel="loss, unbiased / surrogate")


def _draw_angles(axes, conditions):
    """Cosine before training and at the stop, of the mean over paths and of the deterministic path."""
    kinds = (("cosine", AT_ONE_BETA, -0.12), ("deterministic", "0.5", 0.12))
    for (key, colour, shift), at in itertools.product(kinds, ENDS.values()):
        middle, low, high = np.array([median_interval(_known(c, key)[at]) for c in conditions.values()]).T
        axes.errorbar(
            middle,
            np.arange(len(conditions)) + shift,
            xerr=[middle - low, high - middle],
            fmt="o",
            color=colour,
            markerfacecolor=colour if at else "white",
            markersize=3.5,
            elinewidth=0.8,
        )
    _rows(axes, conditions)
    axes.set(xlabel="cosine, surrogate to exact")
