"""What compiled kernels of all backends are given of a neuron, as numbers, and the functions that they know.

Exact types only: a subclass may have changed the function.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from sgtheory.neurons import (
    EscapeFunction,
    ExponentialEscape,
    LIFParameters,
    RectifiedLinear,
    ScaledSigmoidDerivative,
    ScaledSuperSpike,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    SuperSpike,
    SurrogateDerivative,
)

# of a threshold; "given" ones are computed by the object, outside of the kernels
NO_THRESHOLD, SIGMOID_THRESHOLD, EXPONENTIAL_THRESHOLD, GIVEN_THRESHOLD = range(4)
# of a surrogate derivative
SUPERSPIKE, SIGMOID_SURROGATE, RECTIFIED_LINEAR, GIVEN_SURROGATE = range(4)

_SURROGATES = {  # kind, and the peak for a given beta
    SuperSpike: (SUPERSPIKE, lambda beta: 1.0),
    ScaledSuperSpike: (SUPERSPIKE, lambda beta: beta),
    SigmoidDerivative: (SIGMOID_SURROGATE, lambda beta: beta),
    ScaledSigmoidDerivative: (SIGMOID_SURROGATE, lambda beta: 1.0),
    RectifiedLinear: (RECTIFIED_LINEAR, lambda beta: 1.0),
}


def threshold_kind(escape: EscapeFunction) -> tuple[int, float, float]:
    """Kind of threshold, its scale, and p0."""
    if type(escape) is Step:
        return NO_THRESHOLD, 0.0, 1.0
    if type(escape) is SigmoidEscape:
        return SIGMOID_THRESHOLD, 1 / escape.beta, 1.0
    if type(escape) is ExponentialEscape:
        return EXPONENTIAL_THRESHOLD, escape.delta_u, escape.p0
    return GIVEN_THRESHOLD, 0.0, 1.0


def surrogate_kind(surrogate: SurrogateDerivative) -> tuple[int, float, float]:
    """Kind of surrogate derivative, beta, and scale."""
    if type(surrogate) in _SURROGATES:
        kind, scale = _SURROGATES[type(surrogate)]
        return kind, surrogate.beta, scale(surrogate.beta)
    return GIVEN_SURROGATE, 1.0, 1.0


class Constants(NamedTuple):
    """The numbers of :class:`sgtheory.neurons.LIFParameters` in the precision of a kernel.

    All that come before ``same`` are numbers, or all of them arrays with one number for each neuron.
    """

    a_m: Any  # exp(-dt / tau_mem)
    a_s: Any  # exp(-dt / tau_syn)
    gain: Any  # 1 - a_m
    theta: Any  # threshold
    rho: Any  # exp(-dt / tau_adaptation)
    adaptation: Any
    same: bool  # reset "same" (Eq 23), not "next" (Eq 18)
    attached: bool  # the reset is differentiated
    delay: int


def numbers_of_neurons(
    parameters: LIFParameters, channels: int, positions: int, like: torch.Tensor
) -> torch.Tensor | None:
    """The coefficients of every neuron, [6, position * channel], in the type and on the device of ``like``.

    None if all neurons share them. Gradients go back to the tensors among ``parameters``.
    """
    if not parameters.tensors:
        return None
    values = [v.to(like) if isinstance(v, torch.Tensor) else like.new_full((), v) for v in parameters.coefficients]
    return torch.stack([value.expand(positions, channels).flatten() for value in values])


def constants(parameters: LIFParameters, number: Callable = float, of_neurons: Iterable | None = None) -> Constants:
    """What a kernel needs of ``parameters``; ``number`` is a type such as ``numpy.float32``.

    ``of_neurons`` takes the place of the coefficients where neurons differ.
    """
    return Constants(
        *(map(number, parameters.coefficients) if of_neurons is None else of_neurons),
        parameters.reset == "same",
        parameters.reset_gradient == "attached",
        parameters.delay,
    )
