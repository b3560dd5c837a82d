"""Parameters of the leaky integrate-and-fire neuron with exponential current synapses."""

import math
from dataclasses import dataclass

from sgtheory.errors import ParameterError, convert, is_number, require_choice
from sgtheory.neurons._range import LARGEST, require_normal_fields


@dataclass(frozen=True)
class LIFParameters:
    """Leaky integrate-and-fire neuron in discrete time (Eqs 10-14, 18-23).

    With a_s = exp(-dt / tau_syn), a_m = exp(-dt / tau_mem), x[n] the weighted spikes that arrive in step n::

        I[n+1] =  a_s I[n] + x[n - delay]                                 Eq 19
        U[n+1] = (a_m U[n] + (1 - a_m) I[n]) (1 - S[n])   reset "next"    Eq 18
        U[n+1] =  a_m U[n] (1 - S[n]) + (1 - a_m) I[n]    reset "same"    Eq 23
        U[0] = I[0] = 0,  x[n] = 0 for n < 0

    Args:
        tau_mem: membrane time constant (s).
        tau_syn: synaptic time constant (s).
        dt: time step (s).
        threshold: firing threshold theta (unit of U).
        reset: ``"next"``: a neuron is silent in the step after a spike (Eq 18); ``"same"``: input that arrives with
            the spike survives the reset, so that it can fire in adjacent steps (Eq 23).
        reset_gradient: ``"attached"`` differentiates the factor (1 - S[n]) with the surrogate (Eqs 15, 17);
            ``"detached"`` treats it as a constant.
        delay: 0 or 1 additional steps of transmission delay on every connection into the neuron.

    Raises:
        ParameterError: naming the parameter that is out of range.
    """

    tau_mem: float = 20e-3
    tau_syn: float = 10e-3
    dt: float = 1e-3
    threshold: float = 1.0
    reset: str = "next"
    reset_gradient: str = "detached"
    delay: int = 0

    def __post_init__(self) -> None:
        require_normal_fields(self, "tau_mem", "tau_syn", "dt")
        if not is_number(self.threshold):
            raise ParameterError("threshold", self.threshold, "must be a number")
        if not abs(float(self.threshold)) <= LARGEST:
            raise ParameterError("threshold", self.threshold, f"must be finite, and at most {LARGEST:.1g} for float32")
        require_choice(("next", "same"), reset=self.reset)
        require_choice(("attached", "detached"), reset_gradient=self.reset_gradient)
        if not is_number(self.delay) or self.delay not in (0, 1):
            raise ParameterError("delay", self.delay, "must be one of 0, 1")
        convert(self, float, "threshold")
        convert(self, int, "delay")

    @property
    def membrane_decay(self) -> float:
        """a_m = exp(-dt / tau_mem)."""
        return math.exp(-self.dt / self.tau_mem)

    @property
    def synaptic_decay(self) -> float:
        """a_s = exp(-dt / tau_syn)."""
        return math.exp(-self.dt / self.tau_syn)
