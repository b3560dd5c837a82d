"""A layer of LIF neurons with weights, as a torch module."""

import math

import torch

from sgtheory.errors import ParameterError
from sgtheory.lif._layer import DETERMINISTIC, lif
from sgtheory.lif._noise import Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative


class LIF(torch.nn.Module):
    """Weights and LIF neurons: ``spikes = layer(inputs)``.

    Dense by default; with ``kernel`` a convolution along positions.

    Args:
        pre: input neurons, or input channels.
        post: neurons, or channels.
        parameters: time constants, reset, delay.
        surrogate: what passes errors back.
        escape: how the neurons spike; deterministic by default.
        kernel: length of the feed-forward kernel; None is a dense layer.
        stride, padding: of the feed-forward convolution.
        recurrent: None, or for a dense layer 1, or the odd length of the recurrent kernel.
        backend: see :func:`lif`.

    Weights are drawn from N(0, 1 / fan-in) with PyTorch's generator; :mod:`sgtheory.networks` has the initialisation of
    the paper. They act on the synaptic current (Eq 19).

    Raises:
        ParameterError: for a recurrent kernel that does not fit.
    """

    def __init__(
        self,
        pre: int,
        post: int,
        parameters: LIFParameters,
        surrogate: SurrogateDerivative,
        escape: EscapeFunction = DETERMINISTIC,
        kernel: int | None = None,
        stride: int = 1,
        padding: int = 0,
        recurrent: int | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if recurrent is not None and not (recurrent == 1 or (kernel is not None and recurrent % 2)):
            raise ParameterError("recurrent", recurrent, "must be None, 1 for a dense layer, or an odd kernel length")
        self.neuron, self.surrogate, self.escape, self.backend = parameters, surrogate, escape, backend
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.weight = self._drawn(post, pre, *(() if kernel is None else (kernel,)))
        self.recurrent: torch.nn.Parameter | None = None
        if recurrent is not None:
            self.recurrent = self._drawn(post, post, *(() if kernel is None else (recurrent,)))

    @staticmethod
    def _drawn(*shape: int) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.randn(shape) / math.sqrt(math.prod(shape[1:])))

    def forward(self, inputs: torch.Tensor, noise: Noise | None = None) -> torch.Tensor:
        """Spikes [batch, time, post] from inputs [batch, time, pre], or with positions as the last axis of both."""
        if self.kernel is None:
            weighted = inputs @ self.weight.T
        else:
            weighted = torch.nn.functional.conv1d(
                inputs.flatten(0, 1), self.weight, stride=self.stride, padding=self.padding
            ).unflatten(0, inputs.shape[:2])
        spikes, _ = lif(
            weighted, self.neuron, self.surrogate, self.escape, noise, self.recurrent, self.backend, potential=False
        )
        return spikes
