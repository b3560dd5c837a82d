"""Figure 2: the chain rule over expectations is not the derivative of the expectation (Section 3.2.1)."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Circle

from sgtheory.claims import Claim
from sgtheory.figures._output import caption, panel_letter
from sgtheory.theory import StochAD, chain_rule_derivatives, perceptron_chain

EXACT, PRODUCT, FACTORS, RATES = "k", "#EBB400", "#B5483A", "#6B4C9A"
PRODUCT_DARK = "#9C7500"
LOCAL = (r"\partial h_1/\partial w", r"\partial h_2/\partial h_1", r"\partial y/\partial h_2")
LINES = {
    "exact": (EXACT, "-", "d/dw E[y]"),
    "expected_product": (PRODUCT, "-", "E[ product of local derivatives ]"),
    "product_of_expectations": (FACTORS, "--", "product of E[ local derivative ]"),
    "rates": (RATES, ":", "chain rule on E[h] in place of h"),
}


def _table(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def measure(
    beta: float = 5.0,
    v: float = 1.3,
    u: float = 1.1,
    w_max: float = 2.0,
    points: int = 61,
    beta_max: float = 20.0,
    samples: int = 20_000,
    seed: int = 0,
) -> dict:
    """The derivative of E[y] with respect to w in the net x -w-> h1 -v-> h2 -u-> y, and what the chain rule gives.

    Args:
        beta: steepness of the escape noise (1 / unit of U).
        v, u: weights of the second hidden unit and of the output.
        w_max, points: w runs from 0 to w_max.
        beta_max: upper end of the steepness in panel D, at w in the middle of its range.
        samples: runs of the net per Monte Carlo point.
        seed: of these runs.
    """
    ws, betas = np.linspace(0, w_max, points), np.geomspace(0.5, beta_max, points)
    derivatives = _table([chain_rule_derivatives(perceptron_chain(w, v, u, beta)) for w in ws])
    over_beta = _table([chain_rule_derivatives(perceptron_chain(w_max / 2, v, u, b)) for b in betas])

    rng = torch.Generator().manual_seed(seed)
    sampled = {"w": ws[3 :: points // 9], "mean": [], "error": [], "derivative": [], "derivative_error": []}
    for w in sampled["w"]:
        objective = perceptron_chain(w, v, u, beta)
        y = objective.output(objective.sample_paths(samples, rng)[-1])
        d = StochAD(prune=False).sample(objective, samples, rng)[:, 0]
        for key, value in (("mean", y), ("derivative", d)):
            sampled[key].append(float(value.mean()))
            sampled["error" if key == "mean" else "derivative_error"].append(float(value.std() / samples**0.5))

    step = 1e-4
    expectation = np.array([float(perceptron_chain(w, v, u, beta).expectation()) for w in ws])
    differences = [
        float(
            perceptron_chain(w + step, v, u, beta).expectation() - perceptron_chain(w - step, v, u, beta).expectation()
        )
        / (2 * step)
        for w in ws
    ]
    check = float(np.abs(derivatives["exact"] - differences).max())
    scale = np.abs(derivatives["exact"]).max()

    def gap(key, reference="exact"):
        return float(np.abs(derivatives[key] - derivatives[reference]).max() / scale)

    gaps = {key: gap(key) for key in LINES if key != "exact"}
    gaps["expected_product_to_product_of_expectations"] = gap("expected_product", "product_of_expectations")
    return {
        "scale": f"enumerated at {points} weights; {samples} runs of the net at each sampled one",
        "beta": beta,
        "v": v,
        "u": u,
        "w": ws,
        "expectation": expectation,
        "derivatives": derivatives,
        "sampled": sampled,
        "betas": betas,
        "over_beta": over_beta,
        "w_over_beta": w_max / 2,
        "relative_gaps": gaps,
        "difference_to_central_differences": check,
        "samples": samples,
    }


def claims(numbers: dict) -> list[Claim]:
    """C2: neither chain rule gives the derivative of the expectation."""
    gaps, check, sampled = numbers["relative_gaps"], numbers["difference_to_central_differences"], numbers["sampled"]
    exact = np.interp(sampled["w"], numbers["w"], numbers["derivatives"]["exact"])
    z = np.abs(np.asarray(sampled["derivative"]) - exact) / np.maximum(sampled["derivative_error"], 1e-12)
    samples = numbers["samples"]
    return [
        Claim(
            "C2",
            "Two hidden layers: the chain rule over expectations is not the derivative of the expectation, and the"
            " expectation of a product is not the product of the expectations",
            f"largest distance over w, relative to the largest derivative: expected product to d/dw E[y]"
            f" {100 * gaps['expected_product']:.0f} %, product of expectations to d/dw E[y]"
            f" {100 * gaps['product_of_expectations']:.0f} %, expected product to product of expectations"
            f" {100 * gaps['expected_product_to_product_of_expectations']:.0f} %. All enumerated; exact derivative"
            f" checked by central differences to {check:.0e}, by unbiased stochAD to |z| <= {z.max():.1f} (n ="
            f" {samples}, {len(z)} points)",
            "every distance above 1 %",
            min(gaps.values()) > 0.01 and check < 1e-6 and float(z.max()) < 4,
            decides=f"{100 * gaps['expected_product']:.0f} % and {100 * gaps['product_of_expectations']:.0f} % off",
            source="Section 3.2.1, preprint",
            choice="one net; what counts as different",
            settles="nothing: one example proves it",
        )
    ]


def draw(numbers: dict):
    """Three computation graphs; E[y]; its derivative and three chain rules; the same over beta."""
    figure = plt.figure(figsize=(6.9, 4.6))
    above = figure.subfigures()
    grid = above.add_gridspec(2, 3, height_ratios=(1, 1.25))
    for column, (title, draw_graph) in enumerate(GRAPHS.items()):
        axes = above.add_subplot(grid[0, column])
        axes.set(xlim=(-0.7, 6.7), ylim=(-2.9, 2.0), aspect="equal", title=title)
        axes.axis("off")
        draw_graph(axes)
        if column == 0:
            panel_letter(axes, "A")
    w, sampled = numbers["w"], numbers["sampled"]
    axes = above.add_subplot(grid[1, 0])
    axes.plot(w, numbers["expectation"], color=EXACT, label="exact, all spike patterns")
    axes.errorbar(
        sampled["w"], sampled["mean"], 1.96 * np.array(sampled["error"]), fmt="o", color="0.5", label="sampled, 95 %"
    )
    axes.set(xlabel="weight w", ylabel="expected output E[y]", ylim=(-0.02, 0.65))
    axes.legend(loc="upper left", fontsize=6)
    panel_letter(axes, "B")

    axes = above.add_subplot(grid[1, 1])
    for key, (colour, style, label) in LINES.items():
        axes.plot(w, numbers["derivatives"][key], style, color=colour, label=label)
    error = 1.96 * np.array(sampled["derivative_error"])
    axes.errorbar(sampled["w"], sampled["derivative"], error, fmt="o", color="0.5", label="unbiased stochAD, 95 %")
    axes.set(xlabel="weight w", ylabel="derivative with respect to w")
    panel_letter(axes, "C")
    above.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)

    axes = above.add_subplot(grid[1, 2])
    exact = np.asarray(numbers["over_beta"]["exact"])
    for key, (colour, style, _) in LINES.items():
        axes.plot(numbers["betas"], np.asarray(numbers["over_beta"][key]) / exact, style, color=colour)
    axes.axvline(numbers["beta"], color="0.6", linewidth=0.6, linestyle=":")
    axes.set(xlabel="steepness β", ylabel="ratio to d/dw E[y]", xscale="log")
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    panel_letter(axes, "D")
    caption(figure, numbers["scale"], "D, dotted: β of B and C")
    return figure


def _unit(axes, x, y, label, stochastic=False):
    colour = "#FBEFC4" if stochastic else "white"
    axes.add_patch(Circle((x, y), 0.45, facecolor=colour, edgecolor="0.3", linewidth=0.8))
    axes.text(x, y, f"${label}$", ha="center", va="center", fontsize=7.5)


def _arrow(axes, start, end, label="", colour="0.3", above=True, **style):
    arrow = {"arrowstyle": "->", "lw": 0.9, "color": colour, "shrinkA": 7, "shrinkB": 7} | style
    axes.annotate("", end, start, arrowprops=arrow)
    (x1, y1), (x2, y2) = start, end
    y = (y1 + y2) / 2 + (0.2 if above else -0.65)
    axes.text((x1 + x2) / 2, y, label, ha="center", va="bottom" if above else "top", fontsize=6.5, color=colour)


def _draw_differentiable(axes):
    """A net of differentiable units: values go forward, derivatives back along the same edges."""
    for k, unit in enumerate(("x", "h_1", "h_2", "y")):
        _unit(axes, 2 * k, 0.6, unit)
    for k, (weight, derivative) in enumerate(zip("wvu", LOCAL, strict=True)):
        _arrow(axes, (2 * k, 0.6), (2 * k + 2, 0.6), f"${weight}$")
        back = {"connectionstyle": "arc3,rad=-0.35"}
        _arrow(axes, (2 * k + 2, 0.45), (2 * k, 0.45), f"${derivative}$", PRODUCT_DARK, above=False, **back)
    chain = r"\frac{\partial y}{\partial h_2}\frac{\partial h_2}{\partial h_1}\frac{\partial h_1}{\partial w}"
    axes.text(3, -2.1, rf"$\frac{{dy}}{{dw}}={chain}$", ha="center", fontsize=9)


def _draw_stochastic(axes, back=False):
    """Firing probabilities below, spikes that are drawn with them above."""
    _unit(axes, 0, 1.1, "x")
    for k, (unit, p, weight) in enumerate(zip(("h_1", "h_2", "y"), ("p_1", "p_2", "p_y"), "wvu", strict=True), start=1):
        _unit(axes, 2 * k, 1.1, unit, stochastic=True)
        _unit(axes, 2 * k, -0.7, p)
        _arrow(axes, (2 * k - 2, 1.1), (2 * k, -0.7), f"${weight}$")
        _arrow(axes, (2 * k, -0.7), (2 * k, 1.1), linestyle=(0, (2, 1.5)))
        axes.text(2 * k + 0.15, 0.2, r"$\sim$", fontsize=8, va="center")
        if not back:
            axes.plot(2 * k - 0.3, 0.2, "x", color=FACTORS, markersize=5, markeredgewidth=1.4)
    if not back:
        text = r"$\frac{d}{dw}E[y]\neq\frac{dE[y]}{dE[h_2]}\frac{dE[h_2]}{dE[h_1]}\frac{dE[h_1]}{dw}$"
        axes.text(3, -2.5, text, ha="center", fontsize=9)


def _draw_factors(axes):
    """Local derivatives of probabilities on one path: each depends on the spikes before it."""
    _draw_stochastic(axes, back=True)
    for k in (3, 2):
        back = {"connectionstyle": "arc3,rad=-0.25"}
        _arrow(axes, (2 * k - 0.1, -0.9), (2 * k - 2, -0.9), colour=PRODUCT_DARK, **back)
    axes.text(
        3,
        -2.0,
        r"$E\left[\frac{\partial p_y}{\partial h_2}\frac{\partial p_2}{\partial h_1}\right]\neq "
        r"E\left[\frac{\partial p_y}{\partial h_2}\right]E\left[\frac{\partial p_2}{\partial h_1}\right]$",
        ha="center",
        va="top",
        fontsize=9,
    )


GRAPHS = {
    "differentiable units": _draw_differentiable,
    "drawn spikes: no derivative": _draw_stochastic,
    "factors share the spikes": _draw_factors,
}
