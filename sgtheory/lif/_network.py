"""A stack of LIF layers with a readout as one operation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sgtheory.errors import ParameterError
from sgtheory.lif._layer import checked_backend, leaky_readout, lif, require_finite
from sgtheory.lif._noise import Noise
from sgtheory.lif.cpu.blocks import (
    LayerOnCPU,
    ReadoutOnCPU,
    blocks,
    input_events,
    ordered_sum,
    spare,
    within_layer,
)
from sgtheory.lif.cpu.convolution import Convolution
from sgtheory.neurons import EscapeFunction, LIFParameters, Step, SurrogateDerivative
from sgtheory.threads import run_blocks

ACTIVITY_AT_ONCE = 48  # samples, where layers run one after the other: bounds the memory for what nobody asked for


@dataclass(frozen=True)
class Layer:
    """A spiking layer without its weights.

    Args:
        parameters: time constants, reset, delay.
        surrogate: what passes errors back.
        escape: how it spikes.
        stride: of the convolution from the layer below.
        padding: of the convolution from the layer below, zeros.
    """

    parameters: LIFParameters
    surrogate: SurrogateDerivative
    escape: EscapeFunction
    stride: int = 1
    padding: int = 0

    def positions(self, below: int, kernel: int) -> int:
        """Length of the layer over a layer of length ``below``."""
        return (below + 2 * self.padding - kernel) // self.stride + 1


@dataclass(frozen=True)
class Readout:
    """Units that integrate and never spike: parameters and U[0]."""

    parameters: LIFParameters
    initial: float = -1e-3


def spiking_network(
    inputs: torch.Tensor,
    layers: Sequence[Layer],
    weights: Sequence[torch.Tensor],
    recurrent: Sequence[torch.Tensor | None],
    readout: Readout,
    readout_weight: torch.Tensor,
    noise: Noise | None = None,
    backend: str = "auto",
    recompute: bool = False,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Spikes through convolutional LIF layers to readout units (Section 8.4.2).

    Layer l draws its noise from stream ``noise.stream + l``. Each layer is :func:`sgtheory.lif.lif` of the convolution
    of the spikes below, the readout :func:`sgtheory.lif.leaky_readout` of the weighted spikes of the last layer.

    Args:
        inputs: spikes, uint8, 0 or 1, [batch, time, channel, position] or [batch, time, position] for one channel. They
            have no gradient.
        layers: from the input up.
        weights: for each layer [post, pre, kernel]; a dense layer has a kernel as long as the layer below.
        recurrent: for each layer [channel, channel, odd kernel], or None.
        readout: time constants and initial potential of the readout.
        readout_weight: [unit, channel * position] of the last layer, channel-major as ``torch.flatten`` gives it.
        noise: as in :func:`sgtheory.lif.lif`.
        backend: as in :func:`sgtheory.lif.lif`. The compiled backend runs blocks of samples through all layers and
            stores potentials once, spikes as events.
        recompute: do not store potentials and spikes but compute them again for the backward pass: a tenth more time,
            memory that does not grow with the number of samples (compiled backend).

    Returns:
        potentials: U[1] ... U[time] of the readout units, [batch, time, unit], differentiable.
        counts: spikes of each neuron summed over time, one [batch, channel, position] for each layer, differentiable.

    Raises:
        ParameterError: for inputs or weights of the wrong type, shape or device, for missing noise, and on the CPU also
            for weights that are not finite and inputs other than 0 and 1.
    """
    inputs, shapes, noise = _checked(inputs, layers, weights, recurrent, readout_weight, noise)
    if checked_backend(inputs, backend) == "cpu":
        recurrent_given = [v for v in recurrent if v is not None]
        which = [v is not None for v in recurrent]
        store = torch.is_grad_enabled() and not recompute
        potentials, *counts = _NetworkOnCPU.apply(
            inputs, layers, readout, noise, store, shapes, which, readout_weight, *weights, *recurrent_given
        )
        return potentials, counts
    potentials, spikes = _layer_by_layer(inputs, layers, weights, recurrent, readout, readout_weight, noise, backend)
    return potentials, [s.sum(dim=1) for s in spikes]


