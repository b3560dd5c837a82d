"""LIF layers compiled for the CPU: one pass forward, one in reverse time, samples and blocks of neurons in parallel.

The element-wise operations of the forward pass and their order are those of the reference, without contraction into
fused multiply-adds, so that the same inputs give the same bits.
"""

import numpy as np
import torch
from numba import njit, prange

from sgtheory.errors import ParameterError
from sgtheory.lif._fused import GIVEN_SURROGATE, GIVEN_THRESHOLD, NO_THRESHOLD, surrogate_kind
from sgtheory.lif._noise import Noise
from sgtheory.lif.cpu.functions import GROUP, philox_row, prepare_threshold, threshold_row
from sgtheory.lif.cpu.memory import empty
from sgtheory.lif.cpu.surrogate import prepare_surrogate, surrogate_row
from sgtheory.neurons import EscapeFunction, LIFParameters
from sgtheory.threads import use_torch_threads

BLOCK = 1280  # neurons that one task follows through time: rows stay in the first-level cache, 1 KiB apart modulo 4 KiB
SEGMENT = 32  # steps between two stored states: what is computed again for them stays in the second-level cache


@njit(cache=True, error_model="numpy")
def next_state(u, current, keep, x, a_m, a_s, gain, same):
    """U[n+1], I[n+1] and the potential that a reset takes away, from U[n], I[n], 1 - S[n] and what arrives."""
    drive = gain * current
    before = a_m * u if same else a_m * u + drive
    after = before * keep
    return after + drive if same else after, a_s * current + x, before


@njit(cache=True, error_model="numpy")
def block_of_task(task, neurons):
    """Sample, first neuron and number of neurons of a task; blocks start at multiples of 64 for the random numbers."""
    blocks = (neurons + BLOCK - 1) // BLOCK
    width = (neurons + blocks * GROUP - 1) // (blocks * GROUP) * GROUP
    first = task % blocks * width
    return task // blocks, first, min(width, neurons - first)


