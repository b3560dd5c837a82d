"""Figure 4: in a differentiable net, the surrogate gradient can point against the true gradient (Section 4.1)."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import brentq

from sgtheory.claims import Claim
from sgtheory.errors import ParameterError
from sgtheory.figures._output import caption, panel_letter
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import gradient_field, sigmoid_net

VANISHING, PRESENT = 1e-6, 1e-4  # norm of a gradient in (v1, v2)
FINE = 800  # steps of the integrals over v1 and v2
LOWERED = 0.01
FAR = 0.01  # in w
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


def _end_points(derivative: Callable[[np.ndarray], np.ndarray], w: np.ndarray) -> list[float]:
    """Where descent along ``w`` ends: the derivative turns from negative to positive, or the range is over."""
    values = derivative(w)
    turns = np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))
    inner = [float(brentq(lambda each: derivative(np.array([each]))[0], w[k], w[k + 1])) for k in turns]
    return [float(w[0])] * int(values[0] > 0) + inner + [float(w[-1])] * int(values[-1] < 0)


def _line(weights, x, beta, beta_sg, w) -> dict:
    """Output, surrogate gradient and its integral along w, and where descent with each gradient ends."""
    points = _along(weights, 0, w)
    output = _output(points, x, beta).numpy()

    def derivative(forward, backward):
        return lambda values: _gradient(_along(weights, 0, values), x, forward, backward)[:, 0].numpy()

    derivatives = {
        "true": derivative(beta, beta),
        "surrogate": derivative(beta, beta_sg),
        "smoothed": derivative(beta_sg, beta_sg),
    }
    ends = {}
    for name, each in derivatives.items():
        at = np.array(_end_points(each, w))
        above = _output(_along(weights, 0, at), x, beta).numpy() - output.min()
        ends[name] = {"w": at, "above_minimum": above / np.ptp(output)}
    true, surrogate = derivatives["true"](w), derivatives["surrogate"](w)
    return {
        "beta_sg": beta_sg,
        "output": output,
        "smoothed_output": _output(points, x, beta_sg).numpy(),
        "integrated_surrogate": cumulative_trapezoid(surrogate, w, initial=0),
        "true_derivative": true,
        "surrogate_derivative": surrogate,
        "opposite_share": float(np.mean(true * surrogate < 0)),
        "descent_ends": ends,
    }


def _plane(weights, v) -> torch.Tensor:
    """Copies of ``weights`` with every pair of ``v`` as v1 and v2, [v2, v1, 5]."""
    points = weights.repeat(len(v), len(v), 1)
    points[..., 1], points[..., 2] = torch.from_numpy(v)[None, :], torch.from_numpy(v)[:, None]
    return points


def _map(weights, x, beta, beta_sg, v) -> dict:
    """Gradient at ``weights``, and its integral over (v1, v2) from the lower left corner in both orders [v2, v1]."""
    between = -(-FINE // (len(v) - 1))  # the transitions are narrower than the distance of two points of the map
    fine = np.linspace(v[0], v[-1], between * (len(v) - 1) + 1)
    field = _gradient(_plane(weights, fine), x, beta, beta_sg).numpy()
    along_v1 = cumulative_trapezoid(field[..., 1], fine, axis=1, initial=0)
    along_v2 = cumulative_trapezoid(field[..., 2], fine, axis=0, initial=0)
    return {
        "beta_sg": beta_sg,
        "v1_first": (along_v1[:1] + along_v2)[::between, ::between],
        "v2_first": (along_v2[:, :1] + along_v1)[::between, ::between],
        "gradient": _gradient(weights, x, beta, beta_sg)[1:3].numpy(),
    }


def _descent(weights, x, beta, beta_sg, v, rate, steps) -> dict:
    """Descent in v1 and v2 from where the true gradient vanishes and the surrogate gradient does not."""
    points = _plane(weights, v)
    true, surrogate = (_gradient(points, x, beta, b)[..., 1:3] for b in (beta, beta_sg))
    vanishing = (true.norm(dim=-1) < VANISHING) & (surrogate.norm(dim=-1) > PRESENT)
    output = _output(points, x, beta)
    starts, before, lowest = points[vanishing], output[vanishing], output.min()
    enough = LOWERED * (output.max() - lowest)
    room = before - lowest > enough  # elsewhere the output is at its minimum already
    lowered, of_itself = {}, {}
    for name, b in (("true", beta), ("surrogate", beta_sg)):
        at = starts.clone()
        for _ in range(steps):
            at[:, 1:3] -= rate * _gradient(at, x, beta, b)[:, 1:3]
        after = _output(at, x, beta)
        lowered[name] = float((before - after > enough)[room].double().mean())
        of_itself[name] = float((after < (1 - LOWERED) * before).double().mean())
    return {
        "beta_sg": beta_sg,
        "starts": len(starts),
        "share_of_map": float(vanishing.double().mean()),
        "opposite_share": float((true * surrogate < 0).any(-1).double().mean()),
        "room_share": float(room.double().mean()),
        "lowered": lowered,
        "lowered_of_itself": of_itself,
    }


def measure(
    weights: tuple[float, ...] = (0.0, 0.05, 0.1, 1.0, -1.0),
    x: float = 1.0,
    beta: float = 100.0,
    beta_sg: float = 25.0,
    line_beta_sgs: tuple[float, ...] = (15.0, 30.0),
    line_range: float = 0.2,
    line_points: int = 2001,
    map_weights: tuple[float, ...] = (1.0, 1.7, -1.3, 1.0, -1.0),
    map_beta: float = 20.0,
    map_beta_sgs: tuple[float, ...] = (2.0, 4.0, 20.0),
    map_range: float = 2.0,
    map_points: int = 61,
    descent_rate: float = 50.0,
    descent_steps: int = 200,
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
        map_weights: the weights of panels D; their v1 and v2 are where the arrow begins.
        map_beta, map_beta_sgs: forward and backward steepnesses of panels D.
        map_range, map_points: v1 and v2 from -map_range to map_range.
        descent_rate, descent_steps: of plain gradient descent in v1 and v2; the arrow is one step.
        random_nets: nets with normal weights (s.d. 1) in which signs are compared, at steepnesses in the ratio of
            Table 1 and beta_sg 1.
        seed: of their weights.

    Raises:
        ParameterError: if there are not five weights.
    """
    for name, given in {"weights": weights, "map_weights": map_weights}.items():
        if len(given) != 5:
            raise ParameterError(name, list(given), "must be five numbers: w, v1, v2, u1, u2")
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

    point = torch.tensor(map_weights, dtype=torch.float64)
    v = np.linspace(-map_range, map_range, map_points)
    maps = [_map(point, x, map_beta, b, v) for b in map_beta_sgs]
    descents = [_descent(point, x, map_beta, b, v, descent_rate, descent_steps) for b in map_beta_sgs if b != map_beta]
    output = _output(_plane(point, v), x, map_beta).numpy()

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
        "map_weights": map_weights,
        "map_beta": map_beta,
        "v": v,
        "maps": maps,
        "map_output": output,
        "vanishing": (_gradient(_plane(point, v), x, map_beta, map_beta)[..., 1:3].norm(dim=-1) < VANISHING).numpy(),
        "map_true_gradient": _gradient(point, x, map_beta, map_beta)[1:3].numpy(),
        "descents": descents,
        "descent_rate": descent_rate,
        "descent_steps": descent_steps,
        "opposite_signs_in_random_nets": share,
        "random_nets": random_nets,
    }


