"""Pieces for learning rules that are not back-propagation: neurons and synapses on the CPU, on numpy arrays.

Sums run over a fixed number of parts in a fixed order, so that results do not depend on the number of threads.
"""

import numpy as np
import torch
from numba import njit

from sgtheory.errors import ParameterError, require_array, require_count, require_kind, require_number
from sgtheory.lif._fused import GIVEN_SURROGATE, Constants, numbers_of_neurons
from sgtheory.lif._noise import Noise
from sgtheory.lif.cpu.functions import constants_of, surrogate_of, surrogate_row
from sgtheory.lif.cpu.operators import differentiable_once, room_for_adaptation, run_forward, states_of
from sgtheory.lif.cpu.vector import add_row, find_events
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative
from sgtheory.threads import product, share_tasks

PARTS = 8  # of the rows (samples x steps) in a weight gradient


def simulate(
    inputs: np.ndarray,
    parameters: LIFParameters,
    escape: EscapeFunction,
    noise: Noise,
    potentials: np.ndarray,
    spikes: np.ndarray,
) -> None:
    """Forward pass: fill ``potentials`` (float) and ``spikes`` (any type), both [batch, time, neuron].

    ``inputs`` is [batch, time, neuron], or [1, time, neuron] where all trials get the same.

    Raises:
        ParameterError: if the shapes do not fit.
    """
    require_array(3, "f", inputs=inputs, potentials=potentials)
    require_array(3, "biuf", spikes=spikes)
    require_kind(LIFParameters, parameters=parameters)
    require_kind(EscapeFunction, escape=escape)
    require_kind(Noise, noise=noise)
    if spikes.shape != potentials.shape or inputs.shape not in (spikes.shape, (1, *spikes.shape[1:])):
        given = [list(a.shape) for a in (inputs, potentials, spikes)]
        raise ParameterError("inputs, potentials, spikes", given, "must have the same shape [batch, time, neuron]")
    states = states_of(spikes, wanted=False, dtype=inputs.dtype)
    numbers = _constants(parameters, inputs)
    adapted = room_for_adaptation(parameters, spikes, wanted=False, dtype=inputs.dtype)
    run_forward(inputs, numbers, escape, noise, None, potentials, states, adapted, spikes)


def _constants(parameters: LIFParameters, of: np.ndarray) -> Constants:
    """What kernels need of the neurons of ``of`` [batch, time, neuron]; no gradients go back to it."""
    neurons, like = of.shape[2], torch.from_numpy(of)
    parameters.require_neurons(neurons, like.device)
    return constants_of(parameters, of.dtype, numbers_of_neurons(parameters, neurons, 1, like))


class _SpikeProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, spikes, weight):
        counted = spikes.to(torch.uint8)
        ctx.save_for_backward(counted, weight)
        out = weight.new_empty((*spikes.shape[:2], weight.shape[1]))
        weighted_spikes(counted.numpy(), weight.detach().numpy(), out.numpy())
        return out

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient):
        counted, weight = ctx.saved_tensors
        for_weight = torch.empty_like(weight)
        weight_gradient(counted.numpy(), gradient.contiguous().numpy(), for_weight.numpy())
        return product(gradient, weight.T) if ctx.needs_input_grad[0] else None, for_weight


