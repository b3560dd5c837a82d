"""Initial weights in the fluctuation-driven regime (Rossbroich, Gygax & Zenke 2022)."""

import math

import torch

from sgtheory.errors import require_positive
from sgtheory.lif import Noise


def fluctuation_driven_std(sigma_u: float, fan_in: int, rate: float, tau_mem: float, tau_syn: float) -> float:
    """Standard deviation of centred weights that makes the membrane potential fluctuate with s.d. ``sigma_u``.

    sigma_u / sqrt(N nu eps), eps = tau_syn^2 / (2 (tau_syn + tau_mem)), for weights that act on the synaptic current.

    Args:
        sigma_u: target standard deviation of the potential (unit of the threshold).
        fan_in: N, number of presynaptic neurons.
        rate: nu, their firing rate (Hz).
        tau_mem: membrane time constant (s).
        tau_syn: synaptic time constant (s).

    >>> round(fluctuation_driven_std(1.0, 200, 50.0, 10e-3, 5e-3), 4)
    0.3464
    """
    require_positive(sigma_u=sigma_u, fan_in=fan_in, rate=rate, tau_mem=tau_mem, tau_syn=tau_syn)
    eps = tau_syn**2 / (2 * (tau_syn + tau_mem))
    return sigma_u / math.sqrt(fan_in * rate * eps)


def normal_weights(shape: tuple[int, ...], std: float, noise: Noise) -> torch.Tensor:
    """Centred normal weights of the given shape, float32, a function of ``noise`` alone."""
    uniform = noise.uniform(1, range(1), math.prod(shape), torch.float64)
    return (torch.special.ndtri(uniform) * std).reshape(shape).to(torch.float32)
