"""Figure E1: bias and variance of gradient estimators against depth and steepness (discussed in words in Section 7)."""

import matplotlib.pyplot as plt
import numpy as np

from sgtheory.claims import Claim
from sgtheory.figures._estimator_set import COLOURS, LABELS, estimators
from sgtheory.figures._output import caption, panel_letter
from sgtheory.theory import Quality, random_objective
from sgtheory.theory import measure as quality_of

UNBIASED = ("score_function", "score_function_baseline", "stochad_pruned", "stochad")
MEASURES = {
    "relative_bias": lambda q: q.relative_bias,
    "relative_bias_error": lambda q: float(q.standard_error.norm() / q.gradient.norm()),
    "relative_sd": lambda q: q.relative_sd,
    "sample_cosine": lambda q: q.sample_cosine,
    "cosine": lambda q: q.cosine,
    "sign_agreement": lambda q: q.sign_agreement,
    "sample_sign_agreement": lambda q: q.sample_sign_agreement,
    "cost": lambda q: q.cost,
}


def _table(rows: list[list[dict[str, Quality]]]) -> dict[str, dict[str, np.ndarray]]:
    """rows[condition][net][estimator] -> table[estimator][measure], [condition, net]."""
    return {
        name: {
            key: np.array([[function(qualities[name]) for qualities in nets] for nets in rows])
            for key, function in MEASURES.items()
        }
        for name in rows[0][0]
    }


def measure(
    inputs: int = 4,
    width: int = 3,
    depths: tuple[int, ...] = (0, 1, 2, 3, 4),
    betas: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0),
    depth: int = 2,
    beta: float = 5.0,
    epsilon: float = 0.1,
    temperature: float = 0.5,
    nets: int = 16,
    samples: int = 1000,
    seed: int = 0,
) -> dict:
    """Quality of every estimator on random nets of perceptrons, over the number of hidden layers and over beta.

    Args:
        inputs, width: number of inputs and units per hidden layer; one output unit.
        depths: numbers of hidden layers, at ``beta``.
        betas: steepness of escape noise and surrogate (1 / unit of U), with ``depth`` hidden layers.
        depth, beta: see above.
        epsilon: perturbation of the finite differences (unit of the weights).
        temperature: of the binary concrete relaxation.
        nets: random nets per condition.
        samples: estimates per estimator and net, where the paths are not enumerated.
        seed: of the first net; the others follow.
    """

    def condition(hidden, steepness):
        objectives = [random_objective((inputs, *[width] * hidden, 1), steepness, seed + net) for net in range(nets)]
        chosen = estimators(steepness, epsilon, temperature)
        return [{name: quality_of(e, o, samples, seed) for name, e in chosen.items()} for o in objectives]

    return {
        "scale": f"{nets} random nets a condition, {samples} samples each",
        "depths": depths,
        "betas": betas,
        "depth": depth,
        "beta": beta,
        "nets": nets,
        "samples": samples,
        "over_depth": _table([condition(hidden, beta) for hidden in depths]),
        "over_beta": _table([condition(depth, steepness) for steepness in betas]),
    }


def _quietest(table: dict, equal_cost: bool = False) -> np.ndarray:
    """Share of the nets where the smoothed derivative has a lower s.d. than every unbiased estimate, [condition].

    With ``equal_cost`` the s.d. of the mean of as many estimates as the same number of passes through the net allows.
    """

    def sd(name):
        return table[name]["relative_sd"] * (table[name]["cost"] ** 0.5 if equal_cost else 1)

    return (sd("smoothed") < np.min([sd(name) for name in UNBIASED], axis=0)).mean(axis=1)


