"""Figure E2 (not in the paper): surrogate gradients against the exact gradient of spike times (Section 5)."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import torch

from sgtheory.claims import Claim
from sgtheory.figures._output import COLOURS, caption, panel_letter
from sgtheory.lif import Noise
from sgtheory.neurons import LIFParameters, ScaledSigmoidDerivative, SigmoidDerivative, SigmoidEscape, SuperSpike
from sgtheory.theory import (
    SPIKE_TIME_NEURON,
    DiscreteNets,
    SpikingNet,
    back_propagation_through_time,
    cosine,
    real_time_recurrent_learning,
    sign_agreement,
    simulate_events,
    spike_time_derivatives,
    synaptic_kernel,
)

EXACT = "0.25"
ESTIMATORS = {
    "sigmoid": ("surrogate, sigmoid'", COLOURS["deterministic"], SigmoidDerivative),
    "superspike": ("surrogate, SuperSpike", "#6B4C9A", SuperSpike),
    "stochad": ("stochAD, mean of paths", COLOURS["escape_noise"], SigmoidDerivative),
}
LAYERS = ("hidden", "output")


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean over nets and its standard error, without the nets where the value is not defined; NaN for a few nets."""
    values = values[np.isfinite(values)]
    if len(values) < 5:
        return np.nan, np.nan
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _alignment(gradients, exact, chosen) -> dict:
    """Cosine and sign agreement with the exact gradient, layer by layer, over the ``chosen`` nets."""
    return {
        f"{name}_{layer}": _mean(measure(gradient, reference)[chosen])
        for layer, gradient, reference in zip(LAYERS, gradients, exact, strict=True)
        for name, measure in (("cosine", cosine), ("sign", sign_agreement))
    }


def _columns(rows: list[dict]) -> dict[str, np.ndarray]:
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _estimate(discrete: DiscreteNets, estimator: str, beta: float, paths: int, seed: int):
    surrogate = ESTIMATORS[estimator][2](beta)
    if estimator == "stochad":
        return discrete.gradient(surrogate, SigmoidEscape(beta), paths, seed)
    return discrete.gradient(surrogate)


def _one_weight(weights: np.ndarray, target: float, duration: float) -> list[SpikingNet]:
    """One neuron with one input spike at time 0, for each weight. With tau_mem = 2 tau_syn it fires if w > 4."""
    return [
        SpikingNet(np.zeros(1), np.zeros(1, dtype=int), [np.array([[w]])], [np.array([target])], duration)
        for w in weights
    ]


def _creation(dt, beta, paths, seed, target=15e-3, duration=40e-3) -> dict:
    """What happens to loss and gradients where a spike is created."""
    critical = (
        SPIKE_TIME_NEURON.threshold
        / synaptic_kernel(np.array([SPIKE_TIME_NEURON.tau_mem * np.log(2)]), SPIKE_TIME_NEURON)[0]
    )
    w = np.linspace(critical - 1, critical + 2, 181)
    nets = _one_weight(w, target, duration)
    loss, gradient, _ = zip(*(net.exact() for net in nets), strict=True)
    discrete = DiscreteNets(nets, dt)
    surrogate = _estimate(discrete, "sigmoid", beta, 1, seed)
    stochastic = _estimate(discrete, "stochad", beta, paths, seed)
    distance = np.geomspace(1e-6, 1e-2, 9)
    near = [net.exact()[1][0].item() for net in _one_weight(critical + distance, target, duration)]
    exponent = np.polyfit(np.log(distance), np.log(np.abs(near)), 1)[0]
    before, after = (net.exact()[0] for net in _one_weight(critical + np.array([-1e-9, 1e-9]), target, duration))
    return {
        "w": w,
        "critical": float(critical),
        "loss": np.array(loss),
        "exact": np.array([g[0].item() for g in gradient]),
        "surrogate": surrogate[1][0].ravel(),
        "stochad": stochastic[1][0].ravel(),
        "stochastic_loss": stochastic[0],
        "exponent": float(exponent),
        "jump": float(after - before),
        "dt": dt,
        "beta": beta,
    }


