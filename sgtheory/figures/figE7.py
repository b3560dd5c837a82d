"""Figure E7 (not in the paper): how far the mean surrogate gradient of spiking networks is from being a gradient
(Section 4.2)."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from sgtheory.claims import Claim
from sgtheory.figures._descent import descend
from sgtheory.figures._matching_network import NEURONS, MatchingNetwork
from sgtheory.figures._output import caption, panel_letter
from sgtheory.figures._statistics import all_below, interval_text, median_interval, median_text
from sgtheory.lif import Noise
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import (
    SPIKE_MATCHING_NEURON,
    LIFNet,
    LIFObjective,
    SurrogateGradient,
    likelihood_field,
    mean_circulation,
    mean_jacobians,
    random_lif_objective,
    side_by_side,
    squared_norm,
)

STAGES = ("before", "after")
BLOCKS = ("hidden", "output", "between")
BLOCK_LABELS = {"hidden": "within hidden", "output": "within output", "between": "between layers"}
COLOURS = ("#E6A532", "#C0504D", "#6B4C9A")
GRADED_BETA = 2.0  # steeper ones need far more points than spikes with noise
EXACT = "exact"  # the likelihood ratio, of which the mean is a gradient


def _surrogate(beta: float, share: float):
    """The surrogate gradient on each path, with this share of the derivative of the reset."""
    estimator = SurrogateGradient(SigmoidDerivative(beta))

    def field(objective, path):
        here = objective.with_reset_share(share)
        return estimator.on_paths(here, path)

    return field


def _directions(objective: LIFObjective, each: int, rng) -> torch.Tensor:
    """``each`` random orthonormal directions of the hidden weights, and as many of the output weights."""
    sizes = [post * pre for post, pre in objective.net.shapes]
    blocks = [torch.randn(size, each, generator=rng, dtype=torch.float64) for size in sizes]
    return torch.block_diag(*(torch.linalg.qr(block)[0].T for block in blocks))


def _parts(jacobians: torch.Tensor) -> dict[str, list[float]]:
    """Of Jacobians [batches, K, K], half of K in each layer: squared size of the antisymmetric and of the symmetric
    part of each block, without the bias of noise."""
    k = jacobians.shape[-1] // 2
    hidden, output = jacobians[:, :k, :k], jacobians[:, k:, k:]
    pairs = {
        "hidden": (hidden, hidden.mT),
        "output": (output, output.mT),
        "between": (jacobians[:, :k, k:], jacobians[:, k:, :k].mT),
    }
    return {name: _squares(a, b) for name, (a, b) in pairs.items()}


def _squares(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    """Squared size of the mean of (a - b) / 2 and of (a + b) / 2 over batches, [batches, ...]."""
    return [squared_norm((part / 2).reshape(len(part), -1)) for part in (a - b, a + b)]


def _small(objective, beta, ratios, each, paths, batches, seed) -> dict[str, dict]:
    """Parts of the Jacobian of each field, of the whole and of its two terms."""
    rng = torch.Generator().manual_seed(seed)
    directions = _directions(objective, each, rng)
    baseline = torch.stack(objective.consequences(objective.sample_paths(1000, rng))).mean(1)[:, None, None]
    fields = {f"detached {ratio:g}": _surrogate(ratio * beta, 0.0) for ratio in ratios}
    fields |= {"attached 1": _surrogate(beta, 1.0), EXACT: likelihood_field(baseline)}
    found = mean_jacobians(objective, fields, directions, paths, batches, rng)
    return {
        name: {"whole": _parts(terms.sum(0)), "fixed": _parts(terms[0]), "redistributed": _parts(terms[1])}
        for name, terms in found.items()
    }


def _loops(objective, beta, radii, points, paths, batches, seed) -> dict:
    """Circulation over the area of loops in a plane between the layers, [radius, batch], with all points and with half
    of them; the same of the gradient of the weighted mean of the loss, which has none; and twice the antisymmetric
    part of the Jacobian, which is the limit."""
    rng = torch.Generator().manual_seed(seed)
    plane = _directions(objective, 1, rng)
    path = [spikes[:, None] for spikes in objective.sample_paths(paths, rng)]
    surrogate, mean = _surrogate(beta, 0.0), objective.value(path).mean()

    def exact(here, path):
        value = here.value(path) - mean
        return here.gradients(lambda p: value * here.log_likelihood(p, path).sum(0), len(path[0]))

    def around(field, n):
        circles = [mean_circulation(objective, field, plane, r, n, path, batches) / (torch.pi * r**2) for r in radii]
        return torch.stack(circles).numpy()

    (terms,) = mean_jacobians(objective, {"": surrogate}, plane, paths, batches, rng, moved=1).values()
    jacobian = terms.sum(0)
    return {
        "surrogate": around(surrogate, points),
        "half": around(surrogate, points // 2),
        "exact": around(exact, points),
        "limit": (jacobian[:, 1, 0] - jacobian[:, 0, 1]).numpy(),
    }


def _on_circle(field, centre, plane, radius, points) -> torch.Tensor:
    """The field on a circle, projected on its plane, [points, 2]."""
    return torch.stack([plane @ field(centre + radius * (outwards @ plane)) for outwards in _circle(points)])


def _circle(points: int) -> torch.Tensor:
    """(cos a, sin a) for equal steps, [points, 2]."""
    angles = 2 * torch.pi / points * torch.arange(points, dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], -1)


def _circle_jacobian(values: torch.Tensor, radius: float) -> torch.Tensor:
    """(1 / pi r) times the integral of F (cos a, sin a) from values [points, 2], [2, 2].

    That is the Jacobian of a linear field. Its antisymmetric part is the circulation over twice the area, and so it is
    zero for a gradient, linear or not.
    """
    return 2 / (len(values) * radius) * values.mT @ _circle(len(values))


def _network(network, weights, radius, points, batches, trials, seed) -> dict[str, list[float]]:
    """The same parts as :func:`_parts` for the network of Figure 6, from circles in planes of surrogate gradients of
    single trials; between the layers also from half of the points, and with graded spikes."""
    size = NEURONS**2
    singles = [network.gradient(weights, Noise(seed, 100, k), 1)[0].view(2, size) for k in range(2)]
    planes = {}
    for layer, name in enumerate(("hidden", "output")):
        planes[name] = torch.zeros(2, 2, size, dtype=torch.float64)
        planes[name][:, layer] = torch.linalg.qr(torch.stack([one[layer] for one in singles], -1))[0].T
        planes[name] = planes[name].flatten(1)
    planes["between"] = torch.stack([planes["hidden"][0], planes["output"][0]])

    def spiking(batch):
        noise = Noise(seed, 200, batch)  # common to all points of a circle
        return lambda at: network.gradient(at, noise, trials)[0]

    found = {}
    for name, plane in planes.items():
        circles = [_on_circle(spiking(batch), weights, plane, radius, points) for batch in range(batches)]
        found[name] = _planar([_circle_jacobian(values, radius) for values in circles], name == "between")
    found["half"] = _planar([_circle_jacobian(values[::2], radius) for values in circles], True)
    graded = _circle_jacobian(_on_circle(_graded(network), weights, planes["between"], radius, points), radius)
    found["graded"] = _planar([graded, graded], True)  # without noise
    return found


def _planar(jacobians: list[torch.Tensor], off_diagonal: bool) -> list[float]:
    """Squared antisymmetric and symmetric part of Jacobians [2, 2] with independent noise: of the block between the
    layers, of which each direction is one, or of the whole plane."""
    j = torch.stack(jacobians)
    a, b = (j[:, 0, 1], j[:, 1, 0]) if off_diagonal else (j, j.mT)
    return _squares(a, b)


def _graded(network):
    """The gradient of the loss if each spike were a gentle firing probability: a smooth function."""
    neurons = replace(SPIKE_MATCHING_NEURON, reset_gradient="attached")
    net = LIFNet((NEURONS,) * 3, len(network.inputs), neurons, SigmoidEscape(GRADED_BETA))

    def field(weights):
        parameters = weights.view(2, NEURONS, NEURONS).mT.flatten().clone().requires_grad_()
        path = net.run(parameters, network.inputs, lambda _, x: net.escape.value(x))
        loss = 0.5 * (torch.stack(path[1::2]) - network.target).square().sum(0).mean()
        (gradient,) = torch.autograd.grad(loss, parameters)
        return gradient.view(2, NEURONS, NEURONS).mT.flatten()

    return field


def measure(
    inputs: int = 12,
    hidden: int = 8,
    outputs: int = 2,
    steps: int = 30,
    rate: float = 0.05,
    betas: tuple[float, ...] = (5.0, 10.0, 20.0),
    ratios: tuple[float, ...] = (0.25, 1.0, 4.0),
    nets: int = 6,
    updates: int = 120,
    learning_rate: float = 0.1,
    training_paths: int = 12,
    directions: int = 4,
    paths: int = 4096,
    batches: int = 16,
    beta: float = 10.0,
    radii: tuple[float, ...] = (0.01, 0.03, 0.1),
    points: int = 16,
    networks: int = 3,
    network_updates: int = 300,
    network_trials: int = 10,
    network_batches: int = 4,
    network_radius: float = 1.0,
    network_points: int = 8,
    seed: int = 0,
) -> dict:
    """The antisymmetric part of the Jacobian of mean surrogate gradients, relative to the symmetric part, before and
    after training; circulation around loops; and the same of the network of Figure 6.

    Args:
        inputs, hidden, outputs: sizes of small networks; the loss is the van Rossum distance to random spike trains.
        steps: time steps of 1 ms.
        rate: mean firing probability in a step, before training and of the targets.
        betas: steepness of the escape noise.
        ratios: steepness of the surrogate over that of the escape noise; 1 must be among them.
        nets: networks for each beta.
        updates, learning_rate, training_paths: of the training, along the matched surrogate gradient, reset detached.
        directions: random directions in each layer; all planes between them are measured.
        paths, batches: runs, and independent parts of them.
        beta: of the network whose loops are shown.
        radii, points: of the loops (unit of the weights).
        networks: of Figure 6, 200-200-200 neurons, 198 steps.
        network_updates, network_trials: of their training, and trials averaged in each gradient.
        network_batches: independent noise for each loop.
        network_radius, network_points: of the loops (unit of the weights).
        seed: of everything.
    """
    ratios = tuple(dict.fromkeys((*ratios, 1.0)))
    small, loops = [], []
    for steepness in betas:
        made = [
            random_lif_objective((inputs, hidden, outputs), steps, steepness, seed + k, rate=rate) for k in range(nets)
        ]
        estimator = SurrogateGradient(SigmoidDerivative(steepness), paths=training_paths)
        rng = torch.Generator().manual_seed(seed)
        trained = descend(side_by_side(made), estimator, updates, (learning_rate,), rng).parameters
        at = {"before": made, "after": [replace(o, parameters=p) for o, p in zip(made, trained, strict=True)]}
        small.append(
            {
                stage: _stacked([_small(o, steepness, ratios, directions, paths, batches, seed) for o in of])
                for stage, of in at.items()
            }
        )
        if steepness == beta:
            loops = {stage: _loops(of[0], beta, radii, points, paths, batches, seed) for stage, of in at.items()}
    settings = (network_radius, network_points, network_batches, network_trials)
    large, losses = {stage: [] for stage in STAGES}, []
    for k in range(networks):
        network = MatchingNetwork.random(seed + k)
        weights, loss = network.trained(network_updates, network_trials, seed + k)
        losses.append([loss[0], loss[-1]])
        for stage, where in zip(STAGES, (network.weights, weights), strict=True):
            large[stage].append(_network(network, where, *settings, seed + k))
    return {
        "scale": f"{nets} nets for each beta, {paths} paths; {networks} networks of Figure 6",
        "betas": betas,
        "ratios": sorted(ratios),
        "nets": nets,
        "sizes": (inputs, hidden, outputs),
        "steps": steps,
        "small": small,
        "loops": {"beta": beta, "radii": radii, "points": points, **loops},
        "network": {stage: _stacked(found) for stage, found in large.items()},
        "network_loss": losses,
        "network_points": network_points,
        "network_radius": network_radius,
    }


def _stacked(found: list):
    """A list of equal dictionaries of lists as one of arrays with the list as the last dimension."""
    if isinstance(found[0], dict):
        return {key: _stacked([each[key] for each in found]) for key in found[0]}
    return np.array(found).T


def _ratio(parts) -> np.ndarray:
    """Antisymmetric over symmetric part, [net]; 0 where the noise hides the antisymmetric one."""
    antisymmetric, symmetric = np.asarray(parts, dtype=float)
    return np.sqrt(np.clip(antisymmetric, 0, None) / np.where(symmetric > 0, symmetric, np.nan))


def _ratios(numbers, at, stage, field, block, term="whole") -> np.ndarray:
    return _ratio(numbers["small"][at][stage][field][term][block])


def claims(numbers: dict) -> list[Claim]:
    """E7: curl of the mean surrogate gradient at initial and trained weights, where it comes from, and its size."""
    betas, ratios, scale = list(numbers["betas"]), list(numbers["ratios"]), numbers["scale"]
    choice = (
        f"nets {'-'.join(map(str, numbers['sizes']))}, {numbers['steps']} steps, van Rossum loss, random planes; "
        "medians over nets, 95 % bootstrap intervals; thresholds set before the full run, after a first look at one net"
    )
    at = [(i, stage) for i in range(len(betas)) for stage in STAGES]

    def all_of(field, block, term="whole"):
        return {(i, stage): _ratios(numbers, i, stage, field, block, term) for i, stage in at}

    def listed(values):
        return ", ".join(
            f"{median_text(v, '.2g')} (beta = {betas[i]:g}, {stage} training)" for (i, stage), v in values.items()
        )

    matched = all_of("detached 1", "between")
    squares = {
        field: np.concatenate(
            [np.divide(*np.asarray(numbers["small"][i][stage][field]["whole"]["between"])) for i, stage in at]
        )
        for field in ("detached 1", EXACT)
    }
    ends = [f"detached {ratio:g}" for ratio in (ratios[0], ratios[-1])]
    mismatch = {field: np.concatenate(list(all_of(field, "between").values())) for field in (*ends, "detached 1")}
    paired = {field: median_interval(mismatch["detached 1"] - mismatch[field]) for field in ends}
    attached = np.concatenate(
        [
            all_of("attached 1", "between")[i, stage] - matched[i, stage]
            for i, stage in at
            if betas[i] <= numbers["loops"]["beta"]
        ]
    )
    fixed = {
        field: np.concatenate([v for block in ("hidden", "output") for v in all_of(field, block, "fixed").values()])
        for field in ("detached 1", "attached 1")
    }
    loops = numbers["loops"]
    gaps, halves, controls = [], [], []
    for stage in STAGES if STAGES[0] in loops else ():
        found = {key: np.asarray(loops[stage][key]) for key in ("surrogate", "half", "exact", "limit")}
        smallest, limit = found["surrogate"][0], found["limit"]
        error = np.hypot(smallest.std(), limit.std()) / len(limit) ** 0.5
        gaps.append((smallest.mean() - limit.mean()) / error)
        halves.append(np.abs(found["half"] - found["surrogate"]).max() / np.abs(found["surrogate"]).mean())
        controls.append(np.abs(found["exact"]).max() / np.abs(found["surrogate"]).mean())
    network = {stage: {b: _ratio(parts) for b, parts in numbers["network"][stage].items()} for stage in STAGES}
    coarse = max(np.abs(network[stage]["half"] / network[stage]["between"] - 1).max() for stage in STAGES)
    return [
        Claim(
            "E7.curl",
            "The mean surrogate gradient of spiking networks is not a gradient, before and after training",
            f"antisymmetric over symmetric part between the layers, matched surrogate: {listed(matched)}; squared, all "
            f"beta and stages: {median_text(squares['detached 1'], '.2g')}, of the exact gradient "
            f"{median_text(squares[EXACT], '.2g')} ({scale})",
            "squared, noise subtracted: the interval of the surrogate is above 0, that of the exact gradient is not",
            bool(median_interval(squares["detached 1"])[1] > 0 and median_interval(squares[EXACT])[1] <= 0),
            decides=f"ratio squared {median_text(squares['detached 1'], '.2g')}, exact "
            f"{median_text(squares[EXACT], '.1g')}",
            choice=choice,
        ),
        Claim(
            "E7.mismatch",
            "The curl is smallest where the surrogate is matched to the noise",
            "antisymmetric over symmetric part between the layers, all beta and stages: "
            + ", ".join(f"{median_text(v, '.2g')} ({field})" for field, v in mismatch.items())
            + "; matched less these, net by net: "
            + ", ".join(f"{median_text(mismatch['detached 1'] - mismatch[field], '.2g')}" for field in ends)
            + f". Seen on the way: the reset attached instead of detached, beta up to {numbers['loops']['beta']:g}: "
            f"{median_text(attached, '.2g')}, lower in {(attached < 0).sum()} of {len(attached)}",
            "the intervals of the differences below 0",
            **all_below(0, paired.values(), "more nets"),
            decides="; ".join(f"1 less {field.split()[1]}: {interval_text(gap)}" for field, gap in paired.items()),
            choice=choice + "; the number is beta_SG / beta",
        ),
        Claim(
            "E7.path",
            "Within a layer and along spikes that stay as they are, the detached surrogate gradient is a gradient; its "
            "curl comes from the spikes that become more likely. The attached one has curl along each path",
            "antisymmetric over symmetric part of the change along fixed paths, within layers: "
            + ", ".join(f"{field} {median_text(v, '.2g')}" for field, v in fixed.items()),
            "detached below 1e-6, attached above 1e-2 (medians)",
            bool(np.nanmedian(fixed["detached 1"]) < 1e-6 and np.nanmedian(fixed["attached 1"]) > 1e-2),
            decides=", ".join(f"{field.split()[0]} {median_text(v, '.1g')}" for field, v in fixed.items()),
            choice=choice,
        ),
        Claim(
            "E7.loops",
            "Small loops say the same as the Jacobian, and their control is zero",
            f"circulation over area at radius {loops['radii'][0]:g} less the curl, in standard errors: "
            f"{', '.join(f'{g:.2f}' for g in gaps)}; half of the {loops['points']} points change it by at most "
            f"{max(halves, default=np.nan):.1e}; the gradient of the weighted loss has "
            f"{max(controls, default=np.nan):.0e} of it",
            "within 3 standard errors; 1 %; 1e-6",
            bool(gaps and max(map(abs, gaps)) < 3 and max(halves) < 1e-2 and max(controls) < 1e-6),
            decides=f"off by {', '.join(f'{g:.2f}' for g in gaps)} standard errors, the control by "
            f"{max(controls, default=np.nan):.0e}",
            choice=choice,
        ),
        Claim(
            "E7.network",
            "The network of Figure 6 has it as well, between the layers more than within them, before and after "
            "training",
            "; ".join(
                f"{stage} training: " + ", ".join(f"{BLOCK_LABELS[b]} {_range(network[stage][b])}" for b in BLOCKS)
                for stage in STAGES
            )
            + f"; half of the points change the ratio between the layers by at most {coarse:.0%}; with graded spikes "
            f"it is at most {max(network[stage]['graded'].max() for stage in STAGES):.1g}",
            "between the layers above 0.1 in every network, and above both layers' own; graded spikes below 0.02",
            all(
                network[s]["between"].min() > 0.1
                and np.median(network[s]["between"]) > max(np.median(network[s][b]) for b in ("hidden", "output"))
                and network[s]["graded"].max() < 0.02
                for s in STAGES
            ),
            decides="between layers " + ", ".join(f"{_range(network[s]['between'])} {s}" for s in STAGES),
            choice="planes of surrogate gradients of single trials, circles of radius "
            f"{numbers['network_radius']:g} (1 % of the length of the weights), {numbers['network_points']} points, "
            "the same noise at all points; range over networks; thresholds set after a first look at one network",
        ),
    ]


def _range(values: np.ndarray) -> str:
    return f"{np.min(values):.2f} to {np.max(values):.2f}"


def draw(numbers: dict):
    """Antisymmetric over symmetric part against the surrogate's steepness, by block; terms; loops; network."""
    figure = plt.figure(figsize=(6.9, 5.2))
    panels = figure.subplots(2, 3)
    for axes, block, letter in zip(panels[0], ("between", "hidden", "output"), "ABC", strict=True):
        _draw_block(axes, numbers, block)
        panel_letter(axes, letter)
    panels[0, 0].set_ylabel("antisymmetric / symmetric part")
    handles = [plt.Line2D([], [], color=c, label=f"β = {b:g}") for b, c in zip(numbers["betas"], COLOURS, strict=False)]
    handles += [
        plt.Line2D([], [], color="0.4", linestyle="-", label="before training"),
        plt.Line2D([], [], color="0.4", linestyle="--", label="after training"),
        plt.Line2D([], [], color="0.4", marker="^", linestyle="none", markersize=4, label="reset attached"),
        plt.Line2D([], [], color="0.4", marker="x", linestyle="none", markersize=4, label="exact gradient (control)"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=6.5)
    _draw_terms(panels[1, 0], numbers)
    _draw_loops(panels[1, 1], numbers)
    _draw_network(panels[1, 2], numbers)
    for axes, letter in zip(panels[1], "DEF", strict=True):
        panel_letter(axes, letter)
    caption(
        figure,
        "Is the mean surrogate gradient of a spiking network the gradient of anything? 0: yes; 1: no symmetry at all",
        f"Median over {numbers['nets']} nets, 95 % interval; at {FLOOR:g} no antisymmetric part is above the noise",
        "F: networks",
    )
    return figure


FLOOR = 1e-3


def _interval(values):
    return np.clip(median_interval(values), FLOOR, None)


def _draw_block(axes, numbers, block):
    ratios = np.asarray(numbers["ratios"])
    for at, colour in zip(range(len(numbers["betas"])), COLOURS, strict=False):
        for stage, style, side in zip(STAGES, ("-", "--"), (0.95, 1.05), strict=True):
            lines = [_interval(_ratios(numbers, at, stage, f"detached {ratio:g}", block)) for ratio in ratios]
            middle, low, high = np.array(lines).T
            x = ratios * side ** (1 + at)
            axes.errorbar(
                x, middle, [middle - low, high - middle], fmt=f"o{style}", color=colour, markersize=3, elinewidth=0.7
            )
            for field, marker in (("attached 1", "^"), (EXACT, "x")):
                middle, low, high = _interval(_ratios(numbers, at, stage, field, block))
                error = [[middle - low], [high - middle]]
                x = [0.8 * side ** (1 + at) if field == EXACT else 1.25 * side ** (1 + at)]
                axes.errorbar(x, [middle], error, fmt=marker, color=colour, markersize=4, elinewidth=0.4)
    axes.set(xscale="log", yscale="log", ylim=(0.8 * FLOOR, 2), xlabel="$β_{SG}$ / β")
    axes.set_xticks(ratios, [f"{r:g}" for r in ratios])
    axes.minorticks_off()
    axes.set_title(BLOCK_LABELS[block], fontsize=7)


def _draw_terms(axes, numbers):
    at = len(numbers["betas"]) // 2
    found = numbers["small"][at]["before"]["detached 1"]
    labels = {"fixed": "spikes fixed", "redistributed": "spikes redistributed", "whole": "sum"}
    for k, ((term, label), colour) in enumerate(zip(labels.items(), ("#008CA5", "#5B8C3E", "0.2"), strict=True)):
        # each term's antisymmetric part over the symmetric part of the sum
        parts = [(np.asarray(found[term][b])[0], np.asarray(found["whole"][b])[1]) for b in BLOCKS]
        middle, low, high = np.array([_interval(_ratio(part)) for part in parts]).T
        at_row, error = np.arange(len(BLOCKS)) + 0.25 * (k - 1), [middle - low, high - middle]
        axes.errorbar(middle, at_row, xerr=error, fmt="o", color=colour, markersize=4, elinewidth=0.8, label=label)
    axes.set_yticks(range(len(BLOCKS)), [BLOCK_LABELS[b] for b in BLOCKS], fontsize=6.5)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="antisymmetric / symmetric part")
    axes.set_title(f"before training, β = {numbers['betas'][at]:g}", fontsize=7)
    axes.legend(fontsize=5.5, loc="lower left")


