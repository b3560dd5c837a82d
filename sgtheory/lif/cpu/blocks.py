"""Networks of LIF layers on the CPU: blocks of samples run through all layers, several blocks at a time."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sgtheory.lif._noise import Noise
from sgtheory.lif.cpu.convolution import Convolution
from sgtheory.lif.cpu.functions import prepare_threshold
from sgtheory.lif.cpu.operators import constants
from sgtheory.lif.cpu.recurrent_kernels import (
    backward_layer,
    backward_readout,
    forward_layer,
    forward_readout,
    list_events,
)
from sgtheory.lif.cpu.surrogate import GIVEN, prepare_surrogate, surrogate_kind
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative
from sgtheory.threads import run_blocks

BLOCK = 8  # samples: enough rows for the matrix products, little enough for the second-level cache


def blocks(batch: int) -> list[slice]:
    """The samples of each block. Their size does not depend on the number of threads, so sums do not either."""
    return [slice(first, min(first + BLOCK, batch)) for first in range(0, batch, BLOCK)]


class Spare:
    """Arrays that are used again: fresh memory costs as much as the arithmetic on it.

    Holds no more than was in use at one time.
    """

    def __init__(self):
        self.arrays: dict[tuple, list[np.ndarray]] = {}

    def take(self, shape: tuple[int, ...], dtype) -> np.ndarray:
        """An array with undefined content."""
        try:
            return self.arrays[shape, np.dtype(dtype)].pop()
        except (KeyError, IndexError):
            return np.empty(shape, dtype)

    def give(self, *arrays: np.ndarray) -> None:
        """Nobody looks at these any more."""
        for array in arrays:
            self.arrays.setdefault((array.shape, array.dtype), []).append(array)


spare = Spare()


def within_layer(weight: torch.Tensor | None, channels: int, positions: int, dtype: torch.dtype) -> Convolution:
    """Recurrent weights [post, pre, kernel] or [post, pre]; None as a kernel of length 0."""
    weight = torch.zeros(channels, channels, 0) if weight is None else weight.detach()
    weight = weight.unsqueeze(-1) if weight.ndim == 2 else weight
    return Convolution(weight.to(dtype).numpy(), positions, positions, padding=weight.shape[2] // 2)


@dataclass(frozen=True)
class Activity:
    """What a layer did: potentials [batch, time, neuron], and its spikes as events."""

    potentials: np.ndarray
    events: tuple[np.ndarray, np.ndarray]

    def spikes(self, dtype) -> np.ndarray:
        """Zeros and ones in the shape of the potentials."""
        found, ends = self.events
        spikes = np.zeros(self.potentials.shape, dtype)
        neurons = spikes.shape[-1]
        spikes.reshape(-1)[np.repeat(np.arange(len(ends) - 1) * neurons, np.diff(ends)) + found] = 1
        return spikes

    def counts(self) -> np.ndarray:
        """Spikes summed over time, [batch, neuron]."""
        found, ends = self.events
        batch, steps, neurons = self.potentials.shape
        first = np.repeat(np.arange(batch) * neurons, np.diff(ends[::steps]))
        return np.bincount(first + found, minlength=batch * neurons).reshape(batch, neurons)


def room_for_events(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays for the events of [batch, time, neuron], if all of them spike all the time."""
    return spare.take((math.prod(shape),), np.int32), np.empty(math.prod(shape[:2]) + 1, np.int64)


