"""Figure 4: in a differentiable net, the surrogate gradient can point against the true gradient (Section 4.1)."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Circle
from scipy.optimize import brentq

from sgtheory.claims import Claim
from sgtheory.figures._output import panel_letter
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import gradient_field, sigmoid_net

TRUE, SURROGATE, DESCENT, OPPOSITE = "0.35", "#EBB400", "#008CA5", "#B5483A"
SHADES = ("#EBB400", "#9C7500")  # of the surrogate steepnesses in panel B
NAMES = ("w", "v1", "v2", "u1", "u2")


def _output(points, x, beta):
    return sigmoid_net(points, x, SigmoidEscape(beta), SigmoidDerivative(beta))["y"]


def _gradient(points, x, beta, beta_sg):
    """dy / d weights with forward steepness ``beta`` and backward steepness ``beta_sg``, shape of ``points``."""
    return gradient_field(lambda p: sigmoid_net(p, x, SigmoidEscape(beta), SigmoidDerivative(beta_sg))["y"])(points)


def _first_factor(weights, x, beta, beta_sg) -> float:
    """u1 v1 s'(v1 g) + u2 v2 s'(v2 g), the factor of Eq 9 that decides its sign."""
    _, v1, v2, u1, u2 = weights
    g = sigmoid_net(weights, x, SigmoidEscape(beta), SigmoidDerivative(beta))["g"]
    slope = SigmoidDerivative(beta_sg).derivative
    return float(u1 * v1 * slope(v1 * g, None) + u2 * v2 * slope(v2 * g, None))


def _along(weights: torch.Tensor, index: int, values: np.ndarray) -> torch.Tensor:
    """Copies of ``weights`` with one of them set to each of ``values``, [values, 5]."""
    points = weights.repeat(len(values), 1)
    points[:, index] = torch.from_numpy(values)
    return points


def _integral(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Integral from the first x to every x (trapezoidal rule)."""
    return np.concatenate([[0], np.cumsum(0.5 * (values[1:] + values[:-1]) * np.diff(x))])


def _line(weights, x, beta, beta_sg, w) -> dict:
    """Output, surrogate gradient and its integral along w."""
    points = _along(weights, 0, w)
    true, surrogate = (_gradient(points, x, beta, b)[:, 0].numpy() for b in (beta, beta_sg))
    return {
        "beta_sg": beta_sg,
        "output": _output(points, x, beta).numpy(),
        "smoothed_output": _output(points, x, beta_sg).numpy(),
        "integrated_surrogate": _integral(surrogate, w),
        "true_derivative": true,
        "surrogate_derivative": surrogate,
        "opposite_share": float(np.mean(true * surrogate < 0)),
    }


def _landscape(weights, x, beta, beta_sg, v, arrows) -> dict:
    """Output over (v1, v2), and the true and the surrogate direction of descent at ``arrows`` [arrows, 2]."""
    points = weights.repeat(len(v), len(v), 1)
    points[:, :, 1], points[:, :, 2] = torch.from_numpy(v)[None, :], torch.from_numpy(v)[:, None]
    at = weights.repeat(len(arrows), 1)
    at[:, 1:3] = torch.from_numpy(arrows)
    true, surrogate = (-_gradient(at, x, beta, b)[:, 1:3].numpy() for b in (beta, beta_sg))
    return {
        "beta": beta,
        "output": _output(points, x, beta).numpy(),
        "true_descent": true,
        "surrogate_descent": surrogate,
        "cosine": np.sum(true * surrogate, 1) / np.linalg.norm(true, axis=1) / np.linalg.norm(surrogate, axis=1),
    }


