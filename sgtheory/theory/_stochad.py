"""Stochastic derivatives of Bernoulli spikes and their propagation through a net (Section 2, Appendix B).

A stochastic derivative of X(p) is a triple (delta, w, Y): the almost-sure derivative of X, the weight of a finite
jump, and the value after the jump. For any function f (Arya et al. 2022),

    d/dp E[f(X)] = E[ delta f'(X) + w (f(Y) - f(X)) ].

For a Bernoulli variable delta = 0 and Y = 1 - X. The right derivative knows only jumps 0 -> 1, the left only jumps
1 -> 0, and every affine combination of the two with a coefficient that does not depend on X is a derivative as well.
"""

from typing import NamedTuple

import torch

from sgtheory.errors import ParameterError, require_count, require_kind
from sgtheory.neurons import surrogate_spike
from sgtheory.theory._checks import require_tensor, require_within
from sgtheory.theory._perceptron import Objective

Combination = str | float


class StochasticDerivative(NamedTuple):
    """The triple (delta, w, Y), each of the shape of the random variable."""

    delta: torch.Tensor
    weight: torch.Tensor
    alternative: torch.Tensor

    def smoothed(self, value: torch.Tensor) -> torch.Tensor:
        """E[delta + w (Y - X) | X = value], Eq 1. A number for each X, so it can be back-propagated; biased in
        general beyond linear f."""
        return self.delta + self.weight * (self.alternative - value)


def right_share(combination: Combination, p: torch.Tensor) -> torch.Tensor:
    """The coefficient alpha of alpha right + (1 - alpha) left, of the shape of ``p``.

    ``"right"`` is 1, ``"left"`` is 0, ``"matched"`` is 1 - p, the combination that yields the surrogate derivative;
    a number is used as it is.

    Raises:
        ParameterError: for any other word.
    """
    if combination == "matched":
        return 1 - p
    if isinstance(combination, str):
        if combination not in ("right", "left"):
            raise ParameterError("combination", combination, "must be right, left, matched or a number")
        combination = float(combination == "right")
    return torch.full_like(p, combination)


def bernoulli_derivative(
    p: torch.Tensor, spikes: torch.Tensor, combination: Combination = "matched"
) -> StochasticDerivative:
    """Stochastic derivative of S ~ Bernoulli(p) with respect to p, given the outcome ``spikes`` (Appendix B).

    right: (0, 1/(1-p), 1) if S = 0 else (0, 0, 0);  left: (0, -1/p, 0) if S = 1 else (0, 0, 1);
    smoothed: right 1/(1-p) if S = 0 else 0;  left 1/p if S = 1 else 0;  matched 1.

    Args:
        p: firing probability; not 0 where a spike was drawn, not 1 where none was.
        spikes: 0 or 1, same shape.
        combination: of right and left, see :func:`right_share`.

    Raises:
        ParameterError: if ``p`` is not in [0, 1], or ``spikes`` have another shape or other values than 0 and 1.
    """
    _require_outcomes(p, spikes)
    return triple_of(p, spikes, combination)


def _require_outcomes(p, spikes):
    require_tensor(..., p=p)
    require_tensor(*p.shape, spikes=spikes)
    require_within(0, 1, p=p)
    if not ((spikes == 0) | (spikes == 1)).all():
        raise ParameterError("spikes", "other numbers", "must be 0 or 1")


def triple_of(p: torch.Tensor, spikes: torch.Tensor, combination: Combination) -> StochasticDerivative:
    """:func:`bernoulli_derivative` of spikes that were drawn with ``p``, which need no check."""
    alpha = right_share(combination, p)
    weight = torch.where(spikes > 0, -(1 - alpha) / p, alpha / (1 - p))
    return StochasticDerivative(torch.zeros_like(p), weight, 1 - spikes)


def smoothed_bernoulli(p: torch.Tensor, spikes: torch.Tensor, combination: Combination = "matched") -> torch.Tensor:
    """``spikes`` in the forward pass, the smoothed stochastic derivative as dS/dp in the backward pass.

    ``backward()`` through a net of these chains smoothed stochastic derivatives layer by layer (Section 3.2.2).

    Raises:
        ParameterError: if p is no probability, a spike not 0 or 1, or the combination unknown.
    """
    _require_outcomes(p, spikes)

    def derivative(p, spikes):
        return triple_of(p, spikes, combination).smoothed(spikes)

    return surrogate_spike(p, spikes, derivative)


