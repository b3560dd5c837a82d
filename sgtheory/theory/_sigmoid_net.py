"""The differentiable example net of Section 4 (Eqs 7-9; Figs 4, 5), with a forward and a backward steepness."""

from collections.abc import Callable

import torch

from sgtheory.neurons import EscapeFunction, SurrogateDerivative, surrogate_spike
from sgtheory.theory._checks import require_tensor


def relaxed_spike(x: torch.Tensor, escape: EscapeFunction, surrogate: SurrogateDerivative) -> torch.Tensor:
    """A spike without its randomness: ``escape.value(x)`` forward, ``surrogate.derivative(x)`` backward (Eqs 7, 8).

    With ``surrogate = EscapeDerivative(escape)`` back-propagation gives the true gradient of the relaxed net; with
    ``escape = Step()`` the net is the deterministic one, the limit beta -> infinity.
    """
    return surrogate_spike(x, escape.value(x.detach()), surrogate.derivative)


def sigmoid_net(
    weights: torch.Tensor, x: float, escape: EscapeFunction, surrogate: SurrogateDerivative
) -> dict[str, torch.Tensor]:
    """Activities of the five-weight net, Eq 7: g = s(w x), h_i = s(v_i g), y = s(u_1 h_1 + u_2 h_2).

    Args:
        weights: the last axis is (w, v1, v2, u1, u2); any leading axes are points of parameter space.
        x: input.
        escape: the activation s of the forward pass, e.g. ``SigmoidEscape(beta)``.
        surrogate: its derivative in the backward pass (Eq 8), e.g. ``SigmoidDerivative(beta_sg)``.

    Returns:
        ``g``, ``h1``, ``h2``, ``y``, each with the leading axes of ``weights``.

    Raises:
        ParameterError: if ``weights`` are not float64 with five numbers on the last axis.
    """
    require_tensor(..., 5, weights=weights)

    def s(potential):
        return relaxed_spike(potential, escape, surrogate)

    w, v1, v2, u1, u2 = weights.unbind(-1)
    g = s(w * x)
    h1, h2 = s(v1 * g), s(v2 * g)
    return {"g": g, "h1": h1, "h2": h2, "y": s(u1 * h1 + u2 * h2)}


def gradient_field(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The vector field that back-propagation makes of a function of parameters.

    ``function`` maps points [..., parameters] to one number per point [...]; the field maps points to gradients of the
    same shape. It is a gradient in the mathematical sense only if every backward pass inside ``function`` is one.
    """

    def field(points: torch.Tensor) -> torch.Tensor:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(function(points).sum(), points)
        return gradient

    return field