@njit(parallel=True, cache=True, error_model="numpy")
def forward_kernel(
    inputs, a_m, a_s, gain, theta, same, delay, kind, scale, p0, key, samples, given, potentials, states, spikes
):
    """Writes spikes, potentials, and (U, I) at every SEGMENT steps to states; the last two unless they have time 0."""
    batch, steps, neurons = spikes.shape
    seed, stream, draw = key
    for task in prange(batch * ((neurons + BLOCK - 1) // BLOCK)):
        b, first, size = block_of_task(task, neurons)
        here = slice(first, first + size)
        source = b % inputs.shape[0]  # trials may share one input
        one, zero = inputs.dtype.type(1), inputs.dtype.type(0)
        # one array for all that is written: a compiler vectorises only loops whose arrays it can tell apart
        state = np.zeros((3, BLOCK), inputs.dtype)  # U, I, threshold
        nothing = np.zeros(size, inputs.dtype)
        words = np.empty((size + GROUP - 1) // GROUP * GROUP, np.uint32)
        for n in range(steps):
            if states.shape[1] and n % SEGMENT == 0:
                stored_u, stored_i = states[b, n // SEGMENT, 0, here], states[b, n // SEGMENT, 1, here]
                for j in range(size):
                    stored_u[j] = state[0, j]
                    stored_i[j] = state[1, j]
            if potentials.shape[1]:
                u_n = potentials[b, n, here]
                for j in range(size):
                    u_n[j] = state[0, j]
            if kind == GIVEN_THRESHOLD:
                state[2, :size] = given[b, n, here]
            elif kind != NO_THRESHOLD:
                philox_row(words, first, seed, stream, draw, np.uint64(samples[b]), np.uint64(n))
                threshold_row(state[2, :size], words, kind, scale, p0)
            s_n = spikes[b, n, here]
            x = inputs[source, n - delay, here] if n >= delay else nothing
            for j in range(size):
                keep = zero if (state[0, j] - theta) > state[2, j] else one
                s_n[j] = one - keep
                state[0, j], state[1, j], _ = next_state(state[0, j], state[1, j], keep, x[j], a_m, a_s, gain, same)


@njit(parallel=True, cache=True, error_model="numpy")
def backward_kernel(
    gradient, inputs, states, spikes, a_m, a_s, gain, theta, same, attached, delay, kind, beta, scale, given, out
):
    """Segment by segment in reverse time: potentials are computed again from the stored state, then errors go back."""
    batch, steps, neurons = spikes.shape
    for task in prange(batch * ((neurons + BLOCK - 1) // BLOCK)):
        b, first, size = block_of_task(task, neurons)
        here = slice(first, first + size)
        source = b % inputs.shape[0]
        one, zero = inputs.dtype.type(1), inputs.dtype.type(0)
        state = np.zeros((4, BLOCK), inputs.dtype)  # U[n], I[n], and the adjoints of U[n+1], I[n+1]
        kept = np.empty((SEGMENT, 2, BLOCK), inputs.dtype)  # surrogate derivative, and what a reset takes away
        nothing = np.zeros(size, inputs.dtype)
        for n in range(max(steps - delay, 0), steps):
            out[b, n, here] = zero
        for segment in range(states.shape[1] - 1, -1, -1):
            start, stop = segment * SEGMENT, min((segment + 1) * SEGMENT, steps)
            stored_u, stored_i = states[b, segment, 0, here], states[b, segment, 1, here]
            for j in range(size):
                state[0, j] = stored_u[j]
                state[1, j] = stored_i[j]
            for n in range(start, stop):
                derivative, lost = kept[n - start, 0], kept[n - start, 1]
                if kind == GIVEN_SURROGATE:
                    derivative[:size] = given[b, n, here]
                else:
                    surrogate_row(derivative[:size], state[0, :size], theta, kind, beta, scale)
                s_n = spikes[b, n, here]
                x = inputs[source, n - delay, here] if n >= delay else nothing
                for j in range(size):
                    state[0, j], state[1, j], before = next_state(
                        state[0, j], state[1, j], one - s_n[j], x[j], a_m, a_s, gain, same
                    )
                    if attached:
                        lost[j] = before
            for n in range(stop - 1, start - 1, -1):
                derivative, lost = kept[n - start, 0], kept[n - start, 1]
                s_n, g_n = spikes[b, n, here], gradient[b, n, here]
                out_n = out[b, n - delay, here] if n >= delay else nothing
                for j in range(size):
                    g_s = g_n[j] - lost[j] * state[2, j] if attached else g_n[j]
                    g_u = (one - s_n[j]) * state[2, j]
                    out_n[j] = state[3, j]
                    state[3, j] = a_s * state[3, j] + gain * (state[2, j] if same else g_u)
                    state[2, j] = a_m * g_u + g_s * derivative[j]


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

    Raises:
        ParameterError: if the shapes do not fit.
    """
    if spikes.shape != potentials.shape or inputs.shape not in (spikes.shape, (1, *spikes.shape[1:])):
        given = [list(a.shape) for a in (inputs, potentials, spikes)]
        raise ParameterError("inputs, potentials, spikes", given, "must have the same shape [batch, time, neuron]")
    _forward(inputs, parameters, escape, noise, potentials, states_of(spikes, wanted=False, dtype=inputs.dtype), spikes)


def states_of(spikes: np.ndarray, wanted: bool, dtype: np.dtype) -> np.ndarray:
    """Room for the states (U, I) that the backward pass starts from, [batch, segment, 2, neuron]."""
    batch, steps, neurons = spikes.shape
    return np.empty((batch, -(-steps // SEGMENT) if wanted else 0, 2, neurons), dtype)


def _forward(inputs, parameters, escape, noise, potentials, states, spikes) -> None:
    use_torch_threads()
    kind, scale, p0, *key, given = prepare_threshold(escape, noise, spikes.shape, inputs.dtype)
    forward_kernel(
        inputs,
        *constants(parameters, inputs.dtype),
        parameters.reset == "same",
        parameters.delay,
        kind,
        scale,
        p0,
        tuple(key),
        noise.sample_indices(len(spikes)).numpy(),
        given,
        potentials,
        states,
        spikes,
    )


class LIFOnCPU(torch.autograd.Function):
    """Forward and backward pass of :func:`sgtheory.lif.lif` on the CPU.

    The backward pass keeps inputs, spikes and the state at every SEGMENT steps, and computes potentials again.
    """

    @staticmethod
    def forward(ctx, inputs, parameters, escape, surrogate, noise, potential):
        ctx.set_materialize_grads(False)
        ctx.parameters, ctx.surrogate = parameters, surrogate
        expanded = inputs.shape[0] and inputs.stride(0) == 0  # one sample for all trials
        source = (inputs[:1] if expanded else inputs).contiguous()
        # derivatives that the kernel does not know are computed from all potentials at once
        kept = ctx.needs_input_grad[0] and surrogate_kind(surrogate)[0] == GIVEN_SURROGATE
        batch, steps, neurons = inputs.shape
        spikes = empty(inputs.shape, inputs.dtype)
        potentials = empty((batch, steps if potential or kept else 0, neurons), inputs.dtype)
        ctx.states = states_of(spikes.numpy(), ctx.needs_input_grad[0], source.numpy().dtype)
        _forward(source.numpy(), parameters, escape, noise, potentials.numpy(), ctx.states, spikes.numpy())
        ctx.save_for_backward(source, spikes, potentials if kept else spikes.new_empty(0))
        if not potential:
            return spikes, None
        ctx.mark_non_differentiable(potentials)
        return spikes, potentials

    @staticmethod
    def backward(ctx, gradient, _):
        if gradient is None:
            return (None,) * 6
        use_torch_threads()
        source, spikes, potentials = (tensor.numpy() for tensor in ctx.saved_tensors)
        parameters = ctx.parameters
        out = empty(gradient.shape, gradient.dtype)
        backward_kernel(
            gradient.contiguous().numpy(),
            source,
            ctx.states,
            spikes,
            *constants(parameters, source.dtype),
            parameters.reset == "same",
            parameters.reset_gradient == "attached",
            parameters.delay,
            *prepare_surrogate(ctx.surrogate, potentials, spikes, parameters.threshold),
            out.numpy(),
        )
        return out, None, None, None, None, None
