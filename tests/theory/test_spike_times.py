"""Event-based firing times and their derivatives: closed forms, finite differences, and the discrete-time neuron."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from sgtheory.errors import ParameterError
from sgtheory.lif import lif
from sgtheory.neurons import LIFParameters, SuperSpike
from sgtheory.theory import simulate_events, spike_time_derivatives, synaptic_kernel, van_rossum

TIME_CONSTANTS = [(10e-3, 5e-3), (10e-3, 10e-3), (5e-3, 10e-3)]
NEURON = LIFParameters(tau_mem=10e-3, tau_syn=5e-3)
DURATION = 0.1


@pytest.mark.parametrize(("slow", "fast"), [(10e-3, 1e-3), (20e-3, 19.999e-3)])
def test_the_kernel_is_finite_however_long_ago_the_spike_was(slow, fast):
    """And depends on which constant is the membrane's by its gain alone."""
    s = np.array([0.0, 1e-4, 5e-3, 0.1, 1.0, 100.0])
    kernel, swapped = (synaptic_kernel(s, LIFParameters(*taus)) for taus in ((slow, fast), (fast, slow)))
    expected = (np.exp(-s / slow) - np.exp(-s / fast)) * fast / (slow - fast)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)
    np.testing.assert_allclose(swapped * fast, kernel * slow, rtol=1e-12)


def test_a_spike_after_a_long_silence_is_not_lost():
    late = one_neuron(30.0, LIFParameters(tau_mem=1e-3, tau_syn=10e-3))
    early = simulate_events(**late, duration=0.2)
    late["input_times"] = np.array([1.0])
    spikes = simulate_events(**late, duration=1.2)
    assert len(spikes.times) == len(early.times) > 5
    np.testing.assert_allclose(spikes.times - 1, early.times, atol=1e-12)


def network(seed, parameters=NEURON, channels=6, neurons=5, recurrence=0.8):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, DURATION, 40))
    return {
        "input_times": times,
        "input_channels": rng.integers(0, channels, len(times)),
        "input_weights": rng.normal(1.0, 1.5, (channels, neurons)),
        "recurrent_weights": rng.normal(-0.3, recurrence, (neurons, neurons)),
        "parameters": parameters,
    }


def one_neuron(weight, parameters=NEURON):
    """One input spike at time 0."""
    return {
        "input_times": np.zeros(1),
        "input_channels": np.zeros(1, dtype=int),
        "input_weights": np.array([[weight]]),
        "recurrent_weights": np.zeros((1, 1)),
        "parameters": parameters,
    }


def test_firing_time_in_closed_form():
    """tau_mem = 2 tau_syn: psi(t) = z - z^2 with z = exp(-t / tau_mem), so w (z - z^2) = 1 is a quadratic equation."""
    for weight in (4.001, 4.5, 7.0, 40.0):
        train = simulate_events(**one_neuron(weight), duration=DURATION)
        z = (1 + np.sqrt(1 - 4 / weight)) / 2
        assert train.times[0] == pytest.approx(-NEURON.tau_mem * np.log(z), rel=1e-12)
    assert len(simulate_events(**one_neuron(3.999), duration=DURATION).times) == 0


def test_derivative_in_closed_form():
    weight = 5.0
    net = one_neuron(weight)
    train = simulate_events(**net, duration=DURATION)
    z = (1 + np.sqrt(1 - 4 / weight)) / 2
    dt_dw = -NEURON.tau_mem / z * (1 / weight**2) / np.sqrt(1 - 4 / weight)
    assert spike_time_derivatives(train, **net)[0][0, 0, 0] == pytest.approx(dt_dw, rel=1e-10)


@pytest.mark.parametrize("time_constants", TIME_CONSTANTS)
def test_kernel_solves_the_differential_equation(time_constants):
    p = LIFParameters(*time_constants)
    t, h = np.linspace(1e-3, 40e-3, 30), 1e-7
    slope = (synaptic_kernel(t + h, p) - synaptic_kernel(t - h, p)) / (2 * h)
    residual = p.tau_mem * slope + synaptic_kernel(t, p) - np.exp(-t / p.tau_syn)
    np.testing.assert_allclose(residual, 0, atol=1e-7)
    assert synaptic_kernel(np.array([-1e-3, 0.0]), p).tolist() == [0, 0]


def test_kernel_is_continuous_where_the_time_constants_are_equal():
    t = np.linspace(0, 50e-3, 11)
    equal, near = LIFParameters(10e-3, 10e-3), LIFParameters(10e-3, 10e-3 * (1 + 1e-9))
    np.testing.assert_allclose(synaptic_kernel(t, near), synaptic_kernel(t, equal), rtol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(TIME_CONSTANTS))
