"""Layers and networks on the CPU, block by block: some samples run through all layers, several blocks at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sgtheory.lif._fused import GIVEN_SURROGATE, Constants, surrogate_kind
from sgtheory.lif._noise import Noise
from sgtheory.lif.cpu.convolution import Convolution
from sgtheory.lif.cpu.functions import Surrogate, constants_of, surrogate_of, threshold_of
from sgtheory.lif.cpu.memory import empty_array
from sgtheory.lif.cpu.recurrent_kernels import (
    Events,
    FromAbove,
    Gradients,
    backward_layer,
    backward_readout,
    forward_layer,
    forward_readout,
    list_events,
)
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative

SAMPLES_AT_ONCE = 8  # enough rows for the matrix products, little enough for the second-level cache


def blocks(batch: int) -> list[slice]:
    """The samples of each block. Their size does not depend on the number of threads, so sums do not either."""
    return [slice(first, min(first + SAMPLES_AT_ONCE, batch)) for first in range(0, batch, SAMPLES_AT_ONCE)]


def ordered_sum(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Sum over blocks, first to last; None of None."""
    if parts[0] is None:
        return None
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def packed(values: Sequence[torch.Tensor] | None) -> np.ndarray | None:
    """Values of a state, [batch, neuron] or [batch, channel, position], as [batch, 4, neuron], channels last."""
    if values is None:
        return None
    return torch.stack([v if v.ndim == 2 else v.mT.flatten(1) for v in values], dim=1).numpy()


def unpacked(end: torch.Tensor, channels: int, positions: int | None = None) -> list[torch.Tensor]:
    """The opposite of :func:`packed`."""
    return [v if positions is None else v.unflatten(1, (positions, channels)).mT for v in end.unbind(dim=1)]


