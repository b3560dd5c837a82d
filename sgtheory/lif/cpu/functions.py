"""Philox, the shared logarithm and thresholds of escape noise for one row of neurons, compiled for the CPU."""

import math

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from sgtheory.lif._fused import EXPONENTIAL_THRESHOLD as EXPONENTIAL
from sgtheory.lif._fused import GIVEN_THRESHOLD as GIVEN
from sgtheory.lif._fused import NO_THRESHOLD as NONE
from sgtheory.lif._fused import SIGMOID_THRESHOLD as SIGMOID
from sgtheory.lif._fused import threshold_kind
from sgtheory.lif._noise import COUNTERS, GROUP, KEY_INCREMENTS, MULTIPLIERS, ROUNDS, Noise
from sgtheory.neurons import EscapeFunction
from sgtheory.neurons._log import ATANH_SERIES, LN2

_M0, _M1 = (np.uint64(m) for m in MULTIPLIERS)
_W0, _W1 = (np.uint64(w) for w in KEY_INCREMENTS)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_C1, _C3, _C5, _C7, _C9, _C11, _C13 = (np.float32(c) for c in ATANH_SERIES[:7])
_LN2 = np.float32(LN2)
_HALF, _TWO_TO_MINUS_23, _ONE = np.float32(0.5), np.float32(2.0**-23), np.float32(1)
assert len(ATANH_SERIES) == 7


def prepare_threshold(escape: EscapeFunction, noise: Noise, shape: tuple[int, int, int], dtype: np.dtype) -> tuple:
    """What a kernel needs for the thresholds of [batch, time, neuron]: (kind, scale, p0, seed, stream, draw, given).

    Functions that the kernels do not know, and thresholds in float64, are evaluated here.
    """
    kind, scale, p0 = threshold_kind(escape)
    given = np.zeros((0, 0, 0), dtype)
    if kind != NONE and (kind == GIVEN or dtype != np.float32):
        kind = GIVEN
        batch, steps, neurons = shape
        r = noise.uniform(batch, range(steps), neurons, torch.from_numpy(given).dtype)
        given = escape.quantile(r).contiguous().numpy()
    key = (np.uint64(v) for v in (noise.seed, noise.stream, noise.draw))
    return (kind, dtype.type(scale), dtype.type(p0), *key, given)


@intrinsic
def bits_of(typingctx, x):
    """The bits of a float32 as int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def float_of(typingctx, x):
    """The float32 with the given int32 bits."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@njit(inline="always", error_model="numpy")
def log_ratio(a, b):
    """log(a / b), the operations of sgtheory.neurons._log in the same order."""
    bits_a, bits_b = bits_of(a), bits_of(b)
    exponent = np.float32(np.int32((bits_a >> 23) - (bits_b >> 23)))
    m_a = float_of(np.int32((bits_a & 0x007FFFFF) | 0x3F800000))
    m_b = float_of(np.int32((bits_b & 0x007FFFFF) | 0x3F800000))
    s = (m_a - m_b) / (m_a + m_b)
    z = s * s
    series = _C13 * z + _C11
    series = series * z + _C9
    series = series * z + _C7
    series = series * z + _C5
    series = series * z + _C3
    series = series * z + _C1
    return exponent * _LN2 + series * s


@njit(cache=True, error_model="numpy")
def philox_row(words, first, seed, stream, draw, sample, step):
    """Fill ``words`` (uint32, a multiple of 64 long) with the random words of neurons ``first``, ``first`` + 1, ...

    ``first`` is a multiple of 64.
    """
    for group in range(words.size // GROUP):
        base = np.uint64((first // GROUP + group) * COUNTERS)
        at = group * GROUP
        for j in range(COUNTERS):
            c0, c1, c2, c3 = base + np.uint64(j), step, sample, draw
            k0, k1 = seed, stream
            for _ in range(ROUNDS):
                product0, product1 = c0 * _M0, c2 * _M1
                c0 = (product1 >> _32) ^ c1 ^ k0
                c1 = product1 & _LOW
                c2 = (product0 >> _32) ^ c3 ^ k1
                c3 = product0 & _LOW
                k0 = (k0 + _W0) & _LOW
                k1 = (k1 + _W1) & _LOW
            words[at + j] = np.uint32(c0)
            words[at + COUNTERS + j] = np.uint32(c1)
            words[at + 2 * COUNTERS + j] = np.uint32(c2)
            words[at + 3 * COUNTERS + j] = np.uint32(c3)


@njit(cache=True, error_model="numpy")
def threshold_row(q, words, kind, scale, p0):
    """Turn random words into thresholds of sigmoid or exponential escape noise, float32."""
    if kind == SIGMOID:
        for j in range(q.size):
            r = (np.float32(np.int32(words[j] >> np.uint32(9))) + _HALF) * _TWO_TO_MINUS_23
            q[j] = log_ratio(r, _ONE - r) * scale
    elif kind == EXPONENTIAL:
        for j in range(q.size):
            r = (np.float32(np.int32(words[j] >> np.uint32(9))) + _HALF) * _TWO_TO_MINUS_23
            q[j] = log_ratio(r, p0) * scale


def random_words(seed: int, stream: int, draw: int, sample: int, step: int, neurons: int) -> np.ndarray:
    """The random words of ``neurons`` neurons in one step, uint32 (for tests; the kernels inline this)."""
    words = np.empty(math.ceil(neurons / GROUP) * GROUP, dtype=np.uint32)
    philox_row(words, 0, *(np.uint64(v) for v in (seed, stream, draw, sample, step)))
    return words[:neurons]