def _recursion_against_back_propagation(seed, steps=10, inputs=4, neurons=3) -> float:
    """Largest relative difference between Eqs 15-17 forward in time and back-propagation through time."""
    worst, rng = 0.0, torch.Generator().manual_seed(seed)
    for reset, kind, delay in itertools.product(("next", "same"), ("attached", "detached"), (0, 1)):
        parameters = LIFParameters(5e-3, 3e-3, 1e-3, reset=reset, reset_gradient=kind, delay=delay)
        spikes = (torch.rand(steps, inputs, generator=rng, dtype=torch.float64) < 0.5).double()
        weights = [
            4 * torch.randn(*shape, generator=rng, dtype=torch.float64) + mean
            for shape, mean in (((inputs, neurons), 4.0), ((neurons, neurons), 0.0))
        ]
        error = torch.randn(steps, neurons, generator=rng, dtype=torch.float64)
        escape, noise = SigmoidEscape(5.0), Noise(seed)
        _, backward = back_propagation_through_time(error, spikes, *weights, parameters, SuperSpike(3.0), escape, noise)
        thresholds = escape.quantile(noise.uniform(1, range(steps), neurons, torch.float64)[0])
        forward = real_time_recurrent_learning(spikes, *weights, parameters, SuperSpike(3.0), thresholds)
        forward = torch.einsum("ti,tiw->w", error, forward.spike_derivatives)
        worst = max(worst, float((forward - backward).abs().max() / backward.abs().max()))
    return worst


def _shifted_spike(weight=4.8, change=0.8) -> dict:
    """The potential for two weights, the two firing times, and the derivative that connects them."""
    net = _one_weight(np.array([weight]), 0.0, 20e-3)[0]
    arguments = (net.input_times, net.input_channels, net.weights[0], np.zeros((1, 1)), SPIKE_TIME_NEURON)
    train = simulate_events(*arguments, net.duration)
    t = np.linspace(0, 10e-3, 201)
    kernel = synaptic_kernel(t, SPIKE_TIME_NEURON)
    return {
        "time": t,
        "weights": (weight, weight + change),
        "potential": np.array([weight * kernel, (weight + change) * kernel]),
        "firing_time": float(train.times[0]),
        "slope": float(train.slopes[0]),
        "dt_dw": float(spike_time_derivatives(train, *arguments)[0].item()),
        "change": change,
    }


def measure(
    nets: int = 40,
    inputs: int = 12,
    hidden: int = 8,
    outputs: int = 2,
    duration: float = 0.1,
    betas: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
    dts: tuple[float, ...] = (2e-3, 1e-3, 5e-4, 2e-4, 1e-4),
    beta: float = 20.0,
    paths: int = 8,
    creation_paths: int = 256,
    seed: int = 0,
) -> dict:
    """Alignment of surrogate gradients with the exact gradient of a van Rossum loss of spike times.

    Args:
        nets: random feed-forward nets.
        inputs, hidden, outputs: their sizes.
        duration: of inputs, targets and simulation (s).
        betas: steepnesses of surrogates and escape noise, at the smallest time step.
        dts: time steps (s), at the steepness ``beta``.
        beta: see ``dts``; also the steepness where a spike is created.
        paths: runs over which the stochastic estimate is averaged; ``creation_paths`` where a spike is created.
        seed: of nets, paths and noise.
    """
    betas = sorted({*betas, beta})
    population = [SpikingNet.random((inputs, hidden, outputs), duration, 1000 * seed + k) for k in range(nets)]
    _, gradients, counts = zip(*(net.exact() for net in population), strict=True)
    exact, counts = [np.stack(layer) for layer in zip(*gradients, strict=True)], np.stack(counts)

    finest = DiscreteNets(population, min(dts))
    same = (finest.gradient(SuperSpike(beta))[2] == counts).all(1)
    over_beta = {
        name: _columns([_alignment(_estimate(finest, name, b, paths, seed)[1], exact, same) for b in betas])
        for name in ESTIMATORS
    }

    over_dt = []
    for dt in dts:
        _, gradient, fired = DiscreteNets(population, dt).gradient(SigmoidDerivative(beta))
        agree = (fired == counts).all(1)
        sizes = np.array([np.linalg.norm(g.reshape(nets, -1), axis=1) for g in (gradient[1], exact[1])])
        size = np.median(np.divide(*sizes[:, sizes[1] > 0]))
        over_dt.append(
            {f"same_{k}": v for k, v in _alignment(gradient, exact, agree).items()}
            | {f"other_{k}": v for k, v in _alignment(gradient, exact, ~agree).items()}
            | {"nets_with_the_same_spikes": int(agree.sum()), "size": float(size)}
        )
    over_dt = _columns(over_dt)
    growth = float(np.polyfit(np.log(dts), np.log(over_dt["size"]), 1)[0])

    attached = DiscreteNets(population, min(dts), "attached")
    reset = {
        name: _columns([_alignment(attached.gradient(surrogate(b))[1], exact, same) for b in betas])
        for name, surrogate in (("sigmoid", SigmoidDerivative), ("scaled", ScaledSigmoidDerivative))
    }

    creation = _creation(min(dts), beta, creation_paths, seed)
    return {
        "scale": f"{nets} random nets, {paths} paths each",
        "betas": betas,
        "dts": dts,
        "beta": beta,
        "nets": nets,
        "nets_with_the_same_spikes": int(same.sum()),
        "spikes_per_neuron": float(counts.mean()),
        "over_beta": over_beta,
        "over_dt": over_dt,
        "size_exponent_in_dt": growth,
        "reset": reset,
        "creation": creation,
        "shifted_spike": _shifted_spike(),
        "recursion_difference": _recursion_against_back_propagation(seed),
    }


