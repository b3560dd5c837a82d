"""Escape functions: the probability p(U - theta) that a neuron spikes in a time step (Eqs 4, 12, 13, 20, 21).

A parameter that is out of range raises a :class:`sgtheory.errors.ParameterError` that names it.
"""

import math
from dataclasses import dataclass

import torch

from sgtheory.errors import ParameterError
from sgtheory.neurons._range import require_normal_fields
from sgtheory.neurons.logarithm import log_ratio


class EscapeFunction:
    """Firing probability of a neuron as a non-decreasing function of x = U - theta.

    A subclass defines :meth:`value`. The two other methods have defaults that work for any smooth ``value``;
    a subclass overrides them where it knows better.

    A spike is drawn as S = [x > q(r)], where r is uniform on (0, 1) and q, the inverse of p, turns r into a random
    threshold. This is the same event as r < p(x), but the threshold does not depend on the state of the neuron.
    """

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """p(x), same shape as ``x``, in [0, 1] for every finite x."""
        raise NotImplementedError

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        """p'(x), by automatic differentiation of :meth:`value` unless a subclass overrides it."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.value(x).sum(), x)
        return gradient

    def quantile(self, r: torch.Tensor) -> torch.Tensor:
        """The random threshold q(r) = inf {x : p(x) > r}, by bisection unless a subclass overrides it.

        Searches x in [-2**20, 2**20]; a probability that stays above (below) r there gives -inf (inf).

        Raises:
            ParameterError: if ``value`` is NaN at the ends of this range, where exp(x) overflows.
        """
        dtype, r = r.dtype, r.to(torch.float64)
        low = torch.full_like(r, -(2.0**20))
        high = -low
        least, most = self.value(low), self.value(high)
        if (least + most).isnan().any():
            allowed = "must be a probability for x = -2**20 and 2**20, too, where exp(x) overflows"
            raise ParameterError(f"{type(self).__name__}.value", math.nan, allowed)
        always, never = least > r, most <= r
        for _ in range(80):
            middle = 0.5 * (low + high)
            above = self.value(middle) > r
            high, low = torch.where(above, middle, high), torch.where(above, low, middle)
        high = torch.where(always, -math.inf, torch.where(never, math.inf, high))
        return high.to(dtype)


@dataclass(frozen=True)
class Step(EscapeFunction):
    """p(x) = H(x): the deterministic neuron (Eqs 2, 12, 20), H(0) = 0."""

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).to(x.dtype)

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    def quantile(self, r: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(r)


@dataclass(frozen=True)
class SigmoidEscape(EscapeFunction):
    """p(x) = sigma_beta(x) = 1 / (1 + exp(-beta x)) (Eqs 4, 13, 21), p'(x) = beta p (1 - p).

    ``beta`` is the steepness (1 / unit of U); beta -> infinity gives :class:`Step`.

    >>> SigmoidEscape(beta=10.0).derivative(torch.zeros(1))
    tensor([2.5000])
    """

    beta: float = 10.0

    def __post_init__(self) -> None:
        require_normal_fields(self, "beta")

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.beta * x)

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        p = self.value(x)
        return self.beta * p * (1 - p)

    def quantile(self, r: torch.Tensor) -> torch.Tensor:
        return log_ratio(r, 1 - r) * (1 / self.beta)


@dataclass(frozen=True)
class ExponentialEscape(EscapeFunction):
    """p(x) = min(1, p0 exp(x / delta_u)) (Jolivet et al. 2006; Gardner et al. 2015).

    ``p0`` is the firing probability at threshold, ``delta_u`` the width of the noise (unit of U).
    """

    p0: float = 2 / 3
    delta_u: float = 0.133

    def __post_init__(self) -> None:
        require_normal_fields(self, "p0", "delta_u")
        if self.p0 > 1:
            raise ParameterError("p0", self.p0, "is a probability: must be in (0, 1]")

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self.p0 * torch.exp(x / self.delta_u), max=1)

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        p = self.p0 * torch.exp(x / self.delta_u)
        return torch.where(p < 1, p / self.delta_u, torch.zeros_like(p))

    def quantile(self, r: torch.Tensor) -> torch.Tensor:
        return log_ratio(r, torch.full_like(r, self.p0)) * self.delta_u


@dataclass(frozen=True)
class ErfEscape(EscapeFunction):
    """p(x) = (1 + erf(x / (sqrt(2) sigma))) / 2: a threshold with Gaussian noise of s.d. ``sigma`` (unit of U)."""

    sigma: float = 0.16

    def __post_init__(self) -> None:
        require_normal_fields(self, "sigma")

    def value(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.ndtr(x / self.sigma)

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        z = x / self.sigma
        return torch.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * self.sigma)

    def quantile(self, r: torch.Tensor) -> torch.Tensor:
        # float64 inside: the float32 routine loses half of its digits in the tails.
        return (torch.special.ndtri(r.to(torch.float64)) * self.sigma).to(r.dtype)
