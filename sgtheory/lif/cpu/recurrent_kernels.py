"""One LIF layer with feed-forward and recurrent convolutions for a block of samples, compiled for the CPU.

A dense layer is a convolution with one position. Spikes are rare, so the forward pass and the weight gradients are
driven by events: a spike adds one row of weights. The surrogate derivative is nowhere zero, so what passes errors back
is dense: a product of the windows of every position with a matrix, one step at a time, in reverse time.

Memory is channels last: neuron = position * channels + channel. Events are (found, ends): the neurons that spike in
step n of sample b are found[ends[i] : ends[i + 1]] with i = b * steps + n. The order of weights, and ``wires``, which
say what a spike adds where, are those of :class:`sgtheory.lif.cpu.convolution.Convolution`.

Samples follow one another, so that the state of one stays in the first-level cache; only where a layer has one position
several go backward together, to share what is read of the weights. All sums run in a fixed order; blocks are
independent, and the caller adds their weight gradients in order: results do not depend on the number of threads.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from sgtheory.lif._fused import GIVEN_SURROGATE, GIVEN_THRESHOLD, NO_THRESHOLD
from sgtheory.lif._noise import GROUP
from sgtheory.lif.cpu.functions import (
    bound_of_probability,
    confirm_candidates,
    fused_surrogate_row,
    level_of,
    mark_candidates,
    philox_row,
    pick,
    raised_threshold,
)
from sgtheory.lif.cpu.vector import VECTOR_BYTES, add_product, add_row, find_events


class Events(NamedTuple):
    """Spikes of [batch, time, neuron]: in step n of sample b found[ends[i] : ends[i + 1]], i = b * steps + n."""

    found: np.ndarray  # int32
    ends: np.ndarray  # int64


class Synapses(NamedTuple):
    """What spikes add to a layer; see :class:`sgtheory.lif.cpu.convolution.Convolution`."""

    wires: np.ndarray
    rows: np.ndarray


class Transposed(NamedTuple):
    """What errors pass back through."""

    wires: np.ndarray
    matrix: np.ndarray  # feed-forward [post, window below], recurrent [window, pre], with columns of zeros
    step: int  # feed-forward: distance of two windows below; recurrent: positions of the layer


class FromAbove(NamedTuple):
    """Gradients for what a layer does; arrays without time or neurons stand for nothing."""

    spikes: np.ndarray  # [batch, time, width]
    first: int  # where those of this layer begin in ``spikes``
    counts: np.ndarray  # for the sums of spikes over time [batch, neuron]
    potentials: np.ndarray  # [batch, time, neuron]


class Gradients(NamedTuple):
    """What a backward pass writes; the first two are added to, the others may have time 0."""

    rows: np.ndarray  # for the feed-forward weights
    recurrent: np.ndarray  # for the recurrent weights
    sources: np.ndarray  # [batch, time, width below]
    inputs: np.ndarray  # [batch, time, neuron]


@njit(cache=True, error_model="numpy", nogil=True)
def list_events(flags, found, ends):
    """Write the :class:`Events` of ``flags`` [batch, time, neuron], uint8."""
    batch, steps, size = flags.shape
    flat = flags.reshape(flags.size)
    if flat.size < 64:  # what the search looks at in one go
        flat = np.zeros(64, np.uint8)
        flat[: flags.size] = flags.reshape(flags.size)
    ends[0] = count = 0
    for i in range(batch * steps):
        count = find_events(flat, i * size, size, found, count)
        ends[i + 1] = count


@njit(error_model="numpy", inline="always")
def copy(source, target):
    """target[:] = source, which alone would take twenty times as long."""
    for j in range(target.size):
        target[j] = source[j]


@njit(cache=True, error_model="numpy", nogil=True)
def forward_layer(
    below, feed_forward, inputs, recurrent, constants, threshold, samples, start, potentials, currents, adapted, events,
    end,
):  # fmt: skip
    """Forward pass of a block of samples.

    below: events of the layer below; inputs [batch, time, neuron] or [batch, 0, 0]: current that arrives besides.
    ``events`` receives the spikes, ``potentials`` receives U, ``currents`` I and ``adapted`` A unless they are None.
    Where a reset in the next step is differentiated, ``potentials`` receives U before the reset: what the reset took
    away has a gradient, and is not in U. start and end: U, I, what arrives and A, before the first and after the last
    step, [batch, 4, neuron]; None is zero.
    """
    a_m, a_s, gain, theta, rho, _, same, attached, delay = constants
    keep_lost = attached and not same
    kind, scale, p0, seed, stream, draw, first_step, given = threshold
    wires, weight = feed_forward
    recurrent_wires, recurrent_weight = recurrent
    slope, offset = bound_of_probability(scale, p0)
    found_below, ends_below = below
    found, ends = events
    batch, steps, neurons = potentials.shape
    dtype = potentials.dtype
    q = np.zeros(neurons + 16, dtype)
    chosen = np.zeros(neurons + 16, np.uint32)
    words = np.empty((neurons + GROUP - 1) // GROUP * GROUP, np.uint32)
    flags = np.zeros(neurons + 64, np.uint8)
    u = np.empty(neurons, dtype)
    current = np.empty(neurons, dtype)
    arriving = np.empty(neurons, dtype)
    held = np.empty(neurons, dtype)
    level = level_of(theta, adapted, neurons)
    if adapted is not None:
        a = np.empty(neurons, dtype)
    ends[0] = 0
    for b in range(batch):
        u[:] = 0
        current[:] = 0
        arriving[:] = 0
        if start is not None:
            copy(start[b, 0], u)
            copy(start[b, 1], current)
            copy(start[b, 2], arriving)
        if adapted is not None:
            a[:] = 0
            if start is not None:
                copy(start[b, 3], a)
        copy(u, potentials[b, 0])
        for n in range(steps):
            i = b * steps + n
            first = ends[i]
            if currents is not None:
                copy(current, currents[b, n])
            if adapted is not None:
                copy(a, adapted[b, n])
                raised_threshold(level, constants, a)
            if kind in (NO_THRESHOLD, GIVEN_THRESHOLD):
                if kind == GIVEN_THRESHOLD:
                    copy(given[b, n], q[:neurons])
                for j in range(neurons):
                    flags[j] = (u[j] - pick(level, j)) > q[j]
                last = find_events(flags, 0, neurons, found, first)
            else:
                philox_row(words, 0, seed, stream, draw, np.uint64(samples[b]), np.uint64(n) + first_step)
                mark_candidates(flags, u, level, words[:neurons], slope, offset)
                last = find_events(flags, 0, neurons, found, first)
                last = confirm_candidates(found, first, last, u, level, words, kind, scale, p0, chosen, q)
            ends[i + 1] = last
            if adapted is not None:
                for j in range(neurons):
                    a[j] *= pick(rho, j)
                for e in range(first, last):
                    a[found[e]] += 1
            if same:
                for e in range(first, last):
                    u[found[e]] *= 0  # not "= 0": a potential that overflowed becomes NaN, as in Eq 18
            for j in range(neurons):
                u[j] = pick(a_m, j) * u[j] + pick(gain, j) * current[j]
            if n + 1 < steps and keep_lost:
                copy(u, potentials[b, n + 1])
            if not same:
                for e in range(first, last):
                    u[found[e]] *= 0
            if n + 1 < steps and not keep_lost:
                copy(u, potentials[b, n + 1])
            if delay:
                copy(arriving, held)
            if inputs.shape[1]:
                copy(inputs[b, n], arriving)
            else:
                arriving[:] = 0
            for e in range(ends_below[i], ends_below[i + 1]):
                source = found_below[e]
                add_row(arriving, wires[source, 1], weight, wires[source, 0], wires[source, 2])
            if recurrent_weight.size:
                for e in range(first, last):
                    source = found[e]
                    add_row(
                        arriving,
                        recurrent_wires[source, 1],
                        recurrent_weight,
                        recurrent_wires[source, 0],
                        recurrent_wires[source, 2],
                    )
            x = held if delay else arriving
            for j in range(neurons):
                current[j] = pick(a_s, j) * current[j] + x[j]
        if end is not None:
            copy(u, end[b, 0])
            copy(current, end[b, 1])
            if not delay:
                arriving[:] = 0
            copy(arriving, end[b, 2])
            end[b, 3] = 0
            if adapted is not None:
                copy(a, end[b, 3])


@njit(error_model="numpy", inline="always")
def add_products(total, a, b):
    """total += a * b."""
    for j in range(total.size):
        total[j] += a[j] * b[j]


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"contract"})
def backward_layer(
    above, below, feed_forward, recurrent, constants, surrogate, potentials, currents, adapted, events, out, out_numbers
):
    """Backward pass of a block of samples, in reverse time.

    above: :class:`FromAbove`; below: events of the layer below; feed_forward and recurrent: :class:`Transposed`;
    potentials, currents, adapted and events: of the forward pass; out: :class:`Gradients`.
    out_numbers: for a_m, a_s, 1 - a_m, -theta, rho and -adaptation of each neuron [6, neuron], added to; or None, and
    currents as well.
    """
    a_m, a_s, gain, theta, rho, adaptation, same, attached, delay = constants
    kind, beta, scale, given = surrogate
    gradient, first_gradient, gradient_counts, gradient_potentials = above
    wires, weight_back, step_back = feed_forward
    recurrent_wires, recurrent_windows, positions = recurrent
    gradient_weight, gradient_recurrent, gradient_sources, gradient_inputs = out
    found_below, ends_below = below
    found, ends = events
    batch, steps, neurons = potentials.shape
    post = neurons // positions
    dtype = potentials.dtype
    together = batch if positions == 1 else 1
    margin = max(recurrent_windows.shape[0] // post - 1, 0) // 2 * post
    width = neurons + 2 * margin
    slack = VECTOR_BYTES // potentials.itemsize
    to_sources = gradient_sources.shape[1] > 0
    width_below = gradient_sources.shape[2]
    flat_sources = gradient_sources.reshape(gradient_sources.size)
    if positions == 1:  # a row of a product is a sample, or a position of the sample
        apart = recurrent_windows.shape[1]  # columns of zeros times NaN stay out of the next sample
        row_steps = width, apart, steps * width_below
    else:
        apart = neurons
        row_steps = post, post, step_back
    g_u = np.empty((together, neurons), dtype)
    g_i = np.empty((together, neurons), dtype)
    g_arrived = np.empty(together * width, dtype)  # gradient of x[n], which is that of I[n+1+delay]
    g_spikes = np.empty(together * apart + slack, dtype)
    derivative, u = np.empty(neurons, dtype), np.empty(neurons, dtype)
    keep_lost = attached and not same  # potentials were stored before the reset that the last spike caused
    level = level_of(theta, adapted, neurons)
    if adapted is not None:
        g_a = np.empty((together, neurons), dtype)
    # The loops over neurons below are short, and over slices that start at 0, on purpose: a compiler vectorises a loop
    # only if it can tell its arrays apart and knows that no index is negative.
    for b0 in range(0, batch, together):
        rows = together if positions == 1 else positions
        g_u[:] = 0
        g_i[:] = 0
        g_arrived[:] = 0
        if adapted is not None:
            g_a[:] = 0
        for n in range(steps - 1, -1, -1):  # g_u, g_i: adjoints of U[n+1], I[n+1], which become those of U[n], I[n]
            for k in range(together):
                x = g_arrived[k * width + margin : k * width + margin + neurons]
                if not delay:
                    gi = g_i[k]
                    for j in range(neurons):
                        x[j] = gi[j]
                gs, counted = g_spikes[k * apart : k * apart + neurons], gradient_counts[b0 + k]
                if gradient.shape[1]:
                    external = gradient[b0 + k, n, first_gradient : first_gradient + neurons]
                    for j in range(neurons):
                        gs[j] = counted[j] + external[j]
                else:
                    for j in range(neurons):
                        gs[j] = counted[j]
                if to_sources:
                    gradient_sources[b0 + k, n] = 0
            add_product(g_spikes, 0, row_steps[1], g_arrived, 0, row_steps[0], rows, recurrent_windows)
            if to_sources:
                at = (b0 * steps + n) * width_below
                add_product(flat_sources, at, row_steps[2], g_arrived, margin, row_steps[0], rows, weight_back)
            for k in range(together):
                b, at = b0 + k, k * width + margin
                i = b * steps + n
                x = g_arrived[at : at + neurons]
                if gradient_inputs.shape[1]:
                    copy(x, gradient_inputs[b, n])
                for e in range(ends_below[i], ends_below[i + 1]):
                    source = found_below[e]
                    add_row(gradient_weight, wires[source, 0], g_arrived, at + wires[source, 1], wires[source, 2])
                if gradient_recurrent.size:
                    for e in range(ends[i], ends[i + 1]):
                        source = found[e]
                        add_row(
                            gradient_recurrent,
                            recurrent_wires[source, 0],
                            g_arrived,
                            at + recurrent_wires[source, 1],
                            recurrent_wires[source, 2],
                        )
                u_n, gu, gi = potentials[b, n], g_u[k], g_i[k]
                gs = g_spikes[k * apart : k * apart + neurons]
                if adapted is not None:
                    raised_threshold(level, constants, adapted[b, n])
                if kind == GIVEN_SURROGATE:
                    copy(given[b, n], derivative)
                elif keep_lost and n > 0:
                    copy(u_n, derivative)
                    for e in range(ends[i - 1], ends[i]):
                        derivative[found[e]] *= 0
                    fused_surrogate_row(derivative, derivative, level, kind, beta, scale)
                else:
                    fused_surrogate_row(derivative, u_n, level, kind, beta, scale)
                if attached:
                    if same:
                        for j in range(neurons):
                            gs[j] -= pick(a_m, j) * u_n[j] * gu[j]
                    else:
                        lost = potentials[b, min(n + 1, steps - 1)]
                        for j in range(neurons):
                            gs[j] -= lost[j] * gu[j]
                if adapted is not None:
                    ga, a_n = g_a[k], adapted[b, n]
                    if out_numbers is not None:
                        add_products(out_numbers[4], ga, a_n)
                    for j in range(neurons):
                        gs[j] += ga[j]
                        ga[j] = pick(rho, j) * ga[j] - pick(adaptation, j) * gs[j] * derivative[j]
                    if out_numbers is not None:
                        for j in range(neurons):
                            out_numbers[5, j] += gs[j] * derivative[j] * a_n[j]
                if delay:
                    for j in range(neurons):
                        x[j] = gi[j]
                if out_numbers is not None:
                    add_products(out_numbers[1], gi, currents[b, n])
                    add_products(out_numbers[3], gs, derivative)
                    if same:
                        add_products(out_numbers[2], gu, currents[b, n])
                if same:
                    for j in range(neurons):
                        gi[j] = pick(a_s, j) * gi[j] + pick(gain, j) * gu[j]
                for e in range(ends[i], ends[i + 1]):
                    gu[found[e]] *= 0
                if not same:
                    for j in range(neurons):
                        gi[j] = pick(a_s, j) * gi[j] + pick(gain, j) * gu[j]
                if out_numbers is not None:
                    copy(u_n, u)
                    if keep_lost and n > 0:
                        for e in range(ends[i - 1], ends[i]):
                            u[found[e]] *= 0
                    add_products(out_numbers[0], gu, u)
                    if not same:
                        add_products(out_numbers[2], gu, currents[b, n])
                for j in range(neurons):
                    gu[j] = pick(a_m, j) * gu[j] + derivative[j] * gs[j]
                if gradient_potentials.shape[1]:
                    for j in range(neurons):
                        gu[j] += gradient_potentials[b, n, j]


@njit(cache=True, error_model="numpy", nogil=True)
def forward_readout(sources, weight, constants, start, potentials, currents, end):
    """Potentials U[1] ... U[time] of units that never spike; ``sources`` are events, weight [pre, unit].

    ``currents`` receives I[0] ... I[time - 1] unless it is None. start and end are as in :func:`forward_layer`.
    """
    a_m, a_s, gain, delay = constants.a_m, constants.a_s, constants.gain, constants.delay
    found, ends = sources
    batch, steps, units = potentials.shape
    for b in range(batch):
        u, current, arriving, _ = start[b].copy()
        held = np.zeros(units, potentials.dtype)
        for n in range(steps):
            if delay:
                copy(arriving, held)
            arriving[:] = 0
            for e in range(ends[b * steps + n], ends[b * steps + n + 1]):
                add_row(arriving, 0, weight, np.int64(found[e]) * units, units)
            x = held if delay else arriving
            out = potentials[b, n]
            if currents is not None:
                copy(current, currents[b, n])
            for j in range(units):
                u[j] = pick(a_m, j) * u[j] + pick(gain, j) * current[j]
                out[j] = u[j]
                current[j] = pick(a_s, j) * current[j] + x[j]
        copy(u, end[b, 0])
        copy(current, end[b, 1])
        if not delay:
            arriving[:] = 0
        copy(arriving, end[b, 2])
        end[b, 3] = 0


@njit(cache=True, error_model="numpy", nogil=True)
def backward_readout(
    gradient, sources, weight_back, constants, start, potentials, currents, gradient_weight, gradient_sources,
    gradient_numbers,
):  # fmt: skip
    """Adds to gradient_weight [pre, unit], and to gradient_numbers [6, unit] unless it is None; writes
    gradient_sources [batch, time, pre]. weight_back is [unit, pre].

    potentials and currents: of the forward pass, needed for gradient_numbers alone.
    """
    a_m, a_s, gain, delay = constants.a_m, constants.a_s, constants.gain, constants.delay
    found, ends = sources
    batch, steps, units = gradient.shape
    for b in range(batch):
        g_arrived = np.zeros((steps, units), gradient.dtype)
        g_u = np.zeros(units, gradient.dtype)
        g_i = np.zeros(units, gradient.dtype)  # adjoints of U[n+1], I[n+1]
        for n in range(steps - 1, -1, -1):
            for j in range(units):
                if n >= delay:
                    g_arrived[n - delay, j] = g_i[j]
                g_u[j] += gradient[b, n, j]
                if gradient_numbers is not None:
                    gradient_numbers[0, j] += g_u[j] * (potentials[b, n - 1, j] if n > 0 else start[b, 0, j])
                    gradient_numbers[1, j] += g_i[j] * currents[b, n, j]
                    gradient_numbers[2, j] += g_u[j] * currents[b, n, j]
                g_i[j] = pick(a_s, j) * g_i[j] + pick(gain, j) * g_u[j]
                g_u[j] = pick(a_m, j) * g_u[j]
        np.dot(g_arrived, weight_back, gradient_sources[b])
        for n in range(steps):
            for e in range(ends[b * steps + n], ends[b * steps + n + 1]):
                add_row(gradient_weight, np.int64(found[e]) * units, g_arrived, n * units, units)
