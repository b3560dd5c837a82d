"""Surrogate derivatives of one row of neurons, compiled for the CPU."""

import math

import numpy as np
import torch
from numba import njit

from sgtheory.lif._fused import GIVEN_SURROGATE as GIVEN
from sgtheory.lif._fused import SIGMOID_SURROGATE as SIGMOID
from sgtheory.lif._fused import SUPERSPIKE, surrogate_kind
from sgtheory.lif.cpu.functions import float_of
from sgtheory.neurons import SurrogateDerivative

_LOG2E = np.float32(1 / math.log(2))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
_EXP_SERIES = tuple(np.float32(1 / math.factorial(n)) for n in range(8))
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7 = _EXP_SERIES
_HALF, _CLIP = np.float32(0.5), np.float32(87.0)


def prepare_surrogate(
    surrogate: SurrogateDerivative, potentials: np.ndarray, spikes: np.ndarray, theta: float
) -> tuple:
    """What a kernel needs for the surrogate derivatives: (kind, beta, scale, given).

    Functions that the kernels do not know are evaluated here.
    """
    kind, beta, scale = surrogate_kind(surrogate)
    dtype = potentials.dtype
    given = np.zeros((0, 0, 0), dtype)
    if kind == GIVEN:
        x = torch.from_numpy(potentials) - theta
        given = surrogate.derivative(x, torch.from_numpy(spikes).to(x.dtype)).contiguous().numpy()
    return kind, dtype.type(beta), dtype.type(scale), given


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


@njit(cache=True, error_model="numpy")
def surrogate_row(out, potential, theta, kind, beta, scale):
    """Surrogate derivative at x = ``potential`` - ``theta`` into ``out``: one of the kinds above, times ``scale``."""
    one, zero = out.dtype.type(1), out.dtype.type(0)
    if kind == SUPERSPIKE:
        for j in range(out.size):
            width = beta * abs(potential[j] - theta) + one
            out[j] = scale / (width * width)
    elif kind == SIGMOID:
        if out.itemsize == 4:
            for j in range(out.size):
                e = _exp_minus(np.float32(beta * abs(potential[j] - theta)))
                out[j] = scale * e / ((one + e) * (one + e))
        else:
            for j in range(out.size):
                e = np.exp(-beta * abs(potential[j] - theta))
                out[j] = scale * e / ((one + e) * (one + e))
    else:
        for j in range(out.size):
            out[j] = scale * max(one - beta * abs(potential[j] - theta), zero)  # in this order NaN stays NaN