@torch.no_grad()
def network_activity(
    inputs: torch.Tensor,
    layers: Sequence[Layer],
    weights: Sequence[torch.Tensor],
    recurrent: Sequence[torch.Tensor | None],
    readout: Readout,
    readout_weight: torch.Tensor,
    noise: Noise | None = None,
    backend: str = "auto",
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The spikes that :func:`spiking_network` counts, for rasters and statistics.

    Args:
        inputs: as there, and so are the other arguments.

    Returns:
        potentials: U[1] ... U[time] of the readout units, [batch, time, unit].
        spikes: uint8, one [batch, time, channel * position] for each layer, channel-major.

    Raises:
        ParameterError: as there.
    """
    inputs, shapes, noise = _checked(inputs, layers, weights, recurrent, readout_weight, noise)
    batch, steps = inputs.shape[:2]
    potentials = inputs.new_empty((batch, steps, len(readout_weight)), dtype=readout_weight.dtype)
    spikes = [inputs.new_empty((batch, steps, channels * positions)) for channels, positions in shapes[1:]]
    if checked_backend(inputs, backend) == "cpu":
        network = _Blocks(inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes)

        def run(block):
            _, activity = network.run(block)
            potentials[block] = torch.from_numpy(network.readout.forward(activity[-1]))
            for layer, (channels, positions), out in zip(activity, shapes[1:], spikes, strict=True):
                out[block] = torch.from_numpy(layer.spikes(np.uint8)).unflatten(-1, (positions, channels)).mT.flatten(2)
                spare.give(layer.potentials)

        run_blocks(run, blocks(batch))
        return potentials, spikes
    samples = noise.sample_indices(batch)
    for first in range(0, batch, ACTIVITY_AT_ONCE):
        part = slice(first, first + ACTIVITY_AT_ONCE)
        arguments = layers, weights, recurrent, readout, readout_weight, noise.at(samples=samples[part]), backend
        potentials[part], found = _layer_by_layer(inputs[part], *arguments)
        for out, layer in zip(spikes, found, strict=True):
            out[part] = layer.flatten(2).to(torch.uint8)
    return potentials, spikes


def _checked(inputs, layers, weights, recurrent, readout_weight, noise):
    """Inputs with channels, the shapes of all layers, and noise."""
    if inputs.ndim == 3:
        inputs = inputs.unsqueeze(2)
    if inputs.ndim != 4 or inputs.dtype != torch.uint8 or not inputs.shape[1]:
        given = f"{inputs.dtype} of shape {list(inputs.shape)}"
        raise ParameterError("inputs", given, "must be uint8 of shape [batch, time, channel, position], time > 0")
    once = inputs[:1] if inputs.stride(0) == 0 else inputs
    if once.device.type == "cpu" and once.numel() and (largest := int(once.max())) > 1:
        raise ParameterError("inputs", largest, "must be spikes, 0 or 1")
    if not layers or not len(layers) == len(weights) == len(recurrent):
        given = [len(layers), len(weights), len(recurrent)]
        raise ParameterError("layers, weights, recurrent", given, "must have one entry for each of at least one layer")
    for index, layer in enumerate(layers):
        if noise is None and not isinstance(layer.escape, Step):
            name = type(layer.escape).__name__
            raise ParameterError("noise", None, f"must be given for {name} of layers[{index}], which is random")
    shapes = _shapes(inputs, layers, weights, recurrent, readout_weight)
    _check_numbers(inputs, weights, recurrent, readout_weight)
    return inputs, shapes, noise or Noise(seed=0)


def _check_numbers(inputs, weights, recurrent, readout_weight) -> None:
    """Weights must be finite, of one type, and where the inputs are."""
    dtype = readout_weight.dtype
    if dtype not in (torch.float32, torch.float64):
        raise ParameterError("readout_weight", str(dtype), "must be float32 or float64")
    named = {"readout_weight": readout_weight}
    named |= {f"weights[{index}]": weight for index, weight in enumerate(weights)}
    named |= {f"recurrent[{index}]": weight for index, weight in enumerate(recurrent) if weight is not None}
    for name, weight in named.items():
        if weight.dtype != dtype or weight.device != inputs.device:
            allowed = f"must be {dtype} on {inputs.device} like readout_weight and inputs"
            raise ParameterError(name, f"{weight.dtype} on {weight.device}", allowed)
        require_finite(name, weight)


def _layer_by_layer(inputs, layers, weights, recurrent, readout, readout_weight, noise, backend):
    """Readout potentials and spikes of each layer [batch, time, channel, position]; all steps of a layer at once."""
    spikes, found = inputs.to(readout_weight.dtype), []
    for index, (layer, weight, within) in enumerate(zip(layers, weights, recurrent, strict=True)):
        flat = torch.nn.functional.conv1d(spikes.flatten(0, 1), weight, stride=layer.stride, padding=layer.padding)
        spikes, _ = lif(
            flat.unflatten(0, spikes.shape[:2]),
            layer.parameters,
            layer.surrogate,
            layer.escape,
            noise.at(stream=noise.stream + index),
            within,
            backend,
        )
        found.append(spikes)
    return leaky_readout(spikes.flatten(2) @ readout_weight.T, readout.parameters, readout.initial), found


def _shapes(inputs, layers, weights, recurrent, readout_weight) -> list[tuple[int, int]]:
    """(channels, positions) of the input and every layer."""
    shapes = [tuple(inputs.shape[2:])]
    for index, (layer, weight, within) in enumerate(zip(layers, weights, recurrent, strict=True)):
        channels, positions = shapes[-1]
        name = f"weights[{index}]"
        fits = weight.ndim == 3 and weight.shape[1] == channels and weight.numel()
        if not fits or layer.positions(positions, weight.shape[2]) < 1:
            below = f"{channels} channels and {positions} positions"
            raise ParameterError(name, list(weight.shape), f"must be [post, pre, kernel] and fit {below} below")
        post = weight.shape[0]
        if within is not None and (
            within.ndim != 3 or list(within.shape[:2]) != [post, post] or not within.shape[2] % 2
        ):
            allowed = f"must be None or [{post}, {post}, odd kernel]"
            raise ParameterError(f"recurrent[{index}]", list(within.shape), allowed)
        shapes.append((post, layer.positions(positions, weight.shape[2])))
    channels, positions = shapes[-1]
    if readout_weight.ndim != 2 or readout_weight.shape[1] != channels * positions:
        allowed = f"must be [unit, {channels * positions}]"
        raise ParameterError("readout_weight", list(readout_weight.shape), allowed)
    return shapes


class _Blocks:
    """The network as the compiled backend runs it: blocks of samples, each through all layers."""

    def __init__(self, inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes):
        dtype, batch = readout_weight.dtype, len(inputs)
        self.sources = inputs.mT.flatten(2).contiguous().numpy()
        channels, positions = shapes[-1]
        units = len(readout_weight)
        last = readout_weight.detach().reshape(units, channels, positions).mT.reshape(units, -1)
        self.stack = [
            LayerOnCPU(
                layer.parameters,
                layer.escape,
                layer.surrogate,
                noise.at(stream=noise.stream + index),
                Convolution(weight.detach().to(dtype).numpy(), below[1], shape[1], layer.stride, layer.padding),
                within_layer(within, *shape, dtype),
            )
            for index, (layer, weight, within, below, shape) in enumerate(
                zip(layers, weights, recurrent, shapes[:-1], shapes[1:], strict=True)
            )
        ]
        self.readout = ReadoutOnCPU(readout.parameters, readout.initial, last.T.contiguous().numpy())
        self.samples = noise.sample_indices(batch).numpy()

    def run(self, block: slice) -> tuple[tuple, list]:
        """Events of the input and the activity of every layer for a block of samples."""
        events = sources = input_events(self.sources[block])
        batch, steps, _ = self.sources[block].shape
        nothing = np.zeros((batch, 0, 0), self.readout.weight.dtype)
        activity = []
        for layer in self.stack:
            activity.append(layer.forward(events, nothing, steps, self.samples[block]))
            events = activity[-1].events
        return sources, activity


class _NetworkOnCPU(torch.autograd.Function):
    """See :func:`spiking_network`."""

    @staticmethod
    def forward(ctx, inputs, layers, readout, noise, store, shapes, which, readout_weight, *tensors):
        weights, given = tensors[: len(layers)], iter(tensors[len(layers) :])
        recurrent = [next(given) if there else None for there in which]
        batch, steps, units = *inputs.shape[:2], len(readout_weight)
        network = _Blocks(inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes)
        ctx.network, ctx.shapes, ctx.recurrent = network, shapes, recurrent
        ctx.save_for_backward(readout_weight, *tensors)
        ctx.set_materialize_grads(False)

        potentials = np.empty((batch, steps, units), network.readout.weight.dtype)
        counts = [np.empty((batch, layer.neurons), potentials.dtype) for layer in network.stack]

        def forward(block):
            activity = network.run(block)
            _, above = activity
            for count, layer in zip(counts, above, strict=True):
                count[block] = layer.counts()
            potentials[block] = network.readout.forward(above[-1])
            if store:
                return activity
            spare.give(*(layer.potentials for layer in above))
            return None

        ctx.activity = run_blocks(forward, blocks(batch))
        shaped = [
            torch.from_numpy(count).view(batch, p, c).mT for count, (c, p) in zip(counts, shapes[1:], strict=True)
        ]
        return torch.from_numpy(potentials), *shaped

    @staticmethod
    def backward(ctx, gradient, *gradient_counts):
        network = ctx.network
        batch, steps, _ = network.sources.shape
        weights = ctx.saved_tensors  # complains if they were changed since: the passes read them where they are
        if not batch:
            return (None,) * 7 + tuple(map(torch.zeros_like, weights))
        units, dtype = network.readout.weight.shape[1], network.readout.weight.dtype
        gradient = np.zeros((batch, steps, units), dtype) if gradient is None else gradient.contiguous().numpy()
        counts = [None if g is None else g.mT.flatten(1).contiguous().numpy() for g in gradient_counts]

        def backward(item):
            block, activity = item
            sources, layers = network.run(block) if activity is None else activity
            readout, above = network.readout.backward(gradient[block], layers[-1])
            parts, first = [readout], 0
            for index in reversed(range(len(network.stack))):
                layer = network.stack[index]
                below = layers[index - 1].events if index else sources
                counted = None if counts[index] is None else counts[index][block]
                weight, recurrent, gradient_below, _ = layer.backward(
                    above, first, counted, below, layers[index], to_sources=index > 0, to_inputs=False
                )
                spare.give(above, layers[index].potentials)
                above, first = gradient_below, layer.feed_forward.margin_below
                parts += [weight, recurrent]
            return parts

        parts = run_blocks(backward, zip(blocks(batch), ctx.activity, strict=True))
        ctx.activity = [None] * len(ctx.activity)  # what a second backward pass needs is computed again
        readout, *totals = [ordered_sum(list(column)) for column in zip(*parts, strict=True)]
        channels, positions = ctx.shapes[-1]
        readout = torch.from_numpy(readout.T.reshape(units, positions, channels)).mT.reshape(units, -1)
        weights = [layer.feed_forward.like_weight(g) for layer, g in zip(network.stack, totals[-2::-2], strict=True)]
        recurrent = [
            layer.recurrent.like_weight(g)
            for layer, g, v in zip(network.stack, totals[::-2], ctx.recurrent, strict=True)
            if v is not None
        ]
        return (None,) * 7 + (readout, *weights, *recurrent)
