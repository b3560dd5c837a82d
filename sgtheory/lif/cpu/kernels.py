"""LIF layers without recurrence, compiled for the CPU: samples and blocks of neurons in parallel, each through time.

The element-wise operations of the forward pass and their order are those of the reference, without contraction into
fused multiply-adds, so that the same inputs give the same bits.
"""

import numpy as np
from numba import njit

from sgtheory.lif._fused import GIVEN_SURROGATE, GIVEN_THRESHOLD, NO_THRESHOLD
from sgtheory.lif._noise import GROUP
from sgtheory.lif.cpu.functions import (
    level_of,
    of_block,
    philox_row,
    pick,
    raised_threshold,
    surrogate_row,
    threshold_row,
)

NEURONS = 1280  # that one task follows through time: rows stay in the first-level cache, 1 KiB apart modulo 4 KiB
SEGMENT = 32  # steps between two stored states: what is computed again for them stays in the second-level cache


@njit(cache=True, error_model="numpy")
def next_state(u, current, keep, x, constants, j):
    """U[n+1], I[n+1] and the potential that a reset takes away, from U[n], I[n], 1 - S[n] and what arrives at j."""
    drive = pick(constants.gain, j) * current
    before = pick(constants.a_m, j) * u if constants.same else pick(constants.a_m, j) * u + drive
    after = before * keep
    return after + drive if constants.same else after, pick(constants.a_s, j) * current + x, before


@njit(cache=True, error_model="numpy")
def adapt(adapted, spikes, constants):
    """From A[n] to A[n+1] of a row of neurons."""
    for j in range(adapted.size):
        adapted[j] = pick(constants.rho, j) * adapted[j] + spikes[j]


