"""A model of the inner ear that turns sound into the spikes of 700 channels.

The model of B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke, "The Heidelberg Spiking Data Sets for the Systematic
Evaluation of Spiking Neural Networks", IEEE TNNLS 33(7), 2022, written from its equations. Three stages:

1. basilar membrane: a linear, hydrodynamic model (Sieroka et al. 2006). Each place has its own transfer function.
2. hair cells: the transmitter pools of Meddis (1986, 1988) turn velocity into a rate of release; 40 fibres of the
   auditory nerve for each channel fire at that rate.
3. bushy cells: one leaky integrate-and-fire neuron for each channel, which fires when its 40 fibres coincide.

A parameter that is out of range raises a :class:`sgtheory.errors.ParameterError` that names it.
"""

import functools
import math
from dataclasses import dataclass, field
from fractions import Fraction

import numba
import numpy as np
import scipy  # which loads its parts when they are used
from scipy.special import hankel1e, jv, yv

from sgtheory.errors import ParameterError, UserError, is_whole, require_positive

FFT_BLOCK = 8192  # sounds are padded to a multiple of this, so that few transfer functions have to be kept
BLOCK = 64  # steps that are transposed at once


@dataclass(frozen=True)
class BasilarMembrane:
    """Velocity of the basilar membrane for a sound at the stapes.

    In place c (from 0 at the base) and angular frequency w, with stiffness C0 e^(-alpha c) - a, mass m and damping
    r e^(-alpha c / 2), r = delta sqrt(C0 m)::

        xi = C0 e^(-alpha c) - a - m w^2 - i w r e^(-alpha c / 2)       pressure over velocity, times -i w
        g  = w sqrt(rho / (h xi)),   G = 2 g(0) / alpha + int_0^c g dc'   wave number and its integral
        p  = sqrt(G / g) H0^(1)(G)                                      pressure difference
        z  = sqrt(2 C0 / h) (i J0(k) + Y0(k)) / (J1(k) - i Y1(k)),   k = (2 w / alpha) sqrt(2 / (h C0))
        v  = (2 w / xi) (p / p(0)) z                                    velocity for unit velocity of the stapes

    These are equations for waves exp(-i w t). SHD (regenerated) looks as if they had been used with the usual Fourier
    transform, which has exp(+i w t): the wave runs backwards, and low channels lead by up to 25 ms instead of lagging.
    That is the default, so that spikes made here are comparable with it.

    Args, in cm, g and s, as z takes rho = 1 g/cm^3 for granted:
        stiffness: C0, of an area (g / (cm^2 s^2)).
        stiffness_offset: a (g / (cm^2 s^2)).
        decay: alpha (1/cm).
        density: rho of the fluid (g/cm^3).
        height: h of the duct (cm).
        mass: m of the membrane, of an area (g/cm^2).
        damping: delta, without a unit.
        length: place of the last channel (cm); the first is at 0.
        causal: take the complex conjugate of v, so that the wave runs from the base to the apex.

    Raises:
        ParameterError: naming the parameter that is out of range.
    """

    stiffness: float = 1e9
    stiffness_offset: float = 3500.0
    decay: float = 3.0
    density: float = 1.0
    height: float = 0.1
    mass: float = 0.05
    damping: float = 0.15
    length: float = 3.5
    causal: bool = False

    def __post_init__(self):
        free = ("stiffness_offset", "causal")
        require_positive(**{name: getattr(self, name) for name in self.__dataclass_fields__ if name not in free})

    def resonance(self, place: np.ndarray) -> np.ndarray:
        """Frequency (Hz) at which stiffness and mass cancel: 22.5 kHz at the base, 110 Hz at the apex."""
        return np.sqrt((self.stiffness * np.exp(-self.decay * place) - self.stiffness_offset) / self.mass) / (2 * np.pi)

    def transfer(self, place: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        """Transfer function v [place, frequency] (complex128), to multiply a Fourier transform with.

        Args:
            place: equally spaced, from 0; the integral of the wave number is a trapezoidal sum over them.
            frequency: Hz, above 0.
        """
        w = 2 * np.pi * np.asarray(frequency, float)[None, :]
        c = np.asarray(place, float)[:, None]
        resistance = self.damping * math.sqrt(self.stiffness * self.mass)
        xi = self.stiffness * np.exp(-self.decay * c) - self.stiffness_offset - self.mass * w**2
        xi = xi - 1j * w * resistance * np.exp(-self.decay * c / 2)
        g = w * np.sqrt(self.density / (self.height * xi))
        phase = np.zeros_like(g)
        np.cumsum((g[1:] + g[:-1]) / 2 * np.diff(c, axis=0), axis=0, out=phase[1:])
        base = 2 * g[:1] / self.decay
        # H0(G) overflows; hankel1e(0, G) = H0(G) exp(-iG), and the exponentials of p and p(0) leave exp(i phase)
        p = np.sqrt((base + phase) / g) * hankel1e(0, base + phase) * np.exp(1j * phase)
        p_base = np.sqrt(base / g[:1]) * hankel1e(0, base)
        k = 2 * w / self.decay * math.sqrt(2 / (self.height * self.stiffness))
        z = math.sqrt(2 * self.stiffness / self.height) * (1j * jv(0, k) + yv(0, k)) / (jv(1, k) - 1j * yv(1, k))
        velocity = 2 * w / xi * p / p_base * z
        return np.conj(velocity) if self.causal else velocity


@dataclass(frozen=True)
class HairCell:
    """Transmitter release of an inner hair cell (Meddis 1986) and the fibres that it drives.

    With s the velocity of the membrane, k = g (s + A) / (s + A + B) the permeability (0 where s < -A), and q, c, w the
    transmitter in the free pool, the cleft and the reprocessing store::

        dq/dt = y (m - q) + x w - k q,   dc/dt = k q - (l + r) c,   dw/dt = r c - x w

    A fibre fires at the rate h c, and not for ``refractory`` after a spike.

    Args:
        y, g, l, r, x: replenishment, release, loss, return and reprocessing rate (1/s).
        A, B: permeability constants (unit of s).
        h: firing rate for one unit of transmitter in the cleft (1/s).
        m: capacity of the free pool.
        fibres: fibres of each channel.
        refractory: refractory time of a fibre (s).
    """

    y: float = 5.05
    g: float = 2000.0
    l: float = 2500.0  # noqa: E741 (the name in the literature)
    r: float = 6580.0
    x: float = 66.3
    A: float = 5.0
    B: float = 300.0
    h: float = 5e4
    m: float = 1.0
    fibres: int = 40
    refractory: float = 1e-3

    def __post_init__(self):
        require_positive(**{name: getattr(self, name) for name in self.__dataclass_fields__})

    def resting(self) -> tuple[float, float, float]:
        """The steady state (q, c, w) in silence."""
        k = self.g * self.A / (self.A + self.B)
        c = self.m * self.y * k / (self.l * k + self.y * (self.l + self.r))
        return (self.l + self.r) * c / k, c, self.r * c / self.x

    def spontaneous_rate(self) -> float:
        """Firing rate of a fibre in silence (Hz), the refractory time not counted."""
        return self.h * self.resting()[1]


@dataclass(frozen=True)
class BushyCell:
    """Leaky integrate-and-fire neuron with exponential synapses that detects coincident fibres.

    dI/dt = -I / tau_syn + (spikes of the fibres),  dU/dt = -U / tau_mem + weight I; it fires at U > threshold, is
    reset to 0 and stays there for ``refractory``.

    Args:
        tau_mem, tau_syn, refractory: seconds.
        weight: 1/s.
        threshold: unit of U.
    """

    tau_mem: float = 1e-3
    tau_syn: float = 0.5e-3
    refractory: float = 1e-3
    weight: float = 13e3 / 40
    threshold: float = 1.0

    def __post_init__(self):
        require_positive(**{name: getattr(self, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class InnerEar:
    """The three stages together.

    Args:
        membrane, hair_cell, bushy_cell: the stages.
        channels: number of channels, equally spaced in place: channel 0 is the base (22.5 kHz), the last the apex
            (110 Hz).
        places: at how many places the membrane is computed; the channels between are interpolated (cubic).
        sample_rate: of membrane and hair cells (Hz); fibres and bushy cells run at half of it.
        rms: root mean square to which a sound is scaled.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(4800) / 48000)
    >>> times, units = InnerEar().spikes(tone, 48000, np.random.default_rng(1))
    >>> times.dtype, units.dtype
    (dtype('float32'), dtype('uint16'))
    """

    membrane: BasilarMembrane = field(default_factory=BasilarMembrane)
    hair_cell: HairCell = field(default_factory=HairCell)
    bushy_cell: BushyCell = field(default_factory=BushyCell)
    channels: int = 700
    places: int = 117
    sample_rate: float = 48e3
    rms: float = 0.3

    def __post_init__(self):
        require_positive(sample_rate=self.sample_rate, rms=self.rms)
        for name in ("channels", "places"):
            if not is_whole(getattr(self, name)) or not 4 <= getattr(self, name) <= 2**16:
                raise ParameterError(name, getattr(self, name), "must be an integer from 4 to 65536")

    def spikes(self, sound: np.ndarray, sample_rate: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Spikes of the bushy cells.

        Args:
            sound: one channel of audio, [samples], any amplitude.
            sample_rate: of ``sound`` (Hz).
            rng: draws the spikes of the fibres.

        Returns:
            times: seconds, float32, ascending.
            units: channel of each spike, uint16.

        Raises:
            UserError: if the sound is empty, silent, not finite or not one-dimensional.
        """
        hair, bushy, step = self.hair_cell, self.bushy_cell, 2 / self.sample_rate
        constants = (hair.y, hair.g, hair.l, hair.r, hair.x, hair.A, hair.B, hair.h, hair.m)
        rate = _release(
            self.velocity(sound, sample_rate), np.array(constants, np.float32), hair.resting(), np.float32(step / 2)
        )
        steps, units = _coincidences(
            rate,
            *_interpolation(self.places, self.channels),
            hair.fibres,
            round(hair.refractory / step),
            np.float32(math.exp(-step / bushy.tau_syn)),
            np.float32(math.exp(-step / bushy.tau_mem)),
            np.float32(bushy.weight * step),
            np.float32(bushy.threshold),
            np.float32(round(bushy.refractory / step)),
            rng,
        )
        return (steps * step).astype(np.float32), units

    def velocity(self, sound: np.ndarray, sample_rate: float) -> np.ndarray:
        """Velocity of the membrane [place, time], float32, at the sample rate of the ear; arguments and errors are
        those of :meth:`spikes`."""
        sound = resample(_checked(sound), sample_rate, self.sample_rate)
        sound *= self.rms / np.sqrt(np.mean(sound**2))
        length = -(-(len(sound) + FFT_BLOCK // 2) // FFT_BLOCK) * FFT_BLOCK  # silence, so that nothing comes round
        spectrum = scipy.fft.rfft(sound, length).astype(np.complex64)
        velocity = scipy.fft.irfft(spectrum * _transfer(self.membrane, self.places, length, self.sample_rate), length)
        return velocity[:, : len(sound)]


def resample(sound: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """``sound`` [samples] at ``new_rate`` instead of ``rate`` (Hz), by a polyphase filter; a new array."""
    require_positive(rate=rate, new_rate=new_rate)
    ratio = Fraction(new_rate / rate).limit_denominator(1000)
    if ratio == 1:
        return sound.copy()
    return scipy.signal.resample_poly(sound, ratio.numerator, ratio.denominator)


def _checked(sound: np.ndarray) -> np.ndarray:
    sound = np.asarray(sound)
    if sound.dtype.kind not in "iuf":
        raise UserError(f"a sound is made of numbers, not of {sound.dtype}")
    sound = sound.astype(float)
    if sound.ndim != 1 or len(sound) == 0:
        raise UserError(f"a sound has the shape [samples] with at least one sample, not {list(sound.shape)}")
    if not np.isfinite(sound).all():
        raise UserError("the sound contains NaN or infinite samples")
    if not sound.any():
        raise UserError("the sound is silent, so that it cannot be scaled to a loudness")
    return sound


@functools.lru_cache(maxsize=8)
def _transfer(membrane: BasilarMembrane, places: int, length: int, sample_rate: float) -> np.ndarray:
    frequency = scipy.fft.rfftfreq(length, 1 / sample_rate)
    transfer = np.zeros((places, len(frequency)), np.complex64)  # a constant pressure moves nothing
    place = np.linspace(0, membrane.length, places)
    for part in np.array_split(np.arange(1, len(frequency)), 16):  # in parts, to save memory
        transfer[:, part] = membrane.transfer(place, frequency[part])
    return transfer


@functools.lru_cache(maxsize=8)
def _interpolation(places: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """First of four neighbouring places for each channel [channel], and their weights [4, channel] (Lagrange)."""
    position = np.linspace(0, places - 1, channels)
    first = np.clip(np.floor(position).astype(np.int64) - 1, 0, places - 4)
    x = position - first
    weights = [np.prod([(x - j) / (i - j) for j in range(4) if j != i], axis=0) for i in range(4)]
    return first.astype(np.uint32), np.array(weights, np.float32)


@numba.njit(nogil=True, cache=True)
def _release(velocity, constants, resting, half_step):
    """Firing rate of a fibre times the step of the fibres, [step, place], by Euler's method at the rate of the sound.

    Loops run over places, inside of time, so that they are vectorised.
    """
    places, length = velocity.shape
    y, g, l, r, x, a, b, h, m = constants  # noqa: E741
    q, c, w = np.empty(places, np.float32), np.empty(places, np.float32), np.empty(places, np.float32)
    q[:], c[:], w[:] = resting[0], resting[1], resting[2]
    rate = np.zeros((length // 2, places), np.float32)
    block = np.empty((BLOCK, places), np.float32)
    for start in range(0, length // 2 * 2, BLOCK):
        stop = min(start + BLOCK, length // 2 * 2)
        for i in range(places):
            for t in range(start, stop):
                block[t - start, i] = velocity[i, t]
        for t in range(start, stop):
            s, out = block[t - start], rate[t // 2]
            for i in range(places):
                drive = s[i] + a
                drive = drive if drive > 0 else np.float32(0)
                pool, cleft = q[i], c[i]
                released, reprocessed = g * drive / (drive + b) * pool, x * w[i]
                q[i] = pool + half_step * (y * (m - pool) + reprocessed - released)
                w[i] += half_step * (r * cleft - reprocessed)
                cleft += half_step * (released - (l + r) * cleft)
                c[i] = cleft
                out[i] += half_step * h * cleft
    return rate


@numba.njit(nogil=True, cache=True)
def _coincidences(
    rate, first, weights, fibres, fibre_refractory, syn_decay, mem_decay, gain, threshold, refractory, rng
):
    """Steps and channels of the spikes of the bushy cells.

    The fibres of a channel are alike, so that only the number of those that are ready matters. The next of n ready
    fibres fires when n times the rate, integrated since the last spike, exceeds an exponential random number.
    """
    channels, zero, one = len(first), np.float32(0), np.float32(1)
    wait = np.empty(channels, np.float32)
    for j in range(channels):
        wait[j] = rng.standard_exponential()
    ready = np.full(channels, np.float32(fibres))
    recovering = np.zeros((fibre_refractory + 1, channels), np.float32)  # by the step in which they are ready again
    hazard, current, potential, pause = np.zeros((4, channels), np.float32)
    spike_steps, spike_units, count = np.empty(1 << 14, np.int32), np.empty(1 << 14, np.uint16), 0
    w0, w1, w2, w3 = weights
    for n in range(len(rate)):
        place = rate[n]
        slot = recovering[n % len(recovering)]
        for j in range(channels):
            i = first[j]
            hazard[j] = w0[j] * place[i] + w1[j] * place[i + 1] + w2[j] * place[i + 2] + w3[j] * place[i + 3]
        for j in range(channels):
            ready[j] += slot[j]
            slot[j] = zero
            wait[j] -= ready[j] * (hazard[j] if hazard[j] > zero else zero)  # a cubic polynomial can undershoot
            current[j] *= syn_decay
        for j in range(channels):
            while wait[j] <= zero and ready[j] > zero:
                excess = -wait[j] / ready[j]
                ready[j] -= one
                slot[j] += one
                current[j] += one
                wait[j] = np.float32(rng.standard_exponential()) - excess * ready[j]
        for j in range(channels):
            u = mem_decay * potential[j] + gain * current[j]
            potential[j] = zero if pause[j] > zero else u
            pause[j] -= one
        if count + channels > len(spike_steps):  # not in the loop, where it would cost most of the time
            spike_steps = np.concatenate((spike_steps, np.empty(len(spike_steps) + channels, np.int32)))
            spike_units = np.concatenate((spike_units, np.empty(len(spike_units) + channels, np.uint16)))
        for j in range(channels):
            if potential[j] > threshold:
                potential[j] = zero
                pause[j] = refractory
                spike_steps[count] = n
                spike_units[count] = j
                count += 1
    return spike_steps[:count], spike_units[:count]
