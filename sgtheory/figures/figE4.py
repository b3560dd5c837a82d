"""Figure E4 (not in the paper): shall back-propagation pass through the reset? (Section 5, Discussion)"""

import itertools
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats

from sgtheory.claims import Claim
from sgtheory.figures._output import caption, panel_letter
from sgtheory.figures._statistics import contains_zero, median_interval, median_text
from sgtheory.neurons import ScaledSigmoidDerivative, SigmoidDerivative, SuperSpike
from sgtheory.theory import LIF_NEURON, LIFObjective, ScoreFunction, SurrogateGradient, agreement, random_lif_objective

RESETS = ("next", "same")
SURROGATES = {"matched": SigmoidDerivative, "scaled": ScaledSigmoidDerivative, "superspike": SuperSpike}
LABELS = {"matched": "matched, sigmoid'", "scaled": "sigmoid' / β", "superspike": "SuperSpike"}
COLOURS = {0.0: "#008CA5", 0.25: "#5B8C3E", 0.5: "#A993C9", 1.0: "#B5483A"}
SHARE_LABELS = {0.0: "detached", 1.0: "attached"}
LAYERS = ("hidden", "output")
KNOWN = 0.3  # a layer of a net is left out where the reference has a larger relative error
GENTLE, STEEP = 10.0, 20.0
LAGS = 20  # steps over which a change of the potential is followed


def _compare(objective, variants, batches, reference_paths, paths, seed) -> dict[str, dict[str, dict]]:
    """Of every variant (name: surrogate, share of the reset) and layer what :class:`Agreement` has."""
    rng = torch.Generator().manual_seed(seed)
    reference = ScoreFunction(baseline=True, paths=reference_paths).sample(objective, batches, rng)
    first, last = objective.net.shapes[0], objective.net.shapes[-1]
    part = {"hidden": slice(first[0] * first[1]), "output": slice(-last[0] * last[1], None)}
    found = {}
    for name, (surrogate, share) in variants.items():
        rng = torch.Generator().manual_seed(seed + 1)  # the same paths for all variants
        estimates = SurrogateGradient(surrogate, paths=paths).sample(objective.with_reset_share(share), batches, rng)
        found[name] = {layer: asdict(agreement(estimates[:, at], reference[:, at])) for layer, at in part.items()}
    return found


