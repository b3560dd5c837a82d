"""Nets of binary perceptrons of any depth, with exact expectations by enumeration (Sections 3.1, 3.2; Eqs 2-4)."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch

from sgtheory.errors import ParameterError, UserError, require_count, require_kind, require_number
from sgtheory.neurons import EscapeFunction, SigmoidEscape, Step
from sgtheory.theory._checks import require_sizes, require_tensor, require_within

Path = list[torch.Tensor]  # the spikes of every group of units (a layer of perceptrons), each [..., units]
SpikeRule = Callable[[int, torch.Tensor], torch.Tensor]  # (group, x = U - theta) -> output of that group

MAX_ADJACENT_UNITS = 20  # two adjacent layers: a transition matrix of 2**20 numbers
MAX_PATH_UNITS = 18


def spike_patterns(units: int) -> torch.Tensor:
    """All 2**units spike patterns, [patterns, units], in the order of :func:`pattern_probabilities`.

    Raises:
        ParameterError: if ``units`` is not a whole number from 0 to 20.
    """
    _require_few(units)
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=torch.float64)


def pattern_probabilities(p: torch.Tensor) -> torch.Tensor:
    """Probability of every spike pattern of independent units that fire with probability ``p`` [..., units].

    Returns [..., 2**units].

    >>> pattern_probabilities(torch.tensor([0.1, 0.5], dtype=torch.float64))
    tensor([0.4500, 0.4500, 0.0500, 0.0500], dtype=torch.float64)

    Raises:
        ParameterError: if ``p`` is not float64 with values in [0, 1], or there are more than 20 units.
    """
    require_tensor(..., None, p=p)
    _require_few(p.shape[-1])
    require_within(0, 1, p=p)
    return of_patterns(p)


def of_patterns(p: torch.Tensor) -> torch.Tensor:
    """:func:`pattern_probabilities` of what an escape function returned, which needs no check."""
    probabilities = torch.ones_like(p[..., :1])
    for unit in range(p.shape[-1]):
        fires = p[..., unit : unit + 1]
        probabilities = torch.stack([probabilities * (1 - fires), probabilities * fires], dim=-1).flatten(-2)
    return probabilities


def _require_few(units: int) -> None:
    require_count(0, units=units)
    if units > MAX_ADJACENT_UNITS:
        raise ParameterError("units", units, f"must be at most {MAX_ADJACENT_UNITS}, because all patterns are listed")


class BernoulliNet:
    """Units that fire with probability p(U - theta), group after group: what estimators know of a net.

    The units of a group do not depend on each other; their potential follows from the parameters and from the spikes
    of earlier groups. A subclass has ``escape``, ``threshold`` and ``n_parameters``, and defines :attr:`groups` and
    :meth:`run`.
    """

    escape: EscapeFunction

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of units of every group, in causal order."""
        raise NotImplementedError

    @property
    def units(self) -> int:
        """Number of random spikes, output included."""
        return sum(self.groups)

    @property
    def deterministic(self) -> Self:
        """The same net with a hard threshold."""
        return replace(self, escape=Step())

    def run(self, parameters: torch.Tensor, x: torch.Tensor, spike: SpikeRule) -> Path:
        """Output of every group, where ``spike`` turns U - theta into spikes."""
        raise NotImplementedError

    def simulate(self, parameters: torch.Tensor, x: torch.Tensor, uniforms: Path) -> Path:
        """Spikes S = [r < p(U - theta)] for the random numbers r, ``uniforms``, of every group.

        Runs with the same ``uniforms`` have coupled randomness.
        """
        return self.run(parameters, x, lambda group, u: (uniforms[group] < self.escape.value(u)).to(u.dtype))

    def uniforms(self, shape: tuple[int, ...], rng: torch.Generator) -> Path:
        """Random numbers for :meth:`simulate`: for every group, uniform on [0, 1), [*shape, units]."""
        return [torch.rand(*shape, units, generator=rng, dtype=torch.float64) for units in self.groups]


