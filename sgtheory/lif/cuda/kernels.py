"""LIF layers as Triton kernels: the whole time loop in one launch, the state of the neurons in registers.

Arrays are contiguous, [batch, time, position, channel]; dense layers have one position. Within a step, the neuron at
(position, channel) has the index position * channels + channel, which is also its index in the noise.

The forward kernels repeat the operations of the reference in their order, and get the same bits if they are compiled
without contraction into fused multiply-adds. No kernel reads memory that it has written (docs/cuda.md says why).
"""

import triton
import triton.language as tl

from sgtheory.lif.cuda.functions import (
    GIVEN,
    GIVEN_SURROGATE,
    NONE,
    SIGMOID,
    log_ratio,
    surrogate_derivative,
    uniform,
)

EVENTS = tl.constexpr(4)  # spikes found by one reduction: four 16-bit indices fill 64 bits
NOWHERE = tl.constexpr(2**30)  # beyond any array of weights, also after an index is added
CHUNK = tl.constexpr(16)  # presynaptic channels multiplied at once in the backward pass, the least that tl.dot takes


@triton.jit
def add_events(x, spike, n, inside, weight, CHANNELS: tl.constexpr, KERNEL: tl.constexpr):
    """Add the weights of the presynaptic neurons that spike to ``x``, one after the other in order of their indices.

    The spikes stay in registers: a reduction hands the next few indices to all threads. ``weight`` is
    [kernel, channel pre, channel post]; it is read through the first-level cache.
    """
    SIZE: tl.constexpr = KERNEL * CHANNELS * CHANNELS
    # V[tap, i, j] with tap = position pre - position post + KERNEL // 2 is at own + (index pre) * CHANNELS, and in the
    # array if and only if there is such a connection
    own = tl.where(inside, n % CHANNELS - (n // CHANNELS - KERNEL // 2) * CHANNELS * CHANNELS, NOWHERE)
    rank = tl.cumsum(spike.to(tl.int32), 0)
    events = tl.max(rank, 0)
    for first in range(1, events + 1, EVENTS):
        which = rank - first
        found = spike & (which >= 0) & (which < EVENTS)
        indices = tl.sum(tl.where(found, n.to(tl.int64) << (16 * (which & (EVENTS - 1))), 0), 0)
        for event in tl.static_range(EVENTS):
            pre = ((indices >> (16 * event)) & 0xFFFF).to(tl.int32)
            at = own + tl.where(first + event <= events, pre * CHANNELS, NOWHERE)
            x += tl.load(weight + at, at.to(tl.uint32, bitcast=True) < SIZE, 0.0)
    return x


@triton.jit
def add_words(x, spike, weight, CHANNELS: tl.constexpr, KERNEL: tl.constexpr):
    """The same sum in the same order, where the spikes of all channels at a position fit into a word of bits.

    Each position takes the words in reach of the kernel and looks up one bit after the other. This is several times
    faster than looking at every spike everywhere; the rounds are those of the position with the most spikes.
    """
    POSITIONS: tl.constexpr = x.shape[0] // CHANNELS
    WORD: tl.constexpr = tl.uint32 if CHANNELS <= 32 else tl.uint64
    x, spike = x.reshape(POSITIONS, CHANNELS), spike.reshape(POSITIONS, CHANNELS)
    position, channel = tl.arange(0, POSITIONS), tl.arange(0, CHANNELS)
    bit = tl.full([CHANNELS], 1, WORD) << channel.to(WORD)
    words = tl.sum(tl.where(spike, bit[None, :], 0), 1)
    most = tl.max(tl.sum(spike.to(tl.int32), 1), 0)
    for tap in range(KERNEL):
        source = position + tap - KERNEL // 2
        exists = (source >= 0) & (source < POSITIONS)
        word = tl.where(exists, tl.gather(words, tl.where(exists, source, 0), 0), 0)
        for _ in range(most):
            rest = word & (word - 1)
            pre = ((word ^ rest).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127  # exponent of the lowest bit
            at = ((tap * CHANNELS + pre) * CHANNELS)[:, None] + channel[None, :]
            x += tl.load(weight + at, (word != 0)[:, None], 0.0)
            word = rest
    return x.reshape(POSITIONS * CHANNELS)


@triton.jit
def of_neurons(numbers, neurons, n, inside):
    """Rows of ``numbers`` [6, neuron]: a_m, a_s, 1 - a_m, theta, rho, adaptation."""
    return (
        tl.load(numbers + n, inside, 0.0),
        tl.load(numbers + neurons + n, inside, 0.0),
        tl.load(numbers + 2 * neurons + n, inside, 0.0),
        tl.load(numbers + 3 * neurons + n, inside, 0.0),
        tl.load(numbers + 4 * neurons + n, inside, 0.0),
        tl.load(numbers + 5 * neurons + n, inside, 0.0),
    )


@triton.jit(do_not_specialize=["steps", "input_steps", "first_step", "draw", "key"])
def forward_kernel(
    inputs, weight, thresholds, samples, start, spikes, potentials, currents, adapted, end,
    steps, input_steps, first_step, neurons,
    a_m, a_s, gain, theta, rho, adaptation, numbers, scale, p0, draw: tl.int64, key: tl.int64,
    SAME: tl.constexpr, DELAY: tl.constexpr, NOISE: tl.constexpr, KERNEL: tl.constexpr, CHANNELS: tl.constexpr,
    WORDS: tl.constexpr, KEEP_CURRENTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Spikes and potentials of BLOCK neurons of one sample; with recurrence, these are all neurons.

    ``input_steps`` is the distance of samples in ``inputs``: ``steps``, or 0 if they all share one input. ``numbers``
    [6, neuron] stand for the six before, where neurons differ. ``adapted`` is there if neurons adapt, and receives A.
    ``start`` and ``end``, if they are there, hold U, I, what arrives and A, before the first and after the last step,
    [sample, 4, neuron].
    """
    sample = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    n = first + tl.arange(0, BLOCK)
    inside = n < neurons
    index = tl.load(samples + sample).to(tl.int32)
    if numbers is not None:
        a_m, a_s, gain, theta, rho, adaptation = of_neurons(numbers, neurons, n, inside)
    u = tl.zeros([BLOCK], tl.float32)  # an object of its own for each state: see docs/cuda.md on aliases
    current = tl.zeros([BLOCK], tl.float32)
    on_the_way = tl.zeros([BLOCK], tl.float32)
    a = tl.zeros([BLOCK], tl.float32)
    of_sample = 4 * sample * neurons + n
    if start is not None:
        u = tl.load(start + of_sample, inside, 0.0)
        current = tl.load(start + of_sample + neurons, inside, 0.0)
        on_the_way = tl.load(start + of_sample + 2 * neurons, inside, 0.0)
        a = tl.load(start + of_sample + 3 * neurons, inside, 0.0)
    for step in range(steps):
        row = (sample * steps + step) * neurons
        x = tl.load(inputs + (sample * input_steps + step) * neurons + n, inside, 0.0)
        if NOISE == NONE:
            q = 0.0
        elif NOISE == GIVEN:
            q = tl.load(thresholds + row + n, inside, 0.0)
        else:
            r = uniform(first, first_step + step, index, draw.to(tl.int32), key, BLOCK)
            q = log_ratio(r, 1 - r if NOISE == SIGMOID else tl.full(r.shape, p0, tl.float32)) * scale
        level = theta
        if adapted is not None:
            tl.store(adapted + row + n, a, inside)
            level = theta + adaptation * a
        spike = inside & (u - level > q)
        tl.store(spikes + row + n, spike.to(tl.float32), inside)
        tl.store(potentials + row + n, u, inside)
        if KEEP_CURRENTS:
            tl.store(currents + row + n, current, inside)
        if WORDS:
            x = add_words(x, spike, weight, CHANNELS, KERNEL)
        elif KERNEL > 0:
            x = add_events(x, spike, n, inside, weight, CHANNELS, KERNEL)
        if adapted is not None:
            a = rho * a + tl.where(spike, 1.0, 0.0)
        keep = tl.where(spike, 0.0, 1.0)
        if SAME:
            u = a_m * u * keep + gain * current
        else:
            u = (a_m * u + gain * current) * keep
        if DELAY:
            x, on_the_way = on_the_way, x
        current = a_s * current + x
    if end is not None:
        tl.store(end + of_sample, u, inside)
        tl.store(end + of_sample + neurons, current, inside)
        tl.store(end + of_sample + 2 * neurons, on_the_way if DELAY else tl.zeros([BLOCK], tl.float32), inside)
        tl.store(end + of_sample + 3 * neurons, a, inside)


@triton.jit
def transposed_recurrent(
    signal, row, position, channel, weight, positions, channels, KERNEL: tl.constexpr, PRECISION: tl.constexpr
):
    """For every presynaptic neuron the sum over postsynaptic neurons of weight times signal, in a fixed order.

    ``signal`` is [row, channel post], rows being positions of one or several samples, ``weight`` is
    [kernel, channel post, channel pre]. Rows are shifted in registers, KERNEL * channels / CHUNK products are added up.
    """
    ROWS: tl.constexpr = signal.shape[0]
    CHANNELS: tl.constexpr = signal.shape[1]
    signal = signal.reshape(ROWS * CHANNELS)
    total = tl.zeros([ROWS, CHANNELS], tl.float32)
    for tap in range(KERNEL):
        shift = KERNEL // 2 - tap
        exists = ((position + shift >= 0) & (position + shift < positions))[:, None]
        for first in range(0, CHANNELS, CHUNK):
            post = first + tl.arange(0, CHUNK)
            source = tl.where(exists, (row + shift)[:, None] * CHANNELS + post[None, :], 0)
            shifted = tl.gather(signal, source.reshape(ROWS * CHUNK), 0).reshape(ROWS, CHUNK)
            at = (tap * channels + post)[:, None] * channels + channel[None, :]
            w = tl.load(weight + at, (post < channels)[:, None] & (channel < channels)[None, :], 0.0)
            total = tl.dot(tl.where(exists, shifted, 0.0), w, total, input_precision=PRECISION)
    return total


@triton.jit(do_not_specialize=["batch", "steps"])
def backward_kernel(
    gradient, gradient_potentials, spikes, potentials, currents, adapted, derivatives, weight, out, out_numbers,
    batch, steps, positions, channels,
    a_m, a_s, gain, theta, rho, adaptation, numbers, beta, scale,
    SAME: tl.constexpr, ATTACHED: tl.constexpr, DELAY: tl.constexpr, SURROGATE: tl.constexpr, KERNEL: tl.constexpr,
    SAMPLES: tl.constexpr, POSITIONS: tl.constexpr, CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient for the input from those for spikes and potentials, in reverse time, of SAMPLES samples at a time.

    POSITIONS and CHANNELS are padded to powers of two. Without recurrence, CHANNELS is a block of them.
    ``adapted`` is there if neurons adapt. ``out_numbers`` [sample, 6, neuron], if it is there, is the gradient for
    ``numbers``.
    """
    row = tl.arange(0, SAMPLES * POSITIONS)
    sample, position = tl.program_id(0).to(tl.int64) * SAMPLES + row // POSITIONS, row % POSITIONS
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = ((sample < batch) & (position < positions))[:, None] & (channel < channels)[None, :]
    if numbers is not None:
        neuron = (position * channels)[:, None] + channel[None, :]
        a_m, a_s, gain, theta, rho, adaptation = of_neurons(numbers, positions * channels, neuron, inside)
    if out_numbers is not None:
        for_a_m = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
        for_a_s = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
        for_gain = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
        for_theta = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
        for_rho = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
        for_adaptation = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
    g_u = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
    g_i = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
    g_later = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
    g_a = tl.zeros([SAMPLES * POSITIONS, CHANNELS], tl.float32)
    for back in range(steps):  # g_u, g_i, g_a are the adjoints of U[n+1], I[n+1], A[n+1] and become those of step n
        step = sample * steps + (steps - 1 - back)
        at = ((step * positions + position) * channels)[:, None] + channel[None, :]
        u = tl.load(potentials + at, inside, 0.0)
        keep = 1 - tl.load(spikes + at, inside, 0.0)
        g_s = tl.load(gradient + at, inside, 0.0)
        g_x = g_later if DELAY else g_i
        tl.store(out + at, g_x, inside)
        if KERNEL > 0:
            g_s += transposed_recurrent(g_x, row, position, channel, weight, positions, channels, KERNEL, PRECISION)
        if ATTACHED:
            lost = a_m * u
            if not SAME:
                lost += gain * tl.load(currents + at, inside, 0.0)
            g_s -= lost * g_u
        level = theta
        if adapted is not None:
            a = tl.load(adapted + at, inside, 0.0)
            level = theta + adaptation * a
            g_s += g_a
        if SURROGATE == GIVEN_SURROGATE:
            derivative = tl.load(derivatives + at, inside, 0.0)
        else:
            derivative = surrogate_derivative(u - level, beta, scale, SURROGATE)
        if out_numbers is not None:
            current = tl.load(currents + at, inside, 0.0)
            for_a_m += keep * g_u * u
            for_a_s += g_i * current
            for_gain += (g_u if SAME else keep * g_u) * current
            for_theta -= g_s * derivative
            if adapted is not None:
                for_rho += g_a * a
                for_adaptation -= g_s * derivative * a
        if adapted is not None:
            g_a = rho * g_a - adaptation * g_s * derivative
        g_later = g_i
        g_i = a_s * g_i + gain * (g_u if SAME else keep * g_u)
        g_u = a_m * keep * g_u + g_s * derivative
        if gradient_potentials is not None:
            g_u += tl.load(gradient_potentials + at, inside, 0.0)
    if out_numbers is not None:
        neurons = positions * channels
        at = ((6 * sample * positions + position) * channels)[:, None] + channel[None, :]
        tl.store(out_numbers + at, for_a_m, inside)
        tl.store(out_numbers + at + neurons, for_a_s, inside)
        tl.store(out_numbers + at + 2 * neurons, for_gain, inside)
        tl.store(out_numbers + at + 3 * neurons, for_theta, inside)
        tl.store(out_numbers + at + 4 * neurons, for_rho, inside)
        tl.store(out_numbers + at + 5 * neurons, for_adaptation, inside)


@triton.jit(do_not_specialize=["rows", "parts"])
def weight_kernel(
    gradient, inputs, out, rows, parts, positions, input_positions, post, pre, stride, padding,
    COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr, POST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient for POST x BLOCK weights [post, column] of a convolution, of one of so many parts of a sample; column is
    tap * pre + channel.

    ``rows`` are steps and positions of ``gradient``. What the weights of a row see lies side by side in ``inputs``, so
    that columns count on from the first tap. PROGRAMS share a part, side by side in time: one reads what is in the
    second-level cache for another.
    """
    part, block = tl.program_id(0) // PROGRAMS, tl.program_id(0) % PROGRAMS
    sample = (part // parts).to(tl.int64)
    blocks: tl.constexpr = (COLUMNS + BLOCK - 1) // BLOCK
    channel = block // blocks * POST + tl.arange(0, POST)
    column = block % blocks * BLOCK + tl.arange(0, BLOCK)
    gradient += sample * rows * post
    inputs += sample * (rows // positions) * input_positions * pre
    total = tl.zeros([POST, BLOCK], tl.float32)
    for first in range(part % parts * CHUNK, rows, parts * CHUNK):
        row = first + tl.arange(0, CHUNK)
        start = row % positions * stride - padding
        seen = start[:, None] + (column // pre)[None, :]
        exists = (row < rows)[:, None] & (column < COLUMNS)[None, :] & (seen >= 0) & (seen < input_positions)
        at = (row // positions * input_positions + start)[:, None] * pre + column[None, :]
        x = tl.load(inputs + at, exists, 0.0)
        of_rows = (channel < post)[:, None] & (row < rows)[None, :]
        g = tl.load(gradient + channel[:, None] + row[None, :] * post, of_rows, 0.0)
        total = tl.dot(g, x, total, input_precision="ieee")
    at = (part.to(tl.int64) * post + channel)[:, None] * COLUMNS + column[None, :]
    tl.store(out + at, total, (channel < post)[:, None] & (column < COLUMNS)[None, :])


@triton.jit(do_not_specialize=["steps"])
def filter_kernel(
    signal, out, steps, units, a_m, a_s, gain, initial,
    DELAY: tl.constexpr, REVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Synapse and membrane of units that never spike. In reverse time this is its own transpose."""
    sample = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < units
    u = tl.full([BLOCK], initial, tl.float32)
    current = tl.zeros([BLOCK], tl.float32)
    on_the_way = tl.zeros([BLOCK], tl.float32)
    for step in range(steps):
        at = (sample * steps + (steps - 1 - step if REVERSE else step)) * units + unit
        x = tl.load(signal + at, inside, 0.0)
        u = a_m * u + gain * current
        tl.store(out + at, u, inside)
        if DELAY:
            x, on_the_way = on_the_way, x
        current = a_s * current + x


@triton.jit(do_not_specialize=["first_step", "draw", "key"])
def uniform_kernel(samples, out, first_step, neurons, draw: tl.int64, key: tl.int64, BLOCK: tl.constexpr):
    """The uniform numbers of sgtheory.lif.Noise: one step of one sample per program."""
    sample, step = tl.program_id(0).to(tl.int64), tl.program_id(1)
    for first in range(0, neurons, BLOCK):
        n = first + tl.arange(0, BLOCK)
        index = tl.load(samples + sample).to(tl.int32)
        r = uniform(first, first_step + step, index, draw.to(tl.int32), key, BLOCK)
        tl.store(out + (sample * tl.num_programs(1) + step) * neurons + n, r, n < neurons)
