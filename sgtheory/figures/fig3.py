"""Figure 3: the tree of spike patterns, and gradient estimators that sample it in different ways (Section 3.2.2)."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.lines import Line2D

from sgtheory.claims import Claim
from sgtheory.figures._estimator_set import COLOURS, LABELS, estimators
from sgtheory.figures._output import caption, panel_letter
from sgtheory.figures._tree import branches, draw_branch, draw_expectation, draw_tree, pattern_tree
from sgtheory.neurons import SigmoidDerivative
from sgtheory.theory import (
    FiniteDifferences,
    Objective,
    SmoothedStochAD,
    SurrogateGradient,
    random_objective,
)
from sgtheory.theory import measure as quality_of

AVERAGED = ("score_function", "stochad_pruned", "stochad", "smoothed")


def _averaging(objective: Objective, chosen: dict, passes: int, repeats: int, seed: int) -> dict[str, dict]:
    """Relative root-mean-square error of the mean of k estimates, for k = 1, 2, 4, ... up to a cost of ``passes``."""
    gradient, curves = objective.gradient(), {}
    for name in AVERAGED:
        rng = torch.Generator().manual_seed(seed)
        cost = chosen[name].cost(objective.net)
        k = 2 ** np.arange(int(np.log2(passes / cost)) + 1)
        sums = chosen[name].sample(objective, repeats * int(k[-1]), rng).unflatten(0, (repeats, -1)).cumsum(1)
        errors = [((sums[:, n - 1] / n - gradient) ** 2).sum(-1).mean().sqrt() / gradient.norm() for n in k]
        curves[name] = {"passes": k * cost, "error": np.array(errors)}
    return curves


def measure(
    sizes: tuple[int, ...] = (3, 2, 2, 1),
    beta: float = 5.0,
    net_seed: int = 20,
    epsilon: float = 0.1,
    temperature: float = 0.5,
    epsilon_min: float = 0.01,
    samples: int = 20_000,
    passes: int = 2048,
    repeats: int = 200,
    seed: int = 0,
) -> dict:
    """Bias and variance of gradient estimators on one small random net whose exact gradient is enumerated.

    Args:
        sizes: inputs, units of every layer.
        beta: steepness of the escape noise and of the surrogate (1 / unit of U).
        net_seed: of the random weights, see :func:`sgtheory.theory.random_objective`.
        epsilon: perturbation of the finite differences in panel B (unit of the weights).
        temperature: of the binary concrete relaxation.
        epsilon_min: smallest perturbation in panel C; the largest is 1.
        samples: estimates per estimator.
        passes: largest number of passes through the net in panel D.
        repeats: independent repetitions of each average in panel D.
        seed: of the sampling.
    """
    objective = random_objective(sizes, beta, net_seed)
    chosen = estimators(beta, epsilon, temperature)
    quality = {name: quality_of(estimator, objective, samples, seed) for name, estimator in chosen.items()}

    path, probability = objective.paths()
    surrogate = SurrogateGradient(SigmoidDerivative(beta)).on_paths(objective, path)
    smoothed = SmoothedStochAD().on_paths(objective, path)
    difference = float((surrogate - smoothed).abs().max())

    epsilons = np.geomspace(epsilon_min, 1, 9)
    gradient_norm = float(objective.gradient().norm())
    sd_over_epsilon, slope = {}, {}
    for name, coupled in (("finite_differences", False), ("finite_differences_coupled", True)):
        sd = [quality_of(FiniteDifferences(float(e), coupled), objective, samples, seed).relative_sd for e in epsilons]
        sd_over_epsilon[name] = np.array(sd)
        (slope[name], _), covariance = np.polyfit(np.log(epsilons[:6]), 2 * np.log(sd[:6]), 1, cov=True)
        slope[f"{name}_error"] = float(covariance[0, 0] ** 0.5)

    averaging = _averaging(objective, chosen, passes, repeats, seed + 1)
    sampled = objective.sample_paths(64, torch.Generator().manual_seed(seed))
    (deterministic,) = branches(objective.deterministic_path())
    distinct = dict.fromkeys(branch for branch in branches(sampled) if branch != deterministic)
    sd = {name: q.relative_sd for name, q in quality.items()}
    noisier = {name: sd[name] / sd["smoothed"] for name in chosen if sd[name] > 0 and name != "smoothed"}
    return {
        "scale": f"one net, {len(probability)} paths enumerated; {samples} samples, {repeats} repetitions",
        "beta": beta,
        "epsilon": epsilon,
        "gradient_norm": gradient_norm,
        "tree": pattern_tree(objective),
        "branches": list(distinct)[:3],
        "deterministic_branch": deterministic,
        "quality": {
            name: {
                "relative_bias": q.relative_bias,
                "relative_bias_error": float(q.standard_error.norm() / q.gradient.norm()),
                "relative_sd": q.relative_sd,
                "cosine": q.cosine,
                "sign_agreement": q.sign_agreement,
                "sample_cosine": q.sample_cosine,
                "sample_sign_agreement": q.sample_sign_agreement,
                "cost": q.cost,
                "samples": q.samples,
            }
            for name, q in quality.items()
        },
        "noisier_than_smoothed": noisier,
        "epsilons": epsilons,
        "sd_over_epsilon": sd_over_epsilon,
        "variance_exponent": slope,
        "surrogate_to_smoothed": difference,
        "paths": len(probability),
        "passes": passes,
        "averaging": averaging,
    }


def claims(numbers: dict) -> list[Claim]:
    """C3 and C4: what surrogate gradients are in a deep stochastic net, and how noisy the estimators are."""
    difference, quality, averaging = numbers["surrogate_to_smoothed"], numbers["quality"], numbers["averaging"]
    slope, epsilons, epsilon, passes = (numbers[key] for key in ("variance_exponent", "epsilons", "epsilon", "passes"))
    mean_bias, samples = quality["smoothed"]["relative_bias"], quality["finite_differences"]["samples"]
    sd = {name: q["relative_sd"] for name, q in quality.items()}
    lowest_unbiased = min(sd[name] for name in AVERAGED if name != "smoothed")
    return [
        Claim(
            "C3",
            "Deep stochastic nets: back-propagating surrogate gradients and chaining smoothed stochastic derivatives"
            " give the same on every path, and the mean over all paths is biased",
            f"largest difference over all {numbers['paths']} paths {difference:.1e}; bias of the mean over all paths"
            f" {100 * mean_bias:.0f} % of the exact gradient (enumerated, cosine {quality['smoothed']['cosine']:.3f})",
            "0 up to rounding (< 1e-12); a bias above 0",
            difference < 1e-12 and mean_bias > 1e-6,
            decides=f"difference {difference:.1e}; bias {100 * mean_bias:.0f} %",
            source="Section 3.2.2, preprint",
            choice="one random net",
            settles="nothing: an identity, and one example of a bias",
        ),
        Claim(
            "C3.averaging",
            "The bias of smoothed stochastic derivatives can be reduced by averaging over many paths (Section 7)",
            f"relative error of the mean over k paths falls from {averaging['smoothed']['error'][0]:.2f} (k = 1) to"
            f" {averaging['smoothed']['error'][-1]:.2f} (k = {passes // 2}) and stays above the bias, {mean_bias:.2f}:"
            " averaging removes the variance and leaves the bias",
            "the error falls to half or less; if that is all of the error, below half of the bias",
            averaging["smoothed"]["error"][-1] < 0.5 * averaging["smoothed"]["error"][0],
            qualification=""
            if averaging["smoothed"]["error"][-1] < 0.5 * mean_bias
            else f"of the error only the variance can be reduced: the bias of the mean, {mean_bias:.2f}, stays",
            decides=f"error {averaging['smoothed']['error'][0]:.2f} to {averaging['smoothed']['error'][-1]:.2f}, bias "
            f"{mean_bias:.2f}",
            source="Section 7, preprint: this bias can be reduced by averaging over many paths",
            choice="one random net; error of the mean over paths, relative to the exact gradient",
            settles="a reading of the sentence in which the bias is that of a single path",
        ),
        Claim(
            "C4",
            "Finite differences: the variance grows as 1/epsilon^2 with independent samples and is lower with coupled"
            " ones; the path-wise smoothed derivative has a lower variance than the other schemes",
            f"exponent of the variance (± s.e. of the fit), epsilon <= {epsilons[5]:.2g}: independent"
            f" {slope['finite_differences']:.2f} ± {slope['finite_differences_error']:.3f}, coupled"
            f" {slope['finite_differences_coupled']:.2f} ± {slope['finite_differences_coupled_error']:.3f};"
            f" relative s.d.: independent {sd['finite_differences']:.1f}, coupled"
            f" {sd['finite_differences_coupled']:.1f} (epsilon = {epsilon}), score function"
            f" {sd['score_function']:.2f}, unbiased stochAD {sd['stochad']:.2f} (all alternatives) and"
            f" {sd['stochad_pruned']:.2f} (one), smoothed {sd['smoothed']:.2f} (n = {samples})",
            "exponents -2 and -1; smoothed < coupled < independent, smoothed < every unbiased scheme",
            abs(slope["finite_differences"] + 2) < 0.1
            and abs(slope["finite_differences_coupled"] + 1) < 0.2
            and sd["smoothed"] < sd["finite_differences_coupled"] < sd["finite_differences"]
            and sd["smoothed"] < lowest_unbiased,
            decides=f"exponents {slope['finite_differences']:.2f}, {slope['finite_differences_coupled']:.2f}; s.d. "
            f"{sd['smoothed']:.2f} smoothed, {lowest_unbiased:.2f} the best unbiased one",
            source="Section 3.2.2, preprint: significantly lower variance than other schemes",
            choice="one random net; E1.variance has others",
            settles="steeper nets: there it does not hold (E1.variance)",
        ),
    ]


def draw(numbers: dict):
    """The tree; bias and s.d. of every estimator; s.d. over epsilon; error over the number of passes."""
    figure = plt.figure(figsize=(6.7, 5.4))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    axes, quality_axes = upper.subplots(1, 2, width_ratios=(1, 1.15))
    draw_tree(axes, numbers["tree"], ["input", "$h_1$", "$h_2$", "$y$"])
    smoothed, *independent = numbers["branches"]
    for path in independent:
        draw_branch(axes, numbers["tree"], path, color="0.25", linewidth=1.3, linestyle=(0, (4, 1.5)))
    deterministic = {"color": COLOURS["surrogate_deterministic"], "linewidth": 1.6, "linestyle": (0, (1, 0.8))}
    draw_branch(axes, numbers["tree"], numbers["deterministic_branch"], **deterministic)
    draw_branch(axes, numbers["tree"], smoothed, fan=True, color=COLOURS["smoothed"], linewidth=2)
    draw_expectation(axes, numbers["tree"], smoothed, 2, "$E[h_2\\,|\\,h_1]$", "#9C7500")
    handles = [
        Line2D([], [], color=COLOURS["smoothed"], linewidth=2, label="chosen path"),
        Line2D([], [], color=COLOURS["smoothed"], linewidth=0.7, linestyle=(0, (2, 1)), label="smoothed at its nodes"),
        Line2D([], [], color="0.25", linewidth=1.3, linestyle=(0, (4, 1.5)), label="two independent paths"),
        Line2D([], [], **deterministic, label="deterministic path"),
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, fontsize=6)
    panel_letter(axes, "A")
    _draw_quality(quality_axes, numbers["quality"])

    axes, averaging_axes = lower.subplots(1, 2)
    for name, sd in numbers["sd_over_epsilon"].items():
        axes.plot(numbers["epsilons"], sd, "o-", color=COLOURS[name], label=LABELS[name])
        exponent = numbers["variance_exponent"][name]
        axes.annotate(
            f"variance $\\propto\\varepsilon^{{{exponent:.2f}}}$",
            (numbers["epsilons"][2], sd[2]),
            xytext=(4, 5),
            textcoords="offset points",
            fontsize=6,
        )
    for name in ("score_function", "stochad", "smoothed"):
        axes.axhline(numbers["quality"][name]["relative_sd"], color=COLOURS[name], label=LABELS[name])
    axes.set(xscale="log", yscale="log", xlabel="perturbation ε", ylabel="relative s.d. of one estimate")
    axes.set_ylim(None, 30 * np.max(numbers["sd_over_epsilon"]["finite_differences"]))
    axes.legend(loc="upper right", fontsize=6, borderaxespad=0)
    panel_letter(axes, "C")

    axes = averaging_axes
    for name, curve in numbers["averaging"].items():
        axes.plot(curve["passes"], curve["error"], "o-", color=COLOURS[name], label=LABELS[name])
    axes.axhline(numbers["quality"]["smoothed"]["relative_bias"], color=COLOURS["smoothed"], linestyle=":", zorder=0)
    axes.text(2, numbers["quality"]["smoothed"]["relative_bias"] * 0.9, "bias", va="top", fontsize=6)
    axes.set(xscale="log", yscale="log", xlabel="passes through the net", ylabel="relative error of the mean")
    axes.legend(loc="upper right", fontsize=6, borderaxespad=0)
    panel_letter(axes, "D")
    caption(figure, numbers["scale"], "A, grey: all paths, as wide as they are probable")
    return figure


def _draw_quality(axes, quality):
    for row, (name, q) in enumerate(reversed(quality.items())):
        colour = COLOURS[name]
        if q["relative_sd"] > 0:
            axes.plot(q["relative_sd"], row, "o", color=colour, markersize=4)
        if q["relative_bias"] > 3 * q["relative_bias_error"] + 1e-9:
            axes.plot(q["relative_bias"], row, "D", mfc="none", color=colour, markersize=4)
    axes.set_yticks(range(len(quality)), [LABELS[name] for name in reversed(quality)], fontsize=6)
    axes.set(xscale="log", xlabel="relative to the exact gradient (norm)", ylim=(-0.6, len(quality) + 0.6))
    axes.grid(axis="x", linewidth=0.3, color="0.85")
    axes.set_axisbelow(True)
    axes.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", color="0.3", markersize=4, label="s.d. of one estimate"),
            Line2D([], [], marker="D", mfc="none", linestyle="", color="0.3", markersize=4, label="bias (> 3 s.e.)"),
        ],
        loc="upper center",
        ncols=2,
        fontsize=6,
        handletextpad=0.2,
        borderaxespad=0,
    )
    panel_letter(axes, "B")
