"""Random numbers, escape noise and surrogate derivatives for one row of neurons, compiled for the CPU."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from sgtheory.lif._fused import (
    EXPONENTIAL_THRESHOLD,
    GIVEN_SURROGATE,
    GIVEN_THRESHOLD,
    NO_THRESHOLD,
    SIGMOID_SURROGATE,
    SIGMOID_THRESHOLD,
    SUPERSPIKE,
    Constants,
    constants,
    surrogate_kind,
    threshold_kind,
)
from sgtheory.lif._noise import COUNTERS, GROUP, KEY_INCREMENTS, MULTIPLIERS, ROUNDS, Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative
from sgtheory.neurons.logarithm import ATANH_SERIES, LN2

_M0, _M1 = (np.uint64(m) for m in MULTIPLIERS)
_W0, _W1 = (np.uint64(w) for w in KEY_INCREMENTS)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_C1, _C3, _C5, _C7, _C9, _C11, _C13 = (np.float32(c) for c in ATANH_SERIES[:7])
_LN2 = np.float32(LN2)
_HALF, _TWO_TO_MINUS_23, _ONE = np.float32(0.5), np.float32(2.0**-23), np.float32(1)
assert len(ATANH_SERIES) == 7


class Threshold(NamedTuple):
    """Random thresholds of a layer as its kernel needs them."""

    kind: int  # of sgtheory.lif._fused
    scale: Any
    p0: Any
    seed: np.uint64
    stream: np.uint64
    draw: np.uint64
    first_step: np.uint64
    given: np.ndarray  # thresholds [batch, time, neuron] of functions that kernels do not know, else [0, 0, 0]


class Surrogate(NamedTuple):
    """A surrogate derivative as the kernels need it."""

    kind: int  # of sgtheory.lif._fused
    beta: Any
    scale: Any
    given: np.ndarray  # derivatives [batch, time, neuron] that kernels do not know, else [0, 0, 0]


def constants_of(parameters: LIFParameters, dtype: np.dtype, numbers: torch.Tensor | None) -> Constants:
    """``numbers``: see :func:`sgtheory.lif._fused.numbers_of_neurons`."""
    return constants(parameters, dtype.type, None if numbers is None else numbers.detach().numpy())


def threshold_of(escape: EscapeFunction, noise: Noise, shape: tuple[int, int, int], dtype: np.dtype) -> Threshold:
    """Thresholds of [batch, time, neuron].

    Functions that the kernels do not know, and thresholds in float64, are evaluated here.
    """
    kind, scale, p0 = threshold_kind(escape)
    given = np.zeros((0, 0, 0), dtype)
    if kind != NO_THRESHOLD and (kind == GIVEN_THRESHOLD or dtype != np.float32):
        kind = GIVEN_THRESHOLD
        batch, steps, neurons = shape
        r = noise.uniform(batch, range(steps), neurons, torch.from_numpy(given).dtype)
        given = escape.quantile(r).contiguous().numpy()
    words = (np.uint64(word) for word in (noise.seed, noise.stream, noise.draw, noise.first_step))
    return Threshold(kind, dtype.type(scale), dtype.type(p0), *words, given)


def surrogate_of(
    surrogate: SurrogateDerivative,
    potentials: np.ndarray,
    spikes: np.ndarray,
    constants: Constants,
    adapted: np.ndarray | None = None,
) -> Surrogate:
    """Surrogate derivatives at ``potentials`` minus the thresholds of neurons that have ``adapted``.

    Functions that the kernels do not know are evaluated here.
    """
    kind, beta, scale = surrogate_kind(surrogate)
    dtype = potentials.dtype
    given = np.zeros((0, 0, 0), dtype)
    if kind == GIVEN_SURROGATE:
        raised = 0 if adapted is None else constants.adaptation * adapted
        x = torch.from_numpy(potentials - (constants.theta + raised))
        given = surrogate.derivative(x, torch.from_numpy(spikes).to(x.dtype)).contiguous().numpy()
    return Surrogate(kind, dtype.type(beta), dtype.type(scale), given)


def pick(value, which):
    """What of a :class:`sgtheory.lif._fused.Constants` belongs to one neuron, or a slice of them: kernels are compiled
    for numbers, which cost nothing more, and for arrays."""
    return value[which] if isinstance(value, np.ndarray) else value


@overload(pick, inline="always")
def _pick(value, which):
    return (lambda value, which: value[which]) if isinstance(value, types.Array) else (lambda value, which: value)


@njit(inline="always", error_model="numpy")
def of_block(constants, here):
    """The :class:`sgtheory.lif._fused.Constants` of some neurons."""
    a_m, a_s, gain, theta, rho, adaptation, same, attached, delay = constants
    a_m, a_s, gain, theta = pick(a_m, here), pick(a_s, here), pick(gain, here), pick(theta, here)
    return Constants(a_m, a_s, gain, theta, pick(rho, here), pick(adaptation, here), same, attached, delay)


def level_of(theta, adapted, size):
    """Where the thresholds of a row of neurons stand: ``theta``, or, where they adapt, room for ``size`` of them."""
    return theta if adapted is None else np.empty(size, adapted.dtype)


@overload(level_of, inline="always")
def _level_of(theta, adapted, size):
    if isinstance(adapted, types.NoneType):
        return lambda theta, adapted, size: theta
    return lambda theta, adapted, size: np.empty(size, adapted.dtype)


@njit(cache=True, error_model="numpy", nogil=True)
def raised_threshold(level, constants, adapted):
    """theta + adaptation A of a row of neurons."""
    for j in range(level.size):
        level[j] = pick(constants.theta, j) + pick(constants.adaptation, j) * adapted[j]


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
    """log(a / b), the operations of sgtheory.neurons.logarithm in the same order."""
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
    if kind == SIGMOID_THRESHOLD:
        for j in range(q.size):
            r = (np.float32(np.int32(words[j] >> np.uint32(9))) + _HALF) * _TWO_TO_MINUS_23
            q[j] = log_ratio(r, _ONE - r) * scale
    elif kind == EXPONENTIAL_THRESHOLD:
        for j in range(q.size):
            r = (np.float32(np.int32(words[j] >> np.uint32(9))) + _HALF) * _TWO_TO_MINUS_23
            q[j] = log_ratio(r, p0) * scale


def random_words(seed: int, stream: int, draw: int, sample: int, step: int, neurons: int) -> np.ndarray:
    """The random words of ``neurons`` neurons in one step, uint32 (for tests; the kernels inline this)."""
    words = np.empty(math.ceil(neurons / GROUP) * GROUP, dtype=np.uint32)
    philox_row(words, 0, *(np.uint64(v) for v in (seed, stream, draw, sample, step)))
    return words[:neurons]


# A threshold costs a division and two dozen multiplications, and few neurons come near theirs. So a cheap bound says
# which neurons may spike, and thresholds are computed for these alone. The spikes are those of comparing every
# potential with its threshold, to the bit.
# The float whose bits are the number 2**23 (127 + y) is at least 2**y: the chord of 2**y between two integers.
_ONE_OCTAVE = 2.0**23
_BIAS = 127.0 + 23.0  # random numbers are compared as integers + 1/2 below 2**23
_SLACK = 2.0**-11  # of an octave: many times the sum of all errors of rounding
_LOWEST, _HIGHEST = np.float32(0), np.float32(2.0**30 + 2.0**29)


@njit(cache=True, error_model="numpy", nogil=True)
def bound_of_probability(scale, p0):
    """(slope, offset) for :func:`mark_candidates`: p(x) <= p0 exp(x / scale)."""
    slope = _ONE_OCTAVE / (math.log(2.0) * np.float64(scale))
    offset = _ONE_OCTAVE * (_BIAS + math.log2(np.float64(p0)) + _SLACK)
    return np.float32(slope), np.float32(offset)


@njit(cache=True, error_model="numpy", nogil=True)
def mark_candidates(flags, potential, theta, words, slope, offset):
    """Set ``flags`` where the random word is below the bound of the firing probability."""
    for j in range(words.size):
        bits = min(max((potential[j] - pick(theta, j)) * slope + offset, _LOWEST), _HIGHEST)
        flags[j] = np.float32(np.int32(words[j] >> np.uint32(9))) + _HALF < float_of(np.int32(bits))


@njit(cache=True, error_model="numpy", nogil=True)
def confirm_candidates(found, first, last, potential, theta, words, kind, scale, p0, chosen, q):
    """Keep those of found[first:last] whose potential exceeds the threshold; return where they end.

    ``chosen`` and ``q``: room for the words and thresholds of all neurons and 16 more.
    """
    for e in range(first, last):
        chosen[e - first] = words[found[e]]
    size = (last - first + 15) // 16 * 16  # whole vectors
    threshold_row(q[:size], chosen, kind, scale, p0)
    end = first
    for e in range(first, last):
        j = found[e]
        found[end] = j  # without a branch, which a processor cannot predict here
        end += (potential[j] - pick(theta, j)) > q[e - first]
    return end


_LOG2E = np.float32(1 / math.log(2))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
_EXP_SERIES = tuple(np.float32(1 / math.factorial(n)) for n in range(8))
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7 = _EXP_SERIES
_CLIP = np.float32(87.0)


@njit(inline="always", error_model="numpy")
def _exp_minus(x):
    """exp(-x) for x >= 0 in float32, to 2 ulp; vectorises, which the one of the C library does not."""
    x = min(x, _CLIP)
    k = np.float32(np.int32(x * _LOG2E + _HALF))
    r = (k * _LN2_HIGH - x) + k * _LN2_LOW  # in [-ln2/2, ln2/2]
    e = _E7 * r + _E6
    e = e * r + _E5
    e = e * r + _E4
    e = e * r + _E3
    e = e * r + _E2
    e = e * r + _E1
    e = e * r + _E0
    return e * float_of(np.int32((np.int32(127) - np.int32(k)) << 23))


# numba hands options down: what a kernel calls has fused multiply-adds, or not, depending on which kernel was compiled
# first. So a kernel that fuses inlines this, and the others call a function of their own, which vectorises better.
@njit(inline="always", error_model="numpy")
def fused_surrogate_row(out, potential, theta, kind, beta, scale):
    """The surrogate derivative of a kind of sgtheory.lif._fused, at x = ``potential`` - ``theta``, times ``scale``."""
    one, zero = out.dtype.type(1), out.dtype.type(0)
    if kind == SUPERSPIKE:
        for j in range(out.size):
            width = beta * abs(potential[j] - pick(theta, j)) + one
            out[j] = scale / (width * width)
    elif kind == SIGMOID_SURROGATE:
        if out.itemsize == 4:
            for j in range(out.size):
                e = _exp_minus(np.float32(beta * abs(potential[j] - pick(theta, j))))
                out[j] = scale * e / ((one + e) * (one + e))
        else:
            for j in range(out.size):
                e = np.exp(-beta * abs(potential[j] - pick(theta, j)))
                out[j] = scale * e / ((one + e) * (one + e))
    else:
        for j in range(out.size):
            out[j] = scale * max(one - beta * abs(potential[j] - pick(theta, j)), zero)  # in this order NaN stays NaN


@njit(cache=True, error_model="numpy")
def surrogate_row(out, potential, theta, kind, beta, scale):
    """:func:`fused_surrogate_row`, every operation rounded."""
    fused_surrogate_row(out, potential, theta, kind, beta, scale)