def _table(nets: list[dict]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """nets[net][variant][layer][measure] -> table[variant][layer][measure][net]."""
    return {
        name: {
            layer: {key: [net[name][layer][key] for net in nets] for key in nets[0][name][layer]} for layer in LAYERS
        }
        for name in nets[0]
    }


def _sensitivity(objective: LIFObjective, share: float, paths: int, seed: int) -> np.ndarray:
    """Mean over paths, hidden neurons and times of (dU[n+k] / dU[n])^2 along a neuron, k = 0, ..., LAGS or less in
    short runs.

    For reset "same", dU[n+1] / dU[n] = a_m (1 - S[n] - share U[n] p'(U[n] - theta)).
    """
    net, found = objective.net, []
    layers = len(net.sizes) - 1
    uniforms = net.uniforms((paths,), torch.Generator().manual_seed(seed))

    def draw(group, x):
        spikes = (uniforms[group] < net.escape.value(x)).double()
        if group % layers == 0:
            slope = share * (x + net.neurons.threshold) * net.escape.derivative(x)
            found.append((net.neurons.membrane_decay * (1 - spikes - slope)).expand_as(spikes))
        return spikes

    net.run(objective.parameters, objective.x, draw)
    factors = torch.stack(found[2:]).square()  # from the first step in which the potential can be different from 0
    windows = factors.unfold(0, min(LAGS, len(factors)), 1).cumprod(-1)  # [start, path, neuron, lag]
    return np.concatenate([[1.0], windows.mean((0, 1, 2)).numpy()])


def measure(
    inputs: int = 12,
    hidden: int = 8,
    outputs: int = 2,
    steps: int = 50,
    betas: tuple[float, ...] = (5.0, 7.0, 10.0, 14.0, 20.0),
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0),
    rate: float = 0.05,
    beta: float = 10.0,
    long: int = 100,
    rates: tuple[float, ...] = (0.02, 0.1),
    depths: tuple[int, ...] = (2, 3),
    nets: int = 8,
    batches: int = 32,
    reference_paths: int = 500,
    paths: int = 200,
    seed: int = 0,
) -> dict:
    """Surrogate gradients with the reset attached, detached and in between, against the gradient of the expected loss.

    The reference is the likelihood ratio with reward-to-go and baseline; the surrogate gradient is the mean over paths.

    Args:
        inputs, hidden, outputs: sizes of random nets of LIF neurons; the loss is a van Rossum distance.
        steps: time steps of 1 ms.
        betas: steepness of the escape noise (1 / unit of U), and of the surrogate derivatives.
        shares: of the derivative of the reset that back-propagation takes; 0 and 1 must be among them.
        rate: mean firing probability in a step, hidden and output.
        beta, long, rates, depths: steepness at which the number of steps, the rate, the number of hidden layers and
            recurrence are varied, each by itself.
        nets: random nets for each condition.
        batches: independent averages from which all errors follow.
        reference_paths, paths: runs in each of them.
        seed: of the first net; the others follow.
    """
    shares = tuple(dict.fromkeys((0.0, *shares, 1.0)))
    of_share = {f"{share:g}": (SigmoidDerivative, share) for share in shares}
    ends = {f"{name} {share:g}": (kind, share) for name, kind in SURROGATES.items() for share in (0.0, 1.0)}
    sizes = (inputs, hidden, outputs)

    def condition(variants, steepness, layers=sizes, duration=steps, reset="next", **options):
        options = {"rate": rate, "neurons": replace(LIF_NEURON, reset=reset)} | options
        objectives = [random_lif_objective(layers, duration, steepness, seed + net, **options) for net in range(nets)]
        made = {name: (kind(steepness), share) for name, (kind, share) in variants.items()}
        return objectives, _table([_compare(o, made, batches, reference_paths, paths, seed) for o in objectives])

    over_beta, growth = {reset: [] for reset in RESETS}, []
    for reset, steepness in itertools.product(RESETS, betas):
        objectives, table = condition(of_share, steepness, reset=reset)
        over_beta[reset].append(table)
        if reset == "same":
            growth.append([[_sensitivity(o, share, 4 * paths, seed) for o in objectives] for share in (0.0, 1.0)])
    others = {
        f"{steps} steps": {},
        f"{long} steps": {"duration": long},
        **{f"{1e3 * r:g} Hz": {"rate": r} for r in rates},
        **{f"{d} hidden layers": {"layers": (inputs, *[hidden] * d, outputs)} for d in depths},
        "recurrent": {"recurrent": True},
    }
    pair = {name: of_share[name] for name in ("0", "1")}
    return {
        "scale": f"{nets} random nets a condition, {batches} x {paths} paths, reference {batches} x {reference_paths}",
        "betas": betas,
        "shares": shares,
        "beta": beta,
        "nets": nets,
        "paths": batches * paths,
        "reference_paths": batches * reference_paths,
        "sizes": sizes,
        "steps": steps,
        "rate": rate,
        "over_beta": over_beta,
        "surrogates": [condition(ends, steepness)[1] for steepness in betas],
        "sensitivity": np.array(growth),  # [beta, detached or attached, net, lag]
        "others": {name: condition(pair, beta, **options)[1] for name, options in others.items()},
    }


def _of(table: dict, variant: str, layer: str, key: str) -> np.ndarray:
    """A measure of every net of which the reference is known well enough, else NaN."""
    found = table[variant][layer]
    return np.where(np.asarray(found["reference_error"]) < KNOWN, np.asarray(found[key], dtype=float), np.nan)


def _line(tables: list[dict], variant: str, layer: str, key: str) -> np.ndarray:
    """Median over nets and its 95 % interval, [3, condition]."""
    return np.array([median_interval(_of(table, variant, layer, key)) for table in tables]).T


def _median(values: np.ndarray) -> float:
    """Of what is not NaN; NaN without numbers."""
    return median_interval(np.ravel(values))[0]


def _growth(sensitivity: np.ndarray) -> np.ndarray:
    """Factor per step of the mean square over the last half of the lags, median over nets; [beta, 2]."""
    lags = sensitivity.shape[-1] - 1
    half = lags // 2
    factor = (sensitivity[..., -1] / sensitivity[..., half]) ** (1 / (lags - half))
    return np.median(factor, axis=-1)


