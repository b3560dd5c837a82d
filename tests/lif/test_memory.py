"""Memory of large tensors: used again once nobody refers to it, never while somebody does, and bounded."""

import gc

import pytest
import torch

from sgtheory.lif import empty_cache
from sgtheory.lif.cpu import memory

LARGE = (memory.SMALLEST // 4,)  # float32


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    empty_cache()
    yield
    empty_cache()


def kept() -> int:
    return sum(block.nbytes for block in memory._kept)


def test_memory_is_used_again_when_the_last_reference_is_gone():
    tensor = memory.empty(LARGE, torch.float32)
    address = tensor.data_ptr()
    assert address % memory.ALIGNMENT == 0
    view, array = tensor[5:], tensor.numpy()[7:]
    del tensor
    assert not kept()
    del view
    assert not kept()
    del array
    assert kept()
    again = memory.empty((2, LARGE[0] // 2), torch.float32)
    assert again.data_ptr() == address
    assert not kept()
    assert memory.empty(LARGE, torch.float32).data_ptr() != address


def test_a_graph_of_autograd_keeps_its_memory():
    x = memory.empty(LARGE, torch.float32).fill_(2.0)
    weight = torch.ones((), requires_grad=True)
    product = x * weight
    del x
    assert not kept()
    product.sum().backward()
    assert float(weight.grad) == 2.0 * LARGE[0]
    del product
    assert kept()


def test_what_is_kept_is_bounded():
    """Never more than twice what was in use at one time; what does not fit is given back before more is asked for."""
    tensors = [memory.empty((n * LARGE[0],), torch.float32) for n in (1, 2, 4)]
    in_use = sum(t.nbytes for t in tensors)
    del tensors
    assert kept() <= in_use + 3 * memory.ALIGNMENT
    larger = memory.empty((16 * LARGE[0],), torch.float32)
    assert not kept()
    del larger
    small = memory.empty(LARGE, torch.float32)
    assert not kept()
    assert small.nbytes == memory.SMALLEST


def test_small_tensors_are_left_to_the_allocator():
    memory.empty((10,), torch.float64)
    assert not kept()
