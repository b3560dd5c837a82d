"""Figure S1: the surrogate gradient of the deterministic net is that of one path among many (Section 3.2.2)."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.lines import Line2D

from sgtheory.claims import Claim
from sgtheory.figures._matching_network import BETAS, ESCAPES, output_spikes
from sgtheory.figures._output import COLOURS, LABELS, caption, panel_letter
from sgtheory.figures._tree import branches, draw_branch, draw_tree, pattern_tree
from sgtheory.lif import Noise
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape, Step
from sgtheory.theory import Objective, SurrogateGradient, random_objective
from sgtheory.training import expand, prepare

TRIALS_AT_ONCE = 8
SPIKING = {"jacobian": ("spiking, random cotangents", "#B5483A"), "loss": ("spiking, L2 loss", "#6B4C9A")}
TRAINED = {"before": "o", "after": "s"}
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


def _spiking_gradients(weights, inputs, cotangents, escapes, seed, trials) -> torch.Tensor:
    """Surrogate gradient of each trial for every one of ``cotangents(spikes)``, [cotangents, trials, weights]."""
    weights = [w.expand(len(trials), -1, -1).clone().requires_grad_() for w in weights]
    spikes = output_spikes(inputs.expand(len(trials), -1, -1), weights, escapes, Noise(seed, samples=trials))
    gradients = [
        torch.autograd.grad(spikes, weights, cotangent.expand_as(spikes), retain_graph=True)
        for cotangent in cotangents(spikes.detach())
    ]
    return torch.stack([torch.cat([g.flatten(1) for g in each], dim=1) for each in gradients])


def _spiking_networks(seed: int, units: int, epochs: int) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """The deterministic network of Figure 6: input and target spikes [time, neuron], weights before, after training."""
    size = [f"task.{name}={units}" for name in ("inputs", "hidden", "target.rows")]
    rest = [f"task.measure_every={epochs}", "task.last_epochs=0", f"trainer.epochs={epochs}", f"seed={seed}"]
    (config,) = expand(["experiment=fig6", "neuron=deterministic", *size, *rest])
    task, _ = prepare(config)
    weights = {"before": task.initial_weights}
    for epoch in range(epochs):
        task.epoch(epoch)
    weights["after"] = task.weights
    inputs, target = (torch.from_numpy(spikes).double() for spikes in (task.network.inputs, task.network.target))
    return inputs, target, {when: [torch.from_numpy(w).double() for w in pair] for when, pair in weights.items()}


def _spiking_selection(weights, inputs, target, seed: int, trials: int) -> dict[str, dict[str, float]]:
    """Selection bias in a network of LIF neurons, the sampling error of the mean over trials subtracted.

    The gradient is J^T c with random normal c for every output spike, and that of Eq 24, the L2 distance.
    """
    random = torch.randn(target.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def cotangents(spikes):
        return random, (spikes - target) / target.shape[1]

    silent = [Step()] * len(ESCAPES)
    deterministic = _spiking_gradients(weights, inputs, cotangents, silent, seed, torch.arange(1))[:, 0]
    total, squares = 0.0, 0.0
    for some in torch.arange(trials).split(TRIALS_AT_ONCE):
        gradients = _spiking_gradients(weights, inputs, cotangents, ESCAPES, seed, some)
        total, squares = total + gradients.sum(1), squares + gradients.square().sum((1, 2))
    mean = total / trials
    error = (squares - trials * mean.square().sum(1)) / (trials - 1) / trials  # squared standard error of the mean
    norm = (mean.square().sum(1) - error).sqrt()
    relative = ((deterministic - mean).square().sum(1) - error).clamp(min=0).sqrt() / norm
    cosine = (deterministic * mean).sum(1) / (deterministic.norm(dim=1) * norm)
    return {kind: {"relative": float(relative[k]), "cosine": float(cosine[k])} for k, kind in enumerate(SPIKING)}


def _spiking(nets: int, units: int, epochs: int, trials: int, seed: int) -> dict:
    """Selection bias of each of ``nets`` networks, by kind of gradient, before and after training."""
    found = []
    for net in range(seed, seed + nets):
        inputs, target, weights = _spiking_networks(net, units, epochs)
        found.append({when: _spiking_selection(pair, inputs, target, net, trials) for when, pair in weights.items()})
    keys = ("relative", "cosine")
    return {
        kind: {when: {key: np.array([each[when][kind][key] for each in found]) for key in keys} for when in TRAINED}
        for kind in SPIKING
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
    spiking_nets: int = 10,
    spiking_units: int = 200,
    spiking_epochs: int = 1500,
    spiking_trials: int = 100,
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
        spiking_nets, spiking_units, spiking_epochs, spiking_trials: networks of LIF neurons in panel E, units in each
            of their layers, epochs of training, and stochastic trials of each.
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
        "scale": f"all paths enumerated in {nets} random nets; {spiking_nets} spiking ones, {spiking_epochs} epochs, "
        f"{spiking_trials} trials",
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
        "relative_of_each": np.array([s["relative"] for s in chosen]),
        "spiking": _spiking(spiking_nets, spiking_units, spiking_epochs, spiking_trials, seed),
        "spiking_epochs": spiking_epochs,
        "spiking_trials": spiking_trials,
        "nets": nets,
        "sizes": sizes,
    }


def _before_to_after(each: dict) -> str:
    def text(of):
        cosine = of["cosine"]
        return f"{np.median(of['relative']):.2f}, {np.median(cosine):.2f} [{np.min(cosine):.2f}, {np.max(cosine):.2f}]"

    return " to ".join(text(each[when]) for when in TRAINED)


def claims(numbers: dict) -> list[Claim]:
    """C5: the deterministic surrogate gradient is that of one path."""
    betas, beta, nets, sizes = (numbers[key] for key in ("betas", "beta", "nets", "sizes"))
    relative, in_sd, on_same_path = (numbers[key] for key in ("relative_bias", "bias_in_sd", "on_same_path"))
    spiking = numbers["spiking"]
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
            decides=f"difference {on_same_path:.1e}; bias {relative[1]:.2f} of the norm of the mean",
            source="Section 3.2.2, a word on SGs in deterministic networks, preprint",
            choice="random nets of a few perceptrons",
            settles="nothing: an identity, and examples of a bias",
        ),
        Claim(
            "C5.small",
            "The selection bias is generally small",
            f"perceptrons: median {relative[1]:.2f} of the norm of the mean, median cosine between deterministic and"
            f" mean {direction:.2f}. Networks of Figure 6 before and after {numbers['spiking_epochs']} epochs, median"
            " of the bias over the norm, median and range of the cosine: "
            + "; ".join(f"{label} {_before_to_after(spiking[kind])}" for kind, (label, _) in SPIKING.items())
            + f" ({len(spiking['loss']['after']['cosine'])} networks, {numbers['spiking_trials']} trials)",
            "median below a quarter of the norm of the mean, in perceptrons and in spiking networks",
            bool(
                relative[1] < 0.25
                and all(np.median(each[when]["relative"]) < 0.25 for each in spiking.values() for when in TRAINED)
            ),
            decides=f"bias {relative[1]:.2f} of the norm in perceptrons, "
            + ", ".join(f"{np.median(each['after']['relative']):.2f}" for each in spiking.values())
            + " in trained spiking networks",
            source="Section 3.2.2, preprint: the bias is generally small in practice",
            choice="random perceptrons; what counts as small; the surrogate of the gradient in spiking networks,"
            f" sigmoid' of β = {BETAS[0]:g} in both layers",
            settles="networks that are trained with noise",
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
            decides=f"bias {fixed:.2g} at beta = {betas[-1]}",
            source="Section 3.2.2, preprint: deterministic networks are a limit case of stochastic networks",
            choice="which surrogate: fixed, or matched to the noise",
            settles="a limit with the matched surrogate, in which it fails",
        ),
    ]


def draw(numbers: dict):
    """Tree with the deterministic path; distribution over paths; selection bias over beta; cosines over nets."""
    figure = plt.figure(figsize=(6.7, 4.8))
    upper, lower = figure.add_gridspec(2, 1)
    tree_axes, histogram_axes = upper.subgridspec(1, 2).subplots()
    beta_axes, cosine_axes, spiking_axes = lower.subgridspec(1, 3).subplots()
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
    cosine_axes.set_title("with the exact gradient", fontsize=7)
    panel_letter(cosine_axes, "D")

    dots = {"linestyle": "", "mfc": "none", "markersize": 3.5}
    perceptrons = cosines["deterministic_to_mean"]
    spiking_axes.plot(numbers["relative_of_each"], perceptrons, "o", color="0.5", label="perceptrons", **dots)
    for kind, (label, colour) in SPIKING.items():
        for when, marker in TRAINED.items():
            each = numbers["spiking"][kind][when]
            name = f"{label}, {when}"
            spiking_axes.plot(each["relative"], each["cosine"], marker, color=colour, label=name, **dots)
    spiking_axes.set(xlabel="relative selection bias", ylabel="cosine to the mean", ylim=(0, 1.9), yticks=(0, 0.5, 1))
    spiking_axes.legend(fontsize=5.5, loc="upper right")
    panel_letter(spiking_axes, "E")
    caption(
        figure,
        numbers["scale"],
        "A, grey: all paths, as wide as they are probable",
        "C: median and quartiles over nets; D, E: nets, D with the line of equality",
    )
    return figure
