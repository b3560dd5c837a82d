"""Distances between spike trains, Fano factors, rates and inter-spike intervals.

Spike trains are arrays of 0 and 1, of any type of numbers, whose last two axes are [time, neuron]. Anything else is
refused with a :class:`sgtheory.errors.ParameterError`, and so is a number out of range; only
:func:`van_rossum_distance` also takes other finite numbers, such as means over trials.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from sgtheory.errors import ParameterError, is_whole, require_positive
from sgtheory.threads import share_tasks

FANO_NEURONS = 64  # counted at a time: bounds the memory


@dataclass(frozen=True)
class PSPKernel:
    """The post-synaptic potential alpha(t) = eps0 (exp(-t / tau_mem) - exp(-t / tau_syn)) of the van Rossum distance
    (Section 8.4.1), sampled at t = 0, step, 2 step, ...

    Args:
        tau_mem: membrane time constant (s).
        tau_syn: synaptic time constant (s).
        step: sampling interval (s): the time step of the simulation, or slightly more (see :meth:`sampled`).
        eps0: scale, 0.2 in the authors' code.

    Raises:
        ParameterError: if a parameter is not a finite number above 0, or both time constants are the same.
    """

    tau_mem: float
    tau_syn: float
    step: float
    eps0: float = 0.2

    def __post_init__(self):
        require_positive(tau_mem=self.tau_mem, tau_syn=self.tau_syn, step=self.step, eps0=self.eps0)
        if self.slow == self.fast:
            raise ParameterError("tau_syn", self.tau_syn, "must differ from tau_mem, or the kernel is 0 everywhere")

    @classmethod
    def sampled(cls, tau_mem: float, tau_syn: float, dt: float, steps: int, endpoint: bool, eps0: float = 0.2):
        """Kernel for a simulation of ``steps`` steps of ``dt`` seconds.

        With ``endpoint`` the samples are ``linspace(0, steps * dt, steps)`` as in the authors' code, which includes
        the end point and so stretches the sampling interval to dt steps / (steps - 1).
        """
        return cls(tau_mem, tau_syn, dt * steps / (steps - 1) if endpoint and steps > 1 else dt, eps0)

    @property
    def slow(self) -> float:
        """exp(-step / tau_mem)."""
        return math.exp(-self.step / self.tau_mem)

    @property
    def fast(self) -> float:
        """exp(-step / tau_syn)."""
        return math.exp(-self.step / self.tau_syn)

    @property
    def gain(self) -> float:
        """alpha after one step: alpha(k step) = gain (slow^k - fast^k) / (slow - fast)."""
        return self.eps0 * (self.slow - self.fast)

    def samples(self, steps: int) -> np.ndarray:
        """alpha(0), alpha(step), ..., shape [steps], float64."""
        t = np.arange(steps) * self.step
        return self.eps0 * (np.exp(-t / self.tau_mem) - np.exp(-t / self.tau_syn))


def _trains(name: str, spikes: np.ndarray, axes: tuple[int, ...], means: bool = False) -> np.ndarray:
    """``spikes`` as an array of a type that compiled code knows, with as many axes as one of ``axes``.

    They are 0 and 1, or with ``means`` any finite numbers.
    """
    array = np.asarray(spikes)
    if array.dtype.kind not in "biuf" or array.ndim not in axes:
        allowed = f"must be an array of numbers with {' or '.join(map(str, axes))} axes, the last two [time, neuron]"
        raise ParameterError(name, f"{array.dtype} {list(array.shape)}", allowed)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ParameterError(name, "NaN or infinity", "must be finite")
    if not (means or _is_0_or_1(array)):
        raise ParameterError(name, array[(array != 0) & (array != 1)][0].item(), "must be spikes, 0 or 1")
    kinds = {"b": np.uint8, "f": np.float32 if array.itemsize < 4 else np.float64 if array.itemsize > 8 else None}
    return array.astype(kinds.get(array.dtype.kind) or array.dtype, copy=False)


def _is_0_or_1(array: np.ndarray) -> bool:
    """Whether all numbers are; fast for the types in which spikes are stored."""
    if array.dtype.kind in "bu":
        return bool(array.max(initial=0) <= 1)
    return bool(((array == 0) | (array == 1)).all())


def l2_distance(spikes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Eq 24: mean over neurons of 1/2 sum_n (S[n] - target[n])^2.

    Args:
        spikes: 0 or 1, [..., time, neuron].
        target: 0 or 1, [time, neuron].

    Returns:
        One distance for each leading index, float64; NaN without neurons.

    Raises:
        ParameterError: if they do not have the same times and neurons.
    """
    spikes, target = _with_target(spikes, target, (2, 3, 4, 5), means=False)
    if not target.shape[-1]:
        return np.full(spikes.shape[:-2], math.nan)
    return 0.5 * np.count_nonzero(spikes != target, axis=(-2, -1)) / target.shape[-1]


