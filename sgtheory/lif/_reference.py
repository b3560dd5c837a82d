"""The definition: leaky integrate-and-fire layers in plain PyTorch, one step after the other.

Everything else in this package computes the same thing faster and is tested against this file.
"""

from collections import deque

import torch

from sgtheory.lif._noise import Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative


class Spike(torch.autograd.Function):
    """S = [x > q]; passes back the surrogate derivative at x = U - theta."""

    @staticmethod
    def forward(ctx, x, q, surrogate):
        spikes = (x > q).to(x.dtype)
        ctx.save_for_backward(x, spikes)
        ctx.surrogate = surrogate
        return spikes

    @staticmethod
    def backward(ctx, gradient):
        x, spikes = ctx.saved_tensors
        return gradient * ctx.surrogate.derivative(x, spikes), None, None


def thresholds(escape: EscapeFunction, noise: Noise, inputs: torch.Tensor, step: int) -> torch.Tensor:
    """Random thresholds of one step in the shape of ``inputs[:, step]``; channels count fastest (channels last)."""
    batch, _, *shape = inputs.shape
    shape = shape[::-1]
    r = noise.uniform(batch, range(step, step + 1), torch.Size(shape).numel(), inputs.dtype).view(batch, *shape)
    return escape.quantile(r).to(inputs.device).movedim(-1, 1)


def recurrent_input(spikes: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor | float:
    """sum_k V_ik S_k for dense weights [post, pre] or a convolution [post, pre, kernel] that keeps the length."""
    if weight is None:
        return 0.0
    if weight.ndim == 2:
        return spikes @ weight.T
    return torch.nn.functional.conv1d(spikes, weight, padding=weight.shape[-1] // 2)


def lif_reference(
    inputs: torch.Tensor,
    parameters: LIFParameters,
    surrogate: SurrogateDerivative,
    escape: EscapeFunction,
    noise: Noise,
    recurrent: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See :func:`sgtheory.lif.lif`. Differentiated by autograd; float32 or float64."""
    a_m, a_s = parameters.membrane_decay, parameters.synaptic_decay
    potential = current = inputs[:, :0].sum(dim=1)  # zeros, and part of the graph
    on_the_way = deque(torch.zeros_like(potential) for _ in range(parameters.delay))
    potentials, spikes = [], []
    for n, weighted in enumerate(inputs.unbind(dim=1)):
        spike = Spike.apply(potential - parameters.threshold, thresholds(escape, noise, inputs, n), surrogate)
        potentials.append(potential)
        spikes.append(spike)
        on_the_way.append(weighted + recurrent_input(spike, recurrent))
        keep = 1 - (spike if parameters.reset_gradient == "attached" else spike.detach())
        if parameters.reset == "next":
            potential = (a_m * potential + (1 - a_m) * current) * keep
        else:
            potential = a_m * potential * keep + (1 - a_m) * current
        current = a_s * current + on_the_way.popleft()
    return torch.stack(spikes, dim=1), torch.stack(potentials, dim=1)


def readout_reference(inputs: torch.Tensor, parameters: LIFParameters, initial: float) -> torch.Tensor:
    """See :func:`sgtheory.lif.leaky_readout`. Differentiated by autograd; float32 or float64."""
    a_m, a_s = parameters.membrane_decay, parameters.synaptic_decay
    potential = torch.full_like(inputs[:, 0], initial)
    current = torch.zeros_like(potential)
    on_the_way = deque(torch.zeros_like(potential) for _ in range(parameters.delay))
    potentials = []
    for weighted in inputs.unbind(dim=1):
        on_the_way.append(weighted)
        potential = a_m * potential + (1 - a_m) * current
        current = a_s * current + on_the_way.popleft()
        potentials.append(potential)
    return torch.stack(potentials, dim=1)