def claims(numbers: dict) -> list[Claim]:
    """C6: surrogate and true gradient can point in opposite directions; where surrogate gradients lead."""
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
            decides=f"dy/dw {true:+.2f}, with surrogate {surrogate:+.2f}",
            source="Section 4.1, Table 1 and Figure 4 B, preprint",
            choice="nothing: the values of Table 1",
            settles="nothing: one example proves it",
        ),
        *([_descent_claim(numbers)] if numbers["descents"] else []),
        _minima_claim(numbers),
    ]


def _descent_claim(numbers: dict) -> Claim:
    found = numbers["descents"]

    def percent(values):
        return f"{100 * values['surrogate']:.0f} % (true gradient: {100 * values['true']:.0f} %)"

    words = "; ".join(
        f"β_SG {d['beta_sg']:g}: the true gradient vanishes on {100 * d['share_of_map']:.0f} % of the map; in"
        f" {100 * d['room_share']:.0f} % of these {d['starts']} starts y can fall by {100 * LOWERED:g} % of its range,"
        f" and does in {percent(d['lowered'])} of them; it falls by {100 * LOWERED:g} % of itself in"
        f" {percent(d['lowered_of_itself'])} of all"
        for d in found
    )
    opposite = max(d["opposite_share"] for d in found)
    return Claim(
        "C6.descent",
        "The surrogate gradient gives a direction of descent where the true gradient vanishes",
        f"{words}. Signs of a component differ on {100 * opposite:.0f} % of the map",
        "y falls in at least 95 % of the starts where it can, with the true gradient in none",
        all(d["starts"] and d["lowered"]["surrogate"] >= 0.95 and d["lowered"]["true"] == 0 for d in found),
        qualification="its components have the signs of the true gradient here, where every weight has a single path to"
        " the output; what it adds is length",
        decides="y falls in "
        + ", ".join(f"{100 * d['lowered']['surrogate']:.0f} % (β_SG {d['beta_sg']:g})" for d in found)
        + " of the starts where it can, with the true gradient in "
        + ", ".join(f"{100 * d['lowered']['true']:.0f} %" for d in found),
        settles="a net in which weights have several paths to the output",
        source="Figure 4 D; Section 7: learning is possible because the gradient is biased; preprint",
        choice=f"vanishing: |true| < {VANISHING:g} and |surrogate| > {PRESENT:g}; {numbers['descent_steps']} steps of"
        f" plain descent in v1 and v2 at rate {numbers['descent_rate']:g}, β = {numbers['map_beta']:g}",
    )