def spike_product(spikes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``spikes @ weight`` with the sums of :func:`weighted_spikes`: spikes [batch, time, pre], weight [pre, post].

    Differentiable, with the sums of :func:`weight_gradient`; on the CPU.

    Raises:
        ParameterError: for other shapes or types, and for spikes other than 0 and 1.
    """
    require_kind(torch.Tensor, spikes=spikes, weight=weight)
    if spikes.ndim != 3 or weight.ndim != 2 or spikes.shape[2] != weight.shape[0]:
        given = [list(spikes.shape), list(weight.shape)]
        raise ParameterError("spikes, weight", given, "must be [batch, time, pre] and [pre, post]")
    if not bool(((spikes == 0) | (spikes == 1)).all()):
        raise ParameterError("spikes", "other numbers", "must be 0 or 1")
    return _SpikeProduct.apply(spikes, weight)


def mean_surrogate_error(
    error: np.ndarray,
    potentials: np.ndarray,
    spikes: np.ndarray,
    surrogate: SurrogateDerivative,
    parameters: LIFParameters,
) -> np.ndarray:
    """Mean over trials of error times the surrogate derivative at U - theta.

    Args:
        error, potentials, spikes: [trial, time, neuron].
        surrogate: evaluated at ``potentials`` minus the threshold of ``parameters``, which must not adapt.

    Returns:
        [time, neuron].

    Raises:
        ParameterError: if the arrays have not the same shape, or neurons adapt.
    """
    require_array(3, "f", error=error, potentials=potentials)
    require_array(3, "biuf", spikes=spikes)
    if not error.shape == potentials.shape == spikes.shape:
        given = [list(array.shape) for array in (error, potentials, spikes)]
        raise ParameterError("error, potentials, spikes", given, "must have the same shape [trial, time, neuron]")
    parameters.require_no_adaptation("mean_surrogate_error")
    out = np.empty(error.shape[1:], error.dtype)
    constants = _constants(parameters, error)
    prepared = surrogate_of(surrogate, potentials, spikes, constants)
    share_tasks(_mean_surrogate_error, len(out), error.size, error, potentials, constants.theta, prepared, out)
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _mean_surrogate_error(first, last, error, potentials, theta, surrogate, out):
    trials, _, neurons = potentials.shape
    kind, beta, scale, given = surrogate
    for n in range(first, last):
        derivative = np.empty(neurons, potentials.dtype)
        row = out[n]
        row[:] = 0
        for b in range(trials):
            if kind == GIVEN_SURROGATE:
                derivative[:] = given[b, n]
            else:
                surrogate_row(derivative, potentials[b, n], theta, kind, beta, scale)
            for j in range(neurons):
                row[j] += derivative[j] * error[b, n, j]
        for j in range(neurons):
            row[j] /= trials


def _flat(spikes: np.ndarray) -> np.ndarray:
    """The spikes as a vector of bytes that :func:`find_events` can search."""
    flat = np.ascontiguousarray(spikes).reshape(-1).view(np.uint8)
    return flat if flat.size >= 64 else np.concatenate([flat, np.zeros(64 - flat.size, np.uint8)])


def weighted_spikes(spikes: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """out[b, n] = sum over the neurons i that spike of weight[i].

    spikes uint8 [batch, time, pre], weight [pre, post], out [batch, time, post]; otherwise a ParameterError.
    """
    require_array(3, "bu", spikes=spikes)
    require_array(2, "f", weight=weight)
    require_array(3, "f", out=out)
    batch, steps, pre = spikes.shape
    if spikes.itemsize != 1 or weight.shape != (pre, out.shape[2]) or out.shape[:2] != (batch, steps):
        given = [str(spikes.dtype), *(list(array.shape) for array in (spikes, weight, out))]
        allowed = "must be uint8 [batch, time, pre], [pre, post] and [batch, time, post]"
        raise ParameterError("spikes, weight, out", given, allowed)
    filled = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
    rows = np.ascontiguousarray(weight, out.dtype)
    share_tasks(_weighted_spikes, batch * PARTS, out.size, _flat(spikes), rows, filled)
    if filled is not out:
        out[...] = filled


@njit(nogil=True, cache=True, error_model="numpy")
def _weighted_spikes(first, last, flat, weight, out):
    steps, (pre, post) = out.shape[1], weight.shape
    sums, rows = out.reshape(out.size), weight.reshape(weight.size)
    for part in range(first, last):
        b, k = part // PARTS, part % PARTS
        found = np.empty(pre, np.int32)
        for n in range(steps * k // PARTS, steps * (k + 1) // PARTS):
            out[b, n] = 0
            for event in found[: find_events(flat, (b * steps + n) * pre, pre, found, 0)]:
                add_row(sums, (b * steps + n) * post, rows, np.int64(event) * post, post)


def weight_gradient(spikes: np.ndarray, gradient: np.ndarray, out: np.ndarray) -> None:
    """out[i] = sum over samples and steps in which neuron i spikes of gradient[b, n].

    spikes uint8 [batch, time, pre], gradient [batch, time, post], out [pre, post]; otherwise a ParameterError.
    """
    require_array(3, "bu", spikes=spikes)
    require_array(3, "f", gradient=gradient)
    require_array(2, "f", out=out)
    batch, steps, pre = spikes.shape
    if spikes.itemsize != 1 or gradient.shape[:2] != (batch, steps) or out.shape != (pre, gradient.shape[2]):
        given = [str(spikes.dtype), *(list(array.shape) for array in (spikes, gradient, out))]
        allowed = "must be uint8 [batch, time, pre], [batch, time, post] and [pre, post]"
        raise ParameterError("spikes, gradient, out", given, allowed)
    partial = np.empty((PARTS, *out.shape), out.dtype)
    rows = np.ascontiguousarray(gradient, out.dtype)
    share_tasks(_weight_gradient, PARTS, gradient.size, _flat(spikes), rows, partial)
    share_tasks(_sum_of_parts, pre, partial.size, partial, out)


@njit(nogil=True, cache=True, error_model="numpy")
def _weight_gradient(first, last, flat, gradient, partial):
    batch, steps, _ = gradient.shape
    _, pre, post = partial.shape
    rows, sums, given = batch * steps, partial.reshape(partial.size), gradient.reshape(gradient.size)
    for part in range(first, last):
        partial[part] = 0
        found = np.empty(pre, np.int32)
        for row in range(rows * part // PARTS, rows * (part + 1) // PARTS):
            for event in found[: find_events(flat, row * pre, pre, found, 0)]:
                add_row(sums, (part * pre + event) * post, given, row * post, post)


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_of_parts(first, last, partial, out):
    for i in range(first, last):
        out[i] = partial[0, i]
        for part in range(1, PARTS):
            for j in range(out.shape[1]):
                out[i, j] += partial[part, i, j]


def filter_cascade(
    signal: np.ndarray, slow: float, fast: float, gain: float, lag: int, reverse: bool, out: np.ndarray
) -> None:
    """Convolve along time: an impulse of 1 gives gain (slow^k - fast^k) / (slow - fast) after lag + k steps.

    With slow = a_m, fast = a_s, gain = 1 - a_m and lag = 1 this is the potential that a spike leaves in a neuron that
    is never reset (Eqs 18, 19). ``reverse`` runs from the last step to the first: the transposed filter.
    signal and out are [batch, time, neuron] and may be the same array if lag is 0; a ParameterError says what does not
    fit.
    """
    require_array(3, "f", signal=signal, out=out)
    if out.shape != signal.shape:
        raise ParameterError("out", list(out.shape), f"must have the shape of signal, {list(signal.shape)}")
    require_number(slow=slow, fast=fast, gain=gain)
    require_count(0, lag=lag)
    share_tasks(_filter_cascade, len(signal), signal.size, signal, slow, fast, gain, lag, reverse, out)


@njit(nogil=True, cache=True, error_model="numpy")
def _filter_cascade(first, last, signal, slow, fast, gain, lag, reverse, out):
    _, steps, neurons = signal.shape
    for b in range(first, last):
        synapse = np.zeros(neurons, out.dtype)
        membrane = np.zeros(neurons, out.dtype)
        for m in range(min(lag, steps)):
            out[b, steps - 1 - m if reverse else m] = 0
        for m in range(steps - lag):  # what comes later arrives after the end
            n = steps - 1 - m if reverse else m
            x, y = signal[b, n], out[b, n - lag if reverse else n + lag]
            for j in range(neurons):
                arrived = x[j]
                membrane[j] = slow * membrane[j] + synapse[j]
                y[j] = gain * membrane[j]
                synapse[j] = fast * synapse[j] + arrived