def measure(
    weights: tuple[float, ...] = (0.0, 0.05, 0.1, 1.0, -1.0),
    x: float = 1.0,
    beta: float = 100.0,
    beta_sg: float = 25.0,
    line_beta_sgs: tuple[float, ...] = (15.0, 30.0),
    line_range: float = 0.2,
    line_points: int = 2001,
    contour_weights: tuple[float, ...] = (-0.188, 1.7, -1.3, -0.1, 1.0),
    contour_betas: tuple[float, ...] = (2.0, 4.0, 20.0),
    contour_range: float = 2.0,
    contour_points: int = 61,
    random_nets: int = 100_000,
    seed: int = 0,
) -> dict:
    """Output and derivatives of the five-weight net (Eq 7) with a surrogate derivative in the backward pass (Eqs 8, 9).

    Args:
        weights: w, v1, v2, u1, u2 of Table 1.
        x: input.
        beta, beta_sg: forward and backward steepness of Table 1.
        line_beta_sgs: backward steepnesses of panel B.
        line_range, line_points: w from -line_range to line_range.
        contour_weights: the weights of panels D; arrows show the descent at this point and on a grid.
        contour_betas: forward steepnesses of panels D; the first is also the backward steepness of their surrogate.
        contour_range, contour_points: v1 and v2 from -contour_range to contour_range.
        random_nets: nets with normal weights (s.d. 1) in which signs are compared, at steepnesses in the ratio of
            Table 1 and beta_sg 1.
        seed: of their weights.
    """
    table = torch.tensor(weights, dtype=torch.float64)
    w = np.linspace(-line_range, line_range, line_points)
    lines = [_line(table, x, beta, b, w) for b in line_beta_sgs]

    def derivative(backward):
        return float(_gradient(table, x, beta, backward)[0])

    betas = np.geomspace(1, 2 * beta, 200)
    factors = np.array([_first_factor(table, x, beta, b) / b for b in betas])
    crossings = [
        float(brentq(derivative, betas[k], betas[k + 1])) for k in np.flatnonzero(factors[1:] * factors[:-1] < 0)
    ]
    step = torch.tensor([1e-6, 0, 0, 0, 0], dtype=torch.float64)
    difference = float(_output(table + step, x, beta) - _output(table - step, x, beta)) / 2e-6
    true, surrogate = derivative(beta), derivative(beta_sg)

    point = torch.tensor(contour_weights, dtype=torch.float64)
    v = np.linspace(-contour_range, contour_range, contour_points)
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-0.75, 0.75, 4) * contour_range]), axis=-1).reshape(-1, 2)
    arrows = np.concatenate([grid, [contour_weights[1:3]]])
    landscapes = [_landscape(point, x, b, contour_betas[0], v, arrows) for b in contour_betas]

    potential = torch.linspace(-6 / beta_sg, 6 / beta_sg, 201, dtype=torch.float64)
    activation = {"forward": SigmoidEscape(beta).value(potential), "backward": SigmoidEscape(beta_sg).value(potential)}

    rng = torch.Generator().manual_seed(seed)
    nets = torch.randn(random_nets, 5, generator=rng, dtype=torch.float64)
    opposite = _gradient(nets, x, beta / beta_sg, beta / beta_sg) * _gradient(nets, x, beta / beta_sg, 1.0) < 0
    share = dict(zip(NAMES, opposite.double().mean(0).tolist(), strict=True))
    return {
        "scale": f"exact; {random_nets} random nets",
        "weights": dict(zip(NAMES, weights, strict=True)) | {"x": x},
        "beta": beta,
        "beta_sg": beta_sg,
        "activation": {"potential": potential} | activation,
        "w": w,
        "lines": lines,
        "true_derivative": true,
        "central_difference": difference,
        "surrogate_derivative": surrogate,
        "betas": betas,
        "first_factor_over_beta": factors,
        "sign_changes_at_beta_sg": crossings,
        "contour_weights": contour_weights,
        "arrows": arrows,
        "contour_beta_sg": contour_betas[0],
        "v": v,
        "landscapes": landscapes,
        "opposite_signs_in_random_nets": share,
        "random_nets": random_nets,
    }


