"""Memory of large arrays: used again once nobody refers to it, never while somebody does, and bounded."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sgtheory.lif import LIF, Noise, empty_cache
from sgtheory.lif.cpu import memory
from sgtheory.neurons import LIFParameters, SigmoidEscape, SuperSpike

LARGE = (memory.SMALLEST // 4,)  # float32


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    gc.collect()
    monkeypatch.setattr(memory, "_pool", memory.Pool())
    return memory._pool


def kept(pool) -> int:
    pool._collect()
    assert pool.kept_bytes == sum(block.nbytes for blocks in pool.kept.values() for block in blocks)
    return pool.kept_bytes


def test_memory_is_used_again_when_the_last_reference_is_gone(pool):
    tensor = memory.empty(LARGE, torch.float32)
    address = tensor.data_ptr()
    assert address % memory.ALIGNMENT == 0
    view, array = tensor[5:], tensor.numpy()[7:][1:]
    del tensor
    assert not kept(pool)
    del view
    assert not kept(pool)
    del array
    assert kept(pool)
    again = memory.empty((2, LARGE[0] // 2), torch.float32)
    assert again.data_ptr() == address
    assert not kept(pool)
    assert memory.empty(LARGE, torch.float32).data_ptr() != address


def test_a_graph_of_autograd_keeps_its_memory(pool):
    x = memory.empty(LARGE, torch.float32).fill_(2.0)
    weight = torch.ones((), requires_grad=True)
    product = x * weight
    del x
    assert not kept(pool)
    product.sum().backward()
    assert float(weight.grad) == 2.0 * LARGE[0]
    del product
    assert kept(pool)


def test_what_is_kept_is_bounded(pool):
    """Never more with what is in use than was in use at one time."""
    arrays = [memory.empty_array((n * LARGE[0],), np.float32) for n in (1, 2, 4)]
    most = pool.used_bytes
    del arrays
    assert kept(pool) == most
    for n in range(1, 8):
        array = memory.empty_array((n * LARGE[0] // 2 + LARGE[0],), np.float32)
        assert pool.used_bytes + kept(pool) <= most
        del array
    larger = memory.empty_array((16 * LARGE[0],), np.float32)
    assert not kept(pool)
    del larger
    empty_cache()
    assert not kept(pool)
    assert pool.used_bytes == pool.most_bytes == 0


def test_sequences_of_many_lengths_leave_no_more_than_the_longest_needs(pool):
    layer = LIF(40, 60, LIFParameters(), SuperSpike(10.0), SigmoidEscape(10.0), recurrent=1)
    most = 0
    for steps in range(1200, 1000, -20):
        layer(torch.zeros(8, steps, 40), Noise(1)).sum().backward()
        gc.collect()
        most = max(most, pool.most_bytes)
        assert kept(pool) <= most
    assert 0 < most < 30 * 8 * 1200 * 60  # bytes: several arrays of the longest, not one for each of 10 lengths
    assert pool.most_bytes == most


def test_threads_never_share_what_they_have_taken(pool):
    def work(number):
        for _ in range(50):
            array = memory.empty_array((LARGE[0] + number,), np.float32)
            array[:100] = number
            assert (array[:100] == number).all()
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(8)))
    assert pool.used_bytes >= 0
    assert kept(pool) <= pool.most_bytes


def test_small_arrays_are_left_to_the_allocator(pool):
    memory.empty((10,), torch.float64)
    assert not kept(pool)
