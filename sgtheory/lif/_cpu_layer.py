"""One LIF layer with feed-forward and recurrent convolutions for a block of samples, compiled for the CPU.

A dense layer is a convolution with one position. Spikes are rare, so the forward pass and the weight gradients are
driven by events: a spike adds one row of weights. The surrogate derivative is nowhere zero, so what passes errors back
is dense: matrix products over all samples of the block, one step at a time, in reverse time.

Memory is channels last: neuron = position * channels + channel. Feed-forward weights are [kernel, pre, post], recurrent
ones [pre, reversed kernel, post], so that what a spike adds is contiguous. All sums run in a fixed order; blocks are
independent, and the caller adds their weight gradients in order: results do not depend on the number of threads.
"""

import numpy as np
from numba import njit

from sgtheory.lif._cpu_noise import GIVEN as GIVEN_THRESHOLD
from sgtheory.lif._cpu_noise import GROUP, NONE, philox_row, threshold_row
from sgtheory.lif._cpu_surrogate import GIVEN as GIVEN_SURROGATE
from sgtheory.lif._cpu_surrogate import surrogate_row
from sgtheory.lif._synapses import events


@njit(cache=True, error_model="numpy", nogil=True)
def scatter(found, weight, stride, padding, target):
    """Add the weights of the spikes ``found`` of a source layer to ``target`` [position * post]."""
    kernel, pre, post = weight.shape
    positions = target.size // post
    for event in found:
        q = np.int64(np.uint32(event) // np.uint32(pre))  # an unsigned division is several times faster
        channel = event - q * pre
        q += padding
        for p in range(max(0, (q - kernel + stride) // stride), min(positions - 1, q // stride) + 1):
            row = weight[q - p * stride, channel]
            here = target[p * post : (p + 1) * post]
            for c in range(post):
                here[c] += row[c]


@njit(cache=True, error_model="numpy", nogil=True)
def gather(found, gradient, stride, padding, out):
    """Add the gradient of the current [position * post] to the weights that the spikes ``found`` used."""
    kernel, pre, post = out.shape
    positions = gradient.size // post
    for event in found:
        q = np.int64(np.uint32(event) // np.uint32(pre))  # an unsigned division is several times faster
        channel = event - q * pre
        q += padding
        for p in range(max(0, (q - kernel + stride) // stride), min(positions - 1, q // stride) + 1):
            row = out[q - p * stride, channel]
            here = gradient[p * post : (p + 1) * post]
            for c in range(post):
                row[c] += here[c]


@njit(cache=True, error_model="numpy", nogil=True)
def scatter_within(found, weight, target):
    """Add the recurrent weights of the spikes ``found`` to ``target``: what one spike adds is contiguous."""
    pre, kernel, post = weight.shape
    for event in found:
        position = np.int64(np.uint32(event) // np.uint32(pre))
        channel = event - position * pre
        first = (position - kernel // 2) * post
        low, high = max(first, 0), min(first + kernel * post, target.size)
        row = weight[channel].reshape(kernel * post)[low - first : high - first]
        here = target[low:high]
        for c in range(row.size):
            here[c] += row[c]


@njit(cache=True, error_model="numpy", nogil=True)
def gather_within(found, gradient, out):
    """Add the gradient of the current to the recurrent weights that the spikes ``found`` used."""
    pre, kernel, post = out.shape
    for event in found:
        position = np.int64(np.uint32(event) // np.uint32(pre))
        channel = event - position * pre
        first = (position - kernel // 2) * post
        low, high = max(first, 0), min(first + kernel * post, gradient.size)
        row = out[channel].reshape(kernel * post)[low - first : high - first]
        here = gradient[low:high]
        for c in range(row.size):
            row[c] += here[c]


@njit(cache=True, error_model="numpy", nogil=True)
def forward_layer(
    sources, weight, stride, padding, inputs, recurrent, neuron, keep_lost, threshold, samples, potentials, spikes
):
    """Forward pass of a block of samples.

    sources [batch, time, pre] uint8 spikes of the layer below, or [batch, time, 0]; inputs [batch, time, neuron] or
    [batch, 0, 0]: current that arrives besides; recurrent [pre, reversed kernel, post] or of kernel 0.
    ``potentials`` receives U, or with ``keep_lost`` the potential before the reset of the step before was applied.
    """
    a_m, a_s, gain, theta, same, delay = neuron
    kind, scale, p0, seed, stream, draw, given = threshold
    batch, steps, neurons = potentials.shape
    dtype = potentials.dtype
    one = dtype.type(1)
    q = np.zeros(neurons, dtype)
    words = np.empty((neurons + GROUP - 1) // GROUP * GROUP, np.uint32)
    found = np.empty(2 * max(sources.shape[2], neurons) + 1, np.int64)
    for b in range(batch):
        u = np.zeros(neurons, dtype)
        lost = np.zeros(neurons, dtype)
        current = np.zeros(neurons, dtype)
        arriving = np.zeros(neurons, dtype)
        held = np.zeros(neurons, dtype)
        for n in range(steps):
            if kind == GIVEN_THRESHOLD:
                q[:] = given[b, n]
            elif kind != NONE:
                philox_row(words, 0, seed, stream, draw, np.uint64(samples[b]), np.uint64(n))
                threshold_row(q, words, kind, scale, p0)
            u_n, s_n = potentials[b, n], spikes[b, n]
            stored = lost if keep_lost else u
            for j in range(neurons):
                u_n[j] = stored[j]
            for j in range(neurons):
                s_n[j] = (u[j] - theta) > q[j]
            if same:
                for j in range(neurons):
                    u[j] = a_m * u[j] * (one - dtype.type(s_n[j])) + gain * current[j]
            else:
                for j in range(neurons):
                    lost[j] = a_m * u[j] + gain * current[j]
                for j in range(neurons):
                    u[j] = lost[j] * (one - dtype.type(s_n[j]))
            if delay:
                for j in range(neurons):
                    held[j] = arriving[j]
            if inputs.shape[1]:
                arriving[:] = inputs[b, n]
            else:
                arriving[:] = 0
            if sources.shape[2]:
                scatter(found[: events(sources[b, n], found)], weight, stride, padding, arriving)
            if recurrent.shape[1]:
                scatter_within(found[: events(s_n, found)], recurrent, arriving)
            x = held if delay else arriving
            for j in range(neurons):
                current[j] = a_s * current[j] + x[j]


@njit(cache=True, error_model="numpy", nogil=True)
def backward_layer(
    gradient,
    gradient_counts,
    sources,
    weight_back,
    stride,
    padding,
    recurrent_back,
    neuron,
    attached,
    surrogate,
    potentials,
    spikes,
    gradient_weight,
    gradient_recurrent,
    gradient_sources,
    gradient_inputs,
):
    """Backward pass of a block of samples, in reverse time.

    gradient [batch, time, neuron] for the spikes, or [batch, 0, 0]; gradient_counts [batch, neuron] for their sums;
    weight_back [post, kernel * pre] and recurrent_back [kernel * post, pre] (kernel reversed) for the matrix products.
    Adds to gradient_weight and gradient_recurrent; writes gradient_sources [batch, time, pre] and gradient_inputs
    [batch, time, neuron] unless they have time 0.
    """
    a_m, a_s, gain, theta, same, delay = neuron
    kind, beta, scale, given = surrogate
    batch, steps, neurons = potentials.shape
    post = gradient_recurrent.shape[2]
    positions = neurons // post
    kernel, pre = gradient_weight.shape[0], gradient_weight.shape[1]
    kernel_r = gradient_recurrent.shape[1]
    middle = kernel_r // 2
    dtype = potentials.dtype
    one, zero = dtype.type(1), dtype.type(0)
    g_u = np.zeros((batch, neurons), dtype)
    g_i = np.zeros((batch, neurons), dtype)
    g_arrived = np.zeros((batch, neurons), dtype)  # gradient of x[n], which is that of I[n+1+delay]
    rows = np.zeros((batch * positions, kernel_r * post), dtype)  # zeros stay where the convolution leaves the layer
    back_r = np.zeros((batch * positions, post), dtype)
    back_s = np.zeros((batch * positions, weight_back.shape[1]), dtype)
    derivative = np.empty(neurons, dtype)
    g_s = np.empty(neurons, dtype)
    kept = np.empty(neurons, dtype)
    found = np.empty(2 * max(sources.shape[2], neurons) + 1, np.int64)
    to_sources = gradient_sources.shape[1] > 0
    length = sources.shape[2] // max(pre, 1)
    # The loops over neurons below are short, and over slices that start at 0, on purpose: a compiler vectorises a loop
    # only if it can tell its arrays apart and knows that no index is negative.
    for n in range(steps - 1, -1, -1):  # g_u, g_i are the adjoints of U[n+1], I[n+1] and become those of U[n], I[n]
        if not delay:
            for b in range(batch):
                for j in range(neurons):
                    g_arrived[b, j] = g_i[b, j]
        if kernel_r:
            for b in range(batch):
                x = g_arrived[b]
                for p in range(positions):
                    low, high = max(p - middle, 0) * post, min(p + middle + 1, positions) * post
                    window = x[low:high]
                    row = rows[b * positions + p, low - (p - middle) * post :]
                    for j in range(window.size):
                        row[j] = window[j]
            np.dot(rows, recurrent_back, back_r)
        if to_sources:
            np.dot(g_arrived.reshape(batch * positions, post), weight_back, back_s)
        for b in range(batch):
            x = g_arrived[b]
            if gradient_inputs.shape[1]:
                gradient_inputs[b, n] = x
            if sources.shape[2]:
                gather(found[: events(sources[b, n], found)], x, stride, padding, gradient_weight)
            if kernel_r:
                gather_within(found[: events(spikes[b, n], found)], x, gradient_recurrent)
            if to_sources:
                below = gradient_sources[b, n]
                below[:] = 0
                for p in range(positions):
                    first = p * stride - padding
                    low, high = max(first, 0), min(first + kernel, length)
                    window = below[low * pre : high * pre]
                    row = back_s[b * positions + p, (low - first) * pre :]
                    for j in range(window.size):
                        window[j] += row[j]
            u_n, s_n, gu, gi = potentials[b, n], spikes[b, n], g_u[b], g_i[b]
            if kind == GIVEN_SURROGATE:
                derivative[:] = given[b, n]
            elif attached and not same and n > 0:  # stored before the reset that the last spike caused
                before = spikes[b, n - 1]
                for j in range(neurons):
                    derivative[j] = zero if before[j] else u_n[j]
                surrogate_row(derivative, derivative, theta, kind, beta, scale)
            else:
                surrogate_row(derivative, u_n, theta, kind, beta, scale)
            counted, back = gradient_counts[b], back_r[b * positions : (b + 1) * positions].reshape(neurons)
            for j in range(neurons):
                g_s[j] = counted[j] + back[j]
            if gradient.shape[1]:
                external = gradient[b, n]
                for j in range(neurons):
                    g_s[j] += external[j]
            if attached:
                lost = u_n if same else potentials[b, min(n + 1, steps - 1)]
                decay = a_m if same else one
                for j in range(neurons):
                    g_s[j] -= decay * lost[j] * gu[j]
            for j in range(neurons):
                g_s[j] *= derivative[j]
            if delay:
                for j in range(neurons):
                    x[j] = gi[j]
            for j in range(neurons):
                kept[j] = (one - dtype.type(s_n[j])) * gu[j]
            through = gu if same else kept
            for j in range(neurons):
                gi[j] = a_s * gi[j] + gain * through[j]
            for j in range(neurons):
                gu[j] = a_m * kept[j] + g_s[j]


@njit(cache=True, error_model="numpy", nogil=True)
def forward_readout(sources, weight, a_m, a_s, gain, delay, initial, potentials):
    """Potentials U[1] ... U[time] of units that never spike; weight [pre, unit]."""
    batch, steps, units = potentials.shape
    found = np.empty(2 * sources.shape[2] + 1, np.int64)
    for b in range(batch):
        u = np.full(units, initial)
        current = np.zeros(units, potentials.dtype)
        arriving = np.zeros(units, potentials.dtype)
        held = np.zeros(units, potentials.dtype)
        for n in range(steps):
            if delay:
                held[:] = arriving
            arriving[:] = 0
            for event in found[: events(sources[b, n], found)]:
                for j in range(units):
                    arriving[j] += weight[event, j]
            x = held if delay else arriving
            out = potentials[b, n]
            for j in range(units):
                u[j] = a_m * u[j] + gain * current[j]
                out[j] = u[j]
                current[j] = a_s * current[j] + x[j]


@njit(cache=True, error_model="numpy", nogil=True)
def backward_readout(gradient, sources, weight_back, a_m, a_s, gain, delay, gradient_weight, gradient_sources):
    """Adds to gradient_weight [pre, unit]; writes gradient_sources [batch, time, pre]. weight_back is [unit, pre]."""
    batch, steps, units = gradient.shape
    found = np.empty(2 * sources.shape[2] + 1, np.int64)
    for b in range(batch):
        g_arrived = np.zeros((steps, units), gradient.dtype)
        g_u = np.zeros(units, gradient.dtype)
        g_i = np.zeros(units, gradient.dtype)  # adjoints of U[n+1], I[n+1]
        for n in range(steps - 1, -1, -1):
            for j in range(units):
                if n >= delay:
                    g_arrived[n - delay, j] = g_i[j]
                g_u[j] += gradient[b, n, j]
                g_i[j] = a_s * g_i[j] + gain * g_u[j]
                g_u[j] = a_m * g_u[j]
        np.dot(g_arrived, weight_back, gradient_sources[b])
        for n in range(steps):
            for event in found[: events(sources[b, n], found)]:
                for j in range(units):
                    gradient_weight[event, j] += g_arrived[n, j]