def test_derivatives_are_those_of_the_simulation(seed, time_constants):
    """Against central differences in a random direction of all weights, recurrent and self-connections included."""
    net = network(seed, LIFParameters(*time_constants), recurrence=0.4)
    try:
        train = simulate_events(**net, duration=DURATION, max_spikes=300)
    except ParameterError:
        assume(False)
    assume(len(train.times) > 0)
    rng = np.random.default_rng(seed)
    direction = {name: rng.normal(size=net[name].shape) for name in ("input_weights", "recurrent_weights")}
    step = 1e-8

    def moved(sign):
        return simulate_events(**net | {n: net[n] + sign * step * d for n, d in direction.items()}, duration=DURATION)

    forward, backward = moved(1), moved(-1)
    # Next to the point where a spike appears, the derivative grows faster than any step can follow.
    assume(train.slopes.min() > 5)
    np.testing.assert_array_equal(forward.neurons, backward.neurons)
    differences = (forward.times - backward.times) / (2 * step)
    exact = sum(
        (derivative * d).sum((1, 2))
        for derivative, d in zip(spike_time_derivatives(train, **net), direction.values(), strict=True)
    )
    np.testing.assert_allclose(differences, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())


def test_discrete_time_converges_to_the_events():
    """The distance to the firing times of Eqs 18, 19 shrinks in proportion to dt."""
    net = network(1, recurrence=0.0)
    net["recurrent_weights"][:] = 0
    events = simulate_events(**net, duration=DURATION)
    distances = []
    for dt in (1e-4, 1e-5):
        steps = round(DURATION / dt)
        spikes = torch.zeros(1, steps, 6, dtype=torch.float64)
        spikes[0, (torch.from_numpy(net["input_times"]) / dt).round().long(), net["input_channels"]] = 1
        parameters = LIFParameters(NEURON.tau_mem, NEURON.tau_syn, dt, reset="same")
        fired, _ = lif(spikes @ torch.from_numpy(net["input_weights"]), parameters, SuperSpike())
        step, neuron = fired[0].nonzero().T
        assert np.bincount(neuron, minlength=5).tolist() == np.bincount(events.neurons, minlength=5).tolist()
        discrete = np.concatenate([step[neuron == i].numpy() * dt for i in range(5)])
        distances.append(np.abs(discrete - np.concatenate([events.of(i) for i in range(5)])).max())
    assert distances[0] < 2e-3
    assert distances[1] < 0.2 * distances[0]


def test_where_a_spike_appears_the_derivative_diverges_like_one_over_the_square_root():
    """The potential touches the threshold at w = 4: the slope at the spike is proportional to sqrt(w - 4)."""
    products = []
    for distance in (1e-2, 1e-4, 1e-6):
        net = one_neuron(4 + distance)
        train = simulate_events(**net, duration=DURATION)
        products.append(spike_time_derivatives(train, **net)[0][0, 0, 0] * np.sqrt(distance))
    assert products[2] == pytest.approx(products[1], rel=0.02)
    assert products[2] == pytest.approx(-NEURON.tau_mem / 4, rel=1e-3)


def test_van_rossum_distance_against_quadrature():
    rng = np.random.default_rng(1)
    times, targets = np.sort(rng.uniform(0, 0.05, 4)), np.sort(rng.uniform(0, 0.05, 3))

    def trace(t, spikes):
        s = np.maximum(t - spikes, 0)
        return (np.exp(-s / NEURON.tau_mem) - np.exp(-s / NEURON.tau_syn)).sum()

    def integrand(t):
        return 0.5 * (trace(t, times) - trace(t, targets)) ** 2

    loss, gradient = van_rossum(times, targets, NEURON)
    assert loss == pytest.approx(quad(integrand, 0, 0.4, points=[*times, *targets], limit=500)[0], rel=1e-7)
    step = 1e-8 * np.eye(4)
    differences = [
        (van_rossum(times + h, targets, NEURON)[0] - van_rossum(times - h, targets, NEURON)[0]) for h in step
    ]
    np.testing.assert_allclose(np.array(differences) / 2e-8, gradient, rtol=1e-5, atol=1e-8)
    assert van_rossum(targets, targets, NEURON)[0] == pytest.approx(0, abs=1e-18)


def test_mistakes_are_named():
    net = one_neuron(5.0)
    with pytest.raises(ParameterError, match="threshold"):
        simulate_events(**net | {"parameters": LIFParameters(threshold=0.0)}, duration=DURATION)
    with pytest.raises(ParameterError, match="tau_syn"):
        van_rossum(np.zeros(1), np.zeros(1), LIFParameters(10e-3, 10e-3))
    excited = net | {"recurrent_weights": np.array([[50.0]])}
    with pytest.raises(ParameterError, match="max_spikes"):
        simulate_events(**excited, duration=DURATION, max_spikes=100)
