"""Counter-based noise: published vectors, independence of everything but the counter, statistics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sgtheory.errors import ParameterError
from sgtheory.lif import Noise
from sgtheory.lif._noise import philox
from sgtheory.lif.cpu.functions import random_words
from sgtheory.neurons import SigmoidEscape

# Random123 (Salmon et al. 2011), known-answer test of philox4x32-10: counter, key, result
VECTORS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
words = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_vectors(counter, key, expected):
    assert tuple(int(word) for word in philox(counter, key)) == expected


@settings(max_examples=25, deadline=None)
@given(words, words, words, words, words, st.integers(1, 200))
def test_compiled_words_are_those_of_the_reference(seed, stream, draw, sample, step, neurons):
    uniform = Noise(seed, stream, draw, torch.tensor([sample])).uniform(1, range(step, step + 1), neurons)
    compiled = (random_words(seed, stream, draw, sample, step, neurons) >> 9).astype(np.float32)
    np.testing.assert_array_equal((compiled + np.float32(0.5)) * np.float32(2.0**-23), uniform[0, 0].numpy())


def test_a_number_depends_on_its_place_alone():
    noise = Noise(7, 1, 2)
    whole = noise.uniform(5, range(10), 150)
    assert torch.equal(noise.uniform(5, range(4, 6), 70), whole[:, 4:6, :70])
    shuffled = noise.at(samples=torch.tensor([3, 0])).uniform(2, range(10), 150)
    assert torch.equal(shuffled, whole[[3, 0]])


@pytest.mark.parametrize("change", [{"seed": 8}, {"stream": 2}, {"draw": 3}])
def test_every_part_of_the_key_matters(change):
    noise = Noise(7, 1, 2)
    assert not torch.equal(noise.at(**change).uniform(1, range(1), 64), noise.uniform(1, range(1), 64))


def test_uniform_and_independent_across_samples_steps_and_neurons():
    r = Noise(3).uniform(40, range(50), 500, torch.float64)  # n = 10^6
    assert stats.kstest(r.flatten().numpy(), "uniform").pvalue > 1e-4
    centred = (r - 0.5) * 12**0.5
    for axis in range(3):
        neighbours = (centred.narrow(axis, 1, r.shape[axis] - 1) * centred.narrow(axis, 0, r.shape[axis] - 1)).flatten()
        assert abs(float(neighbours.mean())) * len(neighbours) ** 0.5 < 4.5  # a z-score


def test_float32_numbers_are_exact_and_never_0_or_1():
    r32, r64 = (Noise(3).uniform(4, range(50), 500, dtype) for dtype in (torch.float32, torch.float64))
    assert torch.equal(r32.to(torch.float64), r64)
    assert 0 < float(r32.min()) < float(r32.max()) < 1
    assert torch.equal((1 - r32).to(torch.float64), 1 - r64)


def test_thresholds_give_the_firing_probability():
    escape = SigmoidEscape(beta=10.0)
    r = Noise(11).uniform(1, range(1000), 1000)
    for x in (-0.3, -0.1, 0.0, 0.2):
        p = float(escape.value(torch.tensor(x, dtype=torch.float64)))
        observed = float((x > escape.quantile(r)).double().mean())
        assert abs(observed - p) < 4.5 * (p * (1 - p) / r.numel()) ** 0.5


@pytest.mark.parametrize("bad", [{"seed": -1}, {"seed": 2**32}, {"seed": 1.5}, {"stream": -1}, {"draw": True}])
def test_numbers_that_do_not_fit_are_refused(bad):
    with pytest.raises(ParameterError, match="2\\*\\*32"):
        Noise(**{"seed": 0, **bad})


def test_sample_indices_must_fit_the_batch():
    with pytest.raises(ParameterError, match="3 samples"):
        Noise(0, samples=torch.tensor([1, 2])).uniform(3, range(1), 4)
    with pytest.raises(ParameterError, match="samples"):
        Noise(0, samples=torch.tensor([-1])).uniform(1, range(1), 4)
