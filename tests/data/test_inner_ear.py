"""The model of the inner ear against independent solutions of its equations."""

from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.fft
from scipy.integrate import solve_ivp

from sgtheory.data import BasilarMembrane, BushyCell, HairCell, InnerEar, load_shd
from sgtheory.data import _inner_ear as inner_ear
from sgtheory.errors import ParameterError, UserError

REGENERATED = Path(__file__).parents[3] / "shared" / "shd_regenerated"
RATE = 48000
SECOND = np.arange(RATE) / RATE


@pytest.fixture(scope="module")
def ear():
    return InnerEar()


def vowel(duration=0.3, pitch=120):
    t = SECOND[: int(duration * RATE)]
    harmonics = pitch * np.arange(1, 60)
    formants = sum(np.exp(-(((harmonics - f) / 150) ** 2)) / (k + 1) for k, f in enumerate((600, 1400, 2600)))
    return np.sin(np.pi * t / duration) * (formants @ np.cos(2 * np.pi * harmonics[:, None] * t + harmonics[:, None]))


@pytest.mark.parametrize(("place", "frequency"), [(0.0, 3000), (1.4, 300), (1.4, 2000), (2.5, 400), (3.5, 80)])
def test_transfer_function_at_high_precision(place, frequency):
    """Each equation once more, with arbitrary precision and adaptive quadrature."""
    mpmath.mp.dps = 30
    stiffness, offset, alpha, rho, h, m, delta = 1e9, 3500, 3, 1, 0.1, 0.05, 0.15
    w = 2 * mpmath.pi * frequency
    r = delta * mpmath.sqrt(stiffness * m)

    def xi(c):
        return stiffness * mpmath.exp(-alpha * c) - offset - m * w**2 - 1j * w * r * mpmath.exp(-alpha * c / 2)

    def g(c):
        return w * mpmath.sqrt(rho / (h * xi(c)))

    def pressure(c):
        big_g = 2 * g(0) / alpha + mpmath.quad(g, mpmath.linspace(0, c, 8) if c else [0, 0])
        return mpmath.sqrt(big_g / g(c)) * mpmath.hankel1(0, big_g)

    k = 2 * w / alpha * mpmath.sqrt(2 / (h * stiffness))
    j0, y0, j1, y1 = mpmath.besselj(0, k), mpmath.bessely(0, k), mpmath.besselj(1, k), mpmath.bessely(1, k)
    z = mpmath.sqrt(2 * stiffness / h) * (1j * j0 + y0) / (j1 - 1j * y1)
    expected = complex(2 * w / xi(place) * pressure(place) / pressure(0) * z)

    places = np.linspace(0, 3.5, 3501)
    value = BasilarMembrane().transfer(places, [frequency])[np.searchsorted(places, place - 1e-9), 0]
    assert abs(value - expected) < 1e-4 * abs(expected)


def test_places_of_the_tones():
    """The first channel resonates at 22.5 kHz, the last at 110 Hz; a tone moves the membrane most at its place."""
    membrane = BasilarMembrane()
    place = np.linspace(0, 3.5, 700)
    resonance = membrane.resonance(place)
    assert resonance[0] == pytest.approx(22.5e3, rel=0.01)
    assert resonance[-1] == pytest.approx(110, rel=0.01)
    tones = np.array([150, 300, 600, 1200, 2500, 5000, 10000, 20000])
    peaks = np.abs(membrane.transfer(place, tones)).argmax(axis=0)
    np.testing.assert_allclose(resonance[peaks] / tones, 1.12, atol=0.02)  # the wave is largest before its place


