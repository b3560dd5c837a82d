"""Figure E5 (not in the paper): is reducing the bias of surrogate gradients worth its cost? (Section 7)"""

import itertools
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from sgtheory.claims import Claim
from sgtheory.figures._descent import descend, expected_losses
from sgtheory.figures._output import caption, panel_letter
from sgtheory.figures._statistics import (
    all_above,
    all_below,
    contains_zero,
    interval_text,
    median_interval,
    median_text,
)
from sgtheory.neurons import SigmoidDerivative
from sgtheory.theory import (
    ControlledScoreFunction,
    Estimator,
    Jumps,
    LIFObjective,
    ScoreFunction,
    ShrunkScoreFunction,
    SpikeCountLoss,
    SurrogateGradient,
    random_lif_objective,
    relative_error,
    side_by_side,
    squared_norm,
)

LABELS = {
    "deterministic": "surrogate, deterministic path",
    "detached": "surrogate, reset detached",
    "attached": "surrogate, attached = smoothed stochAD",
    "likelihood": "likelihood ratio, baseline",
    "controlled": "the same, surrogate as control variate",
    "jumps": "unbiased stochAD, 4 alternatives",
    "local": "local expectation, all alternatives",
    "shrunk": "likelihood ratio shrunk to surrogate",
}
COLOURS = {
    "deterministic": "0.6",
    "detached": "#008CA5",
    "attached": "#EBB400",
    "likelihood": "#B5483A",
    "controlled": "#E08E79",
    "jumps": "#5B8C3E",
    "local": "#2F5E1A",
    "shrunk": "#6B4C9A",
}
UNBIASED = ("likelihood", "controlled", "jumps", "local")
SURROGATES, CORRECTED = ("deterministic", "detached", "attached"), ("likelihood", "shrunk")  # what is trained
STAGES = ("before training", "after training")
TASKS = {"matching": "spike matching", "classification": "classification"}
ALTERNATIVES = 4
BATCH = 24  # passes per estimate where times are measured
KNOWN = 0.3  # a net is left out where the reference has a larger relative error
TYPICAL, STEEP = 10.0, 20.0