@dataclass(frozen=True)
class PerceptronNet(BernoulliNet):
    """A feed-forward net of binary perceptrons: U = W s + b, S ~ Bernoulli(p(U - theta)) (Eqs 2, 4).

    Each layer is a group.

    The net holds no weights: its parameters are one vector [..., n_parameters], layer by layer W (row by row) and
    then b. Leading dimensions are a batch of nets.

    Args:
        sizes: number of inputs, then the number of units of every layer; the last layer is the output.
        escape: firing probability p(U - theta); ``Step()`` makes the net deterministic (Eq 2).
        threshold: firing threshold theta (unit of U).

    Raises:
        ParameterError: if there are fewer than two sizes or a size is not a positive whole number.
    """

    sizes: tuple[int, ...]
    escape: EscapeFunction = field(default_factory=SigmoidEscape)
    threshold: float = 1.0

    def __post_init__(self):
        require_sizes(sizes=self.sizes)
        require_kind(EscapeFunction, escape=self.escape)
        require_number(threshold=self.threshold)

    @property
    def groups(self):
        return self.sizes[1:]

    @property
    def n_parameters(self) -> int:
        return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(self.sizes))

    @property
    def exact_passes(self) -> float:
        """Passes through the net that :meth:`Objective.expectation` costs."""
        before_and_units = itertools.pairwise((0, *self.sizes[1:]))
        return sum(2**before * units for before, units in before_and_units) / self.units

    def layers(self, parameters: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """W [..., outputs, inputs] and b [..., outputs] of every layer, as views into ``parameters``."""
        layers, start = [], 0
        for inputs, outputs in itertools.pairwise(self.sizes):
            end = start + inputs * outputs
            weights = parameters[..., start:end].unflatten(-1, (outputs, inputs))
            layers.append((weights, parameters[..., end : end + outputs]))
            start = end + outputs
        return layers

    def run(self, parameters: torch.Tensor, x: torch.Tensor, spike: SpikeRule) -> Path:
        """Output of every layer for the input ``x`` [..., inputs], where ``spike`` turns U - theta into spikes."""
        path = []
        for layer, (weights, bias) in enumerate(self.layers(parameters)):
            potential = torch.einsum("...oi,...i->...o", weights, x) + bias
            x = spike(layer, potential - self.threshold)
            path.append(x)
        return path


def log_likelihood(probabilities: Path, path: Path) -> torch.Tensor:
    """log P of the spikes of every group, [groups, ...], from their firing probabilities."""
    pairs = zip(probabilities, path, strict=True)
    return torch.stack([torch.where(spikes > 0, p, 1 - p).log().sum(-1) for p, spikes in pairs])


def first_output(spikes: torch.Tensor) -> torch.Tensor:
    """y, the spike of the first output unit."""
    return spikes[..., 0]


@dataclass(frozen=True)
class Objective:
    """E[f(S)], the expected output of a net for one input, as a function of the parameters.

    Args:
        net: the net.
        parameters: where the gradient is taken, [n_parameters], float64; or [n, n_parameters], one set for each of the
            n estimates that are asked for.
        x: input, [inputs], float64.
        output: f, a differentiable function from output spikes [..., outputs] to a number each [...].

    Raises:
        ParameterError: if ``parameters`` or ``x`` has the wrong size or is not float64.
    """

    net: PerceptronNet
    parameters: torch.Tensor
    x: torch.Tensor
    output: Callable[[torch.Tensor], torch.Tensor] = first_output

    def __post_init__(self):
        for name, shape in self._shapes().items():
            require_tensor(*shape, **{name: getattr(self, name)})

    def _shapes(self) -> dict[str, tuple]:
        return {"parameters": (..., self.net.n_parameters), "x": (self.net.sizes[0],)}

    def value(self, path: Path) -> torch.Tensor:
        """f(S) of each path [...]."""
        return self.output(path[-1])

    def consequences(self, path: Path) -> list[torch.Tensor]:
        """For every group the part of f(S) that its spikes can still change, up to a constant, each [...]."""
        return [self.value(path)] * len(path)

    def expectation(self, parameters: torch.Tensor | None = None) -> torch.Tensor:
        """Exact E[f(S)] at ``parameters`` [..., n_parameters] (default: those of the objective); differentiable.

        The distribution over the spike patterns of a layer is carried from layer to layer:
        P_l(s) = sum over s' of P_{l-1}(s') prod_i p_i(s')^{s_i} (1 - p_i(s'))^{1 - s_i}.

        Raises:
            UserError: if two adjacent layers have more than 20 units together.
        """
        hidden = (0, *self.net.sizes[1:])
        if max(a + b for a, b in itertools.pairwise(hidden)) > MAX_ADJACENT_UNITS:
            raise UserError(
                f"sizes = {self.net.sizes}: an exact expectation needs at most {MAX_ADJACENT_UNITS} units in any two "
                "adjacent layers"
            )
        patterns, distribution = self.x[None], torch.ones(1, 1, dtype=torch.float64)
        for weights, bias in self.net.layers(self.parameters if parameters is None else parameters):
            potential = patterns @ weights.mT + bias[..., None, :]  # [..., patterns before, units]
            p = self.net.escape.value(potential - self.net.threshold)
            distribution = distribution @ of_patterns(p)  # [..., 1, patterns]
            patterns = spike_patterns(p.shape[-1])
        return distribution[..., 0, :] @ self.output(patterns)

    def gradient(self) -> torch.Tensor:
        """Exact gradient of :meth:`expectation`, [n_parameters]."""
        parameters = self.parameters.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.expectation(parameters), parameters)
        return gradient

    def paths(self) -> tuple[Path, torch.Tensor]:
        """Every path of spike patterns that has a positive probability, and that probability, [paths].

        Raises:
            UserError: if the net has more than 18 units.
        """
        if self.net.units > MAX_PATH_UNITS:
            raise UserError(
                f"sizes = {self.net.sizes}: all paths can be listed for at most {MAX_PATH_UNITS} random spikes"
            )
        path = list(spike_patterns(self.net.units).split(self.net.groups, dim=-1))
        probability = self.log_likelihood(self.parameters, path).sum(0).exp()
        possible = probability > 0
        return [spikes[possible] for spikes in path], probability[possible]

    def probabilities(self, parameters: torch.Tensor, path: Path) -> Path:
        """Firing probability of every unit given the spikes before it; differentiable."""
        found = []

        def impose(group, x):
            found.append(self.net.escape.value(x))
            return path[group]

        self.net.run(parameters, self.x, impose)
        return found

    def log_likelihood(self, parameters: torch.Tensor, path: Path) -> torch.Tensor:
        """log P of the spikes of every group given those before them, [groups, ...]; differentiable."""
        return log_likelihood(self.probabilities(parameters, path), path)

    def sample_paths(self, n: int, rng: torch.Generator) -> Path:
        """``n`` independent paths."""
        return self.net.simulate(self.parameters, self.x, self.net.uniforms((n,), rng))

    def deterministic_path(self) -> Path:
        """The one path of the net with a hard threshold, as a batch of one."""
        uniforms = self.net.uniforms((1,), torch.Generator())
        return self.net.deterministic.simulate(self.parameters[..., None, :], self.x, uniforms)

    def gradients(self, function: Callable[[torch.Tensor], torch.Tensor], n: int) -> torch.Tensor:
        """Gradient of each of ``n`` numbers, [n, n_parameters]. ``function`` makes of parameters [n, 1, n_parameters],
        one set for each, values [n, paths], over which it is averaged."""
        parameters = self.parameters.expand(n, -1)[:, None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(parameters).mean(1).sum(), parameters)
        return gradient[:, 0]

    def pathwise_gradient(self, spike: SpikeRule, n: int) -> torch.Tensor:
        """df/d parameters by back-propagation through ``spike``, which returns spikes [n, paths, units]; the mean over
        paths, [n, n_parameters]."""
        return self.gradients(lambda parameters: self.value(self.net.run(parameters, self.x, spike)), n)


