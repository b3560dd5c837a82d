"""Nets whose surrogate gradient and true gradient are two vector fields over the same parameters (Section 4.2)."""

from dataclasses import dataclass

import torch

from sgtheory.lif import lif
from sgtheory.neurons import EscapeDerivative, EscapeFunction, LIFParameters, Step, SurrogateDerivative, surrogate_spike
from sgtheory.theory._perceptron import Objective, PerceptronNet, first_output, spike_patterns
from sgtheory.theory._sigmoid_net import gradient_field, relaxed_spike, sigmoid_net


class FieldNet:
    """A scalar function of parameters and what back-propagation with a surrogate derivative makes of its gradient.

    ``points`` are [points, parameters]. A subclass has ``n_parameters``, ``escape`` and :meth:`surrogate_output`.
    """

    n_parameters: int
    escape: EscapeFunction

    def surrogate_output(self, points: torch.Tensor, surrogate: SurrogateDerivative) -> torch.Tensor:
        """The output at every point [points]; its backward pass uses ``surrogate``."""
        raise NotImplementedError

    def output(self, points: torch.Tensor) -> torch.Tensor:
        """The output at every point [points], with its true gradient."""
        return self.surrogate_output(points, EscapeDerivative(self.escape))

    def signals(self, points: torch.Tensor) -> torch.Tensor:
        """Signals [signals, points] that jump where the true gradient has its spikes."""
        return self.output(points)[None]

    def fields(self, surrogates: list[SurrogateDerivative]):
        """The vector fields, points -> [1 + surrogates, points, parameters]: the true gradient, then the surrogate
        gradients."""
        functions = [self.output]
        functions += [lambda points, s=s: self.surrogate_output(points, s) for s in surrogates]
        fields = [gradient_field(function) for function in functions]
        return lambda points: torch.stack([field(points) for field in fields])


@dataclass(frozen=True)
class SigmoidNet(FieldNet):
    """The five-weight net of Eqs 7-9 with input ``x``; output y."""

    escape: EscapeFunction
    x: float = 1.0
    n_parameters = 5

    def surrogate_output(self, points, surrogate):
        return sigmoid_net(points, self.x, self.escape, surrogate)["y"]

    def signals(self, points):
        return torch.stack(list(sigmoid_net(points, self.x, self.escape, EscapeDerivative(self.escape)).values()))


@dataclass(frozen=True)
class RelaxedPerceptronNet(FieldNet):
    """Perceptrons with the activation ``net.escape`` in place of a spike, input ``x`` [inputs]; first output."""

    net: PerceptronNet
    x: torch.Tensor

    @property
    def n_parameters(self):
        return self.net.n_parameters

    @property
    def escape(self):
        return self.net.escape

    def _activities(self, points, surrogate):
        return self.net.run(points, self.x, lambda _, x: relaxed_spike(x, self.escape, surrogate))

    def surrogate_output(self, points, surrogate):
        return first_output(self._activities(points, surrogate)[-1])

    def signals(self, points):
        return torch.cat(self._activities(points, EscapeDerivative(self.escape)), dim=-1).T


@dataclass(frozen=True)
class StochasticPerceptronNet(RelaxedPerceptronNet):
    """Perceptrons with escape noise; output E[y].

    The surrogate gradient is its exact mean over all paths of spike patterns, the true gradient that of E[y].
    """

    def surrogate_output(self, points, surrogate):
        path = spike_patterns(self.net.units).split(self.net.sizes[1:], dim=-1)
        probability = 1.0

        def impose(layer, x):
            nonlocal probability
            x, spikes = torch.broadcast_tensors(x, path[layer])
            p = self.escape.value(x.detach())
            probability = probability * torch.where(spikes > 0, p, 1 - p).prod(-1)
            return surrogate_spike(x, spikes, surrogate.derivative)

        outputs = first_output(self.net.run(points[:, None], self.x, impose)[-1])  # [points, paths]
        return (probability * outputs).sum(-1)

    def output(self, points):
        return Objective(self.net, torch.zeros_like(points[0]), self.x).expectation(points)

    def signals(self, points):
        return self.output(points)[None]


@dataclass(frozen=True)
class SpikeMatchingNet(FieldNet):
    """A deterministic feed-forward net of LIF layers that shall match target spike trains; L2 loss (Eq 24).

    The true gradient of this loss is zero almost everywhere.

    Args:
        sizes: inputs and neurons of every layer; the parameters are the weights, layer by layer, [pre, post] row by
            row.
        parameters: of all neurons.
        inputs: spikes, [time, inputs], float64.
        targets: spikes, [time, outputs].
    """

    sizes: tuple[int, ...]
    parameters: LIFParameters
    inputs: torch.Tensor
    targets: torch.Tensor
    escape = Step()

    def signals(self, points):
        return points.new_zeros(0, len(points))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def n_parameters(self):
        return sum(pre * post for pre, post in self.shapes)

    def surrogate_output(self, points, surrogate):
        spikes = self.inputs
        layers = points.split([pre * post for pre, post in self.shapes], dim=1)
        for weights, shape in zip(layers, self.shapes, strict=True):
            spikes, _ = lif(spikes @ weights.unflatten(1, shape), self.parameters, surrogate)
        return 0.5 * (spikes - self.targets).square().sum(1).mean(-1)