def claims(numbers: dict) -> list[Claim]:
    """C8 and E2: the recursion, and how surrogate gradients align with exact ones."""
    difference, creation, growth = (numbers[key] for key in ("recursion_difference", "creation", "size_exponent_in_dt"))
    beta, betas, dts = numbers["beta"], list(numbers["betas"]), numbers["dts"]
    silent = np.asarray(creation["w"]) < creation["critical"] - 0.01
    at, threshold = betas.index(beta), SPIKE_TIME_NEURON.threshold
    cosines = {layer: numbers["over_beta"]["sigmoid"][f"cosine_{layer}"][at] for layer in LAYERS}
    through_reset = {name: values["cosine_output"][at] for name, values in numbers["reset"].items()}
    gap = through_reset["scaled"][0] - through_reset["sigmoid"][0]
    gap_error = np.hypot(through_reset["scaled"][1], through_reset["sigmoid"][1])
    return [
        Claim(
            "C8",
            "For LIF neurons, the surrogate recursion forward in time equals back-propagation through time (Eqs 15-17)",
            f"largest relative difference {difference:.0e}, recurrent layers with escape noise, 2 resets x attached or"
            " detached x 2 delays",
            "equal to rounding (< 1e-10)",
            difference < 1e-10,
            decides=f"largest relative difference {difference:.0e}",
            source="Section 5, Eqs 15 to 17, preprint",
            choice="random layers",
            settles="nothing: it is an identity",
        ),
        Claim(
            "E2.aligned",
            "As long as no spike is created or removed, the surrogate gradient is positively aligned with the exact"
            " gradient of the spike times",
            "cosine "
            + ", ".join(f"{layer} {m:.2f} ± {2 * e:.2f}" for layer, (m, e) in cosines.items())
            + f" (mean ± 2 s.e., {numbers['nets_with_the_same_spikes']} of {numbers['nets']} nets; beta {beta:g}, dt"
            f" {1e3 * min(dts):g} ms, reset detached); its size grows as dt^{growth:.2f}",
            "cosine above 0 by more than 3 standard errors in both layers",
            all(mean > 3 * error for mean, error in cosines.values()),
            decides=", ".join(f"cosine {m:.2f} ± {2 * e:.2f} ({layer})" for layer, (m, e) in cosines.items())
            + ", 2 s.e.",
            choice="random two-layer nets in which no spike is lost between time steps",
            settles="trained nets",
        ),
        Claim(
            "E2.reset",
            "Back-propagation through the reset turns a surrogate gradient of peak beta / 4 away from the exact"
            " gradient, but not one that is scaled by 1 / beta",
            f"cosine at beta {beta:g}, reset attached, output weights: "
            + ", ".join(f"{name} {m:.2f} ± {2 * e:.2f}" for name, (m, e) in through_reset.items())
            + f" (± 2 s.e.); reset detached {cosines['output'][0]:.2f}. At threshold the factor through the reset is"
            f" 1 - theta sigma'(0) = {1 - threshold * beta / 4:g} against {1 - threshold / 4:g}",
            "scaled above unscaled by more than 3 standard errors",
            gap > 3 * gap_error,
            decides=f"cosine {through_reset['sigmoid'][0]:.2f} unscaled, {through_reset['scaled'][0]:.2f} scaled",
            choice="the same nets; the reset of the next step",
            settles="the expected loss as the reference (Figure E4)",
        ),
        Claim(
            "E2.creation",
            "Where a spike is created, the exact derivative diverges and misses the jump of the loss; the surrogate"
            " gradient is finite on both sides",
            f"|dL/dw| ~ (w - w_c)^{creation['exponent']:.3f}; the loss jumps by {1e3 * creation['jump']:+.2f} ms; below"
            f" w_c the exact derivative is {np.abs(creation['exact'][silent]).max():.0f}, the surrogate up to"
            f" {np.abs(creation['surrogate'][silent]).max():.2g} s",
            "exponent -1/2; a jump; surrogate different from zero before the spike exists",
            abs(creation["exponent"] + 0.5) < 0.02
            and abs(creation["jump"]) > 1e-4
            and not creation["exact"][silent].any()
            and bool(creation["surrogate"][silent].any()),
            decides=f"exponent {creation['exponent']:.3f}, jump {1e3 * creation['jump']:+.2f} ms",
            choice="one neuron and one input weight",
            settles="nothing: one example proves it",
        ),
    ]


