"""The CPU backend as operators of autograd. They are differentiable once; a second derivative is refused."""

from collections.abc import Callable
from functools import wraps

import numpy as np
import torch

from sgtheory.errors import UserError
from sgtheory.lif._fused import GIVEN_SURROGATE, Constants, surrogate_kind
from sgtheory.lif._noise import Noise
from sgtheory.lif.cpu.blocks import LayerOnCPU, NetworkOnCPU, blocks, no_events, ordered_sum, within_layer
from sgtheory.lif.cpu.convolution import Convolution
from sgtheory.lif.cpu.functions import constants_of, surrogate_of, threshold_of
from sgtheory.lif.cpu.kernels import SEGMENT, backward_kernel, forward_kernel, number_of_tasks
from sgtheory.lif.cpu.memory import empty, empty_array
from sgtheory.neurons import EscapeFunction, LIFParameters
from sgtheory.threads import run_blocks, share_tasks


def run_forward(
    inputs: np.ndarray,
    numbers: Constants,
    escape: EscapeFunction,
    noise: Noise,
    start: np.ndarray | None,
    potentials: np.ndarray,
    states: np.ndarray,
    adapted: np.ndarray | None,
    spikes: np.ndarray,
) -> np.ndarray | None:
    """Fill the last four; see :func:`forward_kernel`, whose ``end`` is returned."""
    threshold = threshold_of(escape, noise, spikes.shape, inputs.dtype)
    samples = noise.sample_indices(len(spikes)).numpy()
    tasks = number_of_tasks(len(spikes), spikes.shape[2])
    end = None if start is None else np.empty_like(start)
    done = start, potentials, states, adapted, spikes, end
    share_tasks(forward_kernel, tasks, spikes.size, inputs, numbers, threshold, samples, *done)
    return end


def states_of(spikes: np.ndarray, wanted: bool, dtype: np.dtype) -> np.ndarray:
    """Room for the states (U, I) that the backward pass starts from, [batch, segment, 2, neuron]."""
    batch, steps, neurons = spikes.shape
    return np.empty((batch, -(-steps // SEGMENT) if wanted else 0, 2, neurons), dtype)


def room_for_adaptation(parameters: LIFParameters, spikes: np.ndarray, wanted: bool, dtype: np.dtype):
    """Room for A, [batch, time, neuron], with time 0 if it is not wanted; None without adaptation."""
    batch, steps, neurons = spikes.shape
    return empty_array((batch, steps if wanted else 0, neurons), dtype) if parameters.adaptive else None


def _array(gradient: torch.Tensor) -> np.ndarray:
    return gradient.contiguous().numpy()


class _NoSecondDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gradient):
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, _):
        raise UserError("the compiled backward pass cannot be differentiated twice; backend 'reference' can")


def differentiable_once(backward: Callable) -> Callable:
    """A backward pass that refuses to be differentiated.

    PyTorch's ``once_differentiable`` does so only if the gradient that comes in has a graph: behind a linear function
    of the spikes, a penalty on gradients would have no effect.
    """

    @wraps(backward)
    def once(ctx, *gradients):
        with torch.no_grad():
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return found
        return tuple(None if g is None else _NoSecondDerivative.apply(g.requires_grad_()) for g in found)

    return once


def _without_gradient(ctx, end: np.ndarray | None) -> torch.Tensor | None:
    if end is None:
        return None
    ctx.mark_non_differentiable(out := torch.from_numpy(end))
    return out


class LayerWithoutRecurrence(torch.autograd.Function):
    """:func:`sgtheory.lif.lif` of inputs [batch, time, neuron] without recurrent weights.

    ``numbers`` are those of :func:`sgtheory.lif._fused.numbers_of_neurons`, ``start`` is what ``packed`` makes of a
    state; the state after the last step is returned with it, or None.
    The backward pass keeps inputs, spikes and the state at every SEGMENT steps, and computes potentials again.
    """

    @staticmethod
    def forward(ctx, inputs, numbers, parameters, surrogate, escape, noise, potential, start):
        ctx.set_materialize_grads(False)
        ctx.surrogate = surrogate
        expanded = inputs.shape[0] and inputs.stride(0) == 0  # one sample for all trials
        source = (inputs[:1] if expanded else inputs).contiguous()
        # derivatives that the kernel does not know are computed from all potentials at once
        differentiated = any(ctx.needs_input_grad)
        kept = differentiated and surrogate_kind(surrogate)[0] == GIVEN_SURROGATE
        batch, steps, neurons = inputs.shape
        spikes = empty(inputs.shape, inputs.dtype)
        potentials = empty((batch, steps if potential or kept else 0, neurons), inputs.dtype)
        x = source.numpy()
        ctx.states = states_of(spikes.numpy(), differentiated, x.dtype)
        ctx.adapted = room_for_adaptation(parameters, spikes.numpy(), differentiated, x.dtype)
        ctx.constants = constants_of(parameters, x.dtype, numbers)
        ctx.start, outputs = start, (potentials.numpy(), ctx.states, ctx.adapted, spikes.numpy())
        end = run_forward(x, ctx.constants, escape, noise, start, *outputs)
        ctx.save_for_backward(source, numbers, spikes, potentials if kept else spikes.new_empty(0))
        return spikes, potentials if potential else None, _without_gradient(ctx, end)

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient, gradient_potentials, _):
        if gradient is None and gradient_potentials is None:
            return (None,) * 8
        source, numbers, spikes, potentials = ctx.saved_tensors
        gradient = torch.zeros_like(spikes) if gradient is None else gradient
        if gradient_potentials is None:
            gradient_potentials = spikes.new_empty(len(spikes), 0, spikes.shape[2])
        out = empty(gradient.shape, gradient.dtype)
        to_numbers, out_numbers = ctx.needs_input_grad[1], None
        if to_numbers:
            out_numbers = np.empty((len(spikes), *numbers.shape), source.numpy().dtype)
        surrogate = surrogate_of(ctx.surrogate, potentials.numpy(), spikes.numpy(), ctx.constants, ctx.adapted)
        gradients = _array(gradient), _array(gradient_potentials)
        arrays = *gradients, source.numpy(), ctx.start, ctx.states, ctx.adapted, spikes.numpy()
        tasks = number_of_tasks(len(spikes), spikes.shape[2])
        share_tasks(backward_kernel, tasks, spikes.numel(), *arrays, ctx.constants, surrogate, out.numpy(), out_numbers)
        for_numbers = torch.from_numpy(out_numbers.sum(axis=0)) if to_numbers else None
        return out, for_numbers, *[None] * 6


