"""Figure S1: the surrogate gradient of the deterministic net is that of one path among many (Section 3.2.2)."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.lines import Line2D

from sgtheory.claims import Claim
from sgtheory.figures._output import COLOURS, LABELS, panel_letter
from sgtheory.figures._tree import branches, draw_branch, draw_tree, pattern_tree
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import Objective, SurrogateGradient, random_objective

MATCHED, FIXED = "#B5483A", "#6B4C9A"


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-300))


def _selection(objective: Objective, beta_surrogate: float) -> dict:
    """The surrogate gradient on every path, its mean, and on the deterministic path."""
    surrogate = SigmoidDerivative(beta_surrogate)
    gradients, probability = SurrogateGradient(surrogate).support(objective)
    mean = probability @ gradients
    deterministic = SurrogateGradient(surrogate, path="deterministic").support(objective)[0][0]
    sd = (probability @ ((gradients - mean) ** 2).sum(-1)).sqrt()
    distance = (deterministic - mean).norm()
    return {
        "gradients": gradients,
        "probability": probability,
        "mean": mean,
        "deterministic": deterministic,
        "relative": float(distance / mean.norm()),
        "in_sd": float(distance / sd),
        "cosine": _cosine(deterministic, mean),
    }


def _quartiles(values: list[list[float]]) -> np.ndarray:
    """[condition, net] -> [condition, (lower quartile, median, upper quartile)]."""
    return np.quantile(np.array(values), (0.25, 0.5, 0.75), axis=1).T


def measure(
    sizes: tuple[int, ...] = (5, 3, 3, 1),
    beta: float = 10.0,
    tree_sizes: tuple[int, ...] = (3, 2, 2, 1),
    example_sizes: tuple[int, ...] = (8, 4, 4, 4, 1),
    example_beta: float = 5.0,
    net_seed: int = 20,
    nets: int = 50,
    seed: int = 0,
) -> dict:
    """Selection bias: surrogate gradient of the deterministic net minus the mean over paths of the stochastic one.

    Args:
        sizes: inputs and units of every layer of the random nets in panels C and D.
        beta: steepness of the escape noise in panel D, of the surrogate in D, and of the fixed surrogate in C
            (1 / unit of U).
        tree_sizes, example_sizes: the same as ``sizes`` for the nets in panels A and B.
        example_beta: steepness of the escape noise and of the surrogate in panels A and B.
        net_seed: of the nets in panels A and B.
        nets: number of random nets in panels C and D.
        seed: of the first of these nets, and of the paths in panel A.
    """
    tree_objective = random_objective(tree_sizes, example_beta, net_seed)
    stochastic = branches(tree_objective.sample_paths(6, torch.Generator().manual_seed(seed)))
    (deterministic,) = branches(tree_objective.deterministic_path())

    example = random_objective(example_sizes, example_beta, net_seed)
    exact = example.gradient()
    selection = _selection(example, example_beta)
    path, _ = example.paths()
    same = torch.stack([(s == d).all(-1) for s, d in zip(path, example.deterministic_path(), strict=True)]).all(0)
    on_same_path = float((selection["gradients"][same][0] - selection["deterministic"]).abs().max())

    def projection(gradients):
        return gradients @ exact / exact.norm() ** 2

    histogram, edges = np.histogram(projection(selection["gradients"]), bins=40, weights=selection["probability"])
    objectives = [random_objective(sizes, beta, seed + net) for net in range(nets)]
    betas = np.array([1, 2, 5, 10, 20, 50, 100])  # beyond, the matched surrogate rounds to zero on most paths
    over_beta = {"matched": [], "fixed": []}
    for steepness in betas.tolist():
        noisy = [replace(o, net=replace(o.net, escape=SigmoidEscape(float(steepness)))) for o in objectives]
        over_beta["matched"].append([_selection(o, float(steepness))["relative"] for o in noisy])
        over_beta["fixed"].append([_selection(o, beta)["relative"] for o in noisy])
    over_beta = {key: _quartiles(values) for key, values in over_beta.items()}

    chosen = [_selection(o, beta) for o in objectives]
    cosines = {
        "mean_to_exact": np.array([_cosine(s["mean"], o.gradient()) for s, o in zip(chosen, objectives, strict=True)]),
        "deterministic_to_exact": np.array(
            [_cosine(s["deterministic"], o.gradient()) for s, o in zip(chosen, objectives, strict=True)]
        ),
        "deterministic_to_mean": np.array([s["cosine"] for s in chosen]),
    }
    relative, in_sd = (np.quantile([s[key] for s in chosen], (0.25, 0.5, 0.75)) for key in ("relative", "in_sd"))
    return {
        "scale": f"all paths enumerated in {nets} random nets",
        "beta": beta,
        "tree": pattern_tree(tree_objective),
        "stochastic_branches": stochastic,
        "deterministic_branch": deterministic,
        "projection": {
            "probability": histogram,
            "edges": edges,
            "mean": float(projection(selection["mean"])),
            "deterministic": float(projection(selection["deterministic"])),
        },
        "betas": betas,
        "selection_bias_over_beta": over_beta,
        "cosines": cosines,
        "relative_bias": relative,
        "bias_in_sd": in_sd,
        "on_same_path": on_same_path,
        "nets": nets,
        "sizes": sizes,
    }


def claims(numbers: dict) -> list[Claim]:
    """C5: the deterministic surrogate gradient is that of one path."""
    betas, beta, nets, sizes = (numbers[key] for key in ("betas", "beta", "nets", "sizes"))
    relative, in_sd, on_same_path = (numbers[key] for key in ("relative_bias", "bias_in_sd", "on_same_path"))
    direction = np.median(numbers["cosines"]["deterministic_to_mean"])
    layers = "-".join(f"{units:g}" for units in sizes)
    fixed, matched = (numbers["selection_bias_over_beta"][key][-1][1] for key in ("fixed", "matched"))
    return [
        Claim(
            "C5",
            "The surrogate gradient of the deterministic net is that of one path of the stochastic net; it differs"
            " from the mean over paths by a selection bias",
            f"difference to the same path of the stochastic net {on_same_path:.1e}; selection bias relative to the"
            f" mean {relative[1]:.2f} [{relative[0]:.2f}, {relative[2]:.2f}], or {in_sd[1]:.2f} [{in_sd[0]:.2f},"
            f" {in_sd[2]:.2f}] s.d. of a single path (median, quartiles of {nets} random nets"
            f" {layers}, beta = {beta:g})",
            "0 up to rounding; a selection bias above 0",
            on_same_path < 1e-12 and relative[0] > 1e-6,
        ),
        Claim(
            "C5.small",
            "The selection bias is generally small",
            f"median {relative[1]:.2f} of the norm of the mean; median cosine between deterministic and mean"
            f" {direction:.2f}: the direction survives, the size does not",
            "median below a quarter of the norm of the mean",
            relative[1] < 0.25,
        ),
        Claim(
            "C5.limit",
            "The deterministic surrogate gradient is the limit of the stochastic one as the noise vanishes, for a"
            " surrogate that stays as it is",
            f"median relative selection bias at beta = {betas[-1]}: {fixed:.2g} with the surrogate held at beta ="
            f" {beta}; {matched:.2g} with the surrogate matched to the noise, as in stochAD: there rare paths carry"
            " the mean and the limit is not reached",
            "towards 0 with a fixed surrogate (< 0.05)",
            fixed < 0.05,
        ),
    ]


def draw(numbers: dict):
    """Tree with the deterministic path; distribution over paths; selection bias over beta; cosines over nets."""
    figure = plt.figure(figsize=(6.7, 4.8))
    (tree_axes, histogram_axes), (beta_axes, cosine_axes) = figure.subplots(2, 2)
    draw_tree(tree_axes, numbers["tree"], ["input", "$h_1$", "$h_2$", "$y$"])
    for path in dict.fromkeys(map(tuple, numbers["stochastic_branches"])):
        draw_branch(tree_axes, numbers["tree"], path, color=COLOURS["escape_noise"], linewidth=1)
    path = numbers["deterministic_branch"]
    draw_branch(tree_axes, numbers["tree"], path, color=COLOURS["deterministic"], linewidth=2)
    handles = [Line2D([], [], color=COLOURS[mode], label=f"{LABELS[mode]} path") for mode in COLOURS]
    tree_axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2)
    panel_letter(tree_axes, "A")

    projection = numbers["projection"]
    histogram_axes.stairs(
        projection["probability"], projection["edges"], fill=True, color=COLOURS["escape_noise"], alpha=0.5
    )
    for value, colour, style, label in (
        (projection["mean"], COLOURS["escape_noise"], "-", "mean over paths"),
        (projection["deterministic"], COLOURS["deterministic"], "-", "deterministic path"),
        (1, "k", "--", "exact gradient"),
    ):
        histogram_axes.axvline(value, color=colour, linestyle=style, label=label)
    histogram_axes.set(xlabel="surrogate gradient along the exact one", ylabel="probability of paths")
    histogram_axes.legend(loc="upper right", fontsize=6)
    panel_letter(histogram_axes, "B")

    for key, colour, label in (
        ("matched", MATCHED, "surrogate matched to the noise"),
        ("fixed", FIXED, f"surrogate fixed, β = {numbers['beta']:g}"),
    ):
        lower, median, upper = np.asarray(numbers["selection_bias_over_beta"][key]).T
        beta_axes.plot(numbers["betas"], median, "o-", color=colour, label=label)
        beta_axes.fill_between(numbers["betas"], lower, upper, color=colour, alpha=0.2, linewidth=0)
    beta_axes.set(xscale="log", xlabel="steepness of the escape noise β", ylabel="relative selection bias")
    beta_axes.set_ylim(0, None)
    beta_axes.legend(fontsize=6)
    panel_letter(beta_axes, "C")

    cosines = numbers["cosines"]
    cosine_axes.plot([0.4, 1], [0.4, 1], color="0.7", linewidth=0.6)
    cosine_axes.plot(cosines["mean_to_exact"], cosines["deterministic_to_exact"], "o", color="0.3", mfc="none")
    cosine_axes.set(xlabel="cosine of the mean over paths", ylabel="of the deterministic path")
    cosine_axes.set_title("with the exact gradient, one dot per net")
    panel_letter(cosine_axes, "D")
    return figure