def claims(numbers: dict) -> list[Claim]:
    """E4: direction, length, and the mean that attached gradients have in gentle and lack in steep nets."""
    betas = list(numbers["betas"])
    gentle, steep = (min(range(len(betas)), key=lambda i, b=b: abs(betas[i] - b)) for b in (GENTLE, STEEP))
    growth, scale = _growth(np.asarray(numbers["sensitivity"])), numbers["scale"]
    choice = (
        f"nets {'-'.join(map(str, numbers['sizes']))}, {numbers['steps']} steps of 1 ms, {1e3 * numbers['rate']:g} Hz, "
        "matched surrogate, mean over paths; van Rossum loss; medians over nets with 95 % bootstrap intervals"
    )

    def values(at, share, layer, key):  # [reset, net]
        return np.array([_of(numbers["over_beta"][reset][at], share, layer, key) for reset in RESETS])

    def gap(at, share, layer):  # mean over resets, for which a net has the same input and target
        found = values(at, share, layer, "cosine") - values(at, "0", layer, "cosine")
        return np.array([net[np.isfinite(net)].mean() for net in found.T if np.isfinite(net).any()])

    lengths = {share: values(gentle, share, "hidden", "length") for share in ("0", "1")}
    closer = {layer: gap(gentle, "1", layer) for layer in LAYERS}
    won, compared = int((closer["hidden"] > 0).sum()), len(closer["hidden"])
    p, against = (
        stats.binomtest(won, compared, alternative=side).pvalue if compared else 1.0 for side in ("greater", "less")
    )
    errors = {share: values(steep, share, "hidden", "error") for share in ("0", "0.25", "1")}
    part = {at: gap(at, "0.25", "hidden") for at in (gentle, steep)}
    interval = median_interval(part[gentle])  # of what a quarter of the derivative gains
    scaled = numbers["surrogates"][steep]
    one, *deeper = numbers["others"]
    depths = ["1 hidden layer", *(name for name in deeper if name.endswith("hidden layers"))]
    by_depth = {
        share: [_median(_of(numbers["others"][name], share, "hidden", "length")) for name in (one, *depths[1:])]
        for share in ("0", "1")
    }
    through = {
        name: _of(scaled, f"{name} 1", "hidden", "cosine") - _of(scaled, f"{name} 0", "hidden", "cosine")
        for name in ("scaled", "superspike")
    }
    return [
        Claim(
            "E4.length",
            f"At beta = {betas[gentle]:g} strict stochAD, with the reset attached, has nearly the length of the "
            "gradient of the expected loss; detached it is several times too long",
            f"hidden weights, length over that of the reference: attached {median_text(lengths['1'])}, detached "
            f"{median_text(lengths['0'], '.1f')} ({scale})",
            "attached between 1/2 and 2, detached above 3",
            bool(0.5 < _median(lengths["1"]) < 2 and _median(lengths["0"]) > 3),
            decides=f"length attached {median_text(lengths['1'])}, detached {median_text(lengths['0'], '.1f')}",
            choice=choice,
        ),
        Claim(
            "E4.depth",
            "The excess length of the detached gradient multiplies from layer to layer; the attached one keeps its own",
            f"first layer, length over that of the reference at beta = {numbers['beta']:g}, with "
            f"{', '.join(depths)}: detached {', '.join(f'{v:.3g}' for v in by_depth['0'])}; attached "
            f"{', '.join(f'{v:.2f}' for v in by_depth['1'])} (medians, reset next)",
            "detached twice as long or more with each layer, attached between 1/2 and 2",
            bool(np.all(np.diff(np.log2(by_depth["0"])) > 1) and np.all(np.abs(np.log2(by_depth["1"])) < 1)),
            decides=f"length detached {', '.join(f'{v:.3g}' for v in by_depth['0'])}; attached "
            f"{', '.join(f'{v:.2g}' for v in by_depth['1'])}",
            choice=choice,
        ),
        Claim(
            "E4.direction",
            f"At beta = {betas[gentle]:g} the attached gradient also points closer to it",
            f"cosine attached - detached: hidden {median_text(closer['hidden'])}, output "
            f"{median_text(closer['output'])}; hidden higher in {won} of {compared} nets, mean of "
            f"both resets (sign test p = {p:.2g})",
            "higher in more nets, p < 0.01",
            bool(p < 0.01),
            undecided="" if min(p, against) < 0.01 else "more nets",
            decides=f"closer by {median_text(closer['hidden'])}, in {won} of {compared} nets (p = {p:.2g})",
            choice=choice,
        ),
        Claim(
            "E4.tails",
            f"At beta = {betas[steep]:g} the attached gradient has no mean in practice, the detached one has",
            f"standard error of the mean over its length after {numbers['paths']} paths, hidden weights: attached "
            f"{median_text(errors['1'])}, detached {median_text(errors['0'], '.3f')}",
            "attached above 0.3 for half of the nets, detached below 0.1",
            bool(_median(errors["1"]) > 0.3 and _median(errors["0"]) < 0.1),
            decides=f"error attached {median_text(errors['1'])}, detached {median_text(errors['0'], '.3f')}",
            choice=choice + "; 0.3",
            settles="more paths: the error of a mean that exists falls with their square root",
        ),
        Claim(
            "E4.term",
            "The reason is the factor dU[n+1] / dU[n] through the reset: its mean square exceeds 1 where neurons are "
            "steep",
            "mean-square growth per step, attached: "
            + ", ".join(f"{g:.2f} (beta = {b:g})" for b, g in zip(betas, growth[:, 1], strict=True))
            + f"; detached at most {growth[:, 0].max():.2f} (reset same; tangent at threshold 1 - beta / 4)",
            f"attached below 1 up to beta = {betas[gentle]:g} and above 1 at {betas[steep]:g}, detached below 1",
            bool(growth[gentle, 1] < 1 < growth[steep, 1] and growth[:, 0].max() < 1),
            decides=f"growth {growth[gentle, 1]:.2f} at beta = {betas[gentle]:g}, {growth[steep, 1]:.2f} at "
            f"{betas[steep]:g}; detached {growth[:, 0].max():.2f}",
            choice=choice,
        ),
        Claim(
            "E4.share",
            "With a quarter of the derivative of the reset the gradient points closer to the exact one than with none "
            f"at beta = {betas[gentle]:g}, and is no worse at {betas[steep]:g}, where it keeps its mean",
            "cosine with 1/4 - detached, hidden weights: "
            + ", ".join(f"{median_text(found, '.3f')} (beta = {betas[at]:g})" for at, found in part.items())
            + f"; standard error over length at {betas[steep]:g}: {median_text(errors['0.25'], '.3f')}",
            f"interval above 0 at {betas[gentle]:g}; median above -0.02 and error below 0.1 at {betas[steep]:g}",
            bool(interval[1] > 0 and _median(part[steep]) > -0.02 and _median(errors["0.25"]) < 0.1),
            undecided="more nets" if contains_zero(interval) else "",
            decides="closer by "
            + ", ".join(f"{median_text(found)} (beta {betas[at]:g})" for at, found in part.items()),
            choice=choice + "; the share 1/4, after a first look",
        ),
        Claim(
            "E4.scaled",
            "A surrogate of peak 1/4 or 1 may pass through the reset: it changes the direction little",
            f"cosine attached - detached at beta = {betas[steep]:g}, hidden weights: "
            + ", ".join(f"{LABELS[name]} {median_text(gap)}" for name, gap in through.items()),
            "medians within 0.1 of 0",
            all(abs(_median(gap)) < 0.1 for gap in through.values()),
            decides="change of cosine " + ", ".join(map(median_text, through.values())),
            choice=choice.replace("matched surrogate", "reset next"),
        ),
    ]


