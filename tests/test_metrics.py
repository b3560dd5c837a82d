"""Distances, Fano factors and interval statistics: by hand, by definition, and against elephant."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.errors import ParameterError
from sgtheory.metrics import (
    PSPKernel,
    SpikeCounts,
    fano_factor,
    firing_rate,
    isi_statistics,
    l2_distance,
    van_rossum_distance,
)


def trains(seed, *shape, rate=0.2):
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.uint8)


def test_l2_by_hand():
    target = np.array([[1, 0], [0, 0], [1, 1]])
    spikes = np.array([[[1, 0], [0, 0], [1, 1]], [[0, 1], [0, 0], [1, 0]]])
    assert l2_distance(spikes, target).tolist() == [0, 0.75]  # 3 mistakes, half each, two neurons


@pytest.mark.parametrize("endpoint", [True, False])
def test_van_rossum_is_the_convolution_of_eq_25(endpoint):
    spikes, target = trains(0, 3, 50, 7), trains(1, 50, 7)
    kernel = PSPKernel.sampled(10e-3, 5e-3, 1e-3, 50, endpoint)
    t = np.linspace(0, 50e-3, 50, endpoint=endpoint)
    alpha = 0.2 * (np.exp(-t / 10e-3) - np.exp(-t / 5e-3))
    np.testing.assert_allclose(kernel.samples(50), alpha, atol=1e-15)
    difference = spikes.astype(float) - target
    filtered = np.apply_along_axis(lambda d: np.convolve(d, alpha)[:50], 1, difference)
    expected = 0.5 * (filtered**2).sum(axis=1).mean(axis=1)
    np.testing.assert_allclose(van_rossum_distance(spikes, target, kernel), expected, rtol=1e-12)


def test_van_rossum_by_hand():
    """One extra spike: half the energy of the kernel, averaged over two neurons."""
    spikes, target = np.zeros((1, 400, 2), np.uint8), np.zeros((400, 2), np.uint8)
    spikes[0, 3, 1] = 1
    kernel = PSPKernel(10e-3, 5e-3, 1e-3)
    energy = 0.04 * sum((math.exp(-k / 10) - math.exp(-k / 5)) ** 2 for k in range(400))
    assert van_rossum_distance(spikes, target, kernel)[0] == pytest.approx(0.25 * energy, rel=1e-9)


def test_van_rossum_against_elephant():
    """With one exponential the two differ by the stated factor and the square root."""
    quantities, neo = pytest.importorskip("quantities"), pytest.importorskip("neo")
    elephant = pytest.importorskip("elephant.spike_train_dissimilarity")
    steps, dt, tau = 600, 1e-3, 10e-3
    a, b = trains(2, 200, rate=0.05), trains(3, 200, rate=0.05)

    def train(x):
        return neo.SpikeTrain(np.flatnonzero(x) * dt, units="s", t_stop=steps * dt)

    d = elephant.van_rossum_distance([train(a), train(b)], time_constant=tau * quantities.s)[0, 1]
    pad = np.zeros(steps - 200, np.uint8)  # until the last exponential has died
    ours = van_rossum_distance(
        np.concatenate([a, pad])[None, :, None], np.concatenate([b, pad])[:, None], PSPKernel(tau, 1e-9, dt)
    )
    expected = 0.2**2 * d**2 / (2 * (math.exp(2 * dt / tau) - 1))
    assert float(ours[0]) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=50)
@given(st.integers(0, 1000))
def test_distances_are_zero_only_for_equal_trains_and_symmetric(seed):
    a, b = trains(seed, 30, 3), trains(seed + 1, 30, 3)
    kernel = PSPKernel(10e-3, 5e-3, 1e-3)
    assert van_rossum_distance(a[None], a, kernel)[0] == 0
    ab, ba = van_rossum_distance(a[None], b, kernel)[0], van_rossum_distance(b[None], a, kernel)[0]
    assert ab == pytest.approx(ba)
    assert (ab > 0) == bool((a[:-1] != b[:-1]).any())  # the kernel is 0 at once: the last step cannot count


def test_fano_factor_against_elephant():
    statistics, neo = pytest.importorskip("elephant.statistics"), pytest.importorskip("neo")
    spikes = trains(4, 12, 20, 3, rate=0.3)
    for window in (1, 5):
        values = []
        for neuron in range(3):
            for start in range(20 - window + 1):
                counts = [np.flatnonzero(t) for t in spikes[:, start : start + window, neuron]]
                if sum(map(len, counts)):
                    values.append(statistics.fanofactor([neo.SpikeTrain(c, units="ms", t_stop=20) for c in counts]))
        assert fano_factor(spikes, window) == pytest.approx(np.mean(values))


def test_trials_may_come_in_parts():
    spikes = trains(3, 30, 40, 100, rate=0.1)
    for window in (1, 20):
        counts = SpikeCounts(window)
        assert math.isnan(counts.fano_factor)
        for part in np.split(spikes, [7, 8]):
            counts.add(part)
        assert counts.fano_factor == fano_factor(spikes, window)
        with pytest.raises(ParameterError, match="of earlier trials"):
            counts.add(spikes[:, :, :1])


def test_fano_factor_of_bernoulli_spikes_is_one_minus_p():
    """n = 400 trials x 500 x 20; the population variance is short by a factor 1 - 1/n."""
    p = 0.3
    fano = fano_factor(trains(5, 400, 500, 20, rate=p))
    assert fano == pytest.approx((1 - p) * (1 - 1 / 400), abs=4.5 * 0.05 / math.sqrt(500 * 20))


def test_fano_factor_of_constant_and_of_silent_trains():
    assert fano_factor(np.ones((5, 10, 2), np.uint8)) == 0
    assert math.isnan(fano_factor(np.zeros((5, 10, 2), np.uint8)))
    with pytest.raises(ParameterError, match="window"):
        fano_factor(np.zeros((5, 10, 2), np.uint8), 11)


def test_intervals_by_hand_and_against_elephant():
    statistics = pytest.importorskip("elephant.statistics")
    train = np.zeros((20, 2), np.uint8)
    train[[2, 5, 6, 12], 0] = 1
    train[[1, 9], 1] = 1
    mean, variation = isi_statistics(train, 1e-3)
    assert mean == pytest.approx((3 + 1 + 6 + 8) / 4 * 1e-3)
    assert variation == pytest.approx(statistics.cv([3, 1, 6]))
    spikes = trains(6, 3, 100, 4)
    expected = [statistics.cv(np.diff(np.flatnonzero(t))) for trial in spikes for t in trial.T]
    assert isi_statistics(spikes, 1e-3)[1] == pytest.approx(np.mean(expected))
    assert all(map(math.isnan, isi_statistics(np.zeros((5, 2), np.uint8), 1e-3)))


def test_rate():
    assert firing_rate(np.array([[1, 0], [0, 0]]), 2e-3) == pytest.approx(125)


METRICS = {
    "l2": lambda s: l2_distance(s, s[0]),
    "van Rossum": lambda s: van_rossum_distance(s, s[0], PSPKernel(10e-3, 5e-3, 1e-3)),
    "fano": lambda s: fano_factor(s, np.int64(2)),
    "rate": lambda s: firing_rate(s, np.float32(2**-10)),
    "intervals": lambda s: isi_statistics(s, 2**-10),
}


@pytest.mark.parametrize("name", METRICS)
def test_spikes_of_every_type_give_the_same(name):
    spikes = trains(0, 4, 30, 5)
    expected = METRICS[name](spikes)
    for dtype in (bool, np.int8, np.uint64, np.float16, np.float32, np.float64, np.longdouble, ">f4"):
        assert np.array_equal(METRICS[name](spikes.astype(dtype)), expected), dtype
    assert np.array_equal(METRICS[name](np.asfortranarray(spikes)), expected)
    assert np.array_equal(METRICS[name](torch.from_numpy(spikes)), expected)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    "wrong", [np.zeros(3), np.zeros((2, 3, 4), complex), np.zeros((2, 3, 4), object), np.full((2, 3, 4), np.nan)]
)
def test_what_is_no_spike_train_is_refused(name, wrong):
    with pytest.raises(ParameterError, match=r"(spikes|target) = "):
        METRICS[name](wrong)


@pytest.mark.parametrize("name", [name for name in METRICS if name != "van Rossum"])
def test_means_are_not_taken_for_spikes(name):
    with pytest.raises(ParameterError, match=r"(spikes|target) = 0\.5: must be spikes, 0 or 1"):
        METRICS[name](np.full((2, 3, 4), 0.5))


def test_a_target_between_0_and_1_is_not_cut_off():
    half = np.full((20, 2), 0.5)
    kernel = PSPKernel(10e-3, 5e-3, 1e-3)
    assert van_rossum_distance(np.zeros((1, 20, 2), np.uint8), half, kernel) > 0


def test_windows_and_steps_are_checked():
    for window in (0, 31, 2.5, True):
        with pytest.raises(ParameterError, match="window = "):
            fano_factor(trains(0, 4, 30, 5), window)
    for metric in (firing_rate, isi_statistics):
        with pytest.raises(ParameterError, match="dt = "):
            metric(trains(0, 4, 30, 5), 0.0)


def test_the_fano_factor_of_few_trials_is_not_that_of_many():
    """1 - p of independent spikes holds for many trials: 10 of them with p = 0.02 give 0.89 (n = 10**6, s.e. 0.001)."""
    few = np.random.default_rng(0).random((10, 1000, 100)) < 0.02
    assert fano_factor(few) == pytest.approx(0.89, abs=0.006)
    many = np.random.default_rng(0).random((2000, 50, 10)) < 0.02
    assert fano_factor(many) == pytest.approx(0.98, abs=0.006)
