"""The public LIF operations and their choice of backend."""

import warnings
from collections.abc import Callable, Iterable
from functools import wraps

import torch

from sgtheory.errors import ParameterError, UserError, require_choice, require_kind, require_number
from sgtheory.lif import _reference
from sgtheory.lif._noise import Noise
from sgtheory.lif._state import State
from sgtheory.lif.cpu import backend as cpu
from sgtheory.lif.cuda import backend as cuda
from sgtheory.neurons import EscapeFunction, LIFParameters, Step, SurrogateDerivative

# each has ``layer``, ``readout`` and ``network`` with the arguments of the reference
IMPLEMENTATIONS = {"reference": _reference, "cpu": cpu, "cuda": cuda}
BACKENDS = ("auto", *IMPLEMENTATIONS)
DETERMINISTIC = Step()


def without_autocast(operation: Callable) -> Callable:
    """An operation that computes in float32 under autocast, also what autocast made half precision before."""

    @wraps(operation)
    def run(inputs, *args, **kwargs):
        device = inputs.device.type if isinstance(inputs, torch.Tensor) else ""
        if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
            return operation(inputs, *args, **kwargs)
        args = [_in_float32(value) for value in (inputs, *args)]
        with torch.autocast(device, enabled=False):
            return operation(*args, **{name: _in_float32(value) for name, value in kwargs.items()})

    return run


def _in_float32(value):
    if isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return [_in_float32(one) for one in value] if isinstance(value, list | tuple) else value


@without_autocast
def lif(
    inputs: torch.Tensor,
    parameters: LIFParameters,
    surrogate: SurrogateDerivative,
    escape: EscapeFunction = DETERMINISTIC,
    noise: Noise | None = None,
    recurrent: torch.Tensor | None = None,
    backend: str = "auto",
    potential: bool = True,
    state: State | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None] | tuple[torch.Tensor, torch.Tensor | None, State]:
    """A layer of leaky integrate-and-fire neurons in discrete time (Eqs 18-23; see :class:`LIFParameters`).

    Forward, S[n] = [U[n] - theta > q], where q = 0 for the deterministic neuron and a random threshold for escape
    noise, so that P(S[n] = 1) = p(U[n] - theta). Backward, dS/dU is the surrogate derivative at U[n] - theta.

    Args:
        inputs: weighted spikes x[n] that arrive in each step from other layers (unit of I), [batch, time, neuron] or
            [batch, time, channel, position], float32 or float64, at least one step. Under autocast, half precision is
            taken, too, and computed with in float32.
        parameters: time constants, time step, threshold, reset and delay. Tensors among them hold a number for each
            neuron, or for each channel of inputs with channels, and are differentiable.
        surrogate: what replaces dS/dU in the backward pass.
        escape: firing probability as a function of U - theta; the default is the deterministic threshold.
        noise: source of randomness; required unless ``escape`` is :class:`Step`.
        recurrent: weights V within the layer, [neuron post, neuron pre], or for inputs with channels a convolution
            along positions, [channel post, channel pre, kernel], with an odd kernel and zeros beyond the ends.
            Their spikes arrive in x[n] with those of the other layers (Eq 19).
        backend: ``"reference"`` (plain PyTorch, the definition), ``"cpu"`` (compiled), ``"cuda"`` (Triton, float32), or
            ``"auto"``: the fastest one that is there for the device and type of ``inputs``. On a GPU that is the
            reference for float64, and with a warning for a layer that is too large for the kernels.
        potential: whether U is returned; without it a layer without recurrence takes less time and memory.
        state: where to start from, ``State()`` at the beginning of a sequence that is computed in pieces.

    Returns:
        spikes: S[n], 0 or 1, shape and dtype of ``inputs``, differentiable.
        potential: U[n], same shape, differentiable, or None. S[n] and the reset pass their own gradients.
        state: after the last step, if ``state`` was given.

    Raises:
        ParameterError: for inputs of another shape or type, missing noise, recurrent weights that do not fit or are
            not finite, or a backend that is not available.
        UserError: where torch.func.grad, vmap or jvp meets a compiled backend.

    The same seed gives the same spikes on every backend; gradients agree to rounding. Inputs that all trials share
    may be given as ``inputs.expand(trials, -1, -1)``, which costs no memory. With channels, memory in the order
    [batch, time, position, channel] (a transposed view) avoids a copy, and that is how the result is laid out.

    NaN and infinite inputs are computed with, by the same rules everywhere: S[n] = 0 where U[n] is NaN, and
    infinity times 0, where a reset meets an overflow, is NaN.

    >>> from sgtheory.neurons import SuperSpike
    >>> inputs = torch.full((1, 6, 1), 4.0)
    >>> spikes, potential = lif(inputs, LIFParameters(tau_mem=2e-3, tau_syn=1e-3), SuperSpike(beta=10.0))
    >>> spikes[0, :, 0]
    tensor([0., 0., 1., 0., 1., 0.])
    """
    _check_inputs(inputs)
    require_kind(LIFParameters, parameters=parameters)
    require_kind(SurrogateDerivative, surrogate=surrogate)
    require_kind(EscapeFunction, escape=escape)
    parameters.require_neurons(inputs.shape[2], inputs.device)
    chosen = checked_backend(inputs, backend)
    if noise is not None:
        require_kind(Noise, noise=noise)
    else:
        if not isinstance(escape, Step):
            raise ParameterError("noise", None, f"must be given for {type(escape).__name__}, which is random")
        noise = Noise(seed=0)
    if recurrent is not None:
        _check_recurrent(inputs, recurrent)
    chosen = within_limits(backend, chosen, [(inputs, recurrent)])
    refuse_transforms(chosen)
    run = IMPLEMENTATIONS[chosen].layer
    if state is None:
        return run(inputs, parameters, surrogate, escape, noise, recurrent, potential)
    require_kind(State, state=state)
    noise = noise.at(first_step=noise.first_step + state.step)
    start = state.values(inputs[:, 0])
    spikes, u, end = run(inputs, parameters, surrogate, escape, noise, recurrent, potential, start)
    return spikes, u, state.after(inputs.shape[1], end)


