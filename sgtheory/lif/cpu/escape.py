"""Which neurons spike with sigmoid or exponential escape noise, compiled for the CPU.

A threshold costs a division and two dozen multiplications, and few neurons come close to theirs. So a bound that costs
a handful of operations says which neurons may spike, and thresholds are computed for these alone: the spikes are
those of comparing every potential with its threshold, to the bit.
"""

import math

import numpy as np
from numba import njit

from sgtheory.lif.cpu.functions import float_of, threshold_row

# The float whose bits are the number 2**23 (127 + y) is at least 2**y: the chord of 2**y between two integers.
_ONE_OCTAVE = 2.0**23
_BIAS = 127.0 + 23.0  # random numbers are compared as integers + 1/2 below 2**23
_SLACK = 2.0**-11  # of an octave: many times the sum of all errors of rounding
_HALF = np.float32(0.5)
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
        bits = min(max((potential[j] - theta) * slope + offset, _LOWEST), _HIGHEST)
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
        end += (potential[j] - theta) > q[e - first]
    return end