def random_objective(
    sizes: tuple[int, ...], beta: float, seed: int, scale: float = 1.0, bias_sd: float = 0.1
) -> Objective:
    """A random net of perceptrons with sigmoid escape noise and its mean output.

    Weights are normal with s.d. ``scale / sqrt(inputs of the unit)``. Biases put every unit at threshold when half
    of its inputs are on, up to a normal deviation of s.d. ``bias_sd``, so that no unit is stuck; half of the inputs
    of the net are on.

    Args:
        sizes: inputs, units of every layer.
        beta: steepness of the escape noise (1 / unit of U).
        seed: of the random weights.
        scale, bias_sd: see above (unit of U).

    Raises:
        ParameterError: naming the argument that is out of range.
    """
    net = PerceptronNet(tuple(sizes), SigmoidEscape(beta))
    rng = torch.Generator().manual_seed(seed)
    parameters = torch.empty(net.n_parameters, dtype=torch.float64)
    for weights, bias in net.layers(parameters):
        weights.normal_(0, scale / weights.shape[-1] ** 0.5, generator=rng)
        bias.normal_(0, bias_sd, generator=rng).add_(net.threshold - 0.5 * weights.sum(-1))
    x = torch.zeros(net.sizes[0], dtype=torch.float64)
    x[torch.randperm(net.sizes[0], generator=rng)[: (net.sizes[0] + 1) // 2]] = 1
    return Objective(net, parameters, x)