def test_spikes_are_those_of_the_program_that_made_shd():
    """A vowel of 0.4 s, 16 bits, and what lauscher 1.0.1 makes of it: 6172 spikes, times in 24ths of a millisecond.

    Counts in 10 ms x 10 channels correlate with the original as two seeds of ours do with each other, and less if the
    wave runs the other way.
    """
    with np.load(Path(__file__).with_name("lauscher_vowel.npz")) as file:
        sound, original = file["sound"], (file["times"] / 24000, file["channels"])

    def counts(spikes):
        return np.histogram2d(*spikes, bins=(40, 70), range=((0, 0.4), (0, 700)))[0].ravel()

    def heard(seed, **membrane):
        return InnerEar(membrane=BasilarMembrane(**membrane)).spikes(sound, RATE, np.random.default_rng(seed))

    one, other, causal = heard(0), heard(1), heard(0, causal=True)
    assert len(one[0]) == pytest.approx(len(original[0]), rel=0.06)
    among_ours = np.corrcoef(counts(one), counts(other))[0, 1]
    assert np.corrcoef(counts(one), counts(original))[0, 1] == pytest.approx(among_ours, abs=0.015)
    assert among_ours > 0.93 > 0.85 > np.corrcoef(counts(causal), counts(original))[0, 1]