def number_of_tasks(batch: int, neurons: int) -> int:
    """Samples times blocks of neurons: what threads share."""
    return batch * -(-neurons // NEURONS)


@njit(cache=True, error_model="numpy")
def block_of_task(task, neurons):
    """Sample, first neuron and number of neurons of a task; blocks start at multiples of 64 for the random numbers."""
    blocks = (neurons + NEURONS - 1) // NEURONS
    width = (neurons + blocks * GROUP - 1) // (blocks * GROUP) * GROUP
    first = task % blocks * width
    return task // blocks, first, min(width, neurons - first)


@njit(nogil=True, cache=True, error_model="numpy")
def forward_kernel(
    first_task, last_task, inputs, constants, threshold, samples, start, potentials, states, adapted, spikes, end
):
    """For tasks: spikes, potentials, (U, I) at every SEGMENT steps, and A; what has time 0 is not stored.

    adapted: None for neurons without adaptation, for which nothing is compiled.
    start and end: U, I, what arrives and A, before the first and after the last step, [batch, 4, neuron]; None is zero.
    """
    _, steps, neurons = spikes.shape
    kind, scale, p0, seed, stream, draw, first_step, given = threshold
    delay = constants.delay
    for task in range(first_task, last_task):
        b, first, size = block_of_task(task, neurons)
        here = slice(first, first + size)
        neuron = of_block(constants, here)
        source = b % inputs.shape[0]  # trials may share one input
        one, zero = inputs.dtype.type(1), inputs.dtype.type(0)
        # one array for all that is written: a compiler vectorises only loops whose arrays it can tell apart
        state = np.zeros((3, NEURONS), inputs.dtype)  # U, I, threshold
        arriving = np.zeros(size, inputs.dtype)
        if start is not None:
            state[:2, :size] = start[b, :2, here]
            arriving[:] = start[b, 2, here]
        words = np.empty((size + GROUP - 1) // GROUP * GROUP, np.uint32)
        level = level_of(neuron.theta, adapted, size)
        if adapted is not None:
            a = np.zeros(size, inputs.dtype)
            if start is not None:
                a[:] = start[b, 3, here]
        for n in range(steps):
            if adapted is not None:
                raised_threshold(level, neuron, a)
                if adapted.shape[1]:
                    adapted[b, n, here] = a
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
                philox_row(words, first, seed, stream, draw, np.uint64(samples[b]), np.uint64(n) + first_step)
                threshold_row(state[2, :size], words, kind, scale, p0)
            s_n = spikes[b, n, here]
            x = inputs[source, n - delay, here] if n >= delay else arriving
            for j in range(size):
                keep = zero if (state[0, j] - pick(level, j)) > state[2, j] else one
                s_n[j] = one - keep
                state[0, j], state[1, j], _ = next_state(state[0, j], state[1, j], keep, x[j], neuron, j)
            if adapted is not None:
                adapt(a, s_n, neuron)
        if end is not None:
            end[b, :2, here] = state[:2, :size]
            end[b, 2:, here] = zero
            if delay:
                end[b, 2, here] = inputs[source, steps - 1, here]
            if adapted is not None:
                end[b, 3, here] = a


@njit(cache=True, error_model="numpy")
def add_to(total, terms):
    """total[: terms.size] += terms; a function of its own: within the loop of the kernel it stops vectorisation."""
    for j in range(terms.size):
        total[j] += terms[j]


@njit(cache=True, error_model="numpy")
def add_for_numbers(sums, state, adjoints, gradient, spikes, derivative, lost, same, attached):
    """What one step adds to the gradients for a_m, a_s, 1 - a_m and theta: adjoints of the next state times state."""
    one = sums.dtype.type(1)
    for j in range(spikes.size):
        g_u = (one - spikes[j]) * adjoints[0, j]
        g_s = gradient[j] - lost[j] * adjoints[0, j] if attached else gradient[j]
        sums[0, j] += g_u * state[0, j]
        sums[1, j] += adjoints[1, j] * state[1, j]
        sums[2, j] += (adjoints[0, j] if same else g_u) * state[1, j]
        sums[3, j] -= g_s * derivative[j]


@njit(cache=True, error_model="numpy")
def back_through_adaptation(total, g_a, gradient, derivative, lost, g_u, adapted, constants, sums):
    """Make ``g_a``, the adjoint of A[n+1], that of A[n]; ``total`` is ``gradient`` with what comes through A[n+1].

    ``sums`` receives what one step adds to the gradients for rho and adaptation, unless it is None.
    """
    for j in range(total.size):
        total[j] = gradient[j] + g_a[j]
        g_x = (total[j] - lost[j] * g_u[j] if constants.attached else total[j]) * derivative[j]
        if sums is not None:
            sums[4, j] += g_a[j] * adapted[j]
            sums[5, j] -= g_x * adapted[j]
        g_a[j] = pick(constants.rho, j) * g_a[j] - pick(constants.adaptation, j) * g_x


@njit(nogil=True, cache=True, error_model="numpy")
def backward_kernel(
    first_task, last_task, gradient, gradient_potentials, inputs, start, states, adapted, spikes, constants, surrogate,
    out, out_numbers,
):  # fmt: skip
    """Segment by segment in reverse time: potentials are computed again from the stored state, then errors go back.

    gradient and gradient_potentials, for spikes and potentials, are [batch, time, neuron]; the latter may have time 0.
    adapted: of the forward pass, or None. out_numbers: for the numbers of each neuron [batch, 6, neuron], or None.
    For None nothing is compiled.
    """
    _, steps, neurons = spikes.shape
    kind, beta, scale, given = surrogate
    same, attached, delay = constants.same, constants.attached, constants.delay
    for task in range(first_task, last_task):
        b, first, size = block_of_task(task, neurons)
        here = slice(first, first + size)
        neuron = of_block(constants, here)
        source = b % inputs.shape[0]
        one, zero = inputs.dtype.type(1), inputs.dtype.type(0)
        state = np.zeros((4, NEURONS), inputs.dtype)  # U[n], I[n], and the adjoints of U[n+1], I[n+1]
        kept = np.empty((SEGMENT, 2, NEURONS), inputs.dtype)  # surrogate derivative, and what a reset takes away
        if out_numbers is not None:
            states_kept = np.empty((SEGMENT, 2, NEURONS), inputs.dtype)  # U[n], I[n]
        sums = np.zeros((6, NEURONS), inputs.dtype) if out_numbers is not None else None
        level = level_of(neuron.theta, adapted, size)
        if adapted is not None:
            total, g_a = np.empty(size, inputs.dtype), np.zeros(size, inputs.dtype)
        arriving = np.zeros(size, inputs.dtype)  # what arrives with a delay in the first step, then its gradient
        if start is not None:
            arriving[:] = start[b, 2, here]
        for n in range(max(steps - delay, 0), steps):
            out[b, n, here] = zero
        for segment in range(states.shape[1] - 1, -1, -1):
            begin, stop = segment * SEGMENT, min((segment + 1) * SEGMENT, steps)
            stored_u, stored_i = states[b, segment, 0, here], states[b, segment, 1, here]
            for j in range(size):
                state[0, j] = stored_u[j]
                state[1, j] = stored_i[j]
            for n in range(begin, stop):
                derivative, lost = kept[n - begin, 0], kept[n - begin, 1]
                if kind == GIVEN_SURROGATE:
                    derivative[:size] = given[b, n, here]
                else:
                    if adapted is not None:
                        raised_threshold(level, neuron, adapted[b, n, here])
                    surrogate_row(derivative[:size], state[0, :size], level, kind, beta, scale)
                s_n = spikes[b, n, here]
                if out_numbers is not None:
                    states_kept[n - begin] = state[:2]
                x = inputs[source, n - delay, here] if n >= delay else arriving
                for j in range(size):
                    state[0, j], state[1, j], before = next_state(
                        state[0, j], state[1, j], one - s_n[j], x[j], neuron, j
                    )
                    if attached:
                        lost[j] = before
            for n in range(stop - 1, begin - 1, -1):
                derivative, lost = kept[n - begin, 0], kept[n - begin, 1]
                s_n, g_n = spikes[b, n, here], gradient[b, n, here]
                out_n = out[b, n - delay, here] if n >= delay else arriving
                if adapted is not None:
                    back_through_adaptation(
                        total, g_a, g_n, derivative, lost, state[2], adapted[b, n, here], neuron, sums
                    )
                    g_n = total
                if out_numbers is not None:
                    add_for_numbers(sums, states_kept[n - begin], state[2:], g_n, s_n, derivative, lost, same, attached)
                for j in range(size):
                    g_s = g_n[j] - lost[j] * state[2, j] if attached else g_n[j]
                    g_u = (one - s_n[j]) * state[2, j]
                    out_n[j] = state[3, j]
                    state[3, j] = pick(neuron.a_s, j) * state[3, j] + pick(neuron.gain, j) * (
                        state[2, j] if same else g_u
                    )
                    state[2, j] = pick(neuron.a_m, j) * g_u + g_s * derivative[j]
                if gradient_potentials.shape[1]:
                    add_to(state[2], gradient_potentials[b, n, here])
        if out_numbers is not None:
            out_numbers[b, :, here] = sums[:, :size]
