"""The Triton kernels as operators of PyTorch: shapes, launches and derivatives.

Layers are [batch, time, position, channel] here; dense layers have one position, and their weights [post, pre, 1].
"""

from collections.abc import Sequence
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.library import custom_op
from triton import cdiv, next_power_of_2

from sgtheory.lif._fused import GIVEN_SURROGATE
from sgtheory.lif.cuda import kernels

BLOCK = 256  # neurons that a program follows through time if there is no recurrence
CHANNELS_OF_A_WORD = (4, 8, 16, 32, 64)  # spikes of one position as bits
ROWS = 16  # positions x samples that a program of the recurrent backward pass has at least; tl.dot takes no fewer

PROGRAMS = 2048  # of a weight gradient, at least: 15 on each of 132 multiprocessors
WEIGHTS_AT_ONCE = 2**24  # whose gradients of parts of samples are in memory at once

PRECISION = "ieee"  # of the products of the recurrent backward pass; "tf32x3" takes tensor cores: see docs/cuda.md

# A surrogate that the kernels do not know; it cannot pass through an operator, which takes tensors and numbers only.
unfused_surrogate = ContextVar("surrogate of the forward pass under way")


def padded(size: int, least: int) -> int:
    """The power of two from ``size`` on, or ``least``."""
    return max(least, next_power_of_2(size))