def keep_events(found: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The events alone, without the room for more."""
    kept = found[: ends[-1]].copy(), ends
    spare.give(found)
    return kept


def input_events(spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Events of spikes given as uint8 [batch, time, neuron]."""
    room = room_for_events(spikes.shape)
    list_events(spikes, *room)
    return keep_events(*room)


def no_events(batch: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Events of a layer that is not there."""
    return np.zeros(0, np.int32), np.zeros(batch * steps + 1, np.int64)


@dataclass(frozen=True)
class LayerOnCPU:
    """One layer: its neurons and its weights.

    Args:
        feed_forward: from the layer below, or a kernel of length 0.
        recurrent: within the layer, or a kernel of length 0.
    """

    parameters: LIFParameters
    escape: EscapeFunction
    surrogate: SurrogateDerivative
    noise: Noise
    feed_forward: Convolution
    recurrent: Convolution

    @property
    def neurons(self) -> int:
        return self.recurrent.positions * len(self.recurrent.weight)

    @property
    def attached(self) -> bool:
        return self.parameters.reset_gradient == "attached"

    @property
    def keeps_lost(self) -> bool:
        """Whether potentials are stored before the reset: what it took away has a gradient, and is not in U."""
        return self.attached and self.parameters.reset == "next"

    @cached_property
    def neuron(self) -> tuple:
        p = self.parameters
        return (*constants(p, self.recurrent.weight.dtype), p.reset == "same", p.delay)

    def forward(self, below: tuple[np.ndarray, np.ndarray], inputs: np.ndarray, steps: int, samples: np.ndarray):
        """The :class:`Activity` of a block; see :func:`forward_layer`."""
        dtype = self.recurrent.weight.dtype
        potentials = spare.take((len(samples), steps, self.neurons), dtype)
        events = room_for_events(potentials.shape)
        noise = self.noise.at(samples=torch.from_numpy(samples))
        forward_layer(
            below,
            self.feed_forward.wires,
            self.feed_forward.rows,
            inputs,
            self.recurrent.wires,
            self.recurrent.rows,
            self.neuron,
            self.keeps_lost,
            prepare_threshold(self.escape, noise, potentials.shape, dtype),
            samples,
            potentials,
            events,
        )
        return Activity(potentials, keep_events(*events))

    def true_potential(self, activity: Activity) -> np.ndarray:
        """U from what :meth:`forward` stored."""
        if not self.keeps_lost:
            return activity.potentials
        potentials = activity.potentials.copy()
        with np.errstate(invalid="ignore"):
            potentials[:, 1:][activity.spikes(bool)[:, :-1]] *= 0
        return potentials

    def prepared_surrogate(self, activity: Activity) -> tuple:
        """See :func:`prepare_surrogate`."""
        potentials, spikes = activity.potentials, np.zeros(0, np.uint8)
        if surrogate_kind(self.surrogate)[0] == GIVEN:
            potentials, spikes = self.true_potential(activity), activity.spikes(np.uint8)
        return prepare_surrogate(self.surrogate, potentials, spikes, self.parameters.threshold)

    def backward(
        self,
        gradient: np.ndarray | None,
        first_gradient: int,
        gradient_counts: np.ndarray | None,
        below: tuple[np.ndarray, np.ndarray],
        activity: Activity,
        to_sources: bool,
        to_inputs: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Gradients of a block: feed-forward rows, recurrent rows, sources, inputs; see :func:`backward_layer`."""
        dtype = activity.potentials.dtype
        batch, steps, neurons = activity.potentials.shape
        weight, recurrent = self.feed_forward, self.recurrent
        gradient_weight, gradient_recurrent = np.zeros_like(weight.rows), np.zeros_like(recurrent.rows)
        gradient_sources = spare.take((batch, steps if to_sources else 0, weight.width_below), dtype)
        gradient_inputs = np.empty((batch, steps if to_inputs else 0, neurons), dtype)
        backward_layer(
            np.zeros((batch, 0, 0), dtype) if gradient is None else gradient,
            first_gradient,
            np.zeros((batch, neurons), dtype) if gradient_counts is None else gradient_counts,
            below,
            weight.wires,
            weight.back,
            weight.stride * weight.weight.shape[1],
            activity.events,
            recurrent.wires,
            recurrent.windows,
            recurrent.positions,
            self.neuron,
            self.attached,
            self.prepared_surrogate(activity),
            activity.potentials,
            gradient_weight,
            gradient_recurrent,
            gradient_sources,
            gradient_inputs,
        )
        return gradient_weight, gradient_recurrent, gradient_sources, gradient_inputs


@dataclass(frozen=True)
class ReadoutOnCPU:
    """Units that never spike. weight [pre, unit]."""

    parameters: LIFParameters
    initial: float
    weight: np.ndarray

    @cached_property
    def _constants(self) -> tuple:
        a_m, a_s, gain, _ = constants(self.parameters, self.weight.dtype)
        return a_m, a_s, gain, self.parameters.delay

    def forward(self, sources: Activity) -> np.ndarray:
        """U[1] ... U[time] of a block, [batch, time, unit]."""
        potentials = np.empty((*sources.potentials.shape[:2], self.weight.shape[1]), self.weight.dtype)
        initial = self.weight.dtype.type(self.initial)
        forward_readout(sources.events, self.weight, *self._constants, initial, potentials)
        return potentials

    def backward(self, gradient: np.ndarray, sources: Activity) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of a block for the weight and for the source spikes."""
        gradient_weight = np.zeros_like(self.weight)
        gradient_sources = spare.take(sources.potentials.shape, self.weight.dtype)
        weight_back = np.ascontiguousarray(self.weight.T)
        backward_readout(gradient, sources.events, weight_back, *self._constants, gradient_weight, gradient_sources)
        return gradient_weight, gradient_sources


def ordered_sum(parts: list[np.ndarray]) -> np.ndarray:
    """Sum over blocks, first to last."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


class RecurrentLIFOnCPU(torch.autograd.Function):
    """:func:`sgtheory.lif.lif` with recurrent weights or channels; inputs are channels last, [batch, time, p, c]."""

    @staticmethod
    def forward(ctx, inputs, recurrent, parameters, escape, surrogate, noise):
        batch, steps, positions, channels = inputs.shape
        within = within_layer(recurrent, channels, positions, inputs.dtype)
        below = Convolution(np.zeros((channels, 0, 0), within.weight.dtype), 0, positions)
        layer = LayerOnCPU(parameters, escape, surrogate, noise, below, within)
        flat = inputs.detach().flatten(2).contiguous().numpy()
        samples = noise.sample_indices(batch).numpy()
        true, spikes = np.empty(flat.shape, flat.dtype), np.empty(flat.shape, flat.dtype)

        def forward(block):
            activity = layer.forward(no_events(len(samples[block]), steps), flat[block], steps, samples[block])
            true[block], spikes[block] = layer.true_potential(activity), activity.spikes(flat.dtype)
            return activity

        ctx.activity = run_blocks(forward, blocks(batch))
        ctx.layer, ctx.recurrent = layer, recurrent
        true = torch.from_numpy(true).view(inputs.shape)
        ctx.mark_non_differentiable(true)
        return torch.from_numpy(spikes).view(inputs.shape), true

    @staticmethod
    def backward(ctx, gradient, _):
        layer = ctx.layer
        batch, steps = gradient.shape[:2]
        flat = gradient.flatten(2).contiguous().numpy()
        out = np.empty_like(flat)

        def backward(item):
            block, activity = item
            below = no_events(len(flat[block]), steps)
            _, recurrent, _, out[block] = layer.backward(
                flat[block], 0, None, below, activity, to_sources=False, to_inputs=True
            )
            return recurrent

        parts = run_blocks(backward, zip(blocks(batch), ctx.activity, strict=True))
        total = ordered_sum(parts) if parts else np.zeros_like(layer.recurrent.rows)
        recurrent = None
        if ctx.recurrent is not None:
            recurrent = layer.recurrent.like_weight(total).reshape(ctx.recurrent.shape)
        return torch.from_numpy(out).view(gradient.shape), recurrent, None, None, None, None
