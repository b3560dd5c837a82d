"""Smooth random manifolds."""

import numpy as np
import pytest

from sgtheory.data import _randman, randman
from sgtheory.errors import ParameterError


def test_every_unit_fires_its_spikes_within_the_duration():
    train, test = randman(classes=3, units=4, spikes=2, duration=0.1, train=50, test=10, seed=1, cutoff=20)
    assert (len(train), len(test)) == (50, 10)
    assert (train.channels, train.keys, train.name) == (4, ("manifold 0", "manifold 1", "manifold 2"), "randman")
    for i in range(50):
        times, units = train[i]
        assert np.bincount(units).tolist() == [2, 2, 2, 2]
        assert times.min() >= 0
        assert times.max() < np.float32(0.1)
    assert np.bincount(np.concatenate((train.labels, test.labels))).tolist() == [20, 20, 20]
    assert train.bin(np.arange(50), 50, 0.002).any()


def test_each_class_uses_the_whole_duration_in_each_unit():
    train, test = randman(classes=2, units=3, train=40, test=20, cutoff=50)
    for label in range(2):
        times = np.concatenate([data.times.reshape(-1, 3)[data.labels == label] for data in (train, test)])
        np.testing.assert_allclose(times.min(axis=0), 0, atol=1e-7)
        np.testing.assert_allclose(times.max(axis=0), 0.1, rtol=1e-6)


@pytest.mark.parametrize("dimension", [1, 2])
def test_coordinates_are_those_of_the_equation(dimension):
    points = np.random.default_rng(0).random((30, dimension))
    value = _randman._coordinate(points, 0.5, 1000, np.random.default_rng(3))
    rng, n, expected = np.random.default_rng(3), np.arange(1, 1001), np.ones(30)
    for x in points.T:
        a, b, c = rng.random((3, 1000))
        expected *= [np.sum(a / np.sqrt(n) * np.sin(2 * np.pi * (n * b * each + c))) for each in x]
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(value, expected, atol=3e-6)


def test_larger_alpha_is_smoother():
    x = np.linspace(0, 1, 400)[:, None]

    def roughness(alpha):
        return np.mean([np.abs(np.diff(_randman._coordinate(x, alpha, 100, np.random.default_rng(s)))).sum()
                        for s in range(20)])  # fmt: skip

    assert roughness(0.5) > 2 * roughness(1.5) > 2 * roughness(3.0)


def test_the_seed_makes_the_data():
    settings = {"classes": 2, "units": 3, "train": 10, "test": 5, "cutoff": 10}
    first, again, other = (randman(**settings, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.times, again.times)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.times, other.times)


@pytest.mark.parametrize("change", [{"classes": 0}, {"units": 2.5}, {"duration": 0.0}, {"train": 4}, {"spikes": 0}])
def test_parameters_are_checked(change):
    with pytest.raises(ParameterError, match=next(iter(change))):
        randman(**{"test": 1, **change})