@without_autocast
def leaky_readout(
    inputs: torch.Tensor,
    parameters: LIFParameters,
    initial: float = 0.0,
    backend: str = "auto",
    state: State | None = None,
) -> torch.Tensor | tuple[torch.Tensor, State]:
    """Membrane potentials of units that never spike (readout units, Section 8.4.2).

    I and U as in :class:`LIFParameters` without reset, U[0] = ``initial``.

    Args:
        inputs: weighted spikes x[n], [batch, time, unit], float32 or float64.
        parameters: time constants, numbers or one for each unit, and delay; threshold and reset have no meaning here.
        initial: U[0].
        backend: as in :func:`lif`.
        state: as in :func:`lif`; ``State()`` starts from ``initial``.

    Returns:
        potentials: U[1] ... U[time], [batch, time, unit], differentiable.
        state: after the last step, if ``state`` was given.

    Raises:
        ParameterError: as :func:`lif`.
    """
    _check_inputs(inputs)
    require_kind(LIFParameters, parameters=parameters)
    require_number(initial=initial)
    if inputs.ndim != 3:
        raise ParameterError("inputs", list(inputs.shape), "must have the shape [batch, time, unit]")
    parameters.require_neurons(inputs.shape[2], inputs.device)
    chosen = within_limits(backend, checked_backend(inputs, backend), [(inputs, None)])
    run = IMPLEMENTATIONS[chosen].readout
    if state is None:
        return run(inputs, parameters, initial)
    require_kind(State, state=state)
    potentials, end = run(inputs, parameters, initial, state.values(inputs[:, 0], initial))
    return potentials, state.after(inputs.shape[1], end)


