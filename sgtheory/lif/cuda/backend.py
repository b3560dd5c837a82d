"""The CUDA backend: what sgtheory.lif._reference defines, by Triton kernels (docs/cuda.md)."""

import importlib.util

import torch

from sgtheory.errors import ParameterError
from sgtheory.lif import _reference
from sgtheory.lif._fused import GIVEN_THRESHOLD, constants, numbers_of_neurons, surrogate_kind, threshold_kind
from sgtheory.lif._noise import Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative

MAX_RECURRENT_CHANNELS = 1024  # neurons of a dense layer; more do not fit into the registers of a program
MAX_RECURRENT_NEURONS = 8192
THRESHOLDS_AT_ONCE = 2**24  # of an escape function that the kernels do not know
MAX_GRID_Y = 65535
MAX_RECURRENT_WEIGHTS = 2**30  # their indices have 32 bits


def cuda_available() -> tuple[bool, str]:
    """Whether the kernels can run here, and if not, why."""
    if torch.version.cuda is None:
        return False, "this build of PyTorch has no CUDA"
    if not torch.cuda.is_available():
        return False, "PyTorch finds no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return False, "triton is not installed (pip install 'sgtheory[cuda]')"
    return True, ""


def layer(
    inputs: torch.Tensor,
    parameters: LIFParameters,
    surrogate: SurrogateDerivative,
    escape: EscapeFunction,
    noise: Noise,
    recurrent: torch.Tensor | None,
    potential: bool = True,
    start: list[torch.Tensor] | None = None,
) -> tuple:
    """See :func:`sgtheory.lif._reference.layer`. Differentiable once; float32.

    Raises:
        ParameterError: as :func:`check`.
    """
    from sgtheory.lif.cuda import operators as ops  # needs triton, which is optional

    check(inputs, recurrent)
    channels_last = inputs.unsqueeze(2) if inputs.ndim == 3 else inputs.mT  # [batch, time, position, channel]
    if recurrent is not None and recurrent.ndim == 2:
        recurrent = recurrent.unsqueeze(2)
    samples = noise.sample_indices(len(inputs), inputs.device)
    key = _signed(noise.seed | noise.stream << 32)
    kind, scale, p0 = threshold_kind(escape)
    thresholds = _thresholds(channels_last, escape, samples, noise, key) if kind == GIVEN_THRESHOLD else None
    numbers = numbers_of_neurons(parameters, *reversed(channels_last.shape[2:]), inputs)
    to_numbers, to_others = (
        torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in leaves)
        for leaves in ([numbers], [inputs, recurrent])
    )
    *fixed, same, attached, delay = constants(parameters, of_neurons=None if numbers is None else [0.0] * len(numbers))
    ops.unfused_surrogate.set(surrogate)
    packed = None if start is None else torch.stack([v.unsqueeze(1) if v.ndim == 2 else v.mT for v in start], dim=1)
    spikes, potentials, _, _, end = ops.lif_forward(
        channels_last,
        recurrent,
        thresholds,
        samples,
        packed,
        numbers,
        fixed,
        same,
        attached,
        delay,
        [kind, noise.first_step, noise.draw, key],
        scale,
        p0,
        [float(number) for number in surrogate_kind(surrogate)],
        # "next" zeroes the input that arrives with a spike, so the potential does not show what the reset took away
        to_numbers or (to_others and attached and not same),
        parameters.adaptive,
    )
    spikes, u = (o.squeeze(2) if inputs.ndim == 3 else o.mT for o in (spikes, potentials))
    done = spikes, u if potential else None
    return done if start is None else (*done, [v.squeeze(1) if inputs.ndim == 3 else v.mT for v in end.unbind(dim=1)])


def readout(
    inputs: torch.Tensor, parameters: LIFParameters, initial: float, start: list[torch.Tensor] | None = None
) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
    """See :func:`sgtheory.lif._reference.readout`. Differentiable; float32. Units that differ, and readouts with a
    state, have no kernel and are left to the reference.

    Raises:
        ParameterError: as :func:`check`.
    """
    from sgtheory.lif.cuda import operators as ops

    check(inputs)
    if parameters.tensors or start is not None:
        return _reference.readout(inputs, parameters, initial, start)
    return ops.leaky_filter(inputs, parameters.coefficients[:3], initial, parameters.delay, False)


network = _reference.network_of(layer, readout)


def _thresholds(
    layer: torch.Tensor, escape: EscapeFunction, samples: torch.Tensor, noise: Noise, key: int
) -> torch.Tensor:
    """Thresholds of an escape function that the kernels do not know, in blocks of steps to bound what it needs."""
    from sgtheory.lif.cuda import operators as ops

    batch, steps, neurons = *layer.shape[:2], layer.shape[2:].numel()
    thresholds = layer.new_empty((batch, steps, neurons))
    at_once = min(MAX_GRID_Y, max(1, THRESHOLDS_AT_ONCE // max(1, batch * neurons)))
    for first in range(0, steps, at_once):
        block = thresholds[:, first : first + at_once]
        block[:] = escape.quantile(
            ops.uniform(samples, noise.first_step + first, block.shape[1], neurons, noise.draw, key)
        )
    return thresholds


def _signed(word: int) -> int:
    """The int64 with the same 64 bits."""
    return word - 2**64 if word >= 2**63 else word


def check(inputs: torch.Tensor, recurrent: torch.Tensor | None = None) -> None:
    """Refuse a layer that the kernels cannot compute.

    Raises:
        ParameterError: for float64, more neurons than a launch has programs for, or a recurrent layer that one program
            cannot hold.
    """
    from sgtheory.lif.cuda.operators import BLOCK, padded

    channels, positions = inputs.shape[2], inputs.shape[3:].numel()
    if inputs.dtype != torch.float32:
        raise ParameterError("inputs", str(inputs.dtype), "must be float32 (backend 'reference' takes float64, too)")
    if channels * positions > MAX_GRID_Y * BLOCK:
        raise ParameterError("inputs", list(inputs.shape), f"a layer can have {MAX_GRID_Y * BLOCK} neurons")
    if recurrent is None:
        return
    if channels > MAX_RECURRENT_CHANNELS or padded(channels, 16) * padded(positions, 1) > MAX_RECURRENT_NEURONS:
        raise ParameterError(
            "inputs",
            list(inputs.shape),
            f"a recurrent layer can have {MAX_RECURRENT_CHANNELS} channels (or neurons without positions) and, with "
            f"channels and positions rounded up to powers of two, {MAX_RECURRENT_NEURONS} neurons "
            "(backend 'reference' has no limit)",
        )
    if recurrent.numel() >= MAX_RECURRENT_WEIGHTS:
        raise ParameterError("recurrent", list(recurrent.shape), f"must have less than {MAX_RECURRENT_WEIGHTS} weights")