def claims(numbers: dict) -> list[Claim]:
    """E1: bias and variance over depth and steepness."""
    depths, betas, depth, beta = (numbers[key] for key in ("depths", "betas", "depth", "beta"))
    nets, samples = numbers["nets"], numbers["samples"]
    tables = depth_table, beta_table = numbers["over_depth"], numbers["over_beta"]
    bias_depth, bias_beta = (np.median(table["smoothed"]["relative_bias"], axis=1) for table in tables)
    # |bias|^2 / |standard error|^2 is 1 on average for an unbiased estimate. Without hidden layers all of them but the
    # score function are exact, and there is no error to compare with.
    excess = np.concatenate(
        [
            (table[name]["relative_bias"][noisy] / table[name]["relative_bias_error"][noisy]) ** 2
            for table in tables
            for name in UNBIASED
            if name != "score_function"
            for noisy in [table[name]["relative_sd"] > 1e-9]
        ]
    )
    enumerated = max(table["score_function"]["relative_bias"].max() for table in tables)
    quiet_depth, quiet_beta = _quietest(depth_table), _quietest(beta_table)
    fair_depth, fair_beta = (_quietest(table, equal_cost=True) for table in tables)
    hidden = [i for i, d in enumerate(depths) if d > 0]
    return [
        Claim(
            "E1.bias",
            "Smoothed stochastic derivatives are unbiased for one layer and biased beyond, more so for steeper neurons",
            f"median |bias| / |gradient|, beta = {beta:g}: "
            + ", ".join(f"{b:.2g} ({d} hidden)" for d, b in zip(depths, bias_depth, strict=True))
            + f"; {depth} hidden layers: "
            + ", ".join(f"{v:.2g} (beta = {b:g})" for b, v in zip(betas, bias_beta, strict=True))
            + f" ({nets} random nets each)",
            "0 without hidden layers (< 1e-12), above 0 with them, growing with beta",
            all((bias < 1e-12) == (d == 0) for d, bias in zip(depths, bias_depth, strict=True))
            and bool(np.all(np.diff(bias_beta) > 0)),
            decides="bias "
            + ", ".join(f"{b:.2g}" for b in bias_depth)
            + f" with {depths[0]} to {depths[-1]} hidden layers",
            choice="random nets of a few perceptrons",
            settles="other nets; spiking ones are in Figure E4",
        ),
        Claim(
            "E1.variance",
            "The path-wise smoothed derivative has a lower variance than every unbiased scheme",
            "share of nets where it has: "
            + ", ".join(f"{100 * quiet_depth[i]:.0f} % ({depths[i]} hidden)" for i in hidden)
            + f" at beta = {beta:g}; "
            + ", ".join(f"{100 * q:.0f} % (beta = {b:g})" for b, q in zip(betas, quiet_beta, strict=True))
            + f" with {depth} hidden layers. At equal cost, in passes through the net: "
            + ", ".join(f"{100 * fair_depth[i]:.0f} %" for i in hidden)
            + "; "
            + ", ".join(f"{100 * q:.0f} %" for q in fair_beta),
            "all nets with hidden layers",
            bool((quiet_depth[hidden] == 1).all() and (quiet_beta == 1).all()),
            decides=f"in {100 * quiet_beta[-1]:.0f} % of the nets at beta = {betas[-1]:g}",
            source="Section 3.2.2, preprint: significantly lower variance than other schemes",
            choice="random nets of a few perceptrons; an estimate counts as one, whatever it costs",
            settles="nets of the size that is trained",
        ),
        Claim(
            "E1.unbiased",
            "Score function and stochastic derivatives without smoothing are unbiased",
            f"stochAD and the baseline: mean of |bias|^2 / |standard error|^2 {excess.mean():.2f} ±"
            f" {excess.std() / len(excess) ** 0.5:.2f} (s.e., {len(excess)} measurements, n = {samples} each); score"
            f" function without baseline: bias at most {enumerated:.0e} (enumerated)",
            "1 within 3 standard errors; 0 up to rounding",
            abs(excess.mean() - 1) < 3 * excess.std() / len(excess) ** 0.5 and enumerated < 1e-9,
            decides=f"squared bias over squared error {excess.mean():.2f}",
            choice="random nets of a few perceptrons",
            settles="nothing: it is an identity",
        ),
    ]


def draw(numbers: dict):
    """Bias, s.d. and cosine of one estimate (columns) over depth and over beta (rows); medians and quartiles over
    nets."""
    figure = plt.figure(figsize=(6.7, 5.2))
    above = figure.subfigures()
    panels = above.subplots(2, 3)
    rows = (
        (numbers["over_depth"], numbers["depths"], f"hidden layers (β = {numbers['beta']:g})"),
        (numbers["over_beta"], numbers["betas"], f"steepness β ({numbers['depth']} hidden layers)"),
    )
    columns = (
        ("relative_bias", "bias / gradient"),
        ("relative_sd", "s.d. of one estimate / gradient"),
        ("sample_cosine", "cosine of one estimate"),
    )
    for row, (table, x, xlabel) in enumerate(rows):
        for column, (key, ylabel) in enumerate(columns):
            axes = panels[row, column]
            for name, measures in table.items():
                value = np.median(measures[key], axis=1)
                if key == "relative_bias":  # what the sampling error explains is not shown
                    value[value < 2 * np.median(measures["relative_bias_error"], axis=1) + 1e-9] = np.nan
                if key == "relative_sd":
                    value[value < 1e-9] = np.nan
                axes.plot(x, value, "o-", color=COLOURS[name], label=LABELS[name], linewidth=1)
                lower, upper = np.where(np.isnan(value), np.nan, np.quantile(measures[key], (0.25, 0.75), axis=1))
                axes.fill_between(x, lower, upper, color=COLOURS[name], alpha=0.12, linewidth=0)
            axes.set(xlabel=xlabel, ylabel=ylabel)
            if key != "sample_cosine":
                axes.set_yscale("log")
            if row == 1:
                axes.set_xscale("log")
            axes.set_xticks(x, [f"{value:g}" for value in x])
            axes.minorticks_off()
            panel_letter(axes, "ABCDEF"[3 * row + column])
    handles, labels = panels[0, 2].get_legend_handles_labels()
    above.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=6.5)
    caption(
        figure,
        numbers["scale"],
        "Median and quartiles over nets; a bias is drawn where it is twice its sampling error",
    )
    return figure