class RecurrentLayer(torch.autograd.Function):
    """:func:`sgtheory.lif.lif` with recurrent weights or channels; inputs are channels last, [batch, time, p, c]."""

    @staticmethod
    def forward(ctx, inputs, numbers, parameters, surrogate, escape, noise, recurrent, start):
        ctx.set_materialize_grads(False)
        batch, steps, positions, channels = inputs.shape
        within = within_layer(recurrent, channels, positions, inputs.dtype)
        below = Convolution(np.zeros((channels, 0, 0), within.weight.dtype), 0, positions)
        layer = LayerOnCPU(parameters, surrogate, escape, noise, below, within, numbers, ctx.needs_input_grad[1])
        flat = inputs.detach().flatten(2).contiguous().numpy()
        samples = noise.sample_indices(batch).numpy()
        potentials, spikes = np.empty(flat.shape, flat.dtype), np.empty(flat.shape, flat.dtype)

        def forward(block):
            of_block = samples[block], None if start is None else start[block]
            activity = layer.forward(no_events(len(samples[block]), steps), flat[block], steps, *of_block)
            potentials[block], spikes[block] = layer.potential(activity), activity.spikes(flat.dtype)
            return activity

        ctx.activity = run_blocks(forward, blocks(batch))
        ctx.layer, ctx.shape = layer, inputs.shape
        ctx.save_for_backward(recurrent, numbers)  # complains if they were changed since: they are read in place
        outputs = (torch.from_numpy(array).view(inputs.shape) for array in (spikes, potentials))
        end = None if start is None else np.concatenate([start[:0], *(activity.end for activity in ctx.activity)])
        return *outputs, _without_gradient(ctx, end)

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient, gradient_potentials, _):
        if gradient is None and gradient_potentials is None:
            return (None,) * 8
        layer, (recurrent, _) = ctx.layer, ctx.saved_tensors
        batch, steps = ctx.shape[:2]
        above = [None if g is None else _array(g.flatten(2)) for g in (gradient, gradient_potentials)]
        out = np.empty((batch, steps, layer.neurons), layer.recurrent.weight.dtype)

        def backward(item):
            block, activity = item
            spikes, potentials = (None if g is None else g[block] for g in above)
            samples = len(out[block])
            found, numbers = layer.backward(
                layer.from_above(samples, spikes, potentials=potentials),
                no_events(samples, steps),
                activity,
                to_sources=False,
                to_inputs=True,
            )
            out[block] = found.inputs
            return found.recurrent, numbers

        parts = run_blocks(backward, zip(blocks(batch), ctx.activity, strict=True))
        parts = parts or [(np.zeros_like(layer.recurrent.rows), np.zeros((6, layer.neurons), out.dtype))]
        rows, numbers = map(ordered_sum, zip(*parts, strict=True))
        for_recurrent = None if recurrent is None else layer.recurrent.like_weight(rows).reshape(recurrent.shape)
        for_numbers = torch.from_numpy(numbers) if ctx.needs_input_grad[1] else None
        return torch.from_numpy(out).view(ctx.shape), for_numbers, *[None] * 4, for_recurrent, None