def _estimators(beta: float, passes: float) -> dict[str, tuple[Estimator, float]]:
    """Each estimator with as many paths as ``passes`` allow, but two at least, and its share of the reset's
    derivative."""
    surrogate, two, three = SigmoidDerivative(beta), max(2, int(passes // 2)), max(2, int(passes // 3))
    return {
        "deterministic": (SurrogateGradient(surrogate, path="deterministic"), 0.0),
        "detached": (SurrogateGradient(surrogate, paths=two), 0.0),
        "attached": (SurrogateGradient(surrogate, paths=two), 1.0),
        "likelihood": (ScoreFunction(baseline=True, paths=two), 0.0),
        "controlled": (ControlledScoreFunction(surrogate, paths=three), 1.0),
        "jumps": (Jumps(ALTERNATIVES), 0.0),
        "local": (Jumps(), 0.0),
        "shrunk": (ShrunkScoreFunction(surrogate, paths=three), 1.0),
    }


def _moments(estimates: torch.Tensor, reference: torch.Tensor, unbiased: bool) -> list[float]:
    """m . g, |m|^2 and the variance of one estimate over |g|^2; m is the mean of the estimates, g that of the
    reference."""
    length = squared_norm(reference)
    along = float(estimates.mean(0) @ reference.mean(0)) / length
    spread = float(estimates.var(0).sum()) / length
    return [1.0, 1.0, spread] if unbiased else [along, max(squared_norm(estimates) / length, along**2), spread]


def _quality(objective, beta, budgets, estimates, paths, reference_paths, seed) -> dict:
    """Of each estimator [m . g, |m|^2, variance of an estimate times its passes]; of the shrunk one, which is not an
    average over independent paths, the same at each of ``budgets`` with its own variance. And
    the relative error of the reference."""
    rng = torch.Generator().manual_seed(seed)
    reference = ScoreFunction(baseline=True, paths=reference_paths).sample(objective, 16, rng)
    found = {}
    for name, (estimator, share) in _estimators(beta, 2 * paths).items():
        here = objective.with_reset_share(share)
        n = 2 if name == "deterministic" else estimates
        if name == "shrunk":
            runs = [_estimators(beta, budget)[name][0].sample(here, n, rng) for budget in budgets]
            found[name] = [_moments(values, reference, False) for values in runs]
        else:
            *mean, variance = _moments(estimator.sample(here, n, rng), reference, name in UNBIASED)
            found[name] = [*mean, variance * estimator.cost(here.net)]
    return {"moments": found, "reference_error": relative_error(reference)}


def _seconds(objective, beta, passes, repeats) -> dict[str, float]:
    """Processor time of a pass over that of a pass of the detached surrogate gradient, from batches of as many passes,
    one estimator after the other; the least of some repeats."""
    rng, found = torch.Generator().manual_seed(0), {}
    for _ in range(repeats):
        for name, (estimator, share) in _estimators(beta, BATCH).items():
            if name == "deterministic":  # one path, which is not computed by the batch
                continue
            cost = estimator.cost(objective.net)
            n = max(1, round(passes / cost))
            began = time.process_time()
            estimator.sample(objective.with_reset_share(share), n, rng)
            found.setdefault(name, []).append((time.process_time() - began) / (n * cost))
    return {name: min(times) / min(found["detached"]) for name, times in found.items()}


def _patterns(classes: int, samples: int, steps: int, inputs: int, rng) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Input spikes and target: each class is a random pattern of 100 Hz, each sample of it has a fifth of its spikes
    deleted and noise of 20 Hz added."""
    made = []
    for label in torch.eye(classes, dtype=torch.float64):
        pattern = torch.rand(steps, inputs, generator=rng) < 0.1
        for _ in range(samples):
            kept, noise = (torch.rand(steps, inputs, generator=rng) < p for p in (0.8, 0.02))
            made.append(((pattern & kept | noise).double(), label))
    return made


def _train(objective, samples, beta, arms, budgets, updates, rates, paths, seed) -> dict[str, np.ndarray]:
    """Expected loss at the end of descent along each estimator over the initial one, [budget, rate, net], and
    its value before training, [net]. ``samples`` sets of parameters in a row are one network."""
    count = len(objective.parameters)
    rows = torch.arange(count).repeat(len(rates))
    batch = _rows(objective, rows)

    def losses(here):
        values = expected_losses(here, paths, seed)[0].reshape(-1, samples).mean(1)
        return values.reshape(-1, count // samples)

    initial = losses(objective)[0]
    ends = {}
    for name, at in itertools.product(arms, range(len(budgets))):
        if name == "deterministic" and at:  # it costs two passes whatever may be spent
            ends[name].append(ends[name][0])
            continue
        estimator, share = _estimators(beta, budgets[at])[name]
        rng = torch.Generator().manual_seed(seed)
        end = descend(batch.with_reset_share(share), estimator, updates, rates, rng, samples=samples)
        ends.setdefault(name, []).append(losses(end) / initial)
    return {"initial": initial, **{name: np.array(values) for name, values in ends.items()}}


def _rows(objective: LIFObjective, rows: torch.Tensor) -> LIFObjective:
    """The sets of parameters of these numbers with their inputs and targets."""
    output = replace(objective.output, target=objective.output.target[rows])
    return replace(objective, parameters=objective.parameters[rows], x=objective.x[rows], output=output)


def measure(
    inputs: int = 12,
    hidden: int = 8,
    outputs: int = 4,
    steps: int = 30,
    rate: float = 0.05,
    betas: tuple[float, ...] = (5.0, 10.0, 20.0),
    gradient_budgets: tuple[int, ...] = (6, 24, 96, 384),
    budgets: tuple[int, ...] = (6, 24, 96),
    class_budgets: tuple[int, ...] = (6, 24),
    nets: int = 8,
    classes: int = 3,
    samples: int = 2,
    class_nets: int = 6,
    updates: int = 120,
    learning_rates: tuple[float, ...] = (0.03, 0.1, 0.3),
    estimates: int = 24,
    paths: int = 64,
    reference_paths: int = 500,
    evaluation_paths: int = 2000,
    timed_passes: int = 6000,
    seed: int = 0,
) -> dict:
    """Biased, unbiased and mixed gradient estimators at equal cost: their error, and the loss that descent along them
    reaches.

    Args:
        inputs, hidden, outputs: sizes for spike matching: van Rossum distance to random spike trains.
        steps: time steps of 1 ms.
        rate: mean firing probability in a step, before training and of the targets.
        betas: steepness of the escape noise and of the matched surrogate.
        gradient_budgets: passes through the net per estimate for which errors are found.
        budgets, class_budgets: the same per update and input in training.
        nets: random networks, each with an input and a target of its own.
        classes, samples: of the classification: patterns, and noisy samples of each; as many outputs as classes.
        class_nets: networks for it, each with patterns of its own.
        updates: of the weights, by Adam; the learning rate falls to zero.
        learning_rates: among which each estimator may choose (unit of the weights).
        estimates, paths: number of estimates from which bias and variance follow, and runs averaged in each.
        reference_paths: runs in each of 16 averages for the reference.
        evaluation_paths: runs for each value of the expected loss.
        timed_passes: in the batches whose processor time is measured.
        seed: of everything.
    """
    gradients, training = [], {task: [] for task in TASKS}
    sizes = (inputs, hidden, outputs)
    for beta in betas:
        objectives = [random_lif_objective(sizes, steps, beta, seed + k, rate=rate) for k in range(nets)]
        start, rng = side_by_side(objectives), torch.Generator().manual_seed(seed)
        detached = _estimators(beta, budgets[-1])["detached"][0]
        trained = descend(start, detached, updates, (learning_rates[len(learning_rates) // 2],), rng).parameters
        at = {
            STAGES[0]: objectives,
            STAGES[1]: [replace(o, parameters=p) for o, p in zip(objectives, trained, strict=True)],
        }
        settings = (beta, gradient_budgets, estimates, paths, reference_paths, seed)
        gradients.append({stage: _merged([_quality(o, *settings) for o in of]) for stage, of in at.items()})
        common = (updates, learning_rates, evaluation_paths, seed)
        training["matching"].append(_train(start, 1, beta, SURROGATES + CORRECTED, budgets, *common))
        training["classification"].append(
            _train(
                _classification((inputs, hidden, classes), samples, steps, beta, rate, class_nets, seed),
                classes * samples,
                beta,
                SURROGATES + CORRECTED,
                class_budgets,
                *common,
            )
        )
    return {
        "scale": f"{nets} nets for spike matching, {class_nets} for classification, {updates} updates",
        "betas": betas,
        "gradient_budgets": gradient_budgets,
        "budgets": {"matching": budgets, "classification": class_budgets},
        "sizes": {"matching": sizes, "classification": (inputs, hidden, classes)},
        "steps": steps,
        "nets": {"matching": nets, "classification": class_nets},
        "samples": classes * samples,
        "learning_rates": learning_rates,
        "seconds": _seconds(random_lif_objective(sizes, steps, TYPICAL, seed, rate=rate), TYPICAL, timed_passes, 3),
        "gradients": gradients,
        "training": training,
    }


def _classification(sizes, samples, steps, beta, rate, nets, seed) -> LIFObjective:
    """Networks that shall classify patterns by their spike counts: one set of parameters for each net and sample."""
    made = []
    for k in range(nets):
        net = random_lif_objective(sizes, steps, beta, seed + k, rate=rate)
        rng = torch.Generator().manual_seed(seed + k)
        for x, label in _patterns(sizes[-1], samples, steps, sizes[0], rng):
            made.append(replace(net, x=x, output=SpikeCountLoss(label)))
    return side_by_side(made)


def _merged(nets: list[dict]) -> dict:
    """Arrays over nets: moments of each estimator [..., net], and errors of references."""
    names = nets[0]["moments"]
    return {
        "moments": {name: np.stack([net["moments"][name] for net in nets], -1) for name in names},
        "reference_error": [net["reference_error"] for net in nets],
    }


def _moments_at(numbers, at, stage, name, passes) -> np.ndarray:
    """m . g, |m|^2 and variance over |g|^2 of an estimate that costs ``passes``; [3, net], NaN where the reference is
    not known well enough."""
    quality = numbers["gradients"][at][stage]
    moments = np.array(quality["moments"][name], dtype=float)
    if name == "shrunk":
        moments = moments[list(numbers["gradient_budgets"]).index(passes)]
    else:
        moments[2] = moments[2] / passes
    return np.where(np.asarray(quality["reference_error"]) < KNOWN, moments, np.nan)


def _squared_error(moments: np.ndarray) -> np.ndarray:
    """E|estimate - g|^2 / |g|^2, [net]."""
    along, square, variance = moments
    return square - 2 * along + 1 + variance


def _direction_error(moments: np.ndarray) -> np.ndarray:
    """The same for the best multiple of the estimate, which a learning rate can be: 1 - (m . g)^2 / (|m|^2 + variance),
    [net]."""
    along, square, variance = moments
    return 1 - np.clip(along, 0, None) ** 2 / (square + variance)


def _leave_one_out(values: np.ndarray) -> np.ndarray:
    """Of ``values`` [choice, net] for each net that of the choice with the least median over the other nets; [net]."""
    nets = np.arange(values.shape[1])
    best = [np.median(values[:, nets != net], axis=1).argmin() for net in nets]
    return values[best, nets]


def _reached(numbers, task, at, budget, names) -> np.ndarray:
    """Expected loss over the initial one after training along the best of some estimators at its best learning rate,
    both chosen on the other nets; [net]."""
    ends = numbers["training"][task][at]
    return _leave_one_out(np.concatenate([np.asarray(ends[name])[budget] for name in names]))


def training_gain(numbers, task, at, budget) -> np.ndarray:
    """Expected loss after training along the better of likelihood ratio and shrunk one over that along the best
    surrogate gradient, at the same cost; [net]."""
    corrected, surrogate = (_reached(numbers, task, at, budget, names) for names in (CORRECTED, SURROGATES))
    return corrected / surrogate


def claims(numbers: dict) -> list[Claim]:
    """E5: what bias reduction costs and buys, in the gradient and in training."""
    betas, budgets = list(numbers["betas"]), list(numbers["budgets"]["matching"])
    typical, steep = (min(range(len(betas)), key=lambda i, b=b: abs(betas[i] - b)) for b in (TYPICAL, STEEP))
    gentle, scale = 0, numbers["scale"]
    small, large = 0, len(budgets) - 1
    middle = list(numbers["gradient_budgets"])[1]
    choice = (
        f"nets {'-'.join(map(str, numbers['sizes']['matching']))}, {numbers['steps']} steps, matched surrogate; "
        "Adam, learning rate chosen for each estimator on the other nets; medians over nets, 95 % bootstrap intervals; "
        "thresholds set before the full run, after a first look at beta = 5"
    )

    def variance(name, at, stage):
        return _moments_at(numbers, at, stage, name, middle)[2]

    control = {
        stage: np.concatenate(
            [variance("controlled", at, stage) / variance("likelihood", at, stage) for at in range(len(betas))]
        )
        for stage in STAGES
    }
    shrunk = {
        beta: np.concatenate(
            [
                _squared_error(_moments_at(numbers, at, stage, "shrunk", middle))
                / _squared_error(_moments_at(numbers, at, stage, "likelihood", middle))
                for stage in STAGES
            ]
        )
        for at, beta in enumerate(betas)
    }
    direction = {
        name: _direction_error(_moments_at(numbers, typical, STAGES[0], name, middle))
        for name in ("detached", "attached", "likelihood", "shrunk")
    }
    shrinkage = [median_interval(values) for values in shrunk.values()]
    better = np.fmin(direction["detached"], direction["attached"]) - direction["likelihood"]
    interval = median_interval(better)
    free = {
        beta: _reached(numbers, "matching", at, large, ["attached"])
        / _reached(numbers, "matching", at, large, ["detached"])
        for at, beta in enumerate(betas)
    }
    gentle_free = [median_interval(values) for beta, values in free.items() if beta <= betas[typical]]
    gain = {
        (task, at, budget): training_gain(numbers, task, at, budget)
        for task in TASKS
        for at in range(len(betas))
        for budget in range(len(numbers["budgets"][task]))
    }
    cheap, dear = median_interval(gain["matching", gentle, small]), median_interval(gain["matching", steep, large])
    intervals = [median_interval(ratio) for ratio in gain.values()]
    lower, higher = sum(high < 1 for _, _, high in intervals), sum(low > 1 for _, low, _ in intervals)
    described = "; ".join(
        f"{TASKS[task]}, beta = {betas[at]:g}, {numbers['budgets'][task][budget]} passes: {median_text(ratio)}"
        for (task, at, budget), ratio in gain.items()
    )
    return [
        Claim(
            "E5.error",
            f"At {middle} passes a surrogate gradient has a smaller error in direction than the unbiased likelihood "
            f"ratio (beta = {betas[typical]:g}, before training)",
            ", ".join(f"{LABELS[name]} {median_text(values)}" for name, values in direction.items())
            + f"; the better surrogate less the likelihood ratio {median_text(better)}",
            "the interval of the difference is below 0",
            interval[2] < 0,
            undecided="more nets" if contains_zero(interval) else "",
            decides=f"error less that of the likelihood ratio {median_text(better)}",
            choice=choice + "; error of the best multiple of the estimate, as a part of |g|^2",
        ),
        Claim(
            "E5.shrinkage",
            "Shrinking the likelihood ratio towards the surrogate gradient lowers its mean squared error at equal cost",
            f"squared error over that of the likelihood ratio at {middle} passes: "
            + ", ".join(f"{median_text(values)} (beta = {beta:g})" for beta, values in shrunk.items()),
            "the interval of the median is below 1 for every beta",
            **all_below(1, shrinkage, "more nets"),
            decides=f"squared error at most {interval_text(max(shrinkage))} of the unshrunk",
            choice=choice,
        ),
        Claim(
            "E5.control",
            "The surrogate gradient as a control variate does not pay: it takes less from the variance than its "
            "additional pass costs",
            "variance over that of the likelihood ratio at equal cost: "
            + ", ".join(f"{stage} {median_text(values)}" for stage, values in control.items())
            + "; processor time of a pass over that of the detached surrogate gradient: "
            + ", ".join(f"{LABELS[name]} {value:.2f}" for name, value in numbers["seconds"].items()),
            "medians above 1",
            all(median_interval(values)[0] > 1 for values in control.values()),
            decides="variance times "
            + ", ".join(f"{median_text(v)} {stage.split()[0]}" for stage, v in control.items()),
            choice=choice,
        ),
        Claim(
            "E5.free",
            f"The bias that can be removed without cost is worth it up to beta = {betas[typical]:g}: descent along the "
            "surrogate gradient with the reset attached ends at a lower loss",
            f"expected loss attached / detached at {budgets[large]} passes: "
            + ", ".join(f"{median_text(values)} (beta = {beta:g})" for beta, values in free.items()),
            f"the interval of the median is below 1 up to beta = {betas[typical]:g}",
            **all_below(1, gentle_free, "more nets"),
            decides="loss attached / detached " + ", ".join(map(interval_text, gentle_free)),
            choice=choice,
        ),
        Claim(
            "E5.worth",
            "Whether an unbiased or mixed estimator is worth its cost depends on budget and steepness: not with gentle "
            "neurons and few passes, but with steep ones and many",
            f"expected loss, best of likelihood ratio and shrunk / best surrogate: {described}; the interval is below "
            f"1 in {lower} and above 1 in {higher} of {len(gain)} cases ({scale})",
            f"spike matching: interval above 1 at beta = {betas[gentle]:g} and {budgets[small]} passes, below 1 at "
            f"{betas[steep]:g} and {budgets[large]}",
            **all_above(0, [[end - 1 for end in cheap], [1 - end for end in (dear[0], dear[2], dear[1])]], "more nets"),
            decides=f"loss times {interval_text(cheap)} at {budgets[small]} passes, {interval_text(dear)} at "
            f"{budgets[large]}",
            choice=choice,
        ),
    ]


def draw(numbers: dict):
    """Bias and variance; error over passes before and after training; who wins where."""
    figure = plt.figure(figsize=(6.9, 5.6))
    panels = figure.subplots(2, 3)
    betas = list(numbers["betas"])
    typical = min(range(len(betas)), key=lambda i: abs(betas[i] - TYPICAL))
    _draw_parts(panels[0, 0], numbers, typical)
    for axes, stage, letter in zip(panels[0, 1:], STAGES, "BC", strict=True):
        _draw_errors(axes, numbers, typical, stage)
        axes.set_title(f"{stage}, β = {betas[typical]:g}", fontsize=7)
        panel_letter(axes, letter)
    _draw_gradient_phases(panels[1, 0], numbers)
    for axes, task, letter in zip(panels[1, 1:], TASKS, "EF", strict=True):
        _draw_training_phases(axes, numbers, task)
        panel_letter(axes, letter)
    handles = [plt.Line2D([], [], color=COLOURS[name], marker="s", linestyle="-", markersize=4) for name in LABELS]
    figure.legend(handles, LABELS.values(), loc="outside upper center", ncols=3, fontsize=6)
    caption(
        figure,
        "Is an unbiased gradient worth its cost? Random LIF nets, cost in passes through the net",
        "D to F: the colour is that of the best estimator; number: best of likelihood ratio and shrunk / best "
        "surrogate (* 95 % interval without 1); in brackets: its loss / initial",
        f"Medians over {numbers['nets']['matching']} nets ({numbers['nets']['classification']} in F), 95 % intervals",
    )
    return figure


def _draw_parts(axes, numbers, at):
    passes = list(numbers["gradient_budgets"])[1]
    for row, name in enumerate(LABELS):
        along, square, variance = _moments_at(numbers, at, STAGES[0], name, passes)
        parts = [(variance, "o", "white")] if name != "deterministic" else []
        parts += [(square - 2 * along + 1, "s", COLOURS[name])] if name not in UNBIASED else []
        for values, marker, face in parts:
            middle, low, high = median_interval(np.clip(values, 1e-3, None))
            axes.errorbar(
                [middle],
                [row],
                xerr=[[middle - low], [high - middle]],
                fmt=marker,
                color=COLOURS[name],
                markerfacecolor=face,
                markersize=4,
                elinewidth=0.8,
            )
    axes.plot([], [], "s", color="0.4", markersize=4, label="bias²")
    axes.plot([], [], "o", color="0.4", markerfacecolor="white", markersize=4, label="variance")
    axes.legend(fontsize=5.5, loc="upper left")
    axes.set(xscale="log", xlabel=f"part of |gradient|², {passes} passes", yticks=[])
    axes.set_title(f"{STAGES[0]}, β = {numbers['betas'][at]:g}", fontsize=7)
    axes.invert_yaxis()
    panel_letter(axes, "A")


def _draw_errors(axes, numbers, at, stage):
    measured = list(numbers["gradient_budgets"])
    fine = np.geomspace(measured[0], 4 * measured[-1], 40)
    for name in LABELS:
        passes = measured if name == "shrunk" else fine
        errors = [median_interval(_direction_error(_moments_at(numbers, at, stage, name, p))) for p in passes]
        middle, low, high = np.array(errors).T
        axes.plot(passes, middle, "o-" if name == "shrunk" else "-", color=COLOURS[name], markersize=3)
        if name in ("detached", "attached", "likelihood", "shrunk"):
            axes.fill_between(passes, low, high, color=COLOURS[name], alpha=0.1, linewidth=0)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="passes per estimate", ylabel="error in direction")


def _cell(axes, x, y, winner, text):
    axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, color=COLOURS[winner], alpha=0.75, linewidth=0))
    axes.text(x, y, text, ha="center", va="center", fontsize=6)


def _grid(axes, columns, rows, title):
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows, fontsize=6.5)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_title(title, fontsize=7)
    axes.grid(False)


def _ratio_text(ratio: np.ndarray) -> str:
    middle, low, high = median_interval(ratio)
    return f"{middle:.2f}" + ("*" if high < 1 or low > 1 else "")


def _draw_gradient_phases(axes, numbers):
    rows = list(itertools.product(range(len(numbers["betas"])), STAGES))
    for y, (at, stage) in enumerate(rows):
        for x, passes in enumerate(numbers["gradient_budgets"]):
            errors = {n: _direction_error(_moments_at(numbers, at, stage, n, passes)) for n in LABELS}
            winner = min(errors, key=lambda n: median_interval(errors[n])[0])
            best = [np.min([errors[n] for n in some], axis=0) for some in (CORRECTED, SURROGATES)]
            _cell(axes, x, y, winner, _ratio_text(best[0] / best[1]))
    labels = [f"β = {numbers['betas'][at]:g}, {stage.split()[0]}" for at, stage in rows]
    _grid(axes, numbers["gradient_budgets"], labels, "smallest error in direction")
    axes.set_xlabel("passes per estimate")
    panel_letter(axes, "D")


def _draw_training_phases(axes, numbers, task):
    budgets = numbers["budgets"][task]
    for y, x in itertools.product(range(len(numbers["betas"])), range(len(budgets))):
        reached = {name: _reached(numbers, task, y, x, [name]) for name in SURROGATES + CORRECTED}
        typical = np.exp(np.mean(np.log(list(reached.values())), axis=0))  # of a net: some are easier than others
        winner = min(reached, key=lambda n: np.median(reached[n] / typical))
        ratio = training_gain(numbers, task, y, x)
        _cell(axes, x, y, winner, f"{_ratio_text(ratio)}\n({np.median(reached[winner]):.2g})")
    _grid(axes, budgets, [f"β = {b:g}" for b in numbers["betas"]], f"lowest loss: {TASKS[task]}")
    axes.set_xlabel("passes per update" + (" and sample" if task == "classification" else ""))
