"""The recursion of Eqs 15-17 forward in time, on layers whose derivatives are known without it."""

import pytest
import torch

from sgtheory.neurons import LIFParameters, SigmoidDerivative, StraightThrough
from sgtheory.theory import real_time_recurrent_learning

STEPS, PRE, NEURONS = 25, 4, 3


def layer(seed=0, scale=6.0, recurrence=3.0):
    rng = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(STEPS, PRE, generator=rng, dtype=torch.float64) < 0.3).double()
    input_weights = scale * torch.randn(PRE, NEURONS, generator=rng, dtype=torch.float64).abs()
    return spikes, input_weights, recurrence * torch.randn(NEURONS, NEURONS, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("reset", ["next", "same"])
@pytest.mark.parametrize("delay", [0, 1])
def test_of_a_silent_layer_it_is_the_filtered_input(reset, delay):
    """Without a spike U is the input convolved with (1 - a_m) (a_m^j - a_s^j) / (a_m - a_s), j = steps - 1 - delay."""
    spikes, input_weights, _ = layer(scale=0.01)
    parameters = LIFParameters(10e-3, 5e-3, 1e-3, reset=reset, delay=delay)
    found = real_time_recurrent_learning(
        spikes, input_weights, torch.zeros(NEURONS, NEURONS, dtype=torch.float64), parameters, StraightThrough()
    )
    a_m, a_s = parameters.membrane_decay, parameters.synaptic_decay
    j = (torch.arange(STEPS)[:, None] - torch.arange(STEPS) - 1 - delay).double()
    kernel = (1 - a_m) * (a_m**j - a_s**j) / (a_m - a_s) * (j > 0)
    trace = kernel @ spikes  # [time, pre]
    derivatives = found.spike_derivatives[:, :, : PRE * NEURONS].unflatten(2, (PRE, NEURONS))
    assert found.spikes.sum() == 0
    for neuron in range(NEURONS):
        torch.testing.assert_close(derivatives[:, neuron, :, neuron], trace)
        others = [i for i in range(NEURONS) if i != neuron]
        assert derivatives[:, neuron, :, others].abs().max() == 0
    torch.testing.assert_close(found.potential, trace @ input_weights)


def test_between_spikes_the_potential_derivative_is_the_true_one():
    """With a detached reset and no recurrence, finite differences of U that change no spike agree."""
    spikes, input_weights, _ = layer()
    parameters = LIFParameters(10e-3, 5e-3, 1e-3, reset="same")
    none = torch.zeros(NEURONS, NEURONS, dtype=torch.float64)

    def run(weights):
        return real_time_recurrent_learning(spikes, weights, none, parameters, StraightThrough())

    step = torch.zeros_like(input_weights)
    step[2, 1] = 1e-7
    plus, minus, found = run(input_weights + step), run(input_weights - step), run(input_weights)
    assert torch.equal(plus.spikes, minus.spikes)
    assert found.spikes.sum() > 5
    differences = (plus.potential - minus.potential) / 2e-7
    torch.testing.assert_close(found.spike_derivatives[:, :, 2 * NEURONS + 1], differences, rtol=1e-6, atol=1e-7)


def test_random_thresholds_decide_the_spikes():
    spikes, input_weights, recurrent_weights = layer()
    parameters = LIFParameters(10e-3, 5e-3, 1e-3)
    never = torch.full((STEPS, NEURONS), torch.inf, dtype=torch.float64)
    found = real_time_recurrent_learning(
        spikes, input_weights, recurrent_weights, parameters, SigmoidDerivative(), thresholds=never
    )
    assert found.spikes.sum() == 0
    assert (
        real_time_recurrent_learning(
            spikes, input_weights, recurrent_weights, parameters, SigmoidDerivative()
        ).spikes.sum()
        > 0
    )
