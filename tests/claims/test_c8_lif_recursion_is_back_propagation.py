"""C8 (Section 5, Eqs 15-17): the surrogate derivatives of a LIF layer, computed forward in time, are those of
back-propagation through time, and on the path of spikes that was drawn they are smoothed stochastic derivatives."""

import itertools

import pytest
import torch

from sgtheory.lif import Noise
from sgtheory.neurons import EscapeDerivative, LIFParameters, SigmoidEscape, Step, SuperSpike
from sgtheory.theory import back_propagation_through_time, real_time_recurrent_learning, smoothed_bernoulli

STEPS, PRE, NEURONS = 10, 4, 3
SIGMOID = SigmoidEscape(5.0)
VARIANTS = list(itertools.product(["next", "same"], ["attached", "detached"], [0, 1], [Step(), SIGMOID]))


def layer(seed):
    rng = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(STEPS, PRE, generator=rng, dtype=torch.float64) < 0.5).double()
    input_weights = torch.empty(PRE, NEURONS, dtype=torch.float64).normal_(4.0, 3.0, generator=rng)
    recurrent_weights = torch.empty(NEURONS, NEURONS, dtype=torch.float64).normal_(0.0, 4.0, generator=rng)
    return spikes, input_weights, recurrent_weights, torch.randn(STEPS, NEURONS, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize(("reset", "reset_gradient", "delay", "escape"), VARIANTS)
def test_forward_in_time_equals_back_propagation_through_time(reset, reset_gradient, delay, escape):
    parameters = LIFParameters(5e-3, 3e-3, 1e-3, reset=reset, reset_gradient=reset_gradient, delay=delay)
    noise, surrogate, fired = Noise(seed=1), SuperSpike(3.0), 0
    for seed in range(3):
        spikes, *weights, error = layer(seed)
        expected_spikes, expected = back_propagation_through_time(
            error, spikes, *weights, parameters, surrogate, escape, noise
        )
        thresholds = escape.quantile(noise.uniform(1, range(STEPS), NEURONS, torch.float64)[0])
        found = real_time_recurrent_learning(spikes, *weights, parameters, surrogate, thresholds)
        assert torch.equal(found.spikes, expected_spikes)
        gradient = torch.einsum("ti,tiw->w", error, found.spike_derivatives)
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
        fired += int(found.spikes.sum())
    assert fired > 10  # resets and recurrence took part


def test_the_reset_term_is_what_attached_and_detached_differ_by():
    spikes, *weights, _ = layer(0)
    gradients = [
        real_time_recurrent_learning(
            spikes, *weights, LIFParameters(5e-3, 3e-3, 1e-3, reset_gradient=kind), SuperSpike(3.0)
        ).spike_derivatives
        for kind in ("attached", "detached")
    ]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


def test_it_is_the_smoothed_stochastic_derivative_on_the_path_that_was_drawn():
    """Eq 16: right and left stochastic derivative, combined with weights 1 - p and p, times p'(U - theta)."""
    spikes, input_weights, _, error = layer(3)
    input_weights = 0.5 * input_weights
    parameters = LIFParameters(5e-3, 3e-3, 1e-3, reset="next", reset_gradient="attached")
    noise = Noise(seed=4)
    uniform = noise.uniform(1, range(STEPS), NEURONS, torch.float64)[0]

    # The layer written once more, with stochastic derivatives of Bernoulli spikes in place of a surrogate.
    a_m, a_s, weights = parameters.membrane_decay, parameters.synaptic_decay, input_weights.clone().requires_grad_()
    u = current = torch.zeros(NEURONS, dtype=torch.float64)
    path = []
    for n in range(STEPS):
        p = torch.sigmoid(SIGMOID.beta * (u - parameters.threshold))
        s = smoothed_bernoulli(p, (uniform[n] < p).double(), "matched")
        path.append(s)
        u, current = (a_m * u + (1 - a_m) * current) * (1 - s), a_s * current + spikes[n] @ weights
    (expected,) = torch.autograd.grad((torch.stack(path) * error).sum(), weights)

    found = real_time_recurrent_learning(
        spikes,
        input_weights,
        torch.zeros(NEURONS, NEURONS, dtype=torch.float64),
        parameters,
        EscapeDerivative(SIGMOID),
        SIGMOID.quantile(uniform),
    )
    assert torch.equal(found.spikes, torch.stack(path).detach())
    assert found.spikes.sum() > 3
    gradient = torch.einsum("ti,tiw->w", error, found.spike_derivatives)[: PRE * NEURONS]
    torch.testing.assert_close(gradient, expected.flatten(), rtol=1e-9, atol=1e-12)