def draw(numbers: dict):
    """A shifted spike; cosine and signs over beta; cosine over dt; the reset; where a spike is created."""
    figure = plt.figure(figsize=(6.7, 4.6))
    grid = figure.add_gridspec(2, 3)
    _draw_shift(figure.add_subplot(grid[0, 0]), numbers["shifted_spike"])
    for column, (letter, measure, label) in enumerate((("B", "cosine", "cosine"), ("C", "sign", "same sign (share)"))):
        axes = figure.add_subplot(grid[0, column + 1])
        for name, (title, colour, _) in ESTIMATORS.items():
            for layer, style in zip(LAYERS, ("--", "-"), strict=True):
                values = numbers["over_beta"][name][f"{measure}_{layer}"]
                _draw_mean(axes, numbers["betas"], values, colour, style, title if style == "-" else None)
        axes.set(xlabel="steepness β", ylabel=label, ylim=(0, 1.03))
        axes.axhline(0.5 if measure == "sign" else 0, color="0.7", linewidth=0.6)
        panel_letter(axes, letter)
        if measure == "cosine":
            handles, labels = axes.get_legend_handles_labels()
            handles += [plt.Line2D([], [], color="0.4", linestyle=style) for style in ("-", "--")]
            labels += ["output weights", "hidden weights"]
            figure.legend(handles, labels, loc="outside upper right", ncols=5, fontsize=6.5)
    _draw_over_dt(figure.add_subplot(grid[1, 0]), numbers)
    _draw_reset(figure.add_subplot(grid[1, 1]), numbers)
    halves = grid[1, 2].subgridspec(2, 1)
    _draw_creation(figure.add_subplot(halves[0]), figure.add_subplot(halves[1]), numbers["creation"])
    caption(
        figure,
        numbers["scale"],
        "Mean over nets; bands: 2 standard errors",
        "F, dotted: weight at which the spike is created; blue: surrogate, sigmoid'",
    )
    return figure


def _draw_mean(axes, x, values, colour, style, label=None):
    mean, error = np.asarray(values).T
    axes.plot(x, mean, style, color=colour, label=label)
    axes.fill_between(x, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlim=(0.85 * min(x), 1.18 * max(x)))  # also if every mean is NaN


