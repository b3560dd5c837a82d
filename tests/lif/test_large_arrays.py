"""Kernels on arrays of more than 2^31 and 2^32 numbers, most of them never touched."""

import mmap

import numpy as np
import pytest
import torch
from numba import njit

from sgtheory.lif._fused import Constants
from sgtheory.lif.cpu.functions import Threshold
from sgtheory.lif.cpu.kernels import forward_kernel, number_of_tasks
from sgtheory.lif.cpu.recurrent_kernels import list_events
from sgtheory.lif.cpu.vector import add_product, add_row, find_events, lanes


def sparse(size, dtype):
    """An array of zeros of which only the pages that are written to exist."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return np.frombuffer(mmap.mmap(-1, size * np.dtype(dtype).itemsize, flags=flags), dtype)


FAR = 2**32 + 7


@njit
def add_row_(*arguments):
    add_row(*arguments)


def test_products_and_rows_beyond_2_to_the_32():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=40).astype(np.float32), rng.normal(size=(6, 2 * lanes(np.float32))).astype(np.float32)
    far_left, far_out = (sparse(FAR + 200, np.float32) for _ in range(2))
    out = np.zeros(200, np.float32)
    far_left[FAR : FAR + 40] = left
    add_product(out, 3, 11, left, 2, 5, 6, right)
    add_product(far_out, FAR + 3, 11, far_left, FAR + 2, 5, 6, right)
    assert np.array_equal(far_out[FAR:], out)
    add_row_(far_out, FAR + 150, far_left, FAR, 37)
    assert np.array_equal(far_out[FAR + 150 : FAR + 187], out[150:187] + left[:37])
    steps = 2**30  # rows that are far apart
    add_product(far_out, 0, steps, far_left, FAR, 1, 4, right)
    assert all(far_out[r * steps : r * steps + 20].any() for r in range(4))


def test_events_beyond_2_to_the_31():
    flags = sparse(2**31 + 2**16, np.uint8).reshape(-1, 1, 2**16)
    flags[-1, 0, [3, 70, 2**16 - 1]] = 1
    found, ends = np.zeros(10, np.int32), np.empty(len(flags) + 1, np.int64)
    flat = flags.reshape(-1)
    assert find_events(flat, 2**31 + 1, 2**16 - 1, found, 0) == 3
    assert found[:3].tolist() == [2, 69, 2**16 - 2]
    list_events(flags[-2:], found, ends)
    assert found[:3].tolist() == [3, 70, 2**16 - 1]


@pytest.mark.torture
def test_a_layer_with_more_than_2_to_the_31_spikes():
    """All its spikes are written: 2 GB."""
    batch, steps, neurons = 1025, 1640, 1280
    assert batch * steps * neurons > 2**31
    inputs = torch.randint(-64, 192, (1, steps, neurons), generator=torch.Generator().manual_seed(0)) / 16
    spikes, nothing = sparse(batch * steps * neurons, np.uint8).reshape(batch, steps, neurons), np.empty(0, np.float32)
    samples = np.arange(batch)
    neuron = Constants(*(np.float32(c) for c in (0.9, 0.8, 0.1, 1.0)), same=False, attached=False, delay=0)
    key = [np.uint64(k) for k in (1, 2, 3)]

    def run(samples, spikes):
        empty = nothing.reshape(len(samples), 0, 0) if len(samples) else nothing
        states = np.empty((len(samples), 0, 2, neurons), np.float32)
        potentials = np.empty((len(samples), 0, neurons), np.float32)
        threshold = Threshold(1, np.float32(0.1), np.float32(1), *key, empty)
        forward_kernel(
            0,
            number_of_tasks(len(spikes), neurons),
            inputs.numpy(),
            neuron,
            threshold,
            samples,
            potentials,
            states,
            spikes,
        )

    run(samples, spikes)
    alone = np.empty((2, steps, neurons), np.uint8)
    run(samples[-2:], alone)
    assert np.array_equal(spikes[-2:], alone)
    assert 0.01 < alone.mean() < 0.6
