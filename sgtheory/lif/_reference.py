"""The definition: leaky integrate-and-fire layers in plain PyTorch, one step after the other.

Everything else in this package computes the same thing faster and is tested against this file.
"""

from collections import deque

import torch

from sgtheory.lif._convolution import convolve
from sgtheory.lif._noise import Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative, surrogate_spike

Values = list[torch.Tensor]  # of a State: U, I, what arrives and A, without gradients
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
    """Those of ``parameters``: numbers, or in the shape of a step of ``inputs``, where float64 is rounded once."""
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
    start: Values | None = None,
) -> tuple:
    """See :func:`sgtheory.lif.lif`. Differentiated by autograd; float32 or float64.

    With ``start``, the values of a state, those after the last step are returned as well.
    """
    a_m, a_s, gain, theta, rho, adaptation = coefficients(parameters, inputs)
    u, current, arriving, adapted = start or [inputs[:, :0].sum(dim=1)] * 4  # zeros, and part of the graph
    noise = noise.at(samples=noise.sample_indices(len(inputs), inputs.device))
    on_the_way, adaptive = deque([arriving] * parameters.delay), parameters.adaptive
    potentials, spikes = [], []
    for n, weighted in enumerate(inputs.unbind(dim=1)):
        x = u - (theta + adaptation * adapted if adaptive else theta)
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
        if adaptive:
            adapted = rho * adapted + spike
    done = torch.stack(spikes, dim=1), torch.stack(potentials, dim=1) if potential else None
    return done if start is None else (*done, [u, current, *(on_the_way or [torch.zeros_like(u)]), adapted])


def readout(
    inputs: torch.Tensor, parameters: LIFParameters, initial: float, start: Values | None = None
) -> torch.Tensor | tuple[torch.Tensor, Values]:
    """See :func:`sgtheory.lif.leaky_readout`. Differentiated by autograd; float32 or float64.

    With ``start``, which then holds U[0], the values after the last step are returned as well.
    """
    a_m, a_s, gain, *_ = coefficients(parameters, inputs)
    zeros = torch.zeros_like(inputs[:, 0])
    potential, current, arriving, _ = start or [torch.full_like(zeros, initial), zeros, zeros, zeros]
    on_the_way = deque([arriving] * parameters.delay)
    potentials = []
    for weighted in inputs.unbind(dim=1):
        on_the_way.append(weighted)
        potential = a_m * potential + gain * current
        current = a_s * current + on_the_way.popleft()
        potentials.append(potential)
    done = torch.stack(potentials, dim=1)
    return done if start is None else (done, [potential, current, *(on_the_way or [zeros]), zeros])


def layer_by_layer(layer, readout_of, inputs, layers, weights, recurrent, readout, readout_weight, noise, starts):
    """A network of the layers and the readout of any backend, one layer after the other through all steps.

    Returns:
        potentials: of the readout [batch, time, unit].
        spikes: of each layer [batch, time, channel, position].
        ends: the values of all states, the readout's last; of nothing if ``starts`` are None.
    """
    starts = starts or [None] * (len(layers) + 1)
    noise = noise.at(samples=noise.sample_indices(len(inputs), inputs.device))  # copied once for all layers
    spikes, found, ends = inputs.to(readout_weight.dtype), [], []
    for index, (neurons, weight, within) in enumerate(zip(layers, weights, recurrent, strict=True)):
        spikes, _, *end = layer(
            convolve(spikes, weight, neurons.stride, neurons.padding),
            neurons.parameters,
            neurons.surrogate,
            neurons.escape,
            noise.at(stream=noise.stream + index),
            within,
            False,
            starts[index],
        )
        found.append(spikes)
        ends += end
    weighted = spikes.flatten(2) @ readout_weight.T
    if starts[-1] is None:
        return readout_of(weighted, readout.parameters, readout.initial), found, ends
    potentials, end = readout_of(weighted, readout.parameters, readout.initial, starts[-1])
    return potentials, found, [*ends, end]


def network_of(layer, readout_of):
    """``network`` of a backend that has layers and a readout only."""

    def network(
        inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes, count, recompute, starts=None
    ):
        """See :func:`sgtheory.lif.spiking_network`, or without ``count`` :func:`sgtheory.lif.network_activity`.

        ``shapes`` are the (channels, positions) of the input and every layer. With ``starts``, the values of all states
        (the readout's last), those after the last step are returned as well.
        """
        arguments = layers, weights, recurrent, readout, readout_weight
        if count:
            potentials, spikes, ends = layer_by_layer(layer, readout_of, inputs, *arguments, noise, starts)
            done = potentials, [s.sum(dim=1) for s in spikes]
            return done if starts is None else (*done, ends)
        batch, steps = inputs.shape[:2]
        potentials = readout_weight.new_empty((batch, steps, len(readout_weight)), requires_grad=False)
        spikes = [inputs.new_empty((batch, steps, channels * positions)) for channels, positions in shapes[1:]]
        samples = noise.sample_indices(batch, inputs.device)
        for first in range(0, batch, ACTIVITY_AT_ONCE):
            part = slice(first, first + ACTIVITY_AT_ONCE)
            of_part = noise.at(samples=samples[part])
            potentials[part], found, _ = layer_by_layer(layer, readout_of, inputs[part], *arguments, of_part, None)
            for out, done in zip(spikes, found, strict=True):
                out[part] = done.flatten(2).to(torch.uint8)
        return potentials, spikes

    return network


network = network_of(layer, readout)
