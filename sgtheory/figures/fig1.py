"""Figure 1: one neuron. From the LIF neuron to the perceptron; the derivative of the expected spike (Section 3.1)."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from sgtheory.claims import Claim
from sgtheory.errors import require_positive
from sgtheory.figures._output import COLOURS, LABELS, caption, panel_letter
from sgtheory.lif import Noise, lif
from sgtheory.neurons import (
    EscapeDerivative,
    LIFParameters,
    SigmoidDerivative,
    SigmoidEscape,
    SuperSpike,
    surrogate_spike,
)
from sgtheory.theory import PerceptronNet, smoothed_bernoulli

TAU_MEM, TAU_SYN = 10e-3, 5e-3  # s


def _lif_traces(parameters: LIFParameters, beta: float, weights: torch.Tensor, inputs: torch.Tensor, seed: int) -> dict:
    """One LIF neuron with two input neurons, [time, 2] spikes, deterministic and with escape noise."""
    drive = (inputs @ weights)[None, :, None]  # [batch, time, neuron]
    traces = {"time": np.arange(len(inputs)) * parameters.dt, "inputs": inputs, "drive": drive[0, :, 0]}
    for mode, escape in (
        ("deterministic", {}),
        ("escape_noise", {"escape": SigmoidEscape(beta), "noise": Noise(seed)}),
    ):
        spikes, potential = lif(drive, parameters, SigmoidDerivative(beta), backend="reference", **escape)
        traces[mode] = {"spikes": spikes[0, :, 0], "potential": potential[0, :, 0]}
    return traces


def _derivatives(net: PerceptronNet, potential: torch.Tensor, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """dS/dw of a perceptron with one input x = 1, U = w, by each of the routes of Section 3.1, at every U."""
    x = torch.ones(1, dtype=torch.float64)
    parameters = torch.stack([potential, torch.zeros_like(potential)], dim=-1)

    def derivative(output):
        weights = parameters.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(output(weights).sum(), weights)
        return gradient[:, 0]

    def back_propagated(spike):
        return derivative(lambda weights: net.run(weights, x, lambda _, u: spike(u))[-1])

    def expectation(weights):
        return net.run(weights, x, lambda _, u: net.escape.value(u))[-1]

    hard = (potential > net.threshold).double()[:, None]
    outcome = spikes[:, None]
    surrogate = EscapeDerivative(net.escape)
    return {
        "derivative_of_expectation": derivative(expectation),
        "surrogate_deterministic": back_propagated(lambda u: surrogate_spike(u, hard, surrogate.derivative)),
        "surrogate_stochastic": back_propagated(lambda u: surrogate_spike(u, outcome, surrogate.derivative)),
        "smoothed_stochad": back_propagated(lambda u: smoothed_bernoulli(net.escape.value(u), outcome)),
        "superspike": back_propagated(lambda u: surrogate_spike(u, outcome, SuperSpike(10.0).derivative)),
    }


def measure(
    beta: float = 10.0,
    trials: int = 40,
    samples: int = 20_000,
    step: float = 0.04,
    points: int = 81,
    dt: float = 0.5e-3,
    dt_coarse: float = 50e-3,
    duration: float = 60e-3,
    seed: int = 3,
) -> dict:
    """Traces of a LIF neuron and of its perceptron limit, spikes over the membrane potential, and derivatives.

    Args:
        beta: steepness of the escape noise (1 / unit of U).
        trials: rows of the rasters.
        samples: spikes drawn per potential for the Monte Carlo derivative.
        step: width of its central difference (unit of U).
        points: number of membrane potentials.
        dt, dt_coarse: time steps of the LIF traces (s); the second is long against both time constants.
        duration: of the fine trace (s).
        seed: of the inputs and the spikes.
    """
    require_positive(step=step, duration=duration)
    rng = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=rng, dtype=torch.float64)

    net = PerceptronNet((1, 1), SigmoidEscape(beta))
    potential = net.threshold + torch.linspace(-0.6, 0.6, points, dtype=torch.float64)
    p = net.escape.value(potential - net.threshold)
    stochastic = (rand(trials, points) < p).double()
    deterministic = (potential > net.threshold).double().expand(trials, -1)

    # The derivative without any theory: spike counts at U + step/2 and U - step/2, from independent trials.
    def firing_fraction(u):
        firing_probability = net.escape.value(u - net.threshold).clamp(0, 1)
        return torch.binomial(torch.full_like(u, samples), firing_probability, generator=rng) / samples

    upper, lower = firing_fraction(potential + step / 2), firing_fraction(potential - step / 2)
    counted = (upper - lower) / step
    counted_error = ((upper * (1 - upper) + lower * (1 - lower)) / samples).sqrt() / step
    routes = _derivatives(net, potential, stochastic[0])
    exact = routes["derivative_of_expectation"]
    difference = {route: float((value - exact).abs().max()) for route, value in routes.items()}
    covered = float(((counted - exact).abs() <= 1.96 * counted_error)[counted_error > 0].double().mean())

    neuron = LIFParameters(TAU_MEM, TAU_SYN, dt)
    fine_inputs, coarse_inputs = (rand(round(duration / dt), 2) < 0.15).double(), (rand(14, 2) < 0.5).double()
    fine = _lif_traces(neuron, beta, torch.tensor([1.0, 0.6], dtype=torch.float64), fine_inputs, seed)
    # Without a silent step after a spike (Eq 23), or it would not be a perceptron.
    coarse_neuron = replace(neuron, dt=dt_coarse, reset="same")
    coarse = _lif_traces(coarse_neuron, beta, torch.tensor([1.1, 0.8], dtype=torch.float64), coarse_inputs, seed)
    limit_error = float((coarse["deterministic"]["potential"][2:] - coarse["drive"][:-2]).abs().max())
    return {
        "scale": f"{points} potentials, {samples} spikes at each",
        "beta": beta,
        "threshold": net.threshold,
        "potential": potential,
        "probability": p,
        "raster": {"deterministic": deterministic, "escape_noise": stochastic},
        "derivatives": routes,
        "difference_to_exact": difference,
        "counted_derivative": counted,
        "counted_error": counted_error,
        "covered": covered,
        "samples": samples,
        "fine": fine,
        "coarse": coarse,
        "perceptron_limit_error": limit_error,
    }


def claims(numbers: dict) -> list[Claim]:
    """C1: the three derivatives are one, and spikes confirm it."""
    difference, covered, points = numbers["difference_to_exact"], numbers["covered"], len(numbers["potential"])
    largest = max(difference[r] for r in ("surrogate_deterministic", "surrogate_stochastic", "smoothed_stochad"))
    coverage_sd = (0.95 * 0.05 / points) ** 0.5
    return [
        Claim(
            "C1",
            "One neuron: surrogate derivative, derivative of the expected output and smoothed stochastic derivative"
            " are the same when the surrogate matches the escape noise",
            f"largest difference {largest:.1e} at {points} potentials and either outcome; an unmatched surrogate"
            f" (SuperSpike) differs by {difference['superspike']:.2g}; derivative counted from spikes (n ="
            f" {numbers['samples']}): {100 * covered:.0f} % of the potentials inside its 95 % band",
            f"0 up to rounding (< 1e-12); 95 % inside the band, within 3 s.d. of {100 * coverage_sd:.1f} %",
            largest < 1e-12 and covered > 0.95 - 3 * coverage_sd and difference["superspike"] > 0.1,
            decides=f"largest difference {largest:.1e}",
            source="Section 3.1, Eqs 3 to 6, preprint",
            choice="sigmoid escape noise",
            settles="nothing: it is an identity",
        )
    ]


def draw(numbers: dict):
    """Six panels: LIF, perceptron limit, spikes over the potential in both modes, derivatives."""
    figure = plt.figure(figsize=(6.7, 4.4))
    grid = figure.add_gridspec(2, 6, height_ratios=(1, 1.25))
    fine_axes, coarse_axes = figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])
    _draw_trace(fine_axes, numbers["fine"], numbers["threshold"])
    _draw_steps(coarse_axes, numbers["coarse"], numbers["threshold"])
    for letter, axes in (("A", fine_axes), ("B", coarse_axes)):
        panel_letter(axes, letter)
    x = np.asarray(numbers["potential"])
    for column, (mode, title) in enumerate((("deterministic", "deterministic"), ("escape_noise", "escape noise"))):
        panel = grid[1, 2 * column : 2 * column + 2].subgridspec(2, 1, height_ratios=(1, 1), hspace=0.05)
        top, bottom = figure.add_subplot(panel[0]), figure.add_subplot(panel[1])
        raster = np.asarray(numbers["raster"][mode])
        trial, index = np.nonzero(raster)
        top.scatter(x[index], trial, s=1.2, marker="|", color=COLOURS[mode], linewidths=0.7)
        top.set(ylabel="trial", xticklabels=[], xlim=(x[0], x[-1]), yticks=[0, len(raster)])
        top.set_title(title)
        panel_letter(top, "CD"[column])
        expected = numbers["probability"] if mode == "escape_noise" else (x > numbers["threshold"]).astype(float)
        bottom.plot(x, expected, color=COLOURS[mode])
        bottom.plot(x, raster.mean(0), ".", color="0.35", markersize=2)
        label = "E[S], S̄" if mode == "escape_noise" else "S"
        bottom.set(xlabel="membrane potential U", ylabel=label, xlim=(x[0], x[-1]), yticks=[0, 1])
        for axes in (top, bottom):
            axes.axvline(numbers["threshold"], color="0.6", linewidth=0.6, linestyle=":")
    axes = figure.add_subplot(grid[1, 4:])
    counted, error = np.asarray(numbers["counted_derivative"]), np.asarray(numbers["counted_error"])
    routes = numbers["derivatives"]
    axes.fill_between(
        x, counted - 1.96 * error, counted + 1.96 * error, color="0.75", linewidth=0, label="counted spikes, 95 %"
    )
    axes.plot(x, routes["derivative_of_expectation"], color="k", linewidth=2.4, label="dE[S]/dU")
    axes.plot(x, routes["surrogate_deterministic"], color=COLOURS["deterministic"], label="surrogate, determ.")
    axes.plot(x[::5], routes["smoothed_stochad"][::5], "o", color=COLOURS["escape_noise"], label="smoothed stochAD")
    axes.set(xlabel="membrane potential U", ylabel="derivative", xlim=(x[0], x[-1]), ylim=(None, 1.6 * counted.max()))
    axes.legend(loc="upper left", fontsize=6, handlelength=1.4, borderaxespad=0.1)
    axes.set_yticks([0, 1, 2])
    panel_letter(axes, "E")
    caption(figure, numbers["scale"], f"C, D: {len(numbers['raster']['escape_noise'])} trials; dots: their mean")
    return figure


def _draw_raster(axes, time, trace, top):
    """Input spikes below the potential, output spikes above it."""
    transform = axes.get_yaxis_transform()
    for row, (label, base) in enumerate((("n₁", -0.35), ("n₂", -0.6))):
        at = time[np.asarray(trace["inputs"])[:, row] > 0]
        axes.plot(at, np.full(len(at), base), "|", color="0.35", markersize=4)
        axes.text(-0.01, base, label, transform=transform, ha="right", va="center", fontsize=6, color="0.35")
    for row, mode in enumerate(("deterministic", "escape_noise")):
        at = time[np.asarray(trace[mode]["spikes"]) > 0]
        axes.plot(at, np.full(len(at), top - 0.17 * row), "|", color=COLOURS[mode], markersize=4)
    axes.text(-0.01, top - 0.08, "S", transform=transform, ha="right", va="center", fontsize=6, color="0.35")


def _draw_trace(axes, trace, threshold):
    time = np.asarray(trace["time"]) * 1e3
    for mode in ("deterministic", "escape_noise"):
        axes.plot(time, trace[mode]["potential"], color=COLOURS[mode], linewidth=1, label=LABELS[mode])
    axes.axhline(threshold, color="0.6", linewidth=0.6, linestyle=":")
    _draw_raster(axes, time, trace, 1.75)
    axes.set(xlabel="time (ms)", ylabel="U", ylim=(-0.75, 2.2), yticks=[0, 1], yticklabels=["0", "θ"])
    axes.set_title("LIF neuron, dt « τ")
    axes.legend(loc="upper left", ncols=2, fontsize=6, borderaxespad=0, handlelength=1.4)


def _draw_steps(axes, trace, threshold):
    # the input of step n drives the membrane two steps later (Eqs 18, 19)
    step = np.arange(len(trace["time"]) - 2)
    shown = {"inputs": trace["inputs"][:-2]}
    axes.plot(step, trace["drive"][:-2], "o", mfc="none", color="0.35", markersize=5, label="perceptron U = w·x")
    for mode, offset in (("deterministic", -0.12), ("escape_noise", 0.12)):
        shown[mode] = {"spikes": trace[mode]["spikes"][2:]}
        axes.vlines(step + offset, 0, trace[mode]["potential"][2:], color=COLOURS[mode], linewidth=2)
    axes.axhline(threshold, color="0.6", linewidth=0.6, linestyle=":")
    _draw_raster(axes, step, shown, 2.35)
    axes.set(xlabel="time step", ylabel="U", ylim=(-0.75, 2.9), yticks=[0, 1], yticklabels=["0", "θ"])
    axes.set_title("LIF neuron, dt » τ: a perceptron")
    axes.legend(loc="upper left", fontsize=6, borderaxespad=0)