def _draw_loops(axes, numbers):
    loops = numbers["loops"]
    radii = np.asarray(loops["radii"])
    for stage, colour in zip(STAGES, ("#008CA5", "#B5483A"), strict=True):
        if stage not in loops:
            continue
        values, limit = np.asarray(loops[stage]["surrogate"]), np.asarray(loops[stage]["limit"])
        n = values.shape[1] ** 0.5
        axes.errorbar(
            radii, values.mean(1), 2 * values.std(1) / n, fmt="o", color=colour, markersize=3, label=f"{stage} training"
        )
        axes.axhspan(*(limit.mean() + 2 * side * limit.std() / n for side in (-1, 1)), color=colour, alpha=0.15)
        axes.plot(radii, np.asarray(loops[stage]["exact"]).mean(1), "x", color=colour, markersize=4)
    axes.axhline(0, color="0.7", linewidth=0.6)
    axes.set(xscale="log", xlabel="radius of the loop", ylabel="circulation / area")
    axes.set_xticks(radii, [f"{radius:g}" for radius in radii])
    axes.minorticks_off()
    axes.set_title(f"one net, β = {loops['beta']:g}", fontsize=7)
    axes.fill_between([], [], color="0.7", alpha=0.5, label="Jacobian")
    axes.set_ylim(top=1.5 * axes.get_ylim()[1])
    axes.legend(fontsize=5.5, loc="upper left", ncols=2)


def _draw_network(axes, numbers):
    for shift, stage, colour in ((-0.12, "before", "#008CA5"), (0.12, "after", "#B5483A")):
        for row, block in enumerate((*BLOCKS, "graded")):
            values = np.clip(_ratio(numbers["network"][stage][block]), FLOOR, None)
            axes.plot(values, np.full(len(values), row + shift), "o", color=colour, markersize=4, alpha=0.8)
        axes.plot([], [], "o", color=colour, markersize=4, label=f"{stage} training")
    labels = [BLOCK_LABELS[b] for b in BLOCKS] + ["graded spikes\n(control)"]
    axes.set_yticks(range(len(labels)), labels, fontsize=6.5)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(0.8 * FLOOR, 3), xlabel="antisym. / symmetric part")
    axes.set_title("network of Figure 6", fontsize=7)
    axes.legend(fontsize=5.5, loc="center right")