def impulse_responses(**settings):
    """[place, time], time 0 in the middle, and the time."""
    n = 1 << 15
    frequency = scipy.fft.rfftfreq(n, 1 / RATE)
    transfer = np.zeros((117, len(frequency)), complex)
    transfer[:, 1:] = BasilarMembrane(**settings).transfer(np.linspace(0, 3.5, 117), frequency[1:])
    return scipy.fft.fftshift(scipy.fft.irfft(transfer, n), axes=1), np.arange(-n // 2, n // 2) / RATE


def test_the_causal_membrane_does_not_move_before_the_sound():
    response, time = impulse_responses(causal=True)
    energy = response[20:] ** 2 / np.sum(response[20:] ** 2, axis=1, keepdims=True)
    assert energy[:, time < 0].sum(axis=1).max() < 2e-3
    delay = energy @ time
    assert (np.diff(delay) > 0).all()  # the wave travels from the base to the apex
    assert 0.015 < delay[-1] < 0.04


def test_by_default_the_wave_runs_backwards_as_in_shd():
    response, _ = impulse_responses()
    causal, _ = impulse_responses(causal=True)
    np.testing.assert_allclose(response[:, 1:], causal[:, :0:-1], atol=1e-9 * np.abs(causal).max())


def lead(data, samples, channels=(580, 600), bins=1600, most=20):
    """By how many bins of 0.5 ms the spikes of the second channel come before those of the first."""
    correlation = np.zeros(2 * most + 1)
    for i in samples:
        times, units = data[i]
        first, second = (np.histogram(times[np.abs(units - c) < 4], bins, (0, 0.0005 * bins))[0] for c in channels)
        first, second = (x - np.convolve(x, np.ones(41) / 41, "same") for x in (first * 1.0, second * 1.0))
        correlation += [first[most:-most] @ np.roll(second, k)[most:-most] for k in range(-most, most + 1)]
    return correlation.argmax() - most


def test_latencies_are_those_of_shd():
    """Neighbouring channels fire one after the other, by default the lower one first."""
    noise = np.convolve(np.random.default_rng(1).standard_normal(RATE), np.ones(80))  # below 300 Hz
    for membrane, low, high in ((BasilarMembrane(), 2, 4), (BasilarMembrane(causal=True), -4, -2)):
        times, units = InnerEar(membrane=membrane).spikes(noise, RATE, np.random.default_rng(0))
        assert low <= lead([(times, units.astype(int))], [0], bins=2000) <= high
    if not REGENERATED.is_dir():
        pytest.skip("the rest compares with shd_regenerated, which is not there")
    data = load_shd(REGENERATED / "shd_test.h5.gz")
    events = {i: (data[i][0], data[i][1].astype(int)) for i in range(60)}
    assert 2 <= lead(events, events) <= 4


@pytest.mark.parametrize("frequency", [200, 1000, 4000])
def test_a_tone_makes_the_channels_of_its_place_fire(ear, frequency):
    _, units = ear.spikes(np.sin(2 * np.pi * frequency * SECOND[:4800]), RATE, np.random.default_rng(0))
    counts = np.convolve(np.bincount(units, minlength=700), np.ones(21), "same")
    resonance = ear.membrane.resonance(np.linspace(0, 3.5, 700))
    loudest = np.flatnonzero(counts > 0.8 * counts.max())
    assert resonance[loudest].min() < 1.12 * frequency < resonance[loudest].max() * 1.1
    if frequency == 1000:
        assert counts[:100].max() < 0.2 * counts.max()


def test_hair_cell_in_silence():
    hair = HairCell()
    assert hair.spontaneous_rate() == pytest.approx(64.8, abs=0.1)
    rate = release(hair, np.zeros((8, 4800), np.float32))
    np.testing.assert_allclose(rate * RATE / 2, hair.spontaneous_rate(), rtol=1e-3)


def release(hair, velocity):
    constants = np.array([hair.y, hair.g, hair.l, hair.r, hair.x, hair.A, hair.B, hair.h, hair.m], np.float32)
    return inner_ear._release(velocity, constants, hair.resting(), np.float32(1 / RATE))


def test_hair_cell_follows_its_differential_equations():
    hair = HairCell()

    def velocity(t):
        return 40 * np.sin(2 * np.pi * 200 * t) * (t > 0.01)

    def derivative(t, state):
        q, c, w = state
        s = velocity(t)
        k = hair.g * (s + hair.A) / (s + hair.A + hair.B) if s > -hair.A else 0
        return (
            hair.y * (hair.m - q) + hair.x * w - k * q,
            k * q - (hair.l + hair.r) * c,
            hair.r * c - hair.x * w,
        )

    t = SECOND[:2400]
    solution = solve_ivp(derivative, (0, t[-1]), hair.resting(), t_eval=t, max_step=1e-4, rtol=1e-8, atol=1e-12)
    expected = hair.h * solution.y[1]
    rate = release(hair, np.tile(velocity(t), (3, 1)).astype(np.float32))[:, 0] * RATE / 2
    assert expected.max() > 5 * expected.min()
    assert np.abs(rate - expected[1::2]).max() < 0.03 * expected.max()  # Euler steps of 21 us


def coincidences(rate, seed, bushy=None, fibres=40, channels=200, refractory=24):
    """Spikes with the same rate [step] in each channel."""
    bushy = bushy or BushyCell()
    step = 1 / 24e3
    first, weights = inner_ear._interpolation(4, channels)
    return inner_ear._coincidences(
        np.repeat(rate.astype(np.float32)[:, None], 4, axis=1),
        first,
        weights,
        fibres,
        refractory,
        np.float32(np.exp(-step / bushy.tau_syn)),
        np.float32(np.exp(-step / bushy.tau_mem)),
        np.float32(bushy.weight * step),
        np.float32(bushy.threshold),
        np.float32(round(bushy.refractory / step)),
        np.random.default_rng(seed),
    )


def test_a_fibre_fires_at_its_rate_and_is_refractory():
    """A bushy cell without memory that fires at any input shows the spikes of its single fibre."""
    relay = BushyCell(tau_mem=1e-9, tau_syn=1e-9, refractory=1e-9, weight=1e6)
    steps, units = coincidences(np.full(24000, 0.01), 0, relay, fibres=1)
    gaps = np.concatenate([np.diff(steps[units == unit]) for unit in range(200)])
    assert gaps.min() == 25  # 1 ms = 24 steps of rest
    waits = gaps - 25 + 1  # geometric, p = 1 - exp(-0.01)
    p = 1 - np.exp(-0.01)
    z = (waits.mean() - 1 / p) / (np.sqrt((1 - p) / p**2) / np.sqrt(len(waits)))
    assert abs(z) < 4  # n about 38,000
    assert waits.std() == pytest.approx(np.sqrt(1 - p) / p, rel=0.03)


@pytest.mark.parametrize("per_fibre", [100.0, 250.0])
def test_bushy_cells_against_a_loop_over_each_fibre(per_fibre):
    """40 fibres that are simulated one by one, and the neuron as it is written down; means of 200 channels, 0.4 s."""
    channels, length, p = 200, 9600, 1 - np.exp(-per_fibre / 24e3)
    rng = np.random.default_rng(1)
    rest = np.zeros((channels, 40), int)
    current, potential, silent = np.zeros(channels), np.zeros(channels), np.zeros(channels, int)
    expected = np.zeros(channels)
    for _ in range(length):
        fired = (rest == 0) & (rng.random((channels, 40)) < p)
        rest = np.where(fired, 24, np.maximum(rest - 1, 0))
        current = current * np.exp(-1 / 12) + fired.sum(axis=1)
        potential = np.where(silent > 0, 0, potential * np.exp(-1 / 24) + 13e3 / 40 / 24e3 * current)
        spiked = potential > 1
        expected += spiked
        silent = np.where(spiked, 24, np.maximum(silent - 1, 0))
        potential[spiked] = 0
    _, units = coincidences(np.full(length, per_fibre / 24e3), 2, channels=channels)
    counts = np.bincount(units, minlength=channels)
    z = (counts.mean() - expected.mean()) / np.sqrt((counts.var() + expected.var()) / channels)
    assert expected.mean() > 1
    assert abs(z) < 4
    assert counts.var() == pytest.approx(expected.var(), rel=0.5)


def test_more_spikes_than_the_first_buffer_holds():
    relay = BushyCell(tau_mem=1e-9, tau_syn=1e-9, refractory=1e-9, weight=1e6)
    steps, units = coincidences(np.full(24000, 0.02), 0, relay, fibres=1, channels=700)
    assert len(steps) > 1 << 17
    assert (np.diff(steps) >= 0).all()
    assert np.bincount(units, minlength=700).min() > 100


def test_interpolation_is_exact_for_cubic_polynomials():
    first, weights = inner_ear._interpolation(9, 50)
    assert first.min() == 0
    assert first.max() == 5
    polynomial = np.polynomial.Polynomial([1, -2, 0.5, 0.03])
    value = sum(weights[i] * polynomial(first.astype(int) + i) for i in range(4))
    np.testing.assert_allclose(value, polynomial(np.linspace(0, 8, 50)), atol=2e-5)


def test_fewer_places_give_the_same_rates(ear):
    rates = []
    for places in (ear.places, 700):
        first, weights = inner_ear._interpolation(places, 700)
        rate = release(ear.hair_cell, InnerEar(places=places).velocity(vowel(0.2), RATE))
        rates.append(sum(weights[i] * rate[:, first.astype(int) + i] for i in range(4)))
    error = rates[0] - rates[1]
    assert rates[0].mean() == pytest.approx(rates[1].mean(), rel=0.002)
    assert np.sqrt(np.mean(error**2)) < 0.08 * rates[1].std()


def test_spikes_depend_on_sound_and_seed_alone(ear):
    sound = vowel(0.1)
    times, units = ear.spikes(sound, RATE, np.random.default_rng(5))
    again = ear.spikes(sound, RATE, np.random.default_rng(5))
    louder = ear.spikes(4 * sound, RATE, np.random.default_rng(5))  # a power of 2 changes no rounding
    other = ear.spikes(sound, RATE, np.random.default_rng(6))
    for result in (again, louder):
        np.testing.assert_array_equal(times, result[0])
        np.testing.assert_array_equal(units, result[1])
    assert not np.array_equal(times[:100], other[0][:100])
    assert (np.diff(times) >= 0).all()
    assert times[-1] < 0.1
    assert (times.dtype, units.dtype) == (np.float32, np.uint16)


def test_the_sample_rate_of_a_sound_does_not_matter(ear):
    sound = vowel(0.2)
    reference = ear.velocity(sound, RATE)
    halved = ear.velocity(inner_ear.resample(sound, RATE, 24000), 24000)
    assert halved.shape == reference.shape
    inside = slice(1000, -1000)
    assert np.abs(halved - reference)[:, inside].max() < 0.02 * np.abs(reference).max()


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(100), "silent"),
        (np.zeros(0), "shape"),
        (np.ones((2, 100)), "shape"),
        (np.array([1.0, np.nan]), "NaN"),
    ],
)
def test_sounds_that_cannot_be_heard(ear, sound, message):
    with pytest.raises(UserError, match=message):
        ear.spikes(sound, RATE, np.random.default_rng(0))


@pytest.mark.parametrize("change", [{"places": 3}, {"channels": 70000}, {"sample_rate": 0}, {"rms": -1.0}])
def test_parameters_are_checked(change):
    with pytest.raises(ParameterError, match=next(iter(change))):
        InnerEar(**change)
