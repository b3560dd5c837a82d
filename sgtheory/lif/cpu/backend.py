"""The CPU backend: what sgtheory.lif._reference defines, compiled by numba."""

import numpy as np
import torch

from sgtheory.lif._fused import numbers_of_neurons
from sgtheory.lif._graphs import outside_graphs
from sgtheory.lif._reference import readout
from sgtheory.lif.cpu.blocks import NetworkOnCPU, blocks, packed, unpacked
from sgtheory.lif.cpu.operators import LayerWithoutRecurrence, Network, RecurrentLayer
from sgtheory.threads import run_blocks

__all__ = ["layer", "network", "readout"]


@outside_graphs
def layer(inputs, parameters, surrogate, escape, noise, recurrent, potential=True, start=None):
    """See :func:`sgtheory.lif._reference.layer`."""
    dense = inputs.ndim == 3
    numbers = numbers_of_neurons(parameters, inputs.shape[2], inputs.shape[3:].numel(), inputs)
    given = inputs, numbers, parameters, surrogate, escape, noise
    if recurrent is None and dense:
        spikes, u, end = LayerWithoutRecurrence.apply(*given, potential, packed(start))
        return (spikes, u) if start is None else (spikes, u, unpacked(end, *inputs.shape[2:]))
    channels_last = inputs.unsqueeze(2) if dense else inputs.mT
    *outputs, end = RecurrentLayer.apply(channels_last, *given[1:], recurrent, packed(start))
    spikes, u = (o.squeeze(2) if dense else o.mT for o in outputs)
    done = spikes, u if potential else None
    return done if start is None else (*done, unpacked(end, *inputs.shape[2:]))


@outside_graphs
def network(inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes, count, recompute, starts=None):
    """See :func:`sgtheory.lif._reference.network`."""
    sizes = [*shapes[1:], (len(readout_weight), 1)]
    numbers = [
        numbers_of_neurons(neurons.parameters, *size, readout_weight)
        for neurons, size in zip([*layers, readout], sizes, strict=True)
    ]
    if not count:
        return _activity(inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes, numbers)
    store = torch.is_grad_enabled() and not recompute
    potentials, *found = Network.apply(
        inputs, layers, readout, noise, store, shapes, starts, readout_weight, *weights, *recurrent, *numbers
    )
    if starts is None:
        return potentials, found
    counts, ends = found[: len(layers)], found[len(layers) :]
    of_step = [*shapes[1:], (len(readout_weight),)]
    return potentials, counts, [unpacked(end, *shape) for end, shape in zip(ends, of_step, strict=True)]


def _activity(inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes, numbers):
    """Readout potentials, and the spikes of each layer."""
    batch, steps = inputs.shape[:2]
    potentials = readout_weight.new_empty((batch, steps, len(readout_weight)), requires_grad=False)
    spikes = [inputs.new_empty((batch, steps, channels * positions)) for channels, positions in shapes[1:]]
    synapses = weights, recurrent, readout, readout_weight
    run_through = NetworkOnCPU(inputs, layers, *synapses, noise, shapes, numbers, [False] * len(numbers), None)

    def run(block):
        _, activity = run_through.run(block)
        of_readout, _ = run_through.readout.forward(activity[-1], run_through.readout_start[block])
        potentials[block] = torch.from_numpy(of_readout)
        for done, (channels, positions), out in zip(activity, shapes[1:], spikes, strict=True):
            out[block] = torch.from_numpy(done.spikes(np.uint8)).unflatten(-1, (positions, channels)).mT.flatten(2)

    run_blocks(run, blocks(batch))
    return potentials, spikes