def _prune(alternatives, weights, rng):
    """Keep one of the alternatives [n, A, units] per sample, drawn in proportion to the norm of its weight
    [n, A, D], and give it the weight of all, so that the expectation stays the same (Arya et al. 2022)."""
    norm = weights.norm(dim=-1)
    total = norm.sum(-1, keepdim=True)
    # Where nothing can jump the choice is idle: its weight is zero.
    kept = torch.multinomial(torch.where(total > 0, norm, torch.ones_like(norm)), 1, generator=rng)
    norm_kept = norm.gather(1, kept)
    scale = torch.where(norm_kept > 0, total / norm_kept, torch.zeros_like(norm_kept))
    pick = kept[..., None]
    alternatives = alternatives.gather(1, pick.expand(-1, -1, alternatives.shape[-1]))
    return alternatives, weights.gather(1, pick.expand(-1, -1, weights.shape[-1])) * scale[..., None]


def stochastic_derivative(
    objective: Objective,
    n: int,
    rng: torch.Generator,
    directions: torch.Tensor | None = None,
    combination: Combination = "matched",
    prune: bool = True,
    coupled: bool = True,
) -> torch.Tensor:
    """``n`` samples of the unbiased forward-mode stochastic derivative of E[f(S)] (Arya et al. 2022).

    Layer by layer, each unit may jump with a weight given by its triple and by the derivative of its firing
    probability; what already jumped runs on with the same random numbers as the primal run. A sample is
    sum over alternatives of w (f(Y) - f(S)).

    Args:
        objective: the net, its parameters and input, and f.
        n: number of samples.
        rng: source of the randomness.
        directions: tangents in parameter space, [D, n_parameters]; default: the unit vectors, D = n_parameters.
        combination: of the right and left derivative, see :func:`right_share`.
        prune: carry one alternative, chosen at random in proportion to the norm of its weight, instead of one per
            unit.
        coupled: alternatives use the random numbers of the primal run; without it the estimate stays unbiased but
            its variance grows.

    Returns:
        [n, D].

    Raises:
        ParameterError: if ``n`` is not a positive whole number, ``rng`` no generator, or ``directions`` have another
            shape.
    """
    require_count(n=n)
    require_kind(torch.Generator, rng=rng)
    net = objective.net
    if directions is None:
        directions = torch.eye(net.n_parameters, dtype=torch.float64)
    require_tensor(None, net.n_parameters, directions=directions)
    spikes = objective.x.expand(n, -1)
    alternatives = spikes.new_empty(n, 0, spikes.shape[-1])  # [n, A, units]
    tangents = spikes.new_empty(n, 0, len(directions))  # [n, A, D], weights of the alternatives
    for (weights, bias), (d_weights, d_bias) in zip(
        net.layers(objective.parameters), net.layers(directions), strict=True
    ):
        uniform = torch.rand(n, 1, len(bias), generator=rng, dtype=torch.float64)
        other = (
            uniform if coupled else torch.rand(*alternatives.shape[:2], len(bias), generator=rng, dtype=torch.float64)
        )
        x, x_alternative = (before @ weights.mT + bias - net.threshold for before in (spikes, alternatives))
        p = net.escape.value(x)
        d_x = torch.einsum("doi,ni->nod", d_weights, spikes) + d_bias.mT  # [n, units, D]
        spikes = (uniform[:, 0] < p).double()
        alternatives = (other < net.escape.value(x_alternative)).double()

        triple = triple_of(p, spikes, combination)
        jumps = torch.eye(len(bias), dtype=torch.bool)
        born = torch.where(jumps, triple.alternative[:, None], spikes[:, None])  # [n, units that jump, units]
        alternatives = torch.cat([alternatives, born], dim=1)
        tangents = torch.cat([tangents, (triple.weight * net.escape.derivative(x))[..., None] * d_x], dim=1)
        if prune:
            alternatives, tangents = _prune(alternatives, tangents, rng)
    change = objective.output(alternatives) - objective.output(spikes)[:, None]  # [n, A]
    return torch.einsum("nad,na->nd", tangents, change)
