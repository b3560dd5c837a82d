"""Exact spike times of event-based LIF networks and their exact derivatives by the implicit function theorem.

Between spikes the membrane potential is a sum of two exponentials, so a firing time is the root of a known function.
At a firing time t_i of neuron i, U_i(t_i; w, t_pre) = theta, hence

    dt_i / dw = -(dU_i/dw + sum_pre dU_i/dt_pre dt_pre/dw) / (dU_i/dt),

computed forward along the causal order of the spikes, with any recurrent connections. This is the exact gradient
as long as no spike is created or removed; where one is, dU_i/dt goes to zero, the derivative diverges, and any loss of
the spikes jumps.

The neuron is the limit dt -> 0 of Eqs 18, 19: tau_mem dU/dt = -U + I; tau_syn dI/dt = -I between spikes; I jumps by w
at a spike that arrives, and U to 0 at a spike that is fired.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from sgtheory.errors import ParameterError, require_array, require_count, require_kind, require_positive
from sgtheory.neurons import LIFParameters


@dataclass(frozen=True)
class SpikeTrain:
    """Spikes in their causal order, of the neurons of a network.

    Attributes:
        times: s, increasing, [spikes].
        neurons: which neuron fired, [spikes].
        slopes: dU/dt just before the spike (unit of U per s), [spikes].
    """

    times: np.ndarray
    neurons: np.ndarray
    slopes: np.ndarray

    def of(self, neuron: int) -> np.ndarray:
        """Firing times of one neuron (s)."""
        return self.times[self.neurons == neuron]


def _ratio(function, x):
    """function(x) / x, 1 at x = 0; for expm1 and log1p."""
    x = np.asarray(x, dtype=float)
    return np.divide(function(x), x, out=np.ones_like(x), where=x != 0)


def _require_times(**times):
    """Raise :class:`ParameterError` for the first that is no vector of finite numbers."""
    require_array(1, "biuf", **times)
    for name, values in times.items():
        if not np.isfinite(values).all():
            raise ParameterError(name, "NaN or infinity", "must be finite")


def _require_network(input_times, input_channels, input_weights, recurrent_weights, parameters):
    """Raise :class:`ParameterError` if what describes a network does not fit together."""
    require_kind(LIFParameters, parameters=parameters)
    parameters.require_numbers("exact spike times")
    parameters.require_no_adaptation("exact spike times")
    _require_times(input_times=input_times)
    require_array(2, "f", input_weights=input_weights, recurrent_weights=recurrent_weights)
    neurons = len(recurrent_weights)
    shapes = {"input_weights": (len(input_weights), neurons), "recurrent_weights": (neurons, neurons)}
    for (name, shape), weights in zip(shapes.items(), (input_weights, recurrent_weights), strict=True):
        if weights.shape != shape or not np.isfinite(weights).all():
            raise ParameterError(name, list(weights.shape), f"must be finite numbers of the shape {list(shape)}")
    channels = np.asarray(input_channels)
    if channels.shape != input_times.shape or (len(channels) and channels.dtype.kind not in "iu"):
        given = f"{channels.dtype} {list(channels.shape)}"
        raise ParameterError("input_channels", given, f"must be a whole number for each of {len(input_times)} spikes")
    outside = (channels < 0) | (channels >= len(input_weights))
    if outside.any():
        allowed = f"must be in 0 ... {len(input_weights) - 1}"
        raise ParameterError("input_channels", int(channels[outside][0]), allowed)


def synaptic_kernel(s: np.ndarray, parameters: LIFParameters) -> np.ndarray:
    """psi(s): the potential at a time ``s`` (s) after a unit jump of the current, zero before."""
    s = np.maximum(s, 0.0)
    slow, fast = max(parameters.tau_mem, parameters.tau_syn), min(parameters.tau_mem, parameters.tau_syn)
    return s / parameters.tau_mem * np.exp(-s / slow) * _ratio(np.expm1, s * (1 / slow - 1 / fast))


def _synaptic_kernel_slope(s, parameters):
    return (np.exp(-s / parameters.tau_syn) - synaptic_kernel(s, parameters)) / parameters.tau_mem


def _first_crossing(potential, current, until, parameters):
    """Time in (0, until] at which the potential, rising, reaches the threshold, for each neuron; inf if it does not.

    The potential has at most one stationary point. If it rises at all from below a positive threshold to above it, it
    does so before that maximum, where it is monotonic.
    """
    crossing = np.full(len(potential), np.inf)
    rising = (current > 0) & (current > potential)
    drive = 1 - potential[rising] / current[rising]
    z = drive * (parameters.tau_syn / parameters.tau_mem - 1)
    maximum = np.full(rising.sum(), np.inf)
    has_maximum = z > -1
    maximum[has_maximum] = parameters.tau_syn * drive[has_maximum] * _ratio(np.log1p, z[has_maximum])
    upper = np.minimum(maximum, until)

    def above(s, u, i):
        return u * np.exp(-s / parameters.tau_mem) + i * synaptic_kernel(s, parameters) - parameters.threshold

    u, i = potential[rising], current[rising]
    reached = above(upper, u, i) > 0
    for n, end, u_n, i_n in zip(np.flatnonzero(rising)[reached], upper[reached], u[reached], i[reached], strict=True):
        crossing[n] = brentq(above, 0.0, end, args=(u_n, i_n), xtol=1e-18, rtol=4 * np.finfo(float).eps)
    return crossing


def simulate_events(
    input_times: np.ndarray,
    input_channels: np.ndarray,
    input_weights: np.ndarray,
    recurrent_weights: np.ndarray,
    parameters: LIFParameters,
    duration: float,
    max_spikes: int = 10_000,
) -> SpikeTrain:
    """Firing times of a LIF network in continuous time, to machine precision.

    Args:
        input_times: s, [input spikes].
        input_channels: [input spikes].
        input_weights: jump of the synaptic current per input spike, [channels, neurons].
        recurrent_weights: the same for the spikes of the network, [from, to]; a feed-forward net of several layers is
            the special case of a block matrix.
        parameters: time constants and threshold; ``dt``, ``delay`` and ``reset`` are those of discrete time and unused.
        duration: end of the simulation (s).
        max_spikes: there is no refractory time, so a network that excites itself may have no end of spikes.

    Raises:
        ParameterError: the threshold is not above the resting potential 0, ``max_spikes`` is reached, or an array does
            not fit the others.
    """
    _require_network(input_times, input_channels, input_weights, recurrent_weights, parameters)
    require_positive(duration=duration)
    require_count(max_spikes=max_spikes)
    if not parameters.threshold > 0:
        raise ParameterError("threshold", parameters.threshold, "must be above the resting potential 0")
    order = np.argsort(input_times, kind="stable")
    arrivals = [(input_times[k], input_channels[k]) for k in order if input_times[k] < duration] + [(duration, None)]
    potential, current = np.zeros(len(recurrent_weights)), np.zeros(len(recurrent_weights))
    now, spikes = 0.0, []

    def advance(s):
        nonlocal potential, current, now
        potential = potential * np.exp(-s / parameters.tau_mem) + current * synaptic_kernel(s, parameters)
        current = current * np.exp(-s / parameters.tau_syn)
        now += s

    for time, channel in arrivals:
        while True:
            crossing = _first_crossing(potential, current, time - now, parameters)
            neuron = crossing.argmin()
            if crossing[neuron] == np.inf:
                break
            if len(spikes) == max_spikes:
                raise ParameterError("max_spikes", max_spikes, f"was reached after {now:.4g} s of {duration:.4g} s")
            advance(crossing[neuron])
            spikes.append((now, neuron, (current[neuron] - potential[neuron]) / parameters.tau_mem))
            potential[neuron] = 0.0
            current += recurrent_weights[neuron]
        advance(time - now)
        now = time
        if channel is not None:
            current += input_weights[channel]
    times, neurons, slopes = zip(*spikes, strict=True) if spikes else ((), (), ())
    return SpikeTrain(np.array(times, dtype=float), np.array(neurons, dtype=int), np.array(slopes, dtype=float))


def spike_time_derivatives(
    train: SpikeTrain,
    input_times: np.ndarray,
    input_channels: np.ndarray,
    input_weights: np.ndarray,
    recurrent_weights: np.ndarray,
    parameters: LIFParameters,
) -> tuple[np.ndarray, np.ndarray]:
    """Exact derivatives of every firing time with respect to every weight (s per unit of weight).

    Uses the firing times alone, from whatever simulation; arguments as in :func:`simulate_events`.

    Returns:
        [spikes, channels, neurons] for the input weights and [spikes, from, to] for the recurrent weights.

    Raises:
        ParameterError: an array does not fit the others.
    """
    _require_network(input_times, input_channels, input_weights, recurrent_weights, parameters)
    channels = len(input_weights)
    weights = np.concatenate([input_weights, recurrent_weights])  # [sources, neurons]
    source_times = np.concatenate([input_times, train.times])
    sources = np.concatenate([np.asarray(input_channels, dtype=int), channels + train.neurons])
    derivatives = np.zeros((len(source_times), *weights.shape))  # of every source spike's time; inputs do not move
    last = {}  # index of the latest spike of each neuron
    for k, (t, i) in enumerate(zip(train.times, train.neurons, strict=True), start=len(input_times)):
        before = np.flatnonzero(source_times < t)
        w, t_pre = weights[sources[before], i], source_times[before]
        t_reset = source_times[last[i]] if i in last else -np.inf
        # A spike that came before the reset acts through the current that it left behind.
        early = t_pre < t_reset
        left = np.where(early, np.exp(-np.where(early, t_reset - t_pre, 0.0) / parameters.tau_syn), 1.0)
        elapsed = t - np.maximum(t_pre, t_reset)
        psi = left * synaptic_kernel(elapsed, parameters)
        slope = left * _synaptic_kernel_slope(elapsed, parameters)

        dU = np.einsum("s,sjn->jn", w * np.where(early, psi / parameters.tau_syn, -slope), derivatives[before])
        np.add.at(dU[:, i], sources[before], psi)
        if i in last:
            dU -= np.sum((w * (psi / parameters.tau_syn + slope))[early]) * derivatives[last[i]]
        derivatives[k] = -dU / np.sum(w * slope)
        last[i] = k
    derivatives = derivatives[len(input_times) :]
    return derivatives[:, :channels], derivatives[:, channels:]


def psp_overlap(s: np.ndarray, t: np.ndarray, parameters: LIFParameters) -> tuple[np.ndarray, np.ndarray]:
    """The integral of a(. - s) a(. - t) with a(t) = exp(-t / tau_mem) - exp(-t / tau_syn), and its derivative in s.

    Args:
        s, t: firing times (s), [n] and [m].
        parameters: for the time constants, which must differ.

    Returns:
        [n, m] (s) and [n, m].

    Raises:
        ParameterError: if a firing time is not finite, neurons differ, or the time constants are equal.
    """
    _require_times(s=s, t=t)
    parameters.require_numbers("the overlap of potentials")
    slow, fast = parameters.tau_mem, parameters.tau_syn
    if slow == fast:
        raise ParameterError("tau_syn", fast, "must differ from tau_mem, else the kernel vanishes")
    cross = slow * fast / (slow + fast)
    a, b = slow / 2 - cross, fast / 2 - cross
    distance = np.abs(s[:, None] - t)
    by_slow, by_fast = a * np.exp(-distance / slow), b * np.exp(-distance / fast)
    return by_slow + by_fast, -np.sign(s[:, None] - t) * (by_slow / slow + by_fast / fast)


def van_rossum(times: np.ndarray, targets: np.ndarray, parameters: LIFParameters) -> tuple[float, np.ndarray]:
    """Van Rossum distance of two spike trains in closed form.

    L = 1/2 integral ((a * S)(t) - (a * S_target)(t))^2 dt over all times (Eq 25 in continuous time), with the kernel of
    :func:`psp_overlap`.

    Args:
        times: firing times (s), [spikes].
        targets: s, [target spikes].
        parameters: for the time constants, which must differ.

    Returns:
        L (s) and dL / d times, [spikes].
    """
    itself, itself_slope = psp_overlap(times, times, parameters)
    with_target, with_target_slope = psp_overlap(times, targets, parameters)
    loss = 0.5 * (itself.sum() + psp_overlap(targets, targets, parameters)[0].sum()) - with_target.sum()
    return float(loss), itself_slope.sum(1) - with_target_slope.sum(1)
