"""Surrogate derivatives: what stands in for dS/dU when an error passes back through a spike (Eqs 3, 16).

A parameter that is out of range raises a :class:`sgtheory.errors.ParameterError` that names it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from sgtheory.neurons._escape import EscapeFunction, SigmoidEscape
from sgtheory.neurons._range import require_normal_fields


class SurrogateDerivative:
    """Surrogate derivative of the spike with respect to the membrane potential.

    A subclass defines :meth:`derivative`. :meth:`value`, the smooth function whose true derivative it is, is used by
    tests and theory only, never in training.
    """

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        """The surrogate derivative at x = U - theta, where the neuron emitted ``spikes``; same shape as ``x``."""
        raise NotImplementedError

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """A smooth function of x with derivative :meth:`derivative`, if there is one."""
        raise NotImplementedError(f"{type(self).__name__} is not the derivative of a function of x")


@dataclass(frozen=True)
class _Steepness(SurrogateDerivative):
    beta: float = 10.0

    def __post_init__(self) -> None:
        require_normal_fields(self, "beta")


class SuperSpike(_Steepness):
    """1 / (beta |x| + 1)^2, peak 1 (Zenke & Ganguli 2018).

    With beta = 1 this is the form used by Norse.

    >>> SuperSpike(beta=10.0).derivative(torch.tensor([0.0, 0.1]), None)
    tensor([1.0000, 0.2500])
    """

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return 1 / (self.beta * x.abs() + 1) ** 2

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return x / (1 + self.beta * x.abs())


class ScaledSuperSpike(SuperSpike):
    """beta / (beta |x| + 1)^2, area 2 at any beta: without the scaling by 1 / beta of Section 5 and Fig S2.

    Scaled in the paper's sense is :class:`SuperSpike`.
    """

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return self.beta * super().derivative(x, spikes)

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return self.beta * super().value(x)


class SigmoidDerivative(_Steepness):
    """sigma_beta'(x) = beta sigma_beta(x) (1 - sigma_beta(x)), peak beta / 4.

    The derivative of sigmoid escape noise, hence the surrogate that stochastic automatic differentiation yields for
    it (Section 3.1, Eq 16).
    """

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return SigmoidEscape(self.beta).derivative(x)

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return SigmoidEscape(self.beta).value(x)


class ScaledSigmoidDerivative(SigmoidDerivative):
    """sigma_beta'(x) / beta, peak 1/4 at any beta (Section 5, Fig S2)."""

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return super().derivative(x, spikes) / self.beta

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return super().value(x) / self.beta


class RectifiedLinear(_Steepness):
    """max(0, 1 - beta |x|), peak 1 (Esser et al. 2016; Bellec et al. 2018)."""

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return torch.clamp(1 - self.beta * x.abs(), min=0)

    def value(self, x: torch.Tensor) -> torch.Tensor:
        inside = torch.clamp(x, -1 / self.beta, 1 / self.beta)
        return inside - 0.5 * self.beta * inside * inside.abs()


@dataclass(frozen=True)
class StraightThrough(SurrogateDerivative):
    """1: the identity straight-through estimator (Hinton 2012; Bengio et al. 2013)."""

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return torch.ones_like(x)

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return x


@dataclass(frozen=True)
class EscapeDerivative(SurrogateDerivative):
    """p'(x) of an escape function: the choice that makes the surrogate gradient equal to the smoothed stochastic
    derivative on every path (Section 3.2.2, Eq 16)."""

    escape: EscapeFunction = field(default_factory=SigmoidEscape)

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return self.escape.derivative(x)

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return self.escape.value(x)


@dataclass(frozen=True)
class MultilayerSpiker(SurrogateDerivative):
    """The spike S itself (Gardner, Sporea & Grüning 2015). Not the derivative of a function of x."""

    def derivative(self, x: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return spikes.to(x.dtype)


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, spikes, derivative):
        return spikes.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, spikes, ctx.derivative = inputs
        ctx.save_for_backward(x, spikes)
        ctx.save_for_forward(x, spikes)

    @staticmethod
    def jvp(ctx, tangent, *_):
        return tangent * ctx.derivative(*ctx.saved_tensors)

    @staticmethod
    def backward(ctx, gradient):
        x, spikes = ctx.saved_tensors
        return gradient * ctx.derivative(x, spikes), None, None


def surrogate_spike(
    x: torch.Tensor, spikes: torch.Tensor, derivative: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """``spikes`` in the forward pass, ``derivative(x, spikes)`` in place of dS/dx in the backward pass (Eqs 3, 16).

    Args:
        x: what the spikes depend on, as U - theta.
        spikes: 0 or 1, shape and dtype of ``x``.
        derivative: such as :meth:`SurrogateDerivative.derivative`.
    """
    return _Spike.apply(x, spikes, derivative)