class Network(torch.autograd.Function):
    """:func:`sgtheory.lif.spiking_network`: readout potentials, and counts [batch, channel, position] of each layer.

    ``tensors``: for each layer weights, then recurrent weights or None, then for each layer and the readout what
    :func:`sgtheory.lif._fused.numbers_of_neurons` returns. With ``starts`` the states after the last step follow the
    counts.
    """

    @staticmethod
    def forward(ctx, inputs, layers, readout, noise, store, shapes, starts, readout_weight, *tensors):
        depth = len(layers)
        weights, recurrent, numbers = tensors[:depth], tensors[depth : 2 * depth], tensors[2 * depth :]
        batch, steps, units = *inputs.shape[:2], len(readout_weight)
        ctx.to_numbers = ctx.needs_input_grad[-len(numbers) :]
        synapses = weights, recurrent, readout, readout_weight
        network = NetworkOnCPU(inputs, layers, *synapses, noise, shapes, numbers, ctx.to_numbers, starts)
        ctx.network, ctx.shapes, ctx.recurrent = network, shapes, [v is not None for v in recurrent]
        ctx.save_for_backward(network.read, readout_weight, *tensors)
        ctx.set_materialize_grads(False)

        potentials = np.empty((batch, steps, units), network.readout.weight.dtype)
        counts = [np.empty((batch, layer.neurons), potentials.dtype) for layer in network.layers]
        ends = [np.empty((batch, 4, size), potentials.dtype) for size in [*(len(c.T) for c in counts), units]]

        def forward(block):
            activity = network.run(block)
            _, above = activity
            for count, end, layer in zip(counts, ends, above, strict=False):
                count[block] = layer.counts()
                if starts is not None:
                    end[block] = layer.end
            potentials[block], ends[-1][block] = network.readout.forward(above[-1], network.readout_start[block])
            return activity if store else None

        ctx.activity = run_blocks(forward, blocks(batch))
        shaped = [
            torch.from_numpy(count).view(batch, p, c).mT for count, (c, p) in zip(counts, shapes[1:], strict=True)
        ]
        found = [] if starts is None else list(map(torch.from_numpy, ends))
        ctx.mark_non_differentiable(*found)
        return torch.from_numpy(potentials), *shaped, *found

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient, *gradients):
        gradient_counts = gradients[: len(ctx.shapes) - 1]
        network = ctx.network
        batch, steps, _ = network.sources.shape
        _, *weights = ctx.saved_tensors  # complains if they were changed since: the passes read them where they are
        if not batch:
            return (None,) * 7 + tuple(None if weight is None else torch.zeros_like(weight) for weight in weights)
        units, dtype = network.readout.weight.shape[1], network.readout.weight.dtype
        gradient = np.zeros((batch, steps, units), dtype) if gradient is None else _array(gradient)
        counts = [None if g is None else _array(g.mT.flatten(1)) for g in gradient_counts]
        every_block = blocks(batch)

        def backward(number):
            block = every_block[number]
            # memory goes back as it is used up; what a second backward pass needs is computed again
            activity, ctx.activity[number] = ctx.activity[number], None
            sources, layers = activity or network.run(block)
            *parts, spikes = network.readout.backward(gradient[block], layers[-1], network.readout_start[block])
            first = 0
            for index in reversed(range(len(network.layers))):
                layer, done = network.layers[index], layers.pop()
                counted = None if counts[index] is None else counts[index][block]
                above = layer.from_above(len(gradient[block]), spikes, first, counted)
                below = layers[-1].events if layers else sources
                found, of_neurons = layer.backward(above, below, done, to_sources=index > 0, to_inputs=False)
                spikes, first = found.sources, layer.feed_forward.margin_below
                parts += [found.rows, found.recurrent, of_neurons]
            return parts

        parts = run_blocks(backward, range(len(every_block)))
        readout, of_units, *totals = [ordered_sum(list(column)) for column in zip(*parts, strict=True)]
        channels, positions = ctx.shapes[-1]
        readout = torch.from_numpy(readout.T.reshape(units, positions, channels)).mT.reshape(units, -1)
        weights = [layer.feed_forward.like_weight(g) for layer, g in zip(network.layers, totals[-3::-3], strict=True)]
        recurrent = [
            layer.recurrent.like_weight(g) if there else None
            for layer, g, there in zip(network.layers, totals[-2::-3], ctx.recurrent, strict=True)
        ]
        numbers = [
            torch.from_numpy(g) if wanted else None
            for g, wanted in zip([*totals[::-3], of_units], ctx.to_numbers, strict=True)
        ]
        return (None,) * 7 + (readout, *weights, *recurrent, *numbers)