def _minima_claim(numbers: dict) -> Claim:
    def ends(line, name):
        found = line["descent_ends"][name]
        return ", ".join(
            f"{w:+.4f}{' (edge)' * (w in (numbers['w'][0], numbers['w'][-1]))}"
            + (f" with y {100 * y:.3g} % of its range above the minimum" if name == "surrogate" else "")
            for w, y in zip(found["w"], found["above_minimum"], strict=True)
        )

    lines, true = numbers["lines"], np.asarray(numbers["lines"][0]["descent_ends"]["true"]["w"])
    distances = [np.abs(np.asarray(line["descent_ends"]["surrogate"]["w"])[:, None] - true).min() for line in lines]
    return Claim(
        "C6.minima",
        "Following the surrogate gradient does not necessarily find a minimum of the output",
        f"descent in w ends at {ends(lines[0], 'true')} with the true gradient; "
        + "; ".join(
            f"β_SG {line['beta_sg']:g}: at {ends(line, 'surrogate')}; the net with β = β_SG in both passes at"
            f" {ends(line, 'smoothed')}"
            for line in lines
        ),
        f"no end closer to a minimum than {FAR:g} in w",
        bool(min(distances) > FAR),
        decides=f"ends at least {min(distances):.2g} in w from the minimum",
        settles="nothing: one example proves it",
        source="Section 4.1, preprint: will not necessarily find a minimum of the loss",
        choice=f"w alone moves, from {numbers['w'][0]:g} to {numbers['w'][-1]:g}; what counts as far",
    )


