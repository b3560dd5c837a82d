"""Convolutions in the order in which the compiled layers use them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sgtheory.lif.cpu.recurrent_kernels import Synapses, Transposed
from sgtheory.lif.cpu.vector import VECTOR_BYTES, lanes


def aligned_zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Zeros that start where a vector starts: those that cross lines of the cache are read at half the speed."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + VECTOR_BYTES, np.uint8)
    first = -raw.ctypes.data % VECTOR_BYTES
    return raw[first : first + size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class Convolution:
    """Synapses from a layer of ``below`` positions to one of ``positions``; memory is channels last in both.

    What one spike adds is contiguous: its position is at one of ``stride`` phases with respect to the positions of the
    target, and reaches ``taps`` of them that are neighbours, the last of which sees it at its first weight.

    Args:
        weight: [post, pre, kernel].
    """

    weight: np.ndarray
    below: int
    positions: int
    stride: int = 1
    padding: int = 0

    @property
    def taps(self) -> int:
        return -(-self.weight.shape[2] // self.stride)

    @cached_property
    def rows(self) -> np.ndarray:
        """Weights [pre, phase, reversed tap, post]."""
        post, pre, kernel = self.weight.shape
        rows = aligned_zeros((pre, self.stride, self.taps, post), self.weight.dtype)
        filled = np.zeros((post, pre, self.taps * self.stride), self.weight.dtype)
        filled[..., :kernel] = self.weight
        rows[:] = filled.reshape(post, pre, self.taps, self.stride)[:, :, ::-1].transpose(1, 3, 2, 0)
        return rows

    def like_weight(self, rows: np.ndarray) -> torch.Tensor:
        """[post, pre, kernel] from the order of :attr:`rows`."""
        post, pre, kernel = self.weight.shape
        return torch.from_numpy(rows.transpose(3, 0, 2, 1)[:, :, ::-1].reshape(post, pre, -1)[..., :kernel].copy())

    @cached_property
    def wires(self) -> np.ndarray:
        """For every neuron below: where its weights start in ``rows``, where their targets start, how many they are."""
        post, pre, kernel = self.weight.shape
        position, channel = np.divmod(np.arange(self.below * pre), pre)
        last, phase = np.divmod(position + self.padding, self.stride)
        first = last - (kernel - 1 - phase) // self.stride
        first, end = np.maximum(first, 0), np.minimum(last + 1, self.positions)
        row = (channel * self.stride + phase) * self.taps + self.taps - 1 - last + first
        return np.stack([row * post, first * post, np.maximum(end - first, 0) * post], axis=1)

    @property
    def to_below(self) -> Transposed:
        """What passes errors back to another layer."""
        return Transposed(self.wires, self.back, self.stride * self.weight.shape[1])

    @property
    def to_itself(self) -> Transposed:
        """What passes errors back to the same layer (stride 1)."""
        return Transposed(self.wires, self.windows, self.positions)

    @cached_property
    def back(self) -> np.ndarray:
        """[post, kernel * pre and zeros]: what every position sends back to its window of the layer below."""
        post, pre, kernel = self.weight.shape
        return whole_vectors(self.weight.transpose(0, 2, 1).reshape(post, kernel * pre))

    @cached_property
    def windows(self) -> np.ndarray:
        """[reversed tap * post, pre and zeros]: the transposed convolution of stride 1, as a sum over a window."""
        return whole_vectors(self.rows.reshape(len(self.rows), -1).T)

    @property
    def synapses(self) -> Synapses:
        """What the forward pass needs."""
        return Synapses(self.wires, self.rows)

    @property
    def margin_below(self) -> int:
        """Neurons that the first window reaches to before the first neuron below."""
        return self.padding * self.weight.shape[1]

    @property
    def width_below(self) -> int:
        """Neurons below and a margin, so that every window is inside and ends with a vector."""
        pre = self.weight.shape[1]
        return max((self.positions - 1) * self.stride * pre + self.back.shape[1], (self.padding + self.below) * pre)


def whole_vectors(matrix: np.ndarray) -> np.ndarray:
    """The matrix with columns of zeros, for a multiple of :func:`lanes`."""
    lane = lanes(matrix.dtype)
    whole = aligned_zeros((len(matrix), -(-matrix.shape[1] // lane) * lane), matrix.dtype)
    whole[:, : matrix.shape[1]] = matrix
    return whole
