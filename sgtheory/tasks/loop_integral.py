"""Is the surrogate gradient a gradient? Its integral around a closed loop in parameter space (Section 4.2, Fig 5)."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgtheory.errors import ParameterError, is_whole, require_choice, require_positive
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
from sgtheory.theory._line_integral import FEWEST_POINTS, Circulation, Loop, circulation
from sgtheory.theory._loop_nets import (
    FieldNet,
    RelaxedPerceptronNet,
    SigmoidNet,
    SpikeMatchingNet,
    StochasticPerceptronNet,
)
from sgtheory.theory._perceptron import PerceptronNet

log = logging.getLogger("sgtheory")
SPIKE_MATCHING_NEURON = LIFParameters(tau_mem=10e-3, tau_syn=5e-3, dt=1e-3, reset="same")
NETS = ("sigmoid", "perceptron", "stochastic_perceptron", "lif")
MOST_STOCHASTIC_UNITS = 10  # all paths of spike patterns are listed at thousands of points at once
ROUNDING = 1e-12  # of a sum of many numbers, relative to the integral of the absolute value
ROW = ("points", "circulation", "error", "true_circulation", "true_error")  # of the table of refinement
RESULT = (*ROW, "variation", "true_variation", "converged")
LINE_INTERVAL = 5.0  # seconds between lines of progress


@dataclass
class LoopIntegralSettings:
    """Where to integrate what; the defaults are those of Fig 5.

    Args:
        net: ``"sigmoid"``: the five-weight net of Eq 7. ``"perceptron"``: perceptrons with steep sigmoids in place of
            steps. ``"stochastic_perceptron"``: perceptrons with escape noise; the mean over all paths of the surrogate
            gradient against the gradient of E[y]. ``"lif"``: the L2 loss (Eq 24) of a deterministic feed-forward LIF
            net that shall match random spike trains.
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
        require_positive(beta=self.beta, radius=self.radius, steps=self.steps, rate=self.rate)
        require_positive(tolerance=self.tolerance)
        if self.max_points < FEWEST_POINTS:
            raise ParameterError("max_points", self.max_points, f"must be at least {FEWEST_POINTS}")
        if len(self.layers) < 2 or not all(is_whole(size) and size > 0 for size in self.layers):
            raise ParameterError("layers", list(self.layers), "must be two or more positive whole numbers")
        if self.net == "stochastic_perceptron" and sum(self.layers[1:]) > MOST_STOCHASTIC_UNITS:
            allowed = f"must have at most {MOST_STOCHASTIC_UNITS} units, because all their spike patterns are listed"
            raise ParameterError("layers", list(self.layers), allowed)
        for name in ("x", "centre_sd"):
            if not np.isfinite(getattr(self, name)):
                raise ParameterError(name, getattr(self, name), "must be a finite number")
        for name in ("plane_seed", "net_seed"):
            if not 0 <= getattr(self, name) < 2**32:
                raise ParameterError(name, getattr(self, name), "must be in [0, 2**32)")
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
    rng = torch.Generator().manual_seed(settings.net_seed)
    noise = torch.randn(n_parameters, generator=rng, dtype=torch.float64)
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


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C ends the program here and now: inside an integral there is nothing to save."""
    try:
        collected = signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not in the main thread, which alone receives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, collected)


class LoopIntegral:
    """The task as the runner sees it: one epoch, which trains nothing and computes :func:`loop_integral`.

    Everything follows from the settings, so that an interrupted run starts again.
    """

    Settings = LoopIntegralSettings
    may_be_nan = frozenset()

    def __init__(self, context):
        self.settings: LoopIntegralSettings = context.settings
        self.surrogate, self.neuron = context.surrogate, context.neuron.parameters
        if context.neuron.mode != "deterministic":
            allowed = "must be deterministic; task.net=stochastic_perceptron is the net with escape noise"
            raise ParameterError("neuron.mode", context.neuron.mode, allowed)
        if context.trainer.epochs != 1:
            raise ParameterError("trainer.epochs", context.trainer.epochs, "must be 1, as nothing is trained")
        if context.trainer.device != "cpu":
            raise ParameterError("trainer.device", context.trainer.device, "must be cpu for this task")
        try:
            build_loop(self.settings, build_net(self.settings, self.neuron).n_parameters)
        except ParameterError as error:
            raise ParameterError(f"task.{error.name}", error.value, error.allowed) from None
        self.result: dict = {}

    def state(self) -> dict:
        """What was computed."""
        return {"result": self.result}

    def restore(self, state: dict) -> None:
        """Take over what :meth:`state` returned."""
        result = state["result"]
        rows = [{key: value for key, value in result.items() if key != "table"}, *result.get("table", ())]
        keys = (RESULT, ROW, *[ROW] * len(rows))
        if result and (
            len(rows) < 2
            or any(row.keys() != set(expected) for row, expected in zip(rows, keys, strict=False))
            or not all(isinstance(value, int | float) for row in rows for value in row.values())
        ):
            raise ValueError("it does not hold the result of an integral")
        self.result = result

    def epoch(self, epoch: int) -> list[tuple[str, str, float]]:
        """Integrate; a line of progress every few seconds."""
        last = time.monotonic()

        def after_round(row):
            nonlocal last
            if time.monotonic() - last > LINE_INTERVAL:
                last = time.monotonic()
                worst = float(row["error"].max())
                log.info("%d points, error %.0e, wanted %.0e", row["points"], worst, self.settings.tolerance)

        with ended_by_signals():
            self.result = loop_integral(self.settings, self.surrogate, self.neuron, after_round)
        return [(metric, "", value) for metric, value in self.result.items() if metric != "table"]

    def finish(self, epochs: int) -> tuple[list[tuple[str, str, float]], dict[str, np.ndarray]]:
        """No more rows; integrals and errors over the number of points, for every round of refinement."""
        table = self.result["table"]
        return [], {f"refinement_{key}": np.array([row[key] for row in table]) for key in table[0]}

    def save(self, directory: Path) -> None:
        """No other files."""

    def summary(self, rows) -> str:
        """The result in one line."""
        r = self.result
        if differs_from_zero(r["circulation"], r["error"], r["variation"]):
            verdict = "not the gradient of any function"
        elif r["variation"] > 0:
            verdict = "zero within its error: a gradient as far as this loop can tell"
        else:
            verdict = (
                "but the surrogate gradient is zero everywhere on this loop: task.centre or task.net_seed moves it"
            )
        if not r["converged"]:
            verdict += f" (error {self.settings.tolerance:g} not reached with {self.settings.max_points} points)"
        return (
            f"circulation {r['circulation']:.4g} ± {r['error']:.0e}"
            f" (true gradient {r['true_circulation']:.0e} ± {r['true_error']:.0e}), {verdict}"
        )


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
