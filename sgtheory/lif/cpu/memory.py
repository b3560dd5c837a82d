"""Large tensors in memory that is used again: the first touch of fresh memory costs as much as the arithmetic on it."""

import math
import weakref
from threading import Lock

import numpy as np
import torch

SMALLEST = 2**22  # bytes; from here on numpy asks for huge pages
ALIGNMENT = 64  # bytes: a cache line, a vector

_kept: list[np.ndarray] = []
_lock = Lock()


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor with undefined content. If it is large, its memory is kept when the last reference to it is gone.

    What is kept and what is in use is together never more than twice what was in use at one time, because memory is
    asked for anew only after all that is kept has been given back. :func:`empty_cache` gives it back, too.
    """
    numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
    size = math.prod(shape) * numpy_dtype.itemsize
    if size < SMALLEST:
        return torch.empty(shape, dtype=dtype)
    block = _take(size + ALIGNMENT)
    first = -block.ctypes.data % ALIGNMENT
    array = block[first : first + size].view(numpy_dtype).reshape(shape)
    weakref.finalize(array, _kept.append, block).atexit = False  # the tensor holds this very array
    return torch.from_numpy(array)


def empty_cache() -> None:
    """Give memory that the CPU backend keeps for its next tensors, and that is not in use, back to the system."""
    _kept.clear()


def _take(size: int) -> np.ndarray:
    with _lock:
        fitting = [(block.size, i) for i, block in enumerate(_kept) if size <= block.size <= 2 * size]
        if fitting:
            return _kept.pop(min(fitting)[1])  # tensors that die meanwhile are appended: indices stay valid
        _kept.clear()
    return np.empty(size, np.uint8)  # numpy asks for huge pages
