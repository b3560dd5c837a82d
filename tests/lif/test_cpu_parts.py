"""Parts of the compiled layers on their own: products, events, wires of a convolution, spikes with escape noise."""

import math
import os

import numpy as np
import pytest
import torch
from numba import njit

from sgtheory.lif._fused import EXPONENTIAL_THRESHOLD, GIVEN_SURROGATE, SIGMOID_THRESHOLD, surrogate_kind
from sgtheory.lif.cpu import forget_outdated
from sgtheory.lif.cpu.convolution import Convolution
from sgtheory.lif.cpu.functions import (
    bound_of_probability,
    confirm_candidates,
    mark_candidates,
    surrogate_row,
    threshold_row,
)
from sgtheory.lif.cpu.vector import add_product, add_row, find_events, lanes
from sgtheory.neurons import RectifiedLinear, ScaledSigmoidDerivative, ScaledSuperSpike, SigmoidDerivative, SuperSpike


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "depth", "vectors"), [(1, 1, 1), (13, 9, 1), (25, 4, 3), (11, 3, 7), (7, 0, 2)])
def test_products_of_overlapping_rows(dtype, rows, depth, vectors):
    rng = np.random.default_rng(0)
    columns, step, out_step = vectors * lanes(dtype), 3, 5
    left = rng.normal(size=2 + rows * step + depth).astype(dtype)
    right = rng.normal(size=(depth, columns)).astype(dtype)
    out = rng.normal(size=1 + rows * out_step + columns).astype(dtype)
    expected = out.astype(np.float64)
    for r in range(rows):
        expected[1 + r * out_step :][:columns] += left[2 + r * step :][:depth] @ right
    add_product(out, 1, out_step, left, 2, step, rows, right)
    np.testing.assert_allclose(out, expected, rtol=0, atol=np.finfo(dtype).eps * 20 * np.abs(expected).max())


@njit
def add_row_(*args):
    add_row(*args)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 37, 64])
def test_sums_of_rows_end_where_they_should(size):
    row = np.arange(1, 101, dtype=np.float32)
    out = np.ones(100, np.float32)
    expected = out.copy()
    expected[5 : 5 + size] += row[7 : 7 + size]
    add_row_(out, 5, row, 7, size)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize(("at", "size"), [(0, 200), (3, 64), (100, 100), (190, 10), (137, 63), (0, 0)])
def test_events_are_the_flags_that_are_set(at, size):
    flags = (np.random.default_rng(1).random(200) < 0.3).astype(np.uint8)
    found = np.full(250, -1, np.int32)
    end = find_events(flags, at, size, found, 2)
    assert np.array_equal(found[2:end], np.flatnonzero(flags[at : at + size]))
    assert found[1] == -1


@pytest.mark.parametrize("geometry", [(11, 5, 3, 0), (12, 5, 2, 2), (9, 3, 1, 1), (9, 9, 1, 0), (7, 2, 4, 1)])
def test_wires_are_those_of_the_convolution(geometry):
    below, kernel, stride, padding = geometry
    weight = torch.randn(3, 2, kernel, generator=torch.Generator().manual_seed(0))
    spikes = torch.eye(below * 2).reshape(-1, below, 2).mT
    expected = torch.nn.functional.conv1d(spikes, weight, stride=stride, padding=padding)
    wires = Convolution(weight.numpy(), below, expected.shape[2], stride, padding)
    for neuron, (first, target, size) in enumerate(wires.wires):
        got = np.zeros(expected.shape[2] * 3, np.float32)
        got[target : target + size] = wires.rows.reshape(-1)[first : first + size]
        assert np.array_equal(got, expected[neuron].mT.flatten().numpy())
    assert torch.equal(wires.like_weight(wires.rows), weight)


@pytest.mark.parametrize(
    ("kind", "p0"), [(SIGMOID_THRESHOLD, 1.0), *((EXPONENTIAL_THRESHOLD, p0) for p0 in (1e-9, 1.0, 1e9))]
)
@pytest.mark.parametrize("scale", [1e-6, 0.1, 3.0, 1e6])
def test_candidates_miss_no_spike(kind, scale, p0):
    """Potentials within a few roundings of their thresholds, where the bound is tightest, and far from them."""
    rng = np.random.default_rng(2)
    size, theta, scale, p0 = 20000, np.float32(1), np.float32(scale), np.float32(p0)
    words = (2.0 ** rng.uniform(0, 32, size)).astype(np.uint32)
    q = np.empty(size, np.float32)
    threshold_row(q, words, kind, scale, p0)
    potential = theta + q
    ulps = rng.integers(-3, 4, size)
    for _ in range(3):
        potential = np.where(ulps > 0, np.nextafter(potential, np.float32(np.inf)), potential)
        potential = np.where(ulps < 0, np.nextafter(potential, np.float32(-np.inf)), potential)
        ulps -= np.sign(ulps)
    potential[::3] = rng.normal(size=len(potential[::3])) * 10.0 ** rng.uniform(-3, 8, len(potential[::3]))
    flags, found = np.zeros(size, np.uint8), np.empty(size, np.int32)
    slope, offset = bound_of_probability(scale, p0)
    mark_candidates(flags, potential, theta, words, slope, offset)
    candidates = find_events(flags, 0, size, found, 0)
    room = np.zeros(size + 16, np.uint32), np.zeros(size + 16, np.float32)
    end = confirm_candidates(found, 0, candidates, potential, theta, words, kind, scale, p0, *room)
    expected = np.flatnonzero((potential - theta) > q)
    assert np.array_equal(found[:end], expected)
    assert 100 < len(expected) < size - 100


def test_compiled_code_that_is_older_than_a_source_is_forgotten(tmp_path):
    (tmp_path / "__pycache__").mkdir()
    for name, seconds in (("kernels.py", 1), ("functions.py", 3), ("__pycache__/a.nbi", 2), ("__pycache__/b.nbi", 4)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    forget_outdated(tmp_path)
    assert [index.name for index in (tmp_path / "__pycache__").iterdir()] == ["b.nbi"]


SURROGATES = (
    SuperSpike(10.0),
    ScaledSuperSpike(5.0),
    SigmoidDerivative(7.0),
    ScaledSigmoidDerivative(7.0),
    RectifiedLinear(2.0),
)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_surrogates_of_extreme_potentials(surrogate):
    """From 0 up to the peak, and NaN of NaN: in PyTorch, and in the kernels."""
    x = torch.tensor([0.0, 1e-45, -1e-45, 1e-38, 1.0, -1.0, 1e4, -1e4, 1e38, -1e38, math.inf, -math.inf, math.nan])
    peak = float(surrogate.derivative(torch.zeros(1), None))
    for dtype in (torch.float32, torch.float64):
        kind, beta, scale = surrogate_kind(surrogate)
        compiled = np.empty(len(x), torch.empty(0, dtype=dtype).numpy().dtype)
        constants = (compiled.dtype.type(c) for c in (0.0, kind, beta, scale))
        theta, _, beta, scale = constants
        surrogate_row(compiled, x.to(dtype).numpy(), theta, kind, beta, scale)
        for values in (surrogate.derivative(x.to(dtype), None), torch.from_numpy(compiled)):
            assert kind != GIVEN_SURROGATE
            assert values[-1].isnan()
            assert bool((values[:-1] >= 0).all())
            assert bool((values[:-1] <= peak * (1 + 1e-6)).all())
            assert values[6:-1].max() < 1e-8