def draw(numbers: dict):
    """Cosine, length and error over beta; growth of a perturbation; other nets; other surrogates."""
    figure = plt.figure(figsize=(6.9, 5.4))
    panels = figure.subplots(2, 3)
    betas, shares = np.asarray(numbers["betas"]), numbers["shares"]
    for axes, letter, key, label in (
        (panels[0, 0], "A", "cosine", "cosine to exact gradient"),
        (panels[0, 1], "B", "length", "length / exact length"),
        (panels[0, 2], "C", "error", f"rel. error of mean ({numbers['paths']} paths)"),
    ):
        for share, (reset, style) in itertools.product(shares, zip(RESETS, ("-", "--"), strict=True)):
            middle, low, high = _line(numbers["over_beta"][reset], f"{share:g}", "hidden", key)
            colour = COLOURS.get(share, "0.5")
            axes.plot(betas, middle, f"o{style}", color=colour, markersize=2.5)
            axes.fill_between(betas, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set(ylabel=label)
        if key != "cosine":
            axes.set_yscale("log")
            axes.axhline(1, color="0.7", linewidth=0.6)
        _over_beta(axes, betas)
        panel_letter(axes, letter)
    handles = [plt.Line2D([], [], color=COLOURS.get(share, "0.5")) for share in shares]
    names = [f"reset {SHARE_LABELS[s]}" if s in SHARE_LABELS else f"share {s:g} of its derivative" for s in shares]
    handles += [plt.Line2D([], [], color="0.4", linestyle=style) for style in ("-", "--")]
    names += ["reset in the next step", "in the same step"]
    figure.legend(handles, names, loc="outside upper center", ncols=3, fontsize=6.5)
    _draw_growth(panels[1, 0], numbers, betas)
    _draw_others(panels[1, 1], numbers)
    _draw_surrogates(panels[1, 2], numbers, betas)
    caption(
        figure,
        "Does back-propagation through the reset point to the exact gradient, that of the expected loss? Hidden "
        f"weights; median over {numbers['nets']} random nets, 95 % interval",
    )
    return figure


def _over_beta(axes, betas):
    axes.set_xscale("log")
    axes.set_xticks(betas, [f"{b:g}" for b in betas])
    axes.minorticks_off()
    axes.set_xlabel("steepness β")


def _draw_growth(axes, numbers, betas):
    sensitivity = np.median(np.asarray(numbers["sensitivity"]), axis=2)  # [beta, 2, lag]
    for at, (steepness, (detached, attached)) in enumerate(zip(betas, sensitivity, strict=True)):
        colour = plt.get_cmap("inferno")(0.15 + 0.7 * at / max(1, len(betas) - 1))
        axes.plot(attached, color=colour, label=f"β = {steepness:g}")
        if at == len(betas) - 1:
            axes.plot(detached, "--", color=COLOURS[0.0], label="detached")
    axes.set(yscale="log", xlabel="k (steps)", ylabel="mean of (dU[n+k] / dU[n])²", xlim=(0, LAGS))
    axes.axhline(1, color="0.7", linewidth=0.6)
    axes.set_ylim(top=300 * axes.get_ylim()[1])
    axes.legend(loc="upper left", fontsize=5.5, ncols=2)
    panel_letter(axes, "D")


def _draw_others(axes, numbers):
    names = list(numbers["others"])
    for share, offset in ((0.0, -0.12), (1.0, 0.12)):
        middle, low, high = _line(list(numbers["others"].values()), f"{share:g}", "hidden", "cosine")
        at = np.arange(len(names)) + offset
        axes.errorbar(
            middle, at, xerr=[middle - low, high - middle], fmt="o", color=COLOURS[share], markersize=3, elinewidth=0.8
        )
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.invert_yaxis()
    axes.set(xlabel=f"cosine (β = {numbers['beta']:g})")
    panel_letter(axes, "E")


def _draw_surrogates(axes, numbers, betas):
    for name, colour in zip(SURROGATES, ("0.25", "#EBB400", "#6B4C9A"), strict=True):
        for share, style in (("0", "-"), ("1", ":")):
            middle, low, high = _line(numbers["surrogates"], f"{name} {share}", "hidden", "cosine")
            axes.plot(betas, middle, style, color=colour, label=LABELS[name] if share == "0" else None)
            axes.fill_between(betas, low, high, color=colour, alpha=0.1, linewidth=0)
    axes.plot([], [], ":", color="0.4", label="reset attached")
    _over_beta(axes, betas)
    axes.set(ylabel="cosine to exact gradient")
    axes.legend(loc="lower left", fontsize=5.5)
    panel_letter(axes, "F")