def claims(numbers: dict) -> list[Claim]:
    """C6: surrogate and true gradient can point in opposite directions."""
    true, surrogate, difference = (
        numbers[key] for key in ("true_derivative", "surrogate_derivative", "central_difference")
    )
    crossings, share = numbers["sign_changes_at_beta_sg"], numbers["opposite_signs_in_random_nets"]
    elsewhere, random_nets = max(share[name] for name in NAMES[1:]), numbers["random_nets"]
    return [
        Claim(
            "C6",
            "The surrogate gradient can have the opposite sign of the true gradient (Table 1)",
            f"dy/dw = {true:+.4f} (central difference {difference:+.4f}), with surrogate {surrogate:+.4f}; opposite for"
            f" beta_SG below {', '.join(f'{b:.1f}' for b in crossings)}. Of {random_nets} random nets,"
            f" {100 * share['w']:.1f} % have opposite signs in w, {100 * elsewhere:.1f} % in any weight with a single"
            " path to the output",
            "opposite signs",
            true * surrogate < 0 and abs(true - difference) < 1e-5 * abs(true),
        )
    ]


def draw(numbers: dict):
    """Net and activation; output and derivative along w; the sign over beta_SG; landscapes with descent directions."""
    figure = plt.figure(figsize=(6.7, 5.0))
    rows = figure.add_gridspec(2, 1, height_ratios=(1.25, 1))
    top = rows[0].subgridspec(2, 3, width_ratios=(1, 1.15, 1.15), height_ratios=(1.3, 1))
    _draw_net(figure.add_subplot(top[0, 0]), numbers)
    _draw_activation(figure.add_subplot(top[1, 0]), numbers)
    for k, line in enumerate(numbers["lines"]):
        upper, lower = figure.add_subplot(top[0, k + 1]), figure.add_subplot(top[1, k + 1])
        _draw_line(upper, lower, numbers, line, SHADES[k % len(SHADES)])
        if k == 0:
            panel_letter(upper, "B")
            upper.set_ylabel("output y, scaled")
            lower.set_ylabel("∂y/∂w, scaled")
    bottom = rows[1].subgridspec(
        1, 1 + len(numbers["landscapes"]), width_ratios=(1.25, *(1 for _ in numbers["landscapes"]))
    )
    _draw_sign(figure.add_subplot(bottom[0]), numbers)
    for k, landscape in enumerate(numbers["landscapes"]):
        axes = figure.add_subplot(bottom[k + 1])
        _draw_landscape(axes, numbers, landscape)
        if k == 0:
            panel_letter(axes, "D")
            axes.set_ylabel("$v_2$", labelpad=-2)
        else:
            axes.set_yticklabels([])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def _draw_net(axes, numbers):
    axes.set(xlim=(-0.6, 7.4), ylim=(-2.1, 2.3), aspect="equal")
    axes.axis("off")
    units = {"x": (0, 0), "g": (2.4, 0), "h_1": (4.6, 1.3), "h_2": (4.6, -1.3), "y": (6.8, 0)}
    edges = {  # from, to, position of the label
        "w": ("x", "g", (1.2, 0.4), "center"),
        "v_1": ("g", "h_1", (3.3, 1.1), "right"),
        "v_2": ("g", "h_2", (3.3, -1.1), "right"),
        "u_1": ("h_1", "y", (5.9, 1.1), "left"),
        "u_2": ("h_2", "y", (5.9, -1.1), "left"),
    }
    for unit, centre in units.items():
        axes.add_patch(Circle(centre, 0.5, fill=unit != "x", facecolor="#FBEFC4", edgecolor="0.3", linewidth=0.8))
        axes.text(*centre, f"${unit}$", ha="center", va="center", fontsize=8)
    for weight, (start, end, position, align) in edges.items():
        arrow = {"arrowstyle": "->", "lw": 0.9, "color": "0.3", "shrinkA": 8, "shrinkB": 8}
        axes.annotate("", units[end], units[start], arrowprops=arrow)
        value = numbers["weights"][weight.replace("_", "")]
        axes.text(*position, f"${weight} = {value:g}$", ha=align, va="center", fontsize=6)
    panel_letter(axes, "A")


