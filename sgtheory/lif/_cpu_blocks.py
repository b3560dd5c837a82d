"""Networks of LIF layers on the CPU: blocks of samples run through all layers, several blocks at a time."""

import importlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from sgtheory.lif._cpu import constants
from sgtheory.lif._cpu_layer import backward_layer, backward_readout, forward_layer, forward_readout
from sgtheory.lif._cpu_noise import prepare_threshold
from sgtheory.lif._cpu_surrogate import GIVEN, prepare_surrogate, surrogate_kind
from sgtheory.lif._noise import Noise
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative

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


@cache
def blas() -> ThreadpoolController:
    """The BLAS libraries of the process, looked up once; scipy's is the one that compiled matrix products call."""
    importlib.import_module("scipy.linalg.cython_blas")
    return ThreadpoolController()


def run_blocks(function: Callable, items: Iterable) -> list:
    """``function`` of every item, on as many threads as ``torch.set_num_threads`` allows, each with one BLAS thread."""
    with blas().limit(limits=1, user_api="blas"):
        if torch.get_num_threads() == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(function, items))


def feed_forward(weight: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    """Weights [post, pre, kernel] in the order [kernel, pre, post]."""
    return weight.detach().to(dtype).permute(2, 1, 0).contiguous().numpy()


def like_feed_forward(gradient: np.ndarray) -> torch.Tensor:
    """Undo :func:`feed_forward`."""
    return torch.from_numpy(gradient).permute(2, 1, 0)


def within_layer(weight: torch.Tensor | None, channels: int, dtype: torch.dtype) -> np.ndarray:
    """Weights [post, pre, kernel] or [post, pre] in the order [pre, reversed kernel, post]; None as a kernel of 0."""
    if weight is None:
        return torch.zeros(channels, 0, channels, dtype=dtype).numpy()
    weight = weight.detach().to(dtype)
    weight = weight.unsqueeze(-1) if weight.ndim == 2 else weight
    return weight.flip(-1).permute(1, 2, 0).contiguous().numpy()


def like_within_layer(gradient: np.ndarray, weight: torch.Tensor) -> torch.Tensor:
    """Undo :func:`within_layer`."""
    return torch.from_numpy(gradient).permute(2, 0, 1).flip(-1).reshape(weight.shape)


@dataclass(frozen=True)
class LayerOnCPU:
    """One layer: its neurons and its weights in the order that the kernels want.

    Args:
        weight: [kernel, pre, post] from the layer below, or a kernel of length 0.
        recurrent: [pre, reversed kernel, post], or a kernel of length 0.
        neurons: positions * channels.
    """

    parameters: LIFParameters
    escape: EscapeFunction
    surrogate: SurrogateDerivative
    noise: Noise
    weight: np.ndarray
    recurrent: np.ndarray
    neurons: int
    stride: int = 1
    padding: int = 0

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
        return (*constants(p, self.recurrent.dtype), p.reset == "same", p.delay)

    def forward(self, sources: np.ndarray, inputs: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Potentials and spikes (uint8) of a block, [batch, time, neuron]; see :func:`forward_layer`."""
        dtype = self.recurrent.dtype
        batch, steps = len(samples), max(sources.shape[1], inputs.shape[1])
        potentials = spare.take((batch, steps, self.neurons), dtype)
        spikes = spare.take(potentials.shape, np.uint8)
        noise = self.noise.at(samples=torch.from_numpy(samples))
        forward_layer(
            sources,
            self.weight,
            self.stride,
            self.padding,
            inputs,
            self.recurrent,
            self.neuron,
            self.keeps_lost,
            prepare_threshold(self.escape, noise, potentials.shape, dtype),
            samples,
            potentials,
            spikes,
        )
        return potentials, spikes

    def true_potential(self, potentials: np.ndarray, spikes: np.ndarray) -> np.ndarray:
        """U from what :meth:`forward` stored."""
        if not self.keeps_lost:
            return potentials
        potentials = potentials.copy()
        potentials[:, 1:][spikes[:, :-1] != 0] = 0
        return potentials

    def backward(
        self,
        gradient: np.ndarray | None,
        gradient_counts: np.ndarray | None,
        sources: np.ndarray,
        potentials: np.ndarray,
        spikes: np.ndarray,
        to_sources: bool,
        to_inputs: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Gradients of a block for weight, recurrent, sources and inputs; see :func:`backward_layer`."""
        dtype = potentials.dtype
        batch, steps, neurons = potentials.shape
        true = self.true_potential(potentials, spikes) if surrogate_kind(self.surrogate)[0] == GIVEN else potentials
        surrogate = prepare_surrogate(self.surrogate, true, spikes, self.parameters.threshold)
        gradient_weight, gradient_recurrent = np.zeros_like(self.weight), np.zeros_like(self.recurrent)
        gradient_sources = spare.take((batch, steps if to_sources else 0, sources.shape[2]), dtype)
        gradient_inputs = np.empty((batch, steps if to_inputs else 0, neurons), dtype)
        backward_layer(
            np.zeros((batch, 0, 0), dtype) if gradient is None else gradient,
            np.zeros((batch, neurons), dtype) if gradient_counts is None else gradient_counts,
            sources,
            self.weight_back if to_sources else np.zeros((self.recurrent.shape[2], 0), dtype),
            self.stride,
            self.padding,
            self.recurrent_back,
            self.neuron,
            self.attached,
            surrogate,
            potentials,
            spikes,
            gradient_weight,
            gradient_recurrent,
            gradient_sources,
            gradient_inputs,
        )
        return gradient_weight, gradient_recurrent, gradient_sources, gradient_inputs

    @cached_property
    def weight_back(self) -> np.ndarray:
        """[post, kernel * pre]: one matrix product gives what every position sends back to its window."""
        kernel, pre, post = self.weight.shape
        return np.ascontiguousarray(self.weight.transpose(2, 0, 1).reshape(post, kernel * pre))

    @cached_property
    def recurrent_back(self) -> np.ndarray:
        """[reversed kernel * post, pre]: the transposed convolution of rows of kernel * post."""
        return np.ascontiguousarray(self.recurrent.reshape(len(self.recurrent), -1).T)


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

    def forward(self, sources: np.ndarray) -> np.ndarray:
        """U[1] ... U[time] of a block, [batch, time, unit]."""
        potentials = np.empty((*sources.shape[:2], self.weight.shape[1]), self.weight.dtype)
        forward_readout(sources, self.weight, *self._constants, self.weight.dtype.type(self.initial), potentials)
        return potentials

    def backward(self, gradient: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of a block for the weight and for the source spikes."""
        gradient_weight = np.zeros_like(self.weight)
        gradient_sources = spare.take(sources.shape, self.weight.dtype)
        weight_back = np.ascontiguousarray(self.weight.T)
        backward_readout(gradient, sources, weight_back, *self._constants, gradient_weight, gradient_sources)
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
        layer = LayerOnCPU(
            parameters,
            escape,
            surrogate,
            noise,
            np.zeros((0, 0, channels), inputs.numpy().dtype),
            within_layer(recurrent, channels, inputs.dtype),
            positions * channels,
        )
        flat = inputs.detach().reshape(batch, steps, -1).contiguous().numpy()
        samples = noise.sample_indices(batch).numpy()
        nothing = np.zeros((batch, steps, 0), np.uint8)
        potentials, spikes = np.empty(flat.shape, flat.dtype), np.empty(flat.shape, np.uint8)

        def forward(block):
            activity = layer.forward(nothing[block], flat[block], samples[block])
            potentials[block], spikes[block] = activity
            spare.give(*activity)

        run_blocks(forward, blocks(batch))
        ctx.layer, ctx.potentials, ctx.spikes, ctx.recurrent = layer, potentials, spikes, recurrent
        true = torch.from_numpy(layer.true_potential(potentials, spikes)).view(inputs.shape)
        ctx.mark_non_differentiable(true)
        return torch.from_numpy(spikes).to(inputs.dtype).view(inputs.shape), true

    @staticmethod
    def backward(ctx, gradient, _):
        layer, potentials, spikes = ctx.layer, ctx.potentials, ctx.spikes
        batch, steps, _ = potentials.shape
        flat = gradient.reshape(potentials.shape).contiguous().numpy()
        out = np.empty_like(potentials)
        nothing = np.zeros((batch, steps, 0), np.uint8)

        def backward(block):
            args = nothing[block], potentials[block], spikes[block]
            _, recurrent, _, out[block] = layer.backward(flat[block], None, *args, to_sources=False, to_inputs=True)
            return recurrent

        parts = run_blocks(backward, blocks(batch))
        total = ordered_sum(parts) if parts else np.zeros_like(layer.recurrent)
        recurrent = None if ctx.recurrent is None else like_within_layer(total, ctx.recurrent)
        return torch.from_numpy(out).view(gradient.shape), recurrent, None, None, None, None
