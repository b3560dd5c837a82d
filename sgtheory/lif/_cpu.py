"""LIF layers compiled for the CPU: one pass forward, one in reverse time, samples and blocks of neurons in parallel.

The element-wise operations of the forward pass and their order are those of the reference, without contraction into
fused multiply-adds, so that the same inputs give the same bits.
"""

import numpy as np
import torch
from numba import config, njit, prange, set_num_threads

from sgtheory.lif._cpu_noise import GIVEN as GIVEN_THRESHOLD
from sgtheory.lif._cpu_noise import GROUP, NONE, philox_row, prepare_threshold, threshold_row
from sgtheory.lif._cpu_surrogate import GIVEN as GIVEN_SURROGATE
from sgtheory.lif._cpu_surrogate import prepare_surrogate, surrogate_row
from sgtheory.lif._noise import Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative

BLOCK = 512  # neurons that one task follows through time: their state stays in the first-level cache


@njit(parallel=True, cache=True, error_model="numpy")
def forward_kernel(
    inputs, a_m, a_s, gain, theta, same, delay, kind, scale, p0, key, samples, given, potentials, spikes
):
    batch, steps, neurons = potentials.shape
    blocks = (neurons + BLOCK - 1) // BLOCK
    seed, stream, draw = key
    for task in prange(batch * blocks):
        b, first = task // blocks, (task % blocks) * BLOCK
        size = min(BLOCK, neurons - first)
        here = slice(first, first + size)
        source = b % inputs.shape[0]  # trials may share one input
        one, zero = potentials.dtype.type(1), potentials.dtype.type(0)
        u = np.zeros(size, potentials.dtype)
        current = np.zeros(size, potentials.dtype)
        q = np.zeros(size, potentials.dtype)
        keep = np.zeros(size, potentials.dtype)
        words = np.empty((size + GROUP - 1) // GROUP * GROUP, np.uint32)
        for n in range(steps):
            if kind == GIVEN_THRESHOLD:
                q[:] = given[b, n, here]
            elif kind != NONE:
                philox_row(words, first, seed, stream, draw, np.uint64(samples[b]), np.uint64(n))
                threshold_row(q, words, kind, scale, p0)
            u_n, s_n = potentials[b, n, here], spikes[b, n, here]
            # short loops: a compiler vectorises only those whose arrays it can tell apart
            for j in range(size):
                u_n[j] = u[j]
            for j in range(size):
                keep[j] = zero if (u[j] - theta) > q[j] else one
            for j in range(size):
                s_n[j] = one - keep[j]
            if same:
                for j in range(size):
                    u[j] = a_m * u[j] * keep[j] + gain * current[j]
            else:
                for j in range(size):
                    u[j] = (a_m * u[j] + gain * current[j]) * keep[j]
            if n >= delay:
                x = inputs[source, n - delay, here]
                for j in range(size):
                    current[j] = a_s * current[j] + x[j]


@njit(parallel=True, cache=True, error_model="numpy")
def backward_kernel(
    gradient, inputs, potentials, spikes, a_m, a_s, gain, theta, same, attached, delay, kind, beta, scale, given, out
):
    batch, steps, neurons = potentials.shape
    blocks = (neurons + BLOCK - 1) // BLOCK
    for task in prange(batch * blocks):
        b, first = task // blocks, (task % blocks) * BLOCK
        size = min(BLOCK, neurons - first)
        here = slice(first, first + size)
        source = b % inputs.shape[0]
        one, zero = potentials.dtype.type(1), potentials.dtype.type(0)
        g_u = np.zeros(size, potentials.dtype)
        g_i = np.zeros(size, potentials.dtype)
        derivative = np.zeros(size, potentials.dtype)
        g_s = np.zeros(size, potentials.dtype)
        kept = np.zeros(size, potentials.dtype)
        current = np.zeros(size, potentials.dtype)
        # "next" zeroes the input that arrives with a spike, so the potential does not show what the reset took away
        currents = np.zeros((steps if attached and not same else 0, size), potentials.dtype)
        for n in range(1 + delay, currents.shape[0]):
            x = inputs[source, n - 1 - delay, here]
            for j in range(size):
                currents[n, j] = a_s * currents[n - 1, j] + x[j]
        for n in range(max(steps - delay, 0), steps):
            out[b, n, here] = zero
        for n in range(steps - 1, -1, -1):  # g_u, g_i are the adjoints of U[n+1], I[n+1] and become those of U[n], I[n]
            u_n, s_n, g_n = potentials[b, n, here], spikes[b, n, here], gradient[b, n, here]
            if kind == GIVEN_SURROGATE:
                derivative[:] = given[b, n, here]
            else:
                surrogate_row(derivative, u_n, theta, kind, beta, scale)
            if n >= delay:
                out_n = out[b, n - delay, here]
                for j in range(size):
                    out_n[j] = g_i[j]
            if attached and not same:
                current[:] = currents[n]
            for j in range(size):
                g_s[j] = g_n[j]
            if attached:
                for j in range(size):
                    g_s[j] -= (a_m * u_n[j] + gain * current[j]) * g_u[j]
            for j in range(size):
                g_s[j] *= derivative[j]
            for j in range(size):
                kept[j] = (one - s_n[j]) * g_u[j]
            through = g_u if same else kept
            for j in range(size):
                g_i[j] = a_s * g_i[j] + gain * through[j]
            for j in range(size):
                g_u[j] = a_m * kept[j] + g_s[j]


def use_torch_threads() -> None:
    """Let the kernels use as many threads as ``torch.set_num_threads`` allows."""
    set_num_threads(max(1, min(torch.get_num_threads(), config.NUMBA_NUM_THREADS)))


def empty_like(tensor: torch.Tensor) -> torch.Tensor:
    """Contiguous memory from numpy, which asks for huge pages: on first touch a page costs more than the arithmetic."""
    return torch.from_numpy(np.empty(tensor.shape, torch.empty(0, dtype=tensor.dtype).numpy().dtype))


def shared(inputs: torch.Tensor) -> np.ndarray:
    """The tensor as an array; a batch that ``expand`` made of one sample as that one sample."""
    return (inputs[:1] if inputs.shape[0] and inputs.stride(0) == 0 else inputs).contiguous().numpy()


def constants(parameters: LIFParameters, dtype: np.dtype) -> tuple:
    """a_m, a_s, 1 - a_m and the threshold in the given precision."""
    a_m = parameters.membrane_decay
    return tuple(dtype.type(v) for v in (a_m, parameters.synaptic_decay, 1 - a_m, parameters.threshold))


def simulate(
    inputs: np.ndarray,
    parameters: LIFParameters,
    escape: EscapeFunction,
    noise: Noise,
    potentials: np.ndarray,
    spikes: np.ndarray,
) -> None:
    """Forward pass: fill ``potentials`` (float) and ``spikes`` (any type), both [batch, time, neuron].

    ``inputs`` is [batch, time, neuron], or [1, time, neuron] where all trials get the same.
    """
    use_torch_threads()
    dtype = potentials.dtype
    kind, scale, p0, *key, given = prepare_threshold(escape, noise, potentials.shape, dtype)
    forward_kernel(
        inputs,
        *constants(parameters, dtype),
        parameters.reset == "same",
        parameters.delay,
        kind,
        scale,
        p0,
        tuple(key),
        noise.sample_indices(len(potentials)).numpy(),
        given,
        potentials,
        spikes,
    )


class LIFOnCPU(torch.autograd.Function):
    """Forward and backward pass of :func:`sgtheory.lif.lif` on the CPU."""

    @staticmethod
    def forward(ctx, inputs, parameters, escape, surrogate, noise):
        potentials, spikes = empty_like(inputs), empty_like(inputs)
        simulate(shared(inputs.detach()), parameters, escape, noise, potentials.numpy(), spikes.numpy())
        needs_inputs = parameters.reset_gradient == "attached" and parameters.reset == "next"
        ctx.save_for_backward(inputs if needs_inputs else None, potentials, spikes)
        ctx.parameters, ctx.surrogate = parameters, surrogate
        ctx.mark_non_differentiable(potentials)
        return spikes, potentials

    @staticmethod
    def backward(ctx, gradient, _):
        inputs, potentials, spikes = ctx.saved_tensors
        out = backward(gradient, inputs, potentials, spikes, ctx.parameters, ctx.surrogate)
        return out, None, None, None, None


def backward(
    gradient: torch.Tensor,
    inputs: torch.Tensor | None,
    potentials: torch.Tensor,
    spikes: torch.Tensor,
    parameters: LIFParameters,
    surrogate: SurrogateDerivative,
) -> torch.Tensor:
    """Gradient for the inputs from the gradient for the spikes, all [batch, time, neuron]."""
    use_torch_threads()
    dtype = potentials.numpy().dtype
    out = empty_like(potentials)
    backward_kernel(
        gradient.contiguous().numpy(),
        np.zeros((1, 0, 0), dtype) if inputs is None else shared(inputs.detach()),
        potentials.numpy(),
        spikes.numpy(),
        *constants(parameters, dtype),
        parameters.reset == "same",
        parameters.reset_gradient == "attached",
        parameters.delay,
        *prepare_surrogate(surrogate, potentials.numpy(), spikes.numpy(), parameters.threshold),
        out.numpy(),
    )
    return out
