"""Large arrays in memory that is used again: the first touch of fresh memory costs as much as the arithmetic on it."""

import math
import weakref
from collections import deque
from functools import cache
from threading import Lock

import numpy as np
import torch

SMALLEST = 2**20  # bytes; less is left to the allocator
ALIGNMENT = 64  # bytes: a cache line, a vector


class Pool:
    """Blocks of bytes that nobody refers to any more, kept for the next one who asks.

    What is in use and what is kept is together never more than what was in use at one time since :meth:`empty`, up to
    the rounding of sizes (an eighth).
    """

    def __init__(self) -> None:
        self.kept: dict[int, list[np.ndarray]] = {}  # by size, the size used last at the end
        self.kept_bytes = self.used_bytes = self.most_bytes = 0
        self._returned: deque[np.ndarray] = deque()  # by finalizers, which must not wait for the lock
        self._lock = Lock()

    def take(self, size: int) -> np.ndarray:
        """At least ``size`` bytes with undefined content."""
        size = _rounded(size)
        with self._lock:
            self._collect()
            blocks = self.kept.get(size)
            if blocks:
                block = blocks.pop()
                self.kept_bytes -= size
            else:
                block = np.empty(size, np.uint8)  # numpy asks for huge pages
            self.used_bytes += size
            self.most_bytes = max(self.most_bytes, self.used_bytes)
            self._trim(self.most_bytes - self.used_bytes)
        return block

    def give(self, block: np.ndarray) -> None:
        """Nobody refers to this one any more."""
        self._returned.append(block)

    def empty(self) -> None:
        """Give all that is kept back to the system."""
        with self._lock:
            self._collect()
            self._trim(0)
            self.most_bytes = self.used_bytes

    def _collect(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self.used_bytes -= block.size
            self.kept_bytes += block.size
            self.kept[block.size] = [*self.kept.pop(block.size, ()), block]

    def _trim(self, room: int) -> None:
        """Drop blocks until no more than ``room`` bytes are kept; sizes that were not used for longest first."""
        while self.kept_bytes > room:
            size = next(iter(self.kept))
            blocks = self.kept[size]
            if blocks:
                blocks.pop()
                self.kept_bytes -= size
            if not blocks:
                del self.kept[size]


def _rounded(size: int) -> int:
    """The next of eight sizes in an octave, so that arrays of nearly the same size share their memory."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


_pool = Pool()


def empty_array(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array with undefined content. If it is large, its memory is kept when the last view of it is gone.

    :func:`empty_cache` gives kept memory back to the system.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    block = _pool.take(size + ALIGNMENT)
    # numpy makes an array from a buffer the base of all of its views: it lives as long as the last of them
    owner = np.frombuffer(block.data, np.uint8)
    weakref.finalize(owner, _pool.give, block).atexit = False
    first = -block.ctypes.data % ALIGNMENT
    return owner[first : first + size].view(dtype).reshape(shape)


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """:func:`empty_array` as a tensor."""
    return torch.from_numpy(empty_array(shape, _numpy_dtype(dtype)))


@cache
def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype


def empty_cache() -> None:
    """Give memory that the CPU backend keeps for its next arrays, and that is not in use, back to the system."""
    _pool.empty()
