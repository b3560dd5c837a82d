"""What compiled kernels of all backends are given of a neuron, as numbers, and the functions that they know.

Exact types only: a subclass may have changed the function.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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
    """The numbers of :class:`sgtheory.neurons.LIFParameters` in the precision of a kernel."""

    a_m: Any  # exp(-dt / tau_mem)
    a_s: Any  # exp(-dt / tau_syn)
    gain: Any  # 1 - a_m
    theta: Any  # threshold
    same: bool  # reset "same" (Eq 23), not "next" (Eq 18)
    attached: bool  # the reset is differentiated
    delay: int


def constants(parameters: LIFParameters, number: Callable = float) -> Constants:
    """What a kernel needs of ``parameters``; ``number`` is a type such as ``numpy.float32``."""
    a_m = parameters.membrane_decay
    return Constants(
        number(a_m),
        number(parameters.synaptic_decay),
        number(1 - a_m),
        number(parameters.threshold),
        parameters.reset == "same",
        parameters.reset_gradient == "attached",
        parameters.delay,
    )
