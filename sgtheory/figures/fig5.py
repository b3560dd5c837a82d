"""Figure 5: the surrogate gradient is not the gradient of anything (Section 4.2)."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm

from sgtheory.claims import Claim
from sgtheory.errors import require_choice
from sgtheory.figures._output import caption, panel_letter
from sgtheory.neurons import SigmoidDerivative
from sgtheory.theory import (
    TABLE_NETS,
    LoopIntegralSettings,
    build_loop,
    build_net,
    conservative_fields,
    differs_from_zero,
    integrate_loop,
    riemann_sum,
)

TRUE = "0.35"
ERROR = "± error of the integration"
SHADES = ("#F2CF66", "#EBB400", "#9C7500")
# Our own additions to C7: suffix, statement, net, and the surrogates that shall be conservative on it (None: all)
TABLE_CLAIMS = (
    ("layer", "Of a single perceptron, every surrogate gradient is a gradient", "perceptron, β = 25", None),
    (
        "depth",
        "With a hidden layer, only the true derivative of the activation gives a gradient",
        "hidden layer, β = 25",
        {"sigmoid', 25"},
    ),
    (
        "mean",
        "The mean of the surrogate gradient over all paths of a deep stochastic net is not a gradient either",
        "stochastic hidden layer, β = 5",
        set(),
    ),
    ("silent", "Of a LIF layer without spikes, every surrogate gradient is a gradient", "LIF layer, silent", None),
    ("reset", "Of a LIF layer with spikes, none is: the reset is enough to spoil it", "LIF layer", set()),
)


def _table_claims(table: list[dict]) -> list[Claim]:
    """What the table of nets and surrogates says, as far as its rows are there."""
    by_net = {}
    for row in table:
        by_net.setdefault(row["net"], {})[row["surrogate"]] = row

    def listed(rows):
        return "; ".join(f"{row['surrogate'].replace(',', '')} {row['largest_ratio']:.1g}" for row in rows)

    claims = []
    for suffix, statement, net, conservative in TABLE_CLAIMS:
        if net in by_net:
            rows = [row for row in by_net[net].values() if row["surrogate"] != "true gradient"]
            found = {row["surrogate"] for row in rows if row["conservative"]}
            expected = {row["surrogate"] for row in rows} if conservative is None else conservative
            claims.append(
                Claim(
                    f"C7.{suffix}",
                    statement,
                    f"{net}: largest |circulation| / integral of |field|: {listed(rows)}; zero within the error for"
                    f" {len(found)} of {len(rows)}",
                    f"zero for {'all' if conservative is None else ', '.join(sorted(conservative)) or 'none'}",
                    found == expected,
                    decides=f"zero for {len(found)} of {len(rows)} surrogates",
                    source="Section 4.2, preprint: SGs cannot be understood as gradients of a surrogate loss",
                    choice="the nets and surrogates of the table",
                    settles="a loop or a net that has another answer",
                )
            )
    return claims


def measure(
    beta: float = 10_000.0,
    beta_sg: tuple[float, ...] = (1.0, 5.0, 20.0),
    x: float = 1.0,
    radius: float = 1.8,
    centre: float = 0.0,
    plane_seed: int = 124,
    tolerance: float = 1e-8,
    most_points: int = 2**20,
    notebook_points: int = 1500,
    map_points: int = 101,
    betas: int = 41,
    table_nets: tuple[str, ...] = tuple(TABLE_NETS),
    table_planes: tuple[int, ...] = (124,),
) -> dict:
    """Integrals of surrogate gradients and of the true gradient of the five-weight net around a closed loop.

    Args:
        beta: forward steepness (1 / unit of U).
        beta_sg: steepnesses of the surrogate derivative, one number or several.
        x: input.
        radius, centre, plane_seed: of the loop, see :class:`LoopIntegralSettings`.
        tolerance: wanted absolute error of the integrals.
        most_points: of the plain sums in panel D, which start at 64 points and double.
        notebook_points: number of points at which a plain sum is reported.
        map_points: resolution of the maps in panel A.
        betas: number of surrogate steepnesses in panel E, from 0.1 to 10 times ``beta``.
        table_nets, table_planes: nets of panel F (names in ``TABLE_NETS``) and seeds of the planes of their loops.
    """
    beta_sg = tuple(np.atleast_1d(beta_sg).tolist())
    for name in table_nets:
        require_choice(tuple(TABLE_NETS), table_nets=name)
    settings = LoopIntegralSettings(
        beta=beta, x=x, radius=radius, centre=centre, plane_seed=plane_seed, tolerance=tolerance
    )
    net = build_net(settings)
    loop = build_loop(settings, net.n_parameters)
    surrogates = [SigmoidDerivative(b) for b in beta_sg]
    result = integrate_loop(settings, surrogates)
    angles = torch.cat([torch.zeros(1, dtype=torch.float64), result.angles])
    output = net.output(loop.points(angles))
    path_error = float((result.cumulative[0] - (output[1:] - output[0])).abs().max())

    fields = net.fields(surrogates)
    counts = 2 ** np.arange(6, int(np.log2(most_points)) + 1)
    sums = torch.stack([riemann_sum(fields, loop, int(n)) for n in counts])
    notebook = riemann_sum(fields, loop, notebook_points)

    over_beta = np.geomspace(0.1, 10 * beta, betas)
    sweep = integrate_loop(settings, [SigmoidDerivative(float(b)) for b in over_beta])

    side = torch.linspace(-1.2 * radius, 1.2 * radius, map_points, dtype=torch.float64)
    plane = loop.centre + side[None, :, None] * loop.directions[0] + side[:, None, None] * loop.directions[1]
    smoothed = []
    for b in beta_sg:
        control = replace(settings, beta=b)
        closed = integrate_loop(control, [])
        smoothed.append(
            {
                "beta": b,
                "circulation": float(closed.value[0]),
                "error": float(closed.error[0]),
                "variation": float(closed.variation[0]),
                "angles": torch.nn.functional.pad(closed.angles, (1, 0)),
                "integrated": torch.nn.functional.pad(closed.cumulative[0], (1, 0)),
                "map": build_net(control).output(plane.flatten(0, 1)).reshape(map_points, map_points),
            }
        )
    table = [
        row | {"largest_ratio": max(np.abs(row["circulation"]) / np.maximum(row["variation"], 1e-300))}
        for row in conservative_fields({net: TABLE_NETS[net] for net in table_nets}, planes=table_planes)
    ]

    true, *circulations = (
        {"circulation": value, "error": error, "variation": variation}
        for value, error, variation in torch.stack([result.value, result.error, result.variation], dim=1).tolist()
    )
    circulations = [{"beta_sg": b} | c for b, c in zip(beta_sg, circulations, strict=True)]
    return {
        "scale": f"{len(table_planes)} loop{'s' * (len(table_planes) != 1)} in each net, integrals to {tolerance:g}",
        "beta": beta,
        "circulations": circulations,
        "true": true,
        "points": result.points,
        "converged": result.converged,
        "tolerance": tolerance,
        "path_error": path_error,
        "angles": angles,
        "output": output,
        "integrated_true": torch.cat([torch.zeros(1), result.cumulative[0]]),
        "integrated_surrogate": torch.nn.functional.pad(result.cumulative[1:], (1, 0)),
        "convergence": {"points": counts, "sum": sums, "distance": (sums - result.value).abs()},
        "adaptive": [{"points": row["points"], "error": row["error"]} for row in result.table],
        "notebook": {
            "points": notebook_points,
            "sum_with_step_length": notebook,
            "sum_without_step_length": notebook * notebook_points / (2 * np.pi * radius),
        },
        "over_beta": {
            "beta_sg": over_beta,
            "circulation": sweep.value[1:],
            "error": sweep.error[1:],
            "variation": sweep.variation[1:],
        },
        "map": {"side": side, "output": net.output(plane.flatten(0, 1)).reshape(map_points, map_points)},
        "radius": radius,
        "smoothed": smoothed,
        "table": table,
    }


def claims(numbers: dict) -> list[Claim]:
    """C7: around a closed loop the surrogate gradient does not integrate to zero."""
    circulations, true, beta = numbers["circulations"], numbers["true"], numbers["beta"]
    path_error, tolerance, notebook = numbers["path_error"], numbers["tolerance"], numbers["notebook"]
    plain_sum = float(notebook["sum_with_step_length"][0])
    nonzero = all(abs(c["circulation"]) > 100 * c["error"] for c in circulations)
    zero = abs(true["circulation"]) <= true["error"] and path_error < 10 * tolerance
    return [
        Claim(
            "C7",
            "Around a closed loop the surrogate gradient does not integrate to zero and the true gradient does; not an"
            " artefact of the step size",
            "; ".join(f"beta_SG {c['beta_sg']:g}: {c['circulation']:+.6f} ± {c['error']:.0e}" for c in circulations)
            + f"; true gradient {true['circulation']:.0e} ± {true['error']:.0e} ({ERROR}), while |dy| adds up to"
            f" {true['variation']:.3f}; its integral follows y to {path_error:.0e}; {numbers['points']} points. A plain"
            f" sum over {notebook['points']} points does not resolve beta = {beta:g}: true gradient {plain_sum:+.2f}",
            "surrogate: different from zero by more than 100 errors; true: zero within its error",
            nonzero and zero and numbers["converged"],
            decides="; ".join(f"{c['circulation']:+.3f} (β_SG {c['beta_sg']:g})" for c in circulations)
            + f"; true {true['circulation']:.0e} ± {true['error']:.0e} ({ERROR})",
            source="Section 4.2 and Figure 5, preprint",
            choice="the integral has a step length; the authors' is a sum",
            settles="nothing: one loop that does not close proves it",
        ),
        Claim(
            "C7.smoothed",
            "It is not the smoothing: the gradient of the net that is smoothed in both passes integrates to zero",
            "; ".join(
                f"β = β_SG {c['beta']:g}: {c['circulation']:.0e} ± {c['error']:.0e}, while |dy| adds up to"
                f" {c['variation']:.3f}"
                for c in numbers["smoothed"]
            )
            + f" ({ERROR})",
            "zero within its error",
            all(not differs_from_zero(c["circulation"], c["error"], c["variation"]) for c in numbers["smoothed"]),
            decides="at most {:.0e} ± {:.0e} ({})".format(
                *max((abs(c["circulation"]), c["error"]) for c in numbers["smoothed"]), ERROR
            ),
            source="Figure 5 of the preprint, the authors' control",
            choice="nothing",
            settles="nothing: it is the gradient of the smoothed output",
        ),
        *_table_claims(numbers["table"]),
    ]


def draw(numbers: dict):
    """The loop in the net and in smoothed ones; output and integrals along it; convergence; circulation over beta_SG;
    the table of nets."""
    figure = plt.figure(figsize=(6.7, 8.6))
    maps, along, middle, bottom = figure.add_gridspec(4, 1, height_ratios=(0.85, 1.15, 1, 1.2))
    maps = maps.subgridspec(1, 1 + len(numbers["smoothed"])).subplots(sharey=True, squeeze=False)[0]
    _draw_map(maps[0], numbers, numbers["map"]["output"], f"the net, β = {numbers['beta']:g}")
    _label_levels(maps[0], numbers["map"]["side"], numbers["map"]["output"])
    for axes, each in zip(maps[1:], numbers["smoothed"], strict=True):
        _draw_map(axes, numbers, each["map"], f"smoothed, β = {each['beta']:g}")
    maps[0].set_ylabel("along $d_2$")
    panel_letter(maps[0], "A")
    along = along.subgridspec(2, 1)
    _draw_along(figure.add_subplot(along[0]), figure.add_subplot(along[1]), numbers)
    middle = middle.subgridspec(1, 2)
    _draw_convergence(figure.add_subplot(middle[0]), numbers)
    _draw_over_beta(figure.add_subplot(middle[1]), numbers)
    _draw_table(figure.add_subplot(bottom.subgridspec(1, 1)[0]), numbers)
    caption(
        figure,
        numbers["scale"],
        "A, grey: output in a plane of the weights, 0 (dark) to 1; B to E: along the circle",
        f"D, dotted: {numbers['notebook']['points']} points, as in the authors' code",
    )
    return figure


def _draw_map(axes, numbers, output, title):
    side, output, radius = np.asarray(numbers["map"]["side"]), np.asarray(output), numbers["radius"]
    axes.pcolormesh(side, side, output, cmap="Greys_r", vmin=-1, vmax=1.1, rasterized=True)
    angle = np.radians(np.arange(361))
    axes.plot(radius * np.sin(angle), radius * np.cos(angle), color=SHADES[1], linewidth=1.5)
    axes.plot(0, radius, "o", color=SHADES[1], markersize=4)
    for a in (50, 180, 290):
        start, end = (radius * np.array([np.sin(angle[t]), np.cos(angle[t])]) for t in (a, a + 8))
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": SHADES[1], "lw": 1.5})
    axes.set(xlabel="along $d_1$", aspect="equal")
    axes.set_title(title, fontsize=7, loc="right")


def _label_levels(axes, side, output):
    for y in (0, 0.5, 1):
        where = np.argwhere(np.abs(np.asarray(output) - y) < 0.01)
        if len(where):
            row, column = where[np.argmin(np.abs(where - where.mean(0)).sum(1))]
            axes.text(side[column], side[row], f"y = {y:g}", ha="center", va="center", fontsize=6)


def _draw_along(upper, lower, numbers):
    degrees, integrals = np.degrees(np.asarray(numbers["angles"])), np.asarray(numbers["integrated_surrogate"])
    upper.plot(degrees, numbers["output"], color=TRUE, label="output y")
    start = float(numbers["output"][0])
    upper.plot(degrees, start + np.asarray(numbers["integrated_true"]), ":", color="#B5483A", label="∫ true gradient")
    upper.set(ylabel="y", xticklabels=[], yticks=[0, 0.5, 1], ylim=(-0.1, 1.1))
    upper.legend(loc="center", bbox_to_anchor=(0.65, 0.6))
    for c, colour, integral in zip(numbers["circulations"], SHADES, integrals, strict=False):
        lower.plot(degrees, integral, color=colour, label=f"$β_{{SG}}$ = {c['beta_sg']:g}")
        lower.plot(360, integral[-1], "o", color=colour, clip_on=False)
        label, va = f"{c['circulation']:+.4f}", "bottom" if integral[-1] > 0 else "top"
        lower.annotate(label, (360, integral[-1]), (5, 0), textcoords="offset points", va=va, fontsize=6.5)
    for each, colour in zip(numbers["smoothed"], SHADES, strict=False):
        angles = np.degrees(np.asarray(each["angles"]))
        label = "smoothed in both passes" if each is numbers["smoothed"][-1] else None
        lower.plot(angles, each["integrated"], "--", color=colour, linewidth=0.9, label=label)
    lower.axhline(0, color="0.7", linewidth=0.6)
    lower.set(xlabel="angle along the loop (°)", ylabel="∫ surrogate\ngradient")
    lower.set_ylim(top=3)
    lower.legend(loc="upper center", bbox_to_anchor=(0.6, 1.1), fontsize=6, borderaxespad=0, ncols=4)
    for axes in (upper, lower):
        axes.set(xlim=(0, 360), xticks=[0, 90, 180, 270, 360])
    panel_letter(upper, "B")
    panel_letter(lower, "C")


def _draw_convergence(axes, numbers):
    points, distance = np.asarray(numbers["convergence"]["points"]), np.asarray(numbers["convergence"]["distance"])
    axes.plot(points, distance[:, 0], color=TRUE, label="true gradient")
    for c, colour, d in zip(numbers["circulations"], SHADES, distance[:, 1:].T, strict=False):
        axes.plot(points, d, color=colour, label=f"$β_{{SG}}$ = {c['beta_sg']:g}")
    adaptive = numbers["adaptive"]
    errors = [float(np.max(np.asarray(row["error"]))) for row in adaptive]
    axes.plot([row["points"] for row in adaptive], errors, "k.--", linewidth=0.6, label="adaptive: error bar")
    axes.axvline(numbers["notebook"]["points"], color="0.7", linewidth=0.6, linestyle=":")
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(1e-13, 1e9),
        yticks=[1e-12, 1e-8, 1e-4, 1],
        xlabel="points",
        ylabel="error of the integral",
    )
    axes.legend(loc="upper right", fontsize=6, ncols=2, borderaxespad=0)
    panel_letter(axes, "D")


def _draw_over_beta(axes, numbers):
    sweep = numbers["over_beta"]
    axes.plot(sweep["beta_sg"], np.asarray(sweep["circulation"]) / np.asarray(sweep["variation"]), color=TRUE)
    for c, colour in zip(numbers["circulations"], SHADES, strict=False):
        axes.plot(c["beta_sg"], c["circulation"] / c["variation"], "o", color=colour, markersize=4)
    axes.axhline(0, color="0.7", linewidth=0.6)
    axes.plot(numbers["beta"], 0, "o", color=TRUE, markersize=4)
    axes.annotate("true", (numbers["beta"], 0), (0, 6), textcoords="offset points", ha="center", fontsize=7)
    axes.set(xscale="log", xlabel="$β_{SG}$", ylabel="circulation / ∫ |field|", ylim=(-1, 1))
    panel_letter(axes, "E")


def _draw_table(axes, numbers):
    rows = numbers["table"]
    nets, surrogates = (list(dict.fromkeys(row[key] for row in rows)) for key in ("net", "surrogate"))
    ratio = np.full((len(nets), len(surrogates)), np.nan)
    for row in rows:
        cell = nets.index(row["net"]), surrogates.index(row["surrogate"])
        if not row["conservative"]:
            ratio[cell] = row["largest_ratio"]
        label = "0" if row["conservative"] else f"{row['largest_ratio']:.1g}"
        axes.text(cell[1], cell[0], label, ha="center", va="center", fontsize=7)
    axes.imshow(ratio, cmap="YlOrBr", norm=LogNorm(1e-3, 10), aspect="auto")
    axes.set_xticks(
        range(len(surrogates)),
        [s.replace(", ", "\nβ = ").replace(" s", "\ns").replace("-t", "-\nt") for s in surrogates],
    )
    axes.set_yticks(range(len(nets)), nets)
    axes.tick_params(length=0, labelsize=6.5)
    axes.spines[:].set_visible(False)
    axes.set_title("|circulation| / ∫ |field|   (0: none within the error)")
    panel_letter(axes, "F")
