"""Is the surrogate gradient a gradient? Its integral around a closed loop in parameter space (Section 4.2, Fig 5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sgtheory.errors import (
    ParameterError,
    require_choice,
    require_count,
    require_number,
    require_positive,
    require_word,
)
from sgtheory.neurons import (
    LIFParameters,
    MultilayerSpiker,
    RectifiedLinear,
    SigmoidDerivative,
    SigmoidEscape,
    StraightThrough,
    SuperSpike,
    SurrogateDerivative,
)
from sgtheory.theory._checks import require_sizes
from sgtheory.theory._lif_net import LIF_NEURON
from sgtheory.theory._line_integral import FEWEST_POINTS, Circulation, Loop, circulation
from sgtheory.theory._loop_nets import (
    FieldNet,
    RelaxedPerceptronNet,
    SigmoidNet,
    SpikeMatchingNet,
    StochasticPerceptronNet,
)
from sgtheory.theory._perceptron import PerceptronNet

SPIKE_MATCHING_NEURON = replace(LIF_NEURON, reset="same")
NETS = ("sigmoid", "perceptron", "stochastic_perceptron", "lif")
MOST_STOCHASTIC_UNITS = 10  # all paths of spike patterns are listed at thousands of points at once
ROUNDING = 1e-12  # of a sum of many numbers, relative to the integral of the absolute value


@dataclass
class LoopIntegralSettings:
    """Where to integrate what; the defaults are those of Fig 5.

    Args:
        net: ``"sigmoid"``: the five-weight net of Eq 7. ``"perceptron"``: perceptrons with threshold 0 and steep
            sigmoids in place of steps. ``"stochastic_perceptron"``: perceptrons with threshold 0 and escape noise; the
            mean over all paths of the surrogate gradient against the gradient of E[y]. ``"lif"``: the L2 loss (Eq 24)
            of a deterministic feed-forward LIF net that shall match random spike trains.
        layers: inputs and units of every layer; not for the sigmoid net.
        beta: forward steepness of sigmoids or escape noise (1 / unit of U); not for the LIF net.
        x: input of the sigmoid net; s.d. of the random inputs of perceptrons.
        radius: of the loop (unit of the parameters).
        plane_seed: of the random plane.
        centre: of the loop, one number for all parameters or a list with one for each.
        centre_sd: s.d. of normal numbers that are added to the centre.
        net_seed: of these numbers, of the inputs, and of the targets of the LIF net.
        steps: duration of inputs and targets of the LIF net (time steps).
        rate: of its inputs and targets (spikes per step).
        tolerance: wanted absolute error of the integrals.
        max_points: stop refining before more points than this would be evaluated.
        name: of the task.

    Raises:
        ParameterError: naming the setting that is out of range.
    """

    net: str = "sigmoid"
    layers: list[int] = field(default_factory=lambda: [3, 3, 1])
    beta: float = 10_000.0
    x: float = 1.0
    radius: float = 1.8
    plane_seed: int = 124
    centre: Any = 0.0
    centre_sd: float = 0.0
    net_seed: int = 0
    steps: int = 30
    rate: float = 0.1
    tolerance: float = 1e-8
    max_points: int = 1_000_000
    name: str = "loop_integral"

    def __post_init__(self):
        require_choice(NETS, net=self.net)
        require_positive(beta=self.beta, radius=self.radius, rate=self.rate, tolerance=self.tolerance)
        require_count(steps=self.steps)
        require_count(FEWEST_POINTS, max_points=self.max_points)
        require_word(plane_seed=self.plane_seed, net_seed=self.net_seed)
        require_number(x=self.x, centre_sd=self.centre_sd)
        require_sizes(layers=self.layers)
        if self.net == "stochastic_perceptron" and sum(self.layers[1:]) > MOST_STOCHASTIC_UNITS:
            allowed = f"must have at most {MOST_STOCHASTIC_UNITS} units, because all their spike patterns are listed"
            raise ParameterError("layers", list(self.layers), allowed)
        for name in ("x", "centre_sd"):
            if not np.isfinite(getattr(self, name)):
                raise ParameterError(name, getattr(self, name), "must be a finite number")
        if self.centre_sd < 0:
            raise ParameterError("centre_sd", self.centre_sd, "must be 0 or more")
        if self.rate > 1:
            raise ParameterError("rate", self.rate, "must be at most one spike per step")


def build_net(settings: LoopIntegralSettings, neuron: LIFParameters = SPIKE_MATCHING_NEURON) -> FieldNet:
    """The net that the settings describe; ``neuron`` is for the LIF net."""
    rng = torch.Generator().manual_seed(settings.net_seed)
    escape = SigmoidEscape(settings.beta)
    sizes = tuple(settings.layers)
    match settings.net:
        case "sigmoid":
            return SigmoidNet(escape, settings.x)
        case "lif":
            inputs, targets = (
                torch.rand(settings.steps, n, generator=rng, dtype=torch.float64) < settings.rate
                for n in (sizes[0], sizes[-1])
            )
            return SpikeMatchingNet(sizes, neuron, inputs.double(), targets.double())
        case _:
            kind = RelaxedPerceptronNet if settings.net == "perceptron" else StochasticPerceptronNet
            x = settings.x * torch.randn(sizes[0], generator=rng, dtype=torch.float64)
            return kind(PerceptronNet(sizes, escape, threshold=0.0), x)


def build_loop(settings: LoopIntegralSettings, n_parameters: int) -> Loop:
    """The loop that the settings describe, in a space of ``n_parameters`` dimensions.

    Raises:
        ParameterError: ``centre`` is neither a number nor a list of ``n_parameters`` numbers.
    """
    try:
        centre = torch.tensor(settings.centre, dtype=torch.float64).expand(n_parameters)
        if not centre.isfinite().all():
            raise ValueError
    except (TypeError, ValueError, RuntimeError):
        allowed = f"must be a finite number or a list of {n_parameters} finite numbers, one for each parameter"
        raise ParameterError("centre", settings.centre, allowed) from None
    # of another generator than the inputs, which from one seed would be the same numbers
    noise = torch.from_numpy(np.random.default_rng(settings.net_seed).standard_normal(n_parameters))
    return Loop.in_random_plane(centre + settings.centre_sd * noise, settings.radius, settings.plane_seed)


def integrate_loop(
    settings: LoopIntegralSettings,
    surrogates: list[SurrogateDerivative],
    neuron: LIFParameters = SPIKE_MATCHING_NEURON,
    after_round: Callable[[dict], None] = lambda row: None,
) -> Circulation:
    """Integrate the true gradient (field 0) and the gradients with each of ``surrogates`` around one loop; see
    :func:`sgtheory.theory.circulation` for ``after_round``."""
    net = build_net(settings, neuron)
    loop = build_loop(settings, net.n_parameters)
    return circulation(net.fields(surrogates), loop, settings.tolerance, settings.max_points, net.signals, after_round)


def loop_integral(
    settings: LoopIntegralSettings,
    surrogate: SurrogateDerivative,
    neuron: LIFParameters = SPIKE_MATCHING_NEURON,
    after_round: Callable[[dict], None] = lambda row: None,
) -> dict:
    """The integral of one surrogate gradient around one loop, beside that of the true gradient.

    Returns:
        ``circulation`` and ``error`` of the surrogate gradient, ``true_circulation`` and ``true_error``; ``variation``
        and ``true_variation``, the integrals of the absolute value; ``points`` at which the fields were evaluated;
        ``converged``, whether all errors are within the tolerance; and ``table``, the same for every round of
        refinement.
    """
    result = integrate_loop(settings, [surrogate], neuron, after_round)

    def row(value, error):
        true, surrogate = value.tolist()
        true_error, surrogate_error = error.tolist()
        return {
            "circulation": surrogate,
            "error": surrogate_error,
            "true_circulation": true,
            "true_error": true_error,
        }

    true_variation, variation = result.variation.tolist()
    return row(result.value, result.error) | {
        "variation": variation,
        "true_variation": true_variation,
        "points": result.points,
        "converged": result.converged,
        "table": [{"points": r["points"]} | row(r["value"], r["error"]) for r in result.table],
    }


def differs_from_zero(circulation, error, variation):
    """Whether an integral around a loop cannot be zero: not within its error, nor by rounding."""
    return abs(circulation) > error + ROUNDING * variation


TABLE_NETS = {
    "perceptron, β = 25": LoopIntegralSettings("perceptron", [5, 1], beta=25.0),
    "hidden layer, β = 25": LoopIntegralSettings("perceptron", [3, 3, 1], beta=25.0),
    "net of Eq 7, β = 25": LoopIntegralSettings("sigmoid", beta=25.0),
    "stochastic perceptron, β = 5": LoopIntegralSettings("stochastic_perceptron", [5, 1], beta=5.0),
    "stochastic hidden layer, β = 5": LoopIntegralSettings(
        "stochastic_perceptron", [3, 3, 1], beta=5.0, tolerance=1e-6
    ),
    "LIF layer, silent": LoopIntegralSettings("lif", [8, 2], steps=20, radius=1.5, tolerance=1e-3),
    "LIF layer": LoopIntegralSettings("lif", [8, 2], steps=20, centre=2.0, centre_sd=2.0, radius=4.0, tolerance=1e-3),
    "LIF hidden layer": LoopIntegralSettings(
        "lif", [4, 3, 1], steps=20, centre=3.0, centre_sd=2.0, radius=4.0, tolerance=1e-3
    ),
}
TABLE_SURROGATES = {
    "sigmoid', 25": SigmoidDerivative(25.0),
    "sigmoid', 5": SigmoidDerivative(5.0),
    "SuperSpike, 10": SuperSpike(10.0),
    "rectified linear, 2": RectifiedLinear(2.0),
    "straight-through": StraightThrough(),
    "multilayer spiker": MultilayerSpiker(),
}


def conservative_fields(
    nets: Mapping[str, LoopIntegralSettings] = TABLE_NETS,
    surrogates: Mapping[str, SurrogateDerivative] = TABLE_SURROGATES,
    planes: tuple[int, ...] = (124, 1),
    neuron: LIFParameters = SPIKE_MATCHING_NEURON,
) -> list[dict]:
    """Which surrogate gradient is conservative on which net, as far as loops in a few random planes can tell.

    One loop with a circulation other than zero proves that a field is not a gradient; a zero proves nothing, but for a
    layer of perceptrons, whose surrogate gradient f(w x) x is the gradient of F(w x), it has to come out.

    Returns:
        One row for each net and surrogate, the true gradient first: ``net``, ``surrogate``, ``circulation``, ``error``
        and ``variation`` (lists, one number for each plane), and ``conservative``: no circulation differs from zero by
        more than its error.
    """
    rows = []
    for net, settings in nets.items():
        loops = [
            integrate_loop(replace(settings, plane_seed=plane), list(surrogates.values()), neuron) for plane in planes
        ]
        value = torch.stack([loop.value for loop in loops], dim=-1)  # [fields, planes]
        error = torch.stack([loop.error for loop in loops], dim=-1)
        variation = torch.stack([loop.variation for loop in loops], dim=-1)
        conservative = ~differs_from_zero(value, error, variation).any(-1)
        for k, surrogate in enumerate(["true gradient", *surrogates]):
            rows.append(
                {
                    "net": net,
                    "surrogate": surrogate,
                    "circulation": value[k].tolist(),
                    "error": error[k].tolist(),
                    "variation": variation[k].tolist(),
                    "conservative": bool(conservative[k]),
                }
            )
    return rows