def draw(numbers: dict):
    """Net and activation; output and derivative along w; the sign over beta_SG; landscapes with descent directions."""
    figure = plt.figure(figsize=(6.7, 6.3))
    above = figure.subfigures()
    rows = above.add_gridspec(2, 1, height_ratios=(1, 1.15))
    top = rows[0].subgridspec(2, 3, width_ratios=(1, 1.15, 1.15), height_ratios=(1.3, 1))
    _draw_net(above.add_subplot(top[0, 0]), numbers)
    _draw_activation(above.add_subplot(top[1, 0]), numbers)
    for k, line in enumerate(numbers["lines"]):
        upper, lower = above.add_subplot(top[0, k + 1]), above.add_subplot(top[1, k + 1])
        _draw_line(upper, lower, numbers, line, SHADES[k % len(SHADES)])
        if k == 0:
            panel_letter(upper, "B")
            upper.set_ylabel("output y, scaled")
            lower.set_ylabel("∂y/∂w, scaled")
    bottom = rows[1].subgridspec(1, 2, width_ratios=(1.25, len(numbers["maps"])))
    _draw_sign(above.add_subplot(bottom[0]), numbers)
    panels = bottom[1].subgridspec(2, len(numbers["maps"])).subplots(sharex=True, sharey=True, squeeze=False)
    for row, order in zip(panels, ("v1_first", "v2_first"), strict=True):
        for axes, each in zip(row, numbers["maps"], strict=True):
            _draw_map(axes, numbers, each, order)
        row[0].set_ylabel(f"{'first $v_1$' if order == 'v1_first' else 'first $v_2$'}\n$v_2$", labelpad=-2)
    for axes, each in zip(panels[0], numbers["maps"], strict=True):
        axes.set_title(f"$β_{{SG}}$ = {each['beta_sg']:g}" + " = β" * (each["beta_sg"] == numbers["map_beta"]))
    for axes in panels[-1]:
        axes.set_xlabel("$v_1$")
    panel_letter(panels[0, 0], "D")
    handles = [
        Line2D([], [], color=SURROGATE, linewidth=2, label=f"-{numbers['descent_rate']:g} x surrogate gradient"),
        Line2D([], [], color="k", marker="o", linestyle="", markersize=4, label="true gradient: none"),
        Line2D([], [], color=DESCENT, linewidth=1, label=f"|true gradient| = {VANISHING:g}"),
    ]
    above.legend(handles=handles, loc="outside lower right", ncols=3)
    caption(
        figure,
        numbers["scale"],
        "B, triangles: minima of the curves; B, C, shaded: surrogate and true derivative have opposite signs",
        "D: surrogate gradient, integrated along one weight and then the other, from low (dark) to high",
    )
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


def _draw_map(axes, numbers, each, order):
    v, integrated = np.asarray(numbers["v"]), np.asarray(each[order])
    scaled = (integrated - integrated.min()) / np.ptp(integrated)
    axes.contourf(v, v, scaled, np.linspace(0, 1, 21), cmap="Greys_r", alpha=0.7)
    axes.contour(v, v, scaled, np.linspace(0.1, 0.9, 5), colors="0.2", linewidths=0.4)
    axes.contour(v, v, numbers["vanishing"], [0.5], colors=DESCENT, linewidths=0.9)
    at, step = np.asarray(numbers["map_weights"][1:3]), -numbers["descent_rate"] * np.asarray(each["gradient"])
    if each["beta_sg"] == numbers["map_beta"]:
        axes.plot(*at, "ko", markersize=4)
    else:
        arrow = {"arrowstyle": "-|>", "color": SURROGATE, "lw": 1.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
        axes.annotate("", at + step, at, arrowprops=arrow, annotation_clip=False)
        axes.plot(*at, "o", color=SURROGATE, markersize=2.5)
    limit = v[-1]
    axes.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit), xticks=[-2, 0, 2], yticks=[-2, 0, 2])