def _draw_activation(axes, numbers):
    activation = numbers["activation"]
    for key, beta, colour in (("forward", numbers["beta"], TRUE), ("backward", numbers["beta_sg"], SURROGATE)):
        axes.plot(activation["potential"], activation[key], color=colour, label=f"{key}, β = {beta:g}")
    axes.set(xlabel="potential", ylabel="activation", ylim=(-0.05, 1.55), yticks=[0, 1])
    axes.legend(loc="upper left", fontsize=6, borderaxespad=0.1)


def _draw_line(upper, lower, numbers, line, colour):
    w = numbers["w"]
    curves = (
        ("output", TRUE, "-", f"output, β = {numbers['beta']:g}"),
        ("smoothed_output", colour, "--", f"output, β = {line['beta_sg']:g}"),
        ("integrated_surrogate", colour, "-", "integrated surrogate"),
    )
    for key, c, style, label in curves:
        y = np.asarray(line[key])
        upper.plot(w, (y - y.min()) / np.ptp(y), style, color=c, label=label)
        upper.plot(w[y.argmin()], -0.1, "^", color=c, mfc="none" if style == "--" else c, clip_on=False)
    for key, c in (("true_derivative", TRUE), ("surrogate_derivative", colour)):
        y = np.asarray(line[key])
        lower.plot(w, y / np.abs(y).max(), color=c)
    opposite = np.asarray(line["true_derivative"]) * np.asarray(line["surrogate_derivative"]) < 0
    lower.fill_between(w, -1.05, 1.05, where=opposite, color=OPPOSITE, alpha=0.12, linewidth=0)
    lower.axhline(0, color="0.7", linewidth=0.6)
    upper.set(xticklabels=[], yticks=[0, 1], ylim=(-0.16, 1.75))
    upper.set_title(f"$β_{{SG}}$ = {line['beta_sg']:g}")
    upper.legend(loc="upper left", fontsize=6, borderaxespad=0.1)
    lower.set(xlabel="w", yticks=[-1, 0, 1], ylim=(-1.1, 1.1))


def _draw_sign(axes, numbers):
    betas, values = np.asarray(numbers["betas"]), 1e3 * np.asarray(numbers["first_factor_over_beta"])
    axes.plot(betas, values, color=SURROGATE)
    axes.fill_between(betas, values, 0, where=values < 0, color=OPPOSITE, alpha=0.12, linewidth=0)
    axes.axhline(0, color="0.7", linewidth=0.6)
    for beta, colour, label in ((numbers["beta"], TRUE, "true, β"), (numbers["beta_sg"], SURROGATE, "$β_{SG}$")):
        axes.plot(beta, np.interp(beta, betas, values), "o", color=colour, label=f"{label} = {beta:g}", markersize=4)
    axes.set(xscale="log", xlabel="$β_{SG}$", ylabel="first factor of Eq 9 / $β_{SG}$  (10$^{-3}$)")
    axes.set_ylim(top=7.5)
    axes.legend(loc="upper left", fontsize=6, borderaxespad=0.1)
    panel_letter(axes, "C")


def _draw_landscape(axes, numbers, landscape):
    v, at = np.asarray(numbers["v"]), np.asarray(numbers["arrows"])
    axes.contourf(v, v, landscape["output"], 20, cmap="Greys_r", alpha=0.6)
    axes.contour(v, v, landscape["output"], 10, colors="0.3", linewidths=0.3)
    for key, colour, width, label in (
        ("surrogate_descent", SURROGATE, 0.016, f"surrogate, $β_{{SG}}$ = {numbers['contour_beta_sg']:g}"),
        ("true_descent", DESCENT, 0.008, "true"),
    ):
        descent = np.asarray(landscape[key])
        descent = 0.5 * descent / np.linalg.norm(descent, axis=1).max()
        axes.quiver(
            *at.T,
            *descent.T,
            color=colour,
            width=width,
            angles="xy",
            scale_units="xy",
            scale=1,
            label=label,
            headwidth=3,
            headlength=3.5,
        )
    axes.plot(*at.T, "o", color="k", markersize=0.8)
    axes.plot(*at[-1], "o", color="k", markersize=2.5)
    axes.set(xlabel="$v_1$", aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    axes.set_title(f"β = {landscape['beta']:g}")
