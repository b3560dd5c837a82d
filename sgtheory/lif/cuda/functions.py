"""Functions of one block of neurons for the Triton kernels: random numbers, the logarithm, surrogate derivatives."""

import triton
import triton.language as tl

from sgtheory.lif import _fused, _noise
from sgtheory.neurons.logarithm import ATANH_SERIES, LN2

NONE, SIGMOID, GIVEN = map(tl.constexpr, (_fused.NO_THRESHOLD, _fused.SIGMOID_THRESHOLD, _fused.GIVEN_THRESHOLD))
SUPERSPIKE, SIGMOID_SURROGATE = tl.constexpr(_fused.SUPERSPIKE), tl.constexpr(_fused.SIGMOID_SURROGATE)
GIVEN_SURROGATE = tl.constexpr(_fused.GIVEN_SURROGATE)
GROUP, COUNTERS = tl.constexpr(_noise.GROUP), tl.constexpr(_noise.COUNTERS)
LN2 = tl.constexpr(LN2)
C1, C3, C5, C7, C9, C11, C13 = map(tl.constexpr, ATANH_SERIES)


@triton.jit
def log_ratio(a, b):
    """log(a / b): the operations of sgtheory.neurons.logarithm in the same order; ``/`` would not round correctly."""
    bits_a, bits_b = a.to(tl.int32, bitcast=True), b.to(tl.int32, bitcast=True)
    exponent = ((bits_a >> 23) - (bits_b >> 23)).to(tl.float32)
    m_a = ((bits_a & 0x007FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    m_b = ((bits_b & 0x007FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    s = tl.div_rn(m_a - m_b, m_a + m_b)
    z = s * s
    series = C13 * z + C11
    series = series * z + C9
    series = series * z + C7
    series = series * z + C5
    series = series * z + C3
    series = series * z + C1
    return exponent * LN2 + series * s


@triton.jit
def uniform(first, step, sample, draw, key, BLOCK: tl.constexpr):
    """Uniform numbers of neurons ``first`` ... ``first`` + BLOCK - 1, both multiples of 64 (see sgtheory.lif._noise).

    ``key`` holds the seed in its lower 32 bits and the stream in the upper ones.
    """
    counter = first // GROUP * COUNTERS + tl.arange(0, BLOCK // GROUP * COUNTERS)
    w0, w1, w2, w3 = tl.philox(key, counter, step, sample, draw)
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3)).reshape(BLOCK // GROUP, COUNTERS, 2, 2)
    words = words.permute(0, 2, 3, 1).reshape(BLOCK)  # group, word (two bits), counter
    return ((words >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2**-23


@triton.jit
def surrogate_derivative(x, beta, scale, SURROGATE: tl.constexpr):
    """The kinds of sgtheory.lif._fused, times ``scale``."""
    if SURROGATE == SUPERSPIKE:
        width = beta * tl.abs(x) + 1
        return scale / (width * width)
    elif SURROGATE == SIGMOID_SURROGATE:  # noqa: RET505 (Triton compiles one branch)
        e = tl.exp(-beta * tl.abs(x))
        return scale * e / ((1 + e) * (1 + e))
    else:
        line = 1 - beta * tl.abs(x)
        return scale * tl.where(line < 0, 0.0, line)  # unlike a maximum it leaves NaN as it is
