"""A logarithm with the same bits on every backend."""

import math

import torch

LN2 = math.log(2.0)
# log((1+s)/(1-s)) = 2 (s + s^3/3 + ... + s^13/13); for |s| < 1/3 the rest is below 2e-8.
ATANH_SERIES = tuple(2.0 / n for n in range(1, 15, 2))


def log_ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """log(a / b) for positive, normal numbers of one dtype, element by element.

    In float32 it uses only additions, multiplications, one division and bit shifts, in a fixed order, so that
    a kernel which repeats these steps without contracting them into fused multiply-adds gets the same bits.
    ``torch.log`` does not promise that: it differs by an ulp between processors and vector widths.
    In float64, where no kernel has to agree with it, it is ``torch.log``.
    """
    if a.dtype == torch.float64:
        return torch.log(a) - torch.log(b)
    bits_a, bits_b = a.view(torch.int32), b.view(torch.int32)
    exponent = ((bits_a >> 23) - (bits_b >> 23)).to(torch.float32)
    m_a = ((bits_a & 0x007FFFFF) | 0x3F800000).view(torch.float32)  # mantissas, in [1, 2)
    m_b = ((bits_b & 0x007FFFFF) | 0x3F800000).view(torch.float32)
    s = (m_a - m_b) / (m_a + m_b)
    z = s * s
    series = torch.full_like(z, ATANH_SERIES[-1])
    for coefficient in reversed(ATANH_SERIES[:-1]):
        series = series * z + coefficient
    return exponent * LN2 + series * s