def van_rossum_distance(spikes: np.ndarray, target: np.ndarray, kernel: PSPKernel) -> np.ndarray:
    """Eq 25: mean over neurons of 1/2 sum_n (alpha * (S - target))[n]^2, alpha the PSP kernel.

    Args:
        spikes: or means of spikes, [trial, time, neuron].
        target: [time, neuron].
        kernel: see :class:`PSPKernel`.

    Returns:
        One distance for each trial, float64; NaN without neurons.

    Raises:
        ParameterError: if they do not have the same times and neurons.

    The distance of van Rossum (2001) as elephant computes it is sqrt of the squared difference with one exponential,
    normalised to 1 for a single spike: with tau_syn -> 0 the value here is eps0^2 D^2 / (2 (exp(2 step / tau_mem) - 1))
    for one neuron.
    """
    spikes, target = _with_target(spikes, target, (3,), means=True)
    distances = np.empty(len(spikes))
    dtype = np.result_type(spikes, target)
    trains = spikes.astype(dtype, copy=False), target.astype(dtype)
    share_tasks(_van_rossum, len(spikes), spikes.size, *trains, kernel.slow, kernel.fast, kernel.gain, distances)
    return distances


def _with_target(spikes, target, axes: tuple[int, ...], means: bool) -> tuple[np.ndarray, np.ndarray]:
    spikes, target = _trains("spikes", spikes, axes, means), _trains("target", target, (2,), means)
    if spikes.shape[-2:] != target.shape:
        allowed = f"must be [time, neuron] like spikes, which are {list(spikes.shape)}"
        raise ParameterError("target", list(target.shape), allowed)
    return spikes, target


@njit(nogil=True, cache=True, error_model="numpy")
def _van_rossum(first, last, spikes, target, slow, fast, gain, distances):
    _, steps, neurons = spikes.shape
    for b in range(first, last):
        synapse = np.zeros(neurons)
        membrane = np.zeros(neurons)
        squares = np.zeros(neurons)
        for n in range(steps):
            s, z = spikes[b, n], target[n]
            for j in range(neurons):
                membrane[j] = slow * membrane[j] + synapse[j]
                synapse[j] = fast * synapse[j] + (np.float64(s[j]) - np.float64(z[j]))
                squares[j] += membrane[j] * membrane[j]
        distances[b] = 0.5 * gain * gain * squares.sum() / neurons