@custom_op("sgtheory::lif_forward", mutates_args=())
def lif_forward(
    inputs: Tensor,
    recurrent: Tensor | None,
    thresholds: Tensor | None,
    samples: Tensor,
    start: Tensor | None,  # U, I, what arrives and A, [batch, 4, position, channel]; None is zero
    numbers: Tensor | None,  # of sgtheory.lif._fused.numbers_of_neurons, in place of the next
    constants: Sequence[float],  # a_m, a_s, 1 - a_m, theta, rho, adaptation
    same: bool,
    attached: bool,
    delay: int,
    noise: Sequence[int],  # kind of threshold, first step, draw, key
    noise_scale: float,
    p0: float,
    surrogate: Sequence[float],  # kind, beta, scale
    keep_currents: bool,
    adaptive: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes, potentials and, if asked for, currents; A of neurons that adapt; with ``start``, what it is after the
    last step."""
    batch, steps, positions, channels = inputs.shape
    neurons = positions * channels
    shared = inputs.stride(0) == 0
    inputs = (inputs[:1] if shared else inputs).contiguous()
    spikes, potentials, currents, adapted, end = outputs = _empty_outputs(inputs, batch, start, keep_currents, adaptive)
    if recurrent is None:
        weight, taps, block = None, 0, min(BLOCK, padded(neurons, 64))
    else:
        weight, taps, block = recurrent.permute(2, 1, 0).contiguous(), recurrent.shape[2], padded(neurons, 64)
    if spikes.numel():
        kind, first_step, draw, key = noise
        with torch.cuda.device_of(inputs):
            kernels.forward_kernel[batch, cdiv(neurons, block)](
                inputs, weight, thresholds, samples, start, spikes, potentials, currents, adapted if adaptive else None,
                None if start is None else end, steps, 0 if shared else steps, first_step, neurons,
                *constants, numbers, noise_scale, p0, draw, key,
                SAME=same, DELAY=delay, NOISE=kind, KERNEL=taps, CHANNELS=channels if taps else 1,
                WORDS=taps > 0 and positions > 1 and channels in CHANNELS_OF_A_WORD,
                KEEP_CURRENTS=keep_currents, BLOCK=block,
                # 4 neurons per thread, 8 of large layers; with 64 registers, four programs of 256 threads fit on a
                # multiprocessor, so that 400 samples run at once on 132 of them
                num_warps=max(1, block // (128 if block < 2048 else 256)), maxnreg=64 if block >= 1024 else None,
                enable_fp_fusion=False,
            )  # fmt: skip
    return outputs


@lif_forward.register_fake
def _(inputs, *arguments):
    *_, keep_currents, adaptive = arguments
    return _empty_outputs(inputs, inputs.shape[0], arguments[3], keep_currents, adaptive)


def _empty_outputs(
    inputs: Tensor, batch: int, start: Tensor | None, keep_currents: bool, adaptive: bool
) -> tuple[Tensor, ...]:
    shape = batch, *inputs.shape[1:]
    of_end = 0 if start is None else (batch, 4, *inputs.shape[2:])
    wanted = shape, shape, shape if keep_currents else 0, shape if adaptive else 0, of_end
    return tuple(map(inputs.new_empty, wanted))


@custom_op("sgtheory::lif_backward", mutates_args=())
def lif_backward(
    gradient: Tensor,
    gradient_potentials: Tensor | None,
    recurrent: Tensor | None,
    spikes: Tensor,
    potentials: Tensor,
    currents: Tensor,
    adapted: Tensor | None,
    derivatives: Tensor | None,
    numbers: Tensor | None,
    to_numbers: bool,
    constants: Sequence[float],
    same: bool,
    attached: bool,
    delay: int,
    surrogate: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Gradient for the input of every neuron in every step from those for its spikes and potentials, and, if it is
    wanted, that for ``numbers``, of each sample."""
    batch, steps, positions, channels = gradient.shape
    gradient = gradient.contiguous()
    gradient_potentials = None if gradient_potentials is None else gradient_potentials.contiguous()
    out, out_numbers = _empty_gradients(gradient, to_numbers)
    if recurrent is None:
        positions, channels = 1, positions * channels
        weight, taps, samples, rows, block = None, 0, 1, 1, min(BLOCK, padded(channels, 32))
    else:
        weight, taps = recurrent.permute(2, 0, 1).contiguous(), recurrent.shape[2]
        rows, block = padded(positions, 1), padded(channels, kernels.CHUNK.value)
        samples = max(1, ROWS // rows)
    tile = samples * rows * block
    if out.numel():
        kind, beta, scale = surrogate
        with torch.cuda.device_of(gradient):
            kernels.backward_kernel[cdiv(batch, samples), cdiv(channels, block)](
                gradient, gradient_potentials, spikes, potentials, currents, adapted, derivatives, weight, out,
                out_numbers if to_numbers else None,
                batch, steps, positions, channels, *constants, numbers, beta, scale,
                SAME=same, ATTACHED=attached, DELAY=delay, SURROGATE=int(kind), KERNEL=taps,
                SAMPLES=samples, POSITIONS=rows, CHANNELS=block, PRECISION=PRECISION,
                # 8 neurons per thread, 16 of large layers, with registers for four programs on a multiprocessor; one
                # stage: loads stay where the program has them
                num_warps=max(1, min(8 if positions == 1 else 4, tile // 256), min(32, tile // 512)),
                maxnreg=128 if tile == 2048 and positions > 1 else None, num_stages=1,
                enable_fp_fusion=True,  # nobody compares bits with this pass; versions differ in the default
            )  # fmt: skip
    return out, out_numbers


@lif_backward.register_fake
def _(gradient, *arguments):
    return _empty_gradients(gradient, to_numbers=arguments[8])


def _empty_gradients(gradient: Tensor, to_numbers: bool) -> tuple[Tensor, Tensor]:
    of_numbers = len(gradient), 6, gradient.shape[2:].numel()
    return gradient.new_empty(gradient.shape), gradient.new_empty(of_numbers if to_numbers else 0)


@custom_op("sgtheory::weight_gradient", mutates_args=())
def weight_gradient(gradient: Tensor, inputs: Tensor, taps: int, stride: int, padding: int) -> Tensor:
    """Gradient for the weights [post, pre, kernel] of a convolution: parts of samples are added in a fixed order."""
    (_, steps, positions, post), (input_positions, pre) = gradient.shape, inputs.shape[2:]
    if positions == input_positions == taps == 1:
        return (gradient.flatten(0, 2).T @ inputs.flatten(0, 2)).unsqueeze(2)
    columns = taps * pre
    rows, block = (min(64, padded(size, kernels.CHUNK.value)) for size in (post, pre if pre > 8 else columns))
    programs = cdiv(post, rows) * cdiv(columns, block)
    chunks = cdiv(steps * positions, kernels.CHUNK.value)
    parts = max(1, min(chunks, cdiv(PROGRAMS, max(1, len(gradient) * programs))))
    at_once = max(1, WEIGHTS_AT_ONCE // (post * columns * parts))
    pieces = []
    for of_some, seen in zip(gradient.contiguous().split(at_once), inputs.contiguous().split(at_once), strict=True):
        out = gradient.new_empty((len(of_some) * parts, post, columns))
        if out.numel():
            with torch.cuda.device_of(gradient):
                kernels.weight_kernel[len(out) * programs, 1](
                    of_some, seen, out, steps * positions, parts, positions, input_positions, post, pre,
                    stride, padding, COLUMNS=columns, PROGRAMS=programs, POST=rows, BLOCK=block,
                    num_warps=max(1, rows * block // 512), num_stages=1, enable_fp_fusion=True,
                )  # fmt: skip
        pieces.append(out.sum(dim=0))
    return sum(pieces[1:], pieces[0]).view(post, taps, pre).transpose(1, 2).contiguous()


@weight_gradient.register_fake
def _(gradient, inputs, taps, stride, padding):
    return gradient.new_empty((gradient.shape[3], inputs.shape[3], taps))


def _save_for_backward(ctx, inputs, output):
    _, recurrent, _, _, _, numbers, constants, same, attached, delay, _, _, _, surrogate, _, adaptive = inputs
    ctx.save_for_backward(recurrent, numbers, *output[:3], output[3] if adaptive else None)
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)
    ctx.settings = constants, same, attached, delay, surrogate
    ctx.unfused = unfused_surrogate.get() if surrogate[0] == GIVEN_SURROGATE else None


def _differentiate(ctx, gradient, gradient_potentials, *_):
    if gradient is None and gradient_potentials is None:
        return (None,) * 16
    recurrent, numbers, spikes, potentials, currents, adapted = ctx.saved_tensors
    gradient = torch.zeros_like(spikes) if gradient is None else gradient
    to_numbers = ctx.needs_input_grad[5]
    derivatives = None
    if ctx.unfused:
        each = ctx.settings[0] if numbers is None else numbers.view(-1, *spikes.shape[2:])
        level = each[3] if adapted is None else each[3] + each[5] * adapted
        derivatives = ctx.unfused.derivative(potentials - level, spikes).contiguous()
    states = spikes, potentials, currents, adapted, derivatives
    for_inputs, for_numbers = lif_backward(
        gradient, gradient_potentials, recurrent, *states, numbers, to_numbers, *ctx.settings
    )
    for_recurrent = None
    if ctx.needs_input_grad[1]:
        for_recurrent = weight_gradient(for_inputs, spikes, taps := recurrent.shape[2], 1, taps // 2)
    return for_inputs, for_recurrent, *[None] * 3, for_numbers.sum(dim=0) if to_numbers else None, *[None] * 10


lif_forward.register_autograd(_differentiate, setup_context=_save_for_backward)


@custom_op("sgtheory::leaky_filter", mutates_args=())
def leaky_filter(signal: Tensor, constants: Sequence[float], initial: float, delay: int, reverse: bool) -> Tensor:
    """Potentials U[1] ... U[time] of units that never spike, [batch, time, unit]; or the transpose of that map."""
    batch, steps, units = signal.shape
    signal = signal.contiguous()
    out = torch.empty_like(signal)
    block = min(BLOCK, padded(units, 32))
    if out.numel():
        with torch.cuda.device_of(signal):
            kernels.filter_kernel[batch, cdiv(units, block)](
                signal, out, steps, units, *constants[:3], initial,
                DELAY=delay, REVERSE=reverse, BLOCK=block, num_warps=cdiv(block, 128), enable_fp_fusion=False,
            )  # fmt: skip
    return out


@leaky_filter.register_fake
def _(signal, *_):
    return torch.empty_like(signal, memory_format=torch.contiguous_format)


def _keep_settings(ctx, inputs, output):
    _, ctx.constants, _, ctx.delay, ctx.reverse = inputs


def _filter_back(ctx, gradient):
    return leaky_filter(gradient, ctx.constants, 0.0, ctx.delay, not ctx.reverse), *[None] * 4


leaky_filter.register_autograd(_filter_back, setup_context=_keep_settings)


@custom_op("sgtheory::uniform", mutates_args=())
def uniform(samples: Tensor, first_step: int, steps: int, neurons: int, draw: int, key: int) -> Tensor:
    """The uniform numbers of :class:`sgtheory.lif.Noise`, [sample, step, neuron], computed where ``samples`` are."""
    out = samples.new_empty((len(samples), steps, neurons), dtype=torch.float32)
    if out.numel():
        with torch.cuda.device_of(samples):
            kernels.uniform_kernel[len(samples), steps](samples, out, first_step, neurons, draw, key, BLOCK=BLOCK)
    return out


@uniform.register_fake
def _(samples, first_step, steps, neurons, draw, key):
    return samples.new_empty((len(samples), steps, neurons), dtype=torch.float32)
