"""Parameters of the leaky integrate-and-fire neuron with exponential current synapses."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from sgtheory.errors import ParameterError, convert, is_number, require_choice
from sgtheory.neurons._range import LARGEST, require_normal_fields, require_normal_tensor


@dataclass(frozen=True)
class LIFParameters:
    """Leaky integrate-and-fire neuron in discrete time (Eqs 10-14, 18-23).

    With a_s = exp(-dt / tau_syn), a_m = exp(-dt / tau_mem), x[n] the weighted spikes that arrive in step n::

        I[n+1] =  a_s I[n] + x[n - delay]                                 Eq 19
        U[n+1] = (a_m U[n] + (1 - a_m) I[n]) (1 - S[n])   reset "next"    Eq 18
        U[n+1] =  a_m U[n] (1 - S[n]) + (1 - a_m) I[n]    reset "same"    Eq 23
        U[0] = I[0] = 0,  x[n] = 0 for n < 0

    With adaptation (Bellec et al. 2018, 2020), each spike raises the threshold of the steps after it, and with
    rho = exp(-dt / tau_adaptation) that decays::

        S[n]   = [U[n] - (theta + adaptation A[n]) > q[n]]
        A[n+1] = rho A[n] + S[n],  A[0] = 0

    Args:
        tau_mem: membrane time constant (s); a number, or a tensor for each neuron, see below.
        tau_syn: synaptic time constant (s); likewise.
        dt: time step (s).
        threshold: firing threshold theta (unit of U); likewise.
        reset: ``"next"``: U is 0 in the step after a spike, in which a deterministic neuron is silent (Eq 18);
            ``"same"``: input that arrives with the spike survives the reset, so that it can fire in adjacent steps
            (Eq 23).
        reset_gradient: ``"attached"`` differentiates the factor (1 - S[n]) with the surrogate (Eqs 15, 17);
            ``"detached"`` treats it as a constant. Adaptation is always differentiated, as Bellec et al. do.
        delay: 0 or 1 additional steps of transmission delay on every connection into the neuron. A neuron's own reset
            and adaptation have none.
        adaptation: by how much a spike raises the threshold (unit of U), 0 or more; a number or a tensor.
        tau_adaptation: time constant of its decay (s); likewise.

    ``tau_mem``, ``tau_syn``, ``threshold``, ``adaptation`` and ``tau_adaptation`` may be tensors of floating-point
    numbers, with gradients if they ask for them: one number for each neuron, or for each channel of a layer with
    channels, or one for all. They are checked where they lie on the CPU; on a GPU they would have to be waited for.

    Raises:
        ParameterError: naming the parameter that is out of range.
    """

    MAY_DIFFER: ClassVar = ("tau_mem", "tau_syn", "threshold", "adaptation", "tau_adaptation")  # between neurons

    tau_mem: float | torch.Tensor = 20e-3
    tau_syn: float | torch.Tensor = 10e-3
    dt: float = 1e-3
    threshold: float | torch.Tensor = 1.0
    reset: str = "next"
    reset_gradient: str = "detached"
    delay: int = 0
    adaptation: float | torch.Tensor = 0.0
    tau_adaptation: float | torch.Tensor = 200e-3

    def __post_init__(self) -> None:
        tensors, least = self.tensors, {"threshold": -LARGEST, "adaptation": 0.0}
        normal = "tau_mem", "tau_syn", "dt", "tau_adaptation"
        require_normal_fields(self, *(name for name in normal if name not in tensors))
        for name, value in tensors.items():
            require_normal_tensor(least.get(name, 1 / LARGEST), **{name: value})
        for name, lowest in least.items():
            if name not in tensors:
                self._check_number(name, lowest)
        require_choice(("next", "same"), reset=self.reset)
        require_choice(("attached", "detached"), reset_gradient=self.reset_gradient)
        if not is_number(self.delay) or self.delay not in (0, 1):
            raise ParameterError("delay", self.delay, "must be one of 0, 1")
        convert(self, int, "delay")

    def _check_number(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if not is_number(value):
            raise ParameterError(name, value, "must be a number")
        if not least <= float(value) <= LARGEST:
            raise ParameterError(name, value, f"must be from {least:.1g} to {LARGEST:.1g}, for float32")
        convert(self, float, name)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Those of ``MAY_DIFFER`` that are tensors, by name."""
        values = {name: getattr(self, name) for name in self.MAY_DIFFER}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}

    def require_neurons(self, number: int, device: torch.device, of: str = "") -> None:
        """Raise :class:`ParameterError` for the first tensor that does not fit to so many neurons or channels on
        ``device``; ``of`` is put in front of its name."""
        for name, value in self.tensors.items():
            if value.numel() not in (1, number) or value.device != device:
                given = f"{list(value.shape)} on {value.device}"
                raise ParameterError(of + name, given, f"must be one number or [{number}], on {device}")

    def require_numbers(self, who: str) -> None:
        """Raise :class:`ParameterError` for the first tensor, as ``who`` takes one number for all neurons."""
        for name, value in self.tensors.items():
            raise ParameterError(name, list(value.shape), f"must be a number for {who}, not a tensor")

    @property
    def adaptive(self) -> bool:
        """Whether spikes raise the threshold."""
        return isinstance(self.adaptation, torch.Tensor) or self.adaptation > 0

    def require_no_adaptation(self, who: str) -> None:
        """Raise :class:`ParameterError` if ``who`` would pass over the adaptation."""
        if self.adaptive:
            raise ParameterError("adaptation", self.adaptation, f"must be 0 for {who}")

    @property
    def membrane_decay(self) -> float | torch.Tensor:
        """a_m = exp(-dt / tau_mem); of a tensor in float64."""
        return _decay(self.dt, self.tau_mem)

    @property
    def synaptic_decay(self) -> float | torch.Tensor:
        """a_s = exp(-dt / tau_syn); of a tensor in float64."""
        return _decay(self.dt, self.tau_syn)

    @property
    def coefficients(self) -> tuple[float | torch.Tensor, ...]:
        """a_m, a_s, 1 - a_m, theta, rho and the adaptation: all that the equations have of time constants and
        thresholds."""
        a_m, rho = self.membrane_decay, _decay(self.dt, self.tau_adaptation)
        return a_m, self.synaptic_decay, 1 - a_m, self.threshold, rho, self.adaptation


def _decay(dt: float, tau: float | torch.Tensor) -> float | torch.Tensor:
    return torch.exp(-dt / tau.double()) if isinstance(tau, torch.Tensor) else math.exp(-dt / tau)
