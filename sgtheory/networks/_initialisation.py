"""Initial weights in the fluctuation-driven regime (Rossbroich, Gygax & Zenke 2022)."""

import math

import numpy as np
import torch

from sgtheory.errors import ParameterError, is_number, require_count, require_positive
from sgtheory.lif import Noise
from sgtheory.neurons import LIFParameters

MOST_STEPS = 10**8


def fluctuation_driven_std(sigma_u: float, fan_in: int, rate: float, tau_mem: float, tau_syn: float) -> float:
    """Standard deviation of centred weights that makes the membrane potential fluctuate with s.d. ``sigma_u``.

    sigma_u / sqrt(N nu eps), eps = tau_syn^2 / (2 (tau_syn + tau_mem)), for weights that act on the synaptic current.

    Args:
        sigma_u: target standard deviation of the potential (unit of the threshold).
        fan_in: N, number of presynaptic neurons.
        rate: nu, their firing rate (Hz).
        tau_mem: membrane time constant (s).
        tau_syn: synaptic time constant (s).

    Raises:
        ParameterError: naming the number that is not above 0.

    >>> round(fluctuation_driven_std(1.0, 200, 50.0, 10e-3, 5e-3), 4)
    0.3464
    """
    require_positive(sigma_u=sigma_u, fan_in=fan_in, rate=rate, tau_mem=tau_mem, tau_syn=tau_syn)
    eps = tau_syn**2 / (2 * (tau_syn + tau_mem))
    return sigma_u / math.sqrt(fan_in * rate * eps)


def psp_energy(parameters: LIFParameters) -> float:
    """eps = dt sum_n U[n]^2 (s), U the potential that one spike of weight 1 leaves in a neuron at rest.

    The sum over the steps of the simulation (Eqs 18, 19), where :func:`fluctuation_driven_std` has the integral.

    Raises:
        ParameterError: if the sum would have more than 10^8 steps, or neurons differ.

    >>> round(psp_energy(LIFParameters(tau_mem=20e-3, tau_syn=10e-3, dt=2e-3)), 6)
    0.002036
    """
    parameters.require_numbers("the initialisation of weights")
    a_m, a_s = parameters.membrane_decay, parameters.synaptic_decay
    longest = max(parameters.tau_mem, parameters.tau_syn)
    if 20 * longest / parameters.dt > MOST_STEPS:
        least = f"{20 * longest / MOST_STEPS:.1g} s for a time constant of {longest:g} s"
        raise ParameterError("dt", parameters.dt, f"must be at least {least}")
    steps = np.arange(math.ceil(20 * longest / parameters.dt))
    if a_m == a_s:
        potential = (1 - a_m) * steps * a_m ** np.maximum(steps - 1, 0)
    else:
        potential = (1 - a_m) * (a_m**steps - a_s**steps) / (a_m - a_s)
    return float(parameters.dt * np.sum(potential**2))


def recurrent_fluctuation_driven_std(
    sigma_u: float, fan_in: int, recurrent_fan_in: int, rate: float, alpha: float, parameters: LIFParameters
) -> tuple[float, float]:
    """Standard deviations of feed-forward and recurrent weights of a recurrent layer.

    sigma_u sqrt(alpha / (N nu eps)) and sigma_u sqrt((1 - alpha) / (N_rec nu eps)): a share alpha of the variance of
    the potential comes from the layer below. Without recurrent connections all of it does.

    Args:
        sigma_u: target standard deviation of the potential (unit of the threshold).
        fan_in: N, connections of a neuron from the layer below.
        recurrent_fan_in: N_rec, connections from its own layer; 0 for none.
        rate: nu, expected firing rate of every presynaptic neuron (Hz).
        alpha: share of the layer below, in (0, 1].
        parameters: for eps, see :func:`psp_energy`.

    Raises:
        ParameterError: naming what is out of range.

    >>> neuron = LIFParameters(tau_mem=20e-3, tau_syn=10e-3, dt=2e-3)
    >>> [round(std, 3) for std in recurrent_fluctuation_driven_std(1.3, 7 * 16, 5 * 32, 15.8, 0.9, neuron)]
    [0.65, 0.181]
    """
    require_positive(sigma_u=sigma_u, fan_in=fan_in, rate=rate)
    if not is_number(recurrent_fan_in) or not 0 <= recurrent_fan_in < math.inf:
        raise ParameterError("recurrent_fan_in", recurrent_fan_in, "must be 0 or more")
    if not is_number(alpha) or not 0 < alpha <= 1:
        raise ParameterError("alpha", alpha, "must be above 0 and at most 1")
    if not recurrent_fan_in:
        alpha = 1.0
    eps = psp_energy(parameters)
    recurrent = sigma_u * math.sqrt((1 - alpha) / (recurrent_fan_in * rate * eps)) if recurrent_fan_in else 0.0
    return sigma_u * math.sqrt(alpha / (fan_in * rate * eps)), recurrent


def normal_weights(shape: tuple[int, ...], std: float, noise: Noise) -> torch.Tensor:
    """Centred normal weights of the given shape, float32, a function of ``noise`` alone.

    Raises:
        ParameterError: for a size that is no whole number above 0, or an s.d. that is not a number of at least 0.
    """
    for axis, size in enumerate(shape):
        require_count(**{f"shape[{axis}]": size})
    if not is_number(std) or not 0 <= std < math.inf:
        raise ParameterError("std", std, "must be a finite number of at least 0")
    uniform = noise.uniform(1, range(1), math.prod(map(int, shape)), torch.float64)
    return (torch.special.ndtri(uniform) * std).reshape(shape).to(torch.float32)