def within_layer(weight: torch.Tensor | None, channels: int, positions: int, dtype: torch.dtype) -> Convolution:
    """Recurrent weights [post, pre, kernel] or [post, pre]; None as a kernel of length 0."""
    weight = torch.zeros(channels, channels, 0) if weight is None else weight.detach()
    weight = weight.unsqueeze(-1) if weight.ndim == 2 else weight
    return Convolution(weight.to(dtype).numpy(), positions, positions, padding=weight.shape[2] // 2)


def _room_for_events(shape: tuple[int, ...]) -> Events:
    """Events of [batch, time, neuron], if all neurons spike all the time."""
    return Events(empty_array((math.prod(shape),), np.int32), np.empty(math.prod(shape[:2]) + 1, np.int64))


def _without_room(events: Events) -> Events:
    return Events(events.found[: events.ends[-1]].copy(), events.ends)


def input_events(spikes: np.ndarray) -> Events:
    """Events of spikes given as uint8 [batch, time, neuron]."""
    events = _room_for_events(spikes.shape)
    list_events(spikes, *events)
    return _without_room(events)


def no_events(batch: int, steps: int) -> Events:
    """Events of a layer that is not there."""
    return Events(np.zeros(0, np.int32), np.zeros(batch * steps + 1, np.int64))


@dataclass(frozen=True)
class LayerActivity:
    """What a layer did: potentials, currents where they are needed and A where neurons adapt [batch, time, neuron], its
    spikes, and, where a start was given, U, I, what arrives and A after the last step [batch, 4, neuron]."""

    potentials: np.ndarray
    currents: np.ndarray | None
    adapted: np.ndarray | None
    events: Events
    end: np.ndarray | None

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


@dataclass(frozen=True)
class LayerOnCPU:
    """One layer: its neurons and its weights.

    Args:
        feed_forward: from the layer below, or a kernel of length 0.
        recurrent: within the layer, or a kernel of length 0.
        numbers: see :func:`sgtheory.lif._fused.numbers_of_neurons`.
        to_numbers: whether the backward pass is to give gradients for them.
    """

    parameters: LIFParameters
    surrogate: SurrogateDerivative
    escape: EscapeFunction
    noise: Noise
    feed_forward: Convolution
    recurrent: Convolution
    numbers: torch.Tensor | None
    to_numbers: bool

    @property
    def neurons(self) -> int:
        return self.recurrent.positions * len(self.recurrent.weight)

    @cached_property
    def constants(self) -> Constants:
        return constants_of(self.parameters, self.recurrent.weight.dtype, self.numbers)

    def forward(
        self, below: Events, inputs: np.ndarray, steps: int, samples: np.ndarray, start: np.ndarray | None
    ) -> LayerActivity:
        """What a block of samples makes the layer do; see :func:`forward_layer`."""
        dtype = self.recurrent.weight.dtype
        potentials = empty_array((len(samples), steps, self.neurons), dtype)
        currents = empty_array(potentials.shape, dtype) if self.to_numbers else None
        adapted = empty_array(potentials.shape, dtype) if self.parameters.adaptive else None
        events = _room_for_events(potentials.shape)
        noise = self.noise.at(samples=torch.from_numpy(samples))
        threshold = threshold_of(self.escape, noise, potentials.shape, dtype)
        synapses = self.feed_forward.synapses, self.recurrent.synapses
        end = None if start is None else np.empty_like(start)
        states = start, potentials, currents, adapted
        forward_layer(below, synapses[0], inputs, synapses[1], self.constants, threshold, samples, *states, events, end)
        return LayerActivity(potentials, currents, adapted, _without_room(events), end)

    def potential(self, activity: LayerActivity) -> np.ndarray:
        """U from what :meth:`forward` stored."""
        if self.constants.same or not self.constants.attached:
            return activity.potentials
        potentials = activity.potentials.copy()
        with np.errstate(invalid="ignore"):
            potentials[:, 1:][activity.spikes(bool)[:, :-1]] *= 0
        return potentials

    def _surrogate(self, activity: LayerActivity) -> Surrogate:
        potentials, spikes = activity.potentials, np.zeros(0, np.uint8)
        if surrogate_kind(self.surrogate)[0] == GIVEN_SURROGATE:
            potentials, spikes = self.potential(activity), activity.spikes(np.uint8)
        return surrogate_of(self.surrogate, potentials, spikes, self.constants, activity.adapted)

    def from_above(
        self,
        batch: int,
        spikes: np.ndarray | None = None,
        first: int = 0,
        counts: np.ndarray | None = None,
        potentials: np.ndarray | None = None,
    ) -> FromAbove:
        """The gradients that there are; see :class:`FromAbove`."""
        dtype = self.recurrent.weight.dtype
        return FromAbove(
            np.zeros((batch, 0, 0), dtype) if spikes is None else spikes,
            first,
            np.zeros((batch, self.neurons), dtype) if counts is None else counts,
            np.zeros((batch, 0, 0), dtype) if potentials is None else potentials,
        )

    def backward(
        self, above: FromAbove, below: Events, activity: LayerActivity, to_sources: bool, to_inputs: bool
    ) -> tuple[Gradients, np.ndarray | None]:
        """Gradients of a block, also for ``numbers``; see :func:`backward_layer`."""
        dtype = activity.potentials.dtype
        batch, steps, neurons = activity.potentials.shape
        out = Gradients(
            np.zeros_like(self.feed_forward.rows),
            np.zeros_like(self.recurrent.rows),
            empty_array((batch, steps if to_sources else 0, self.feed_forward.width_below), dtype),
            np.empty((batch, steps if to_inputs else 0, neurons), dtype),
        )
        out_numbers = np.zeros(self.numbers.shape, dtype) if self.to_numbers else None
        surrogate = self._surrogate(activity)
        transposed = self.feed_forward.to_below, self.recurrent.to_itself
        done = activity.potentials, activity.currents, activity.adapted, activity.events
        backward_layer(above, below, *transposed, self.constants, surrogate, *done, out, out_numbers)
        if self.to_numbers:
            out_numbers[3::2] *= -1  # the threshold is subtracted
        return out, out_numbers


@dataclass(frozen=True)
class ReadoutOnCPU:
    """Units that never spike. weight [pre, unit]; the others as in :class:`LayerOnCPU`."""

    parameters: LIFParameters
    weight: np.ndarray
    numbers: torch.Tensor | None
    to_numbers: bool

    @cached_property
    def _constants(self) -> Constants:
        return constants_of(self.parameters, self.weight.dtype, self.numbers)

    def forward(
        self, sources: LayerActivity, start: np.ndarray, currents: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """U[1] ... U[time] of a block, [batch, time, unit], and the state after the last step."""
        potentials = np.empty((*sources.potentials.shape[:2], self.weight.shape[1]), self.weight.dtype)
        end = np.empty_like(start)
        forward_readout(sources.events, self.weight, self._constants, start, potentials, currents, end)
        return potentials, end

    def backward(
        self, gradient: np.ndarray, sources: LayerActivity, start: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Gradients of a block for the weight, for ``numbers``, and for the source spikes."""
        gradient_weight = np.zeros_like(self.weight)
        potentials = currents = gradient_numbers = None
        if self.to_numbers:
            currents, gradient_numbers = np.empty_like(gradient), np.zeros(self.numbers.shape, self.weight.dtype)
            potentials, _ = self.forward(sources, start, currents)
        gradient_sources = empty_array(sources.potentials.shape, self.weight.dtype)
        weight_back = np.ascontiguousarray(self.weight.T)
        backward_readout(
            gradient, sources.events, weight_back, self._constants, start, potentials, currents,
            gradient_weight, gradient_sources, gradient_numbers,
        )  # fmt: skip
        return gradient_weight, gradient_numbers, gradient_sources


class NetworkOnCPU:
    """Layers and a readout with their weights, as blocks of samples run through them.

    Args:
        inputs: uint8 [batch, time, channel, position]; the others as in :func:`sgtheory.lif.spiking_network`.
        shapes: (channels, positions) of the input and every layer.
        numbers: of the neurons of every layer and of the units, or None; see :class:`LayerOnCPU`.
        to_numbers: which of them are to have gradients.
        starts: the values of the states of every layer and of the readout, or None.
    """

    def __init__(
        self, inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes, numbers, to_numbers, starts
    ):
        dtype, batch = readout_weight.dtype, len(inputs)
        self.read = inputs.mT.flatten(2).contiguous()  # of one channel: the user's tensor itself
        self.sources = self.read.numpy()
        channels, positions = shapes[-1]
        units = len(readout_weight)
        *numbers, of_units = numbers
        last = readout_weight.detach().reshape(units, channels, positions).mT.reshape(units, -1)
        self.layers = [
            LayerOnCPU(
                layer.parameters,
                layer.surrogate,
                layer.escape,
                noise.at(stream=noise.stream + index),
                Convolution(weight.detach().to(dtype).numpy(), below[1], shape[1], layer.stride, layer.padding),
                within_layer(within, *shape, dtype),
                differing,
                to_numbers[index],
            )
            for index, (layer, weight, within, below, shape, differing) in enumerate(
                zip(layers, weights, recurrent, shapes[:-1], shapes[1:], numbers, strict=True)
            )
        ]
        rows = last.T.contiguous().numpy()
        self.readout = ReadoutOnCPU(readout.parameters, rows, of_units, to_numbers[-1])
        *self.starts, start = map(packed, starts or [None] * (len(layers) + 1))
        if start is None:
            start = np.zeros((batch, 4, units), rows.dtype)
            start[:, 0] = readout.initial
        self.readout_start = start
        self.samples = noise.sample_indices(batch).numpy().copy()  # a backward pass may compute with them again

    def run(self, block: slice) -> tuple[Events, list[LayerActivity]]:
        """Events of the input and the activity of every layer for a block of samples."""
        events = sources = input_events(self.sources[block])
        batch, steps, _ = self.sources[block].shape
        nothing = np.zeros((batch, 0, 0), self.readout.weight.dtype)
        activity = []
        for layer, start in zip(self.layers, self.starts, strict=True):
            start = None if start is None else start[block]
            activity.append(layer.forward(events, nothing, steps, self.samples[block], start))
            events = activity[-1].events
        return sources, activity
