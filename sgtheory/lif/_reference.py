"""The definition: leaky integrate-and-fire layers in plain PyTorch, one step after the other.

Everything else in this package computes the same thing faster and is tested against this file.
"""

from collections import deque

import torch

from sgtheory.lif._convolution import convolve
from sgtheory.lif._noise import Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative, surrogate_spike

ACTIVITY_AT_ONCE = 48  # samples of a network of which all spikes are wanted: bounds the memory


def thresholds(escape: EscapeFunction, noise: Noise, inputs: torch.Tensor, step: int) -> torch.Tensor:
    """Random thresholds of one step in the shape of ``inputs[:, step]``; channels count fastest (channels last)."""
    batch, _, *shape = inputs.shape
    shape = shape[::-1]
    r = noise.uniform(batch, range(step, step + 1), torch.Size(shape).numel(), inputs.dtype, inputs.device)
    return escape.quantile(r.view(batch, *shape)).movedim(-1, 1)


def recurrent_input(spikes: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor | float:
    """sum_k V_ik S_k for dense weights [post, pre] or a convolution [post, pre, kernel] that keeps the length."""
    if weight is None:
        return 0.0
    if weight.ndim == 2:
        return spikes @ weight.T
    return convolve(spikes.unsqueeze(1), weight, padding=weight.shape[-1] // 2).squeeze(1)


def coefficients(parameters: LIFParameters, inputs: torch.Tensor) -> list[torch.Tensor | float]:
    """a_m, a_s, 1 - a_m and theta: numbers, or in the shape of a step of ``inputs``, where float64 is rounded once."""
    return [
        value.to(inputs.dtype).view(-1, *[1] * (inputs.ndim - 3)) if isinstance(value, torch.Tensor) else value
        for value in parameters.coefficients
    ]


def layer(
    inputs: torch.Tensor,
    parameters: LIFParameters,
    surrogate: SurrogateDerivative,
    escape: EscapeFunction,
    noise: Noise,
    recurrent: torch.Tensor | None,
    potential: bool = True,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """See :func:`sgtheory.lif.lif`. Differentiated by autograd; float32 or float64."""
    a_m, a_s, gain, theta = coefficients(parameters, inputs)
    u = current = inputs[:, :0].sum(dim=1)  # zeros, and part of the graph
    noise = noise.at(samples=noise.sample_indices(len(inputs), inputs.device))
    on_the_way = deque(torch.zeros_like(u) for _ in range(parameters.delay))
    potentials, spikes = [], []
    for n, weighted in enumerate(inputs.unbind(dim=1)):
        x = u - theta
        spike = (x > thresholds(escape, noise, inputs, n)).to(x.dtype)
        spike = surrogate_spike(x, spike, surrogate.derivative)
        if potential:
            potentials.append(u)
        spikes.append(spike)
        on_the_way.append(weighted + recurrent_input(spike, recurrent))
        keep = 1 - (spike if parameters.reset_gradient == "attached" else spike.detach())
        if parameters.reset == "next":
            u = (a_m * u + gain * current) * keep
        else:
            u = a_m * u * keep + gain * current
        current = a_s * current + on_the_way.popleft()
    return torch.stack(spikes, dim=1), torch.stack(potentials, dim=1) if potential else None


def readout(inputs: torch.Tensor, parameters: LIFParameters, initial: float) -> torch.Tensor:
    """See :func:`sgtheory.lif.leaky_readout`. Differentiated by autograd; float32 or float64."""
    a_m, a_s, gain, _ = coefficients(parameters, inputs)
    potential = torch.full_like(inputs[:, 0], initial)
    current = torch.zeros_like(potential)
    on_the_way = deque(torch.zeros_like(potential) for _ in range(parameters.delay))
    potentials = []
    for weighted in inputs.unbind(dim=1):
        on_the_way.append(weighted)
        potential = a_m * potential + gain * current
        current = a_s * current + on_the_way.popleft()
        potentials.append(potential)
    return torch.stack(potentials, dim=1)


def layer_by_layer(layer, readout_of, inputs, layers, weights, recurrent, readout, readout_weight, noise):
    """A network of the layers and the readout of any backend, one layer after the other through all steps.

    Returns:
        potentials: of the readout [batch, time, unit].
        spikes: of each layer [batch, time, channel, position].
    """
    noise = noise.at(samples=noise.sample_indices(len(inputs), inputs.device))  # copied once for all layers
    spikes, found = inputs.to(readout_weight.dtype), []
    for index, (neurons, weight, within) in enumerate(zip(layers, weights, recurrent, strict=True)):
        spikes, _ = layer(
            convolve(spikes, weight, neurons.stride, neurons.padding),
            neurons.parameters,
            neurons.surrogate,
            neurons.escape,
            noise.at(stream=noise.stream + index),
            within,
            False,
        )
        found.append(spikes)
    return readout_of(spikes.flatten(2) @ readout_weight.T, readout.parameters, readout.initial), found


def network_of(layer, readout_of):
    """``network`` of a backend that has layers and a readout only."""

    def network(inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes, count, recompute):
        """See :func:`sgtheory.lif.spiking_network`, or without ``count`` :func:`sgtheory.lif.network_activity`.

        ``shapes`` are the (channels, positions) of the input and every layer.
        """
        arguments = layers, weights, recurrent, readout, readout_weight
        if count:
            potentials, spikes = layer_by_layer(layer, readout_of, inputs, *arguments, noise)
            return potentials, [s.sum(dim=1) for s in spikes]
        batch, steps = inputs.shape[:2]
        potentials = readout_weight.new_empty((batch, steps, len(readout_weight)), requires_grad=False)
        spikes = [inputs.new_empty((batch, steps, channels * positions)) for channels, positions in shapes[1:]]
        samples = noise.sample_indices(batch, inputs.device)
        for first in range(0, batch, ACTIVITY_AT_ONCE):
            part = slice(first, first + ACTIVITY_AT_ONCE)
            of_part = noise.at(samples=samples[part])
            potentials[part], found = layer_by_layer(layer, readout_of, inputs[part], *arguments, of_part)
            for out, done in zip(spikes, found, strict=True):
                out[part] = done.flatten(2).to(torch.uint8)
        return potentials, spikes

    return network


network = network_of(layer, readout)
