"""Spikes of every layer of a network, for rasters and statistics."""

from types import SimpleNamespace

import numpy as np
import torch

from sgtheory.lif._network import Layer, Readout, _NetworkOnCPU, _shapes
from sgtheory.lif._noise import Noise
from sgtheory.lif._op import checked_backend, leaky_readout, lif

AT_ONCE = 48  # samples: bounds the memory for potentials, which nobody asked for


@torch.no_grad()
def network_activity(
    inputs: torch.Tensor,
    layers: list[Layer],
    weights: list[torch.Tensor],
    recurrent: list[torch.Tensor | None],
    readout: Readout,
    readout_weight: torch.Tensor,
    noise: Noise | None = None,
    backend: str = "auto",
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The spikes that :func:`sgtheory.lif.spiking_network` counts.

    Args:
        inputs: as there, and so are the other arguments.

    Returns:
        potentials: U[1] ... U[time] of the readout units, [batch, time, unit].
        spikes: uint8, one [batch, time, channel * position] for each layer, channel-major.
    """
    inputs = inputs.unsqueeze(2) if inputs.ndim == 3 else inputs
    noise = noise or Noise(seed=0)
    shapes = _shapes(inputs, layers, weights, recurrent, readout_weight)
    samples = noise.sample_indices(len(inputs))
    compiled = checked_backend(inputs, backend) == "cpu"
    batch, steps = inputs.shape[:2]
    potentials = inputs.new_empty((batch, steps, len(readout_weight)), dtype=readout_weight.dtype)
    spikes = [inputs.new_empty((batch, steps, channels * positions)) for channels, positions in shapes[1:]]
    for first in range(0, batch, AT_ONCE):
        part = slice(first, first + AT_ONCE)
        here = noise.at(samples=samples[part])
        if compiled:
            ctx = SimpleNamespace(set_materialize_grads=lambda _: None)
            which = [w is not None for w in recurrent]
            given = [w for w in recurrent if w is not None]
            potentials[part], *_ = _NetworkOnCPU.forward(
                ctx, inputs[part], layers, readout, here, True, shapes, which, readout_weight, *weights, *given
            )
            for index, (channels, positions) in enumerate(shapes[1:]):
                found = torch.cat([torch.from_numpy(layers[index].spikes(np.uint8)) for _, layers in ctx.activity])
                spikes[index][part] = found.unflatten(-1, (positions, channels)).mT.flatten(2)
        else:
            s = inputs[part].to(readout_weight.dtype)
            for index, (layer, weight, within) in enumerate(zip(layers, weights, recurrent, strict=True)):
                x = torch.nn.functional.conv1d(s.flatten(0, 1), weight, stride=layer.stride, padding=layer.padding)
                x = x.unflatten(0, s.shape[:2])
                stream = here.at(stream=noise.stream + index)
                s, _ = lif(x, layer.parameters, layer.surrogate, layer.escape, stream, within, backend)
                spikes[index][part] = s.flatten(2).to(torch.uint8)
            potentials[part] = leaky_readout(s.flatten(2) @ readout_weight.T, readout.parameters, readout.initial)
    return potentials, spikes