def checked_backend(inputs: torch.Tensor, backend: str) -> str:
    """The backend for the device of ``inputs``.

    Raises:
        ParameterError: if it is unknown or not available for them; it is never replaced silently.
    """
    require_choice(BACKENDS, backend=backend)
    device = inputs.device.type
    if backend == "auto":
        usable = device == "cuda" and cuda.cuda_available()[0]
        return "cpu" if device == "cpu" else "cuda" if usable else "reference"
    if backend == "cuda" and not (available := cuda.cuda_available())[0]:
        raise ParameterError("backend", backend, f"is not available here: {available[1]}")
    if backend in ("cpu", "cuda") and backend != device:
        raise ParameterError("backend", backend, f"needs inputs on that device, and these are on {inputs.device}")
    return backend


def within_limits(asked: str, chosen: str, layers: Iterable[tuple[torch.Tensor, torch.Tensor | None]]) -> str:
    """The backend for ``layers``, given as inputs and recurrent weights, of which only shape and type count.

    It is ``chosen``, unless that is the kernels for GPUs, ``auto`` was asked, and they cannot compute one of the
    layers: then it is the reference, without a word for float64, and with a warning for what is too large.
    """
    if (asked, chosen) != ("auto", "cuda"):
        return chosen
    for inputs, recurrent in layers:
        if inputs.dtype == torch.float64:
            return "reference"
        try:
            cuda.check(inputs, recurrent)
        except ParameterError as error:
            warnings.warn(f"{error}; backend 'auto' takes 'reference', which is slow", stacklevel=4)
            return "reference"
    return chosen


def refuse_transforms(backend: str) -> None:
    """Compiled backends know autograd alone.

    Raises:
        UserError: inside of torch.func.grad, vmap, jvp and those made of them.
    """
    if backend != "reference" and _transformed():
        raise UserError(
            f"torch.func does not see through backend '{backend}': use torch.autograd or backend='reference'"
        )


def _transformed() -> bool:
    return torch._C._are_functorch_transforms_active()  # what torch.autograd.Function itself asks


def _check_inputs(inputs: torch.Tensor) -> None:
    require_kind(torch.Tensor, inputs=inputs)
    if inputs.ndim not in (3, 4) or inputs.dtype not in (torch.float32, torch.float64) or not inputs.shape[1]:
        raise ParameterError(
            "inputs",
            f"{inputs.dtype} of shape {list(inputs.shape)}",
            "must be float32 or float64 of shape [batch, time, neuron] or [batch, time, channel, position], time > 0",
        )


def require_finite(name: str, weight: torch.Tensor) -> None:
    """Refuse weights that some backends add where there is a spike and others multiply by 0 where there is none.

    Not on a GPU, which would have to be waited for, and not where torch.func shows no numbers.
    """
    if weight.device.type == "cpu" and not _transformed() and not (finite := weight.isfinite()).all():
        wrong = weight.numel() - int(finite.sum())
        raise ParameterError(name, f"{wrong} of {weight.numel()} numbers not finite", "must be finite")


def _check_recurrent(inputs: torch.Tensor, recurrent: torch.Tensor) -> None:
    require_kind(torch.Tensor, recurrent=recurrent)
    neurons = inputs.shape[2]
    if not inputs.shape[2:].numel():
        raise ParameterError("recurrent", list(recurrent.shape), "must be None where there are no neurons")
    dense, kernel = inputs.ndim == 3, recurrent.shape[-1] if recurrent.ndim else 0
    expected = [neurons, neurons] if dense else [neurons, neurons, kernel]
    if list(recurrent.shape) != expected or recurrent.dtype != inputs.dtype or not (dense or kernel % 2):
        allowed = f"[{neurons}, {neurons}]" if dense else f"[{neurons}, {neurons}, odd kernel]"
        raise ParameterError(
            "recurrent",
            f"{recurrent.dtype} of shape {list(recurrent.shape)}",
            f"must be {inputs.dtype} of shape {allowed} for inputs of shape {list(inputs.shape)}",
        )
    if recurrent.device != inputs.device:
        raise ParameterError("recurrent", str(recurrent.device), f"must be on the device of inputs, {inputs.device}")
    require_finite("recurrent", recurrent)