def _draw_shift(axes, shift):
    t = 1e3 * np.asarray(shift["time"])
    for potential, w, style in zip(shift["potential"], shift["weights"], ("-", "--"), strict=True):
        axes.plot(t, potential, style, color=EXACT, label=f"w = {w:g}")
    axes.axhline(SPIKE_TIME_NEURON.threshold, color="0.7", linewidth=0.6)
    time, move = 1e3 * shift["firing_time"], 1e3 * shift["dt_dw"] * shift["change"]
    tangent = np.array([-0.8, 0.8])
    axes.plot(time + tangent, 1 + 1e-3 * shift["slope"] * tangent, color=COLOURS["escape_noise"], linewidth=0.8)
    axes.annotate(
        "", (time + move, 0.55), (time, 0.55), arrowprops={"arrowstyle": "-|>", "color": COLOURS["escape_noise"]}
    )
    axes.plot([time, time], [0.5, 1], ":", color="0.5", linewidth=0.8)
    axes.text(time + 0.4, 0.5, r"$\frac{dt}{dw}\Delta w$", fontsize=8, va="center")
    axes.set(xlabel="time (ms)", ylabel="potential U", ylim=(0, 1.75), xlim=(0, t[-1]))
    axes.legend(loc="upper left", fontsize=6, borderaxespad=0.1)
    panel_letter(axes, "A")


def _draw_over_dt(axes, numbers):
    dt = 1e3 * np.asarray(numbers["dts"])
    for group, colour, label in (
        ("same", COLOURS["deterministic"], "same spikes"),
        ("other", "#B5483A", "other number"),
    ):
        for layer, style in zip(LAYERS, ("--", "-"), strict=True):
            values = numbers["over_dt"][f"{group}_cosine_{layer}"]
            _draw_mean(axes, dt, values, colour, style, f"{label}, {layer}")
    axes.set(
        xlabel="time step (ms)",
        ylabel="cosine",
        ylim=(-0.2, 1.03),
        xticks=dt,
        xticklabels=[f"{x:g}" for x in dt],
    )
    axes.minorticks_off()
    axes.axhline(0, color="0.7", linewidth=0.6)
    axes.legend(loc="lower left", fontsize=5.5, borderaxespad=0.1)
    panel_letter(axes, "D")


def _draw_reset(axes, numbers):
    curves = (
        (numbers["over_beta"]["sigmoid"], "-", COLOURS["deterministic"], "detached, sigmoid'"),
        (numbers["reset"]["sigmoid"], ":", COLOURS["deterministic"], "attached, sigmoid'"),
        (numbers["reset"]["scaled"], ":", "#5B8C3E", "attached, sigmoid' / β"),
    )
    for values, style, colour, label in curves:
        _draw_mean(axes, numbers["betas"], values["cosine_output"], colour, style, label)
    axes.axhline(0, color="0.7", linewidth=0.6)
    axes.set(xlabel="steepness β", ylabel="cosine, output weights", ylim=(-0.5, 1.03))
    axes.legend(loc="lower left", fontsize=5.5, borderaxespad=0.1)
    panel_letter(axes, "E")


def _draw_creation(upper, lower, creation):
    w = creation["w"]
    upper.plot(w, 1e3 * np.asarray(creation["loss"]), color=EXACT, label="exact")
    upper.plot(
        w, 1e3 * np.asarray(creation["stochastic_loss"]), color=COLOURS["escape_noise"], label="stochastic, mean"
    )
    upper.set(ylabel="loss (ms)", xticklabels=[])
    upper.legend(loc="upper left", fontsize=5.5, borderaxespad=0)
    for key, colour in (
        ("exact", EXACT),
        ("surrogate", COLOURS["deterministic"]),
        ("stochad", COLOURS["escape_noise"]),
    ):
        values = np.asarray(creation[key])
        lower.plot(w, values / np.quantile(np.abs(values), 0.9), color=colour)
    lower.axhline(0, color="0.7", linewidth=0.6)
    lower.set(xlabel="weight w", ylabel="dL/dw,\nscaled", ylim=(-3, 3))
    for axes in (upper, lower):
        axes.axvline(creation["critical"], color="0.7", linewidth=0.6, linestyle=":")
    panel_letter(upper, "F")