class SpikeCounts:
    """Spike counts in a window that slides in steps of one, over trials that come in parts of any size.

    Args:
        window: its length (steps).
    """

    def __init__(self, window: int = 1):
        self.window, self.trials, self.sum, self.squares = window, 0, 0, 0

    def add(self, spikes: np.ndarray) -> None:
        """Count more trials.

        Args:
            spikes: 0 or 1, [trial, time, neuron].

        Raises:
            ParameterError: if the window is not in 1 ... time, or earlier trials had another time or other neurons.
        """
        spikes = _trains("spikes", spikes, (3,))
        trials, steps, neurons = spikes.shape
        if not is_whole(self.window) or not 1 <= self.window <= steps:
            raise ParameterError("window", self.window, f"must be in 1 ... {steps} steps")
        sums, squares = (np.empty((steps - self.window + 1, neurons), np.int64) for _ in range(2))
        if self.trials and self.sum.shape != sums.shape:
            raise ParameterError("spikes", list(spikes.shape), "must have the time and the neurons of earlier trials")
        for first in range(0, neurons, FANO_NEURONS):
            some = slice(first, first + FANO_NEURONS)
            here = spikes[:, :, some].astype(np.int32)
            if self.window > 1:
                total = np.zeros((trials, steps + 1, here.shape[2]), np.int32)
                np.cumsum(here, axis=1, out=total[:, 1:])
                here = total[:, self.window :] - total[:, : -self.window]
            sums[:, some] = here.sum(axis=0)
            squares[:, some] = np.einsum("btn,btn->tn", here, here, dtype=np.int64)
        self.trials, self.sum, self.squares = self.trials + trials, self.sum + sums, self.squares + squares

    @property
    def fano_factor(self) -> float:
        """That of :func:`fano_factor`, of all trials so far."""
        active = np.asarray(self.sum) > 0
        if not active.any():
            return math.nan
        mean = self.sum[active] / self.trials
        return float(np.mean((self.squares[active] / self.trials - mean**2) / mean))


def fano_factor(spikes: np.ndarray, window: int = 1) -> float:
    """Fano factor over trials (Sections 8.4.1, 8.4.2).

    Spikes are counted in a window that slides in steps of one; for each neuron and window the (population) variance of
    the count over trials is divided by its mean; the average runs over all with a mean above zero. For independent
    Bernoulli spikes, a window of one step and many trials it is 1 - p. With few trials it is not, since neurons and
    steps in which nothing happens to spike are left out, and the others share few spikes (10 trials, p = 0.02: 0.89).
    Section 8.4.2 speaks of a moving average: the Fano factor of counts is that of averages times ``window``.

    Args:
        spikes: 0 or 1, [trial, time, neuron].
        window: length of the window (steps).

    Returns:
        The mean Fano factor, NaN if no neuron ever spikes.

    Raises:
        ParameterError: if the window is not in 1 ... time.
    """
    counts = SpikeCounts(window)
    counts.add(spikes)
    return counts.fano_factor


def firing_rate(spikes: np.ndarray, dt: float) -> float:
    """Mean firing rate of all neurons (Hz), NaN without any; ``dt``, above 0, in seconds."""
    spikes = _trains("spikes", spikes, (2, 3, 4, 5))
    require_positive(dt=dt)
    if not spikes.size:
        return math.nan
    return float(np.count_nonzero(spikes) / spikes.size / dt)


def isi_statistics(spikes: np.ndarray, dt: float) -> tuple[float, float]:
    """Mean inter-spike interval (s) and mean coefficient of variation.

    Args:
        spikes: 0 or 1, [trial, time, neuron] or [time, neuron].
        dt: time step (s), above 0.

    Returns:
        Mean of all intervals, and the mean over spike trains with at least two intervals of their standard deviation
        (population) divided by their mean; NaN where there are none.
    """
    spikes = _trains("spikes", spikes, (2, 3))
    require_positive(dt=dt)
    if not spikes.size:
        return math.nan, math.nan
    trains = np.moveaxis(spikes, -1, -2).reshape(-1, spikes.shape[-2])
    train, step = np.nonzero(trains)
    same = train[1:] == train[:-1]
    owner, interval = train[1:][same], np.diff(step)[same]
    if not len(interval):
        return math.nan, math.nan
    count, total, squares = (np.bincount(owner, w, len(trains)) for w in (None, interval, interval**2))
    several = count > 1
    mean = total[several] / count[several]
    variance = np.maximum(squares[several] / count[several] - mean**2, 0)
    variation = float(np.mean(np.sqrt(variance) / mean)) if several.any() else math.nan
    return float(interval.mean()) * dt, variation
