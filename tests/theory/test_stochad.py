"""Stochastic derivatives: triples by hand, propagation through a net against enumeration, negative controls."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.errors import ParameterError
from sgtheory.neurons import ErfEscape
from sgtheory.theory import (
    Objective,
    PerceptronNet,
    bernoulli_derivative,
    random_objective,
    smoothed_bernoulli,
    stochastic_derivative,
)
from sgtheory.theory._stochad import _prune

OUTCOMES = torch.tensor([0.0, 1.0], dtype=torch.float64)
COMBINATIONS = ["right", "left", "matched", 0.3, -1.5]
probabilities = st.floats(0.01, 0.99)


def triple(p, combination):
    """The triple for both outcomes, and the probability of each."""
    p = torch.full((2,), p, dtype=torch.float64)
    return bernoulli_derivative(p, OUTCOMES, combination), torch.stack([1 - p[0], p[0]])


def test_triples_of_the_paper():
    p = 0.2
    right, _ = triple(p, "right")
    assert [t.tolist() for t in right] == [[0, 0], [pytest.approx(1 / 0.8), 0], [1, 0]]
    left, _ = triple(p, "left")
    assert [t.tolist() for t in left] == [[0, 0], [0, pytest.approx(-1 / 0.2)], [1, 0]]
    assert right.smoothed(OUTCOMES).tolist() == pytest.approx([1 / 0.8, 0])
    assert left.smoothed(OUTCOMES).tolist() == pytest.approx([0, 1 / 0.2])


@settings(deadline=None)
@given(probabilities)
def test_matched_combination_smooths_to_one_for_either_outcome(p):
    matched, _ = triple(p, "matched")
    torch.testing.assert_close(matched.smoothed(OUTCOMES), torch.ones(2, dtype=torch.float64), rtol=1e-14, atol=0)


@settings(deadline=None)
@given(probabilities, st.floats(-3, 3), st.sampled_from(COMBINATIONS))
def test_triple_is_unbiased_for_any_function(p, jump, combination):
    """d/dp E[f(S)] = f(1) - f(0) = E[w (f(Y) - f(S))], here with f(1) - f(0) = jump."""
    derivative, probability = triple(p, combination)
    change = jump * (derivative.alternative - OUTCOMES)
    assert float(probability @ (derivative.weight * change)) == pytest.approx(jump, rel=1e-12, abs=1e-12)


def test_wrong_weights_are_not_unbiased():
    """Negative control: 1/p for the right and 1/(1-p) for the left derivative, the easy mistake."""
    p, probability = 0.2, torch.tensor([0.8, 0.2], dtype=torch.float64)
    right = torch.tensor([1 / p, 0.0], dtype=torch.float64)
    left = torch.tensor([0.0, 1 / (1 - p)], dtype=torch.float64)
    assert float(probability @ right) == pytest.approx(4)
    assert float(probability @ left) == pytest.approx(0.25)


def test_a_coefficient_that_depends_on_the_outcome_is_not_a_derivative():
    """Negative control: the affine combination may depend on p only, not on S."""
    right, probability = triple(0.2, "right")
    left, _ = triple(0.2, "left")
    alpha = torch.tensor([0.9, 0.5], dtype=torch.float64)
    smoothed = alpha * right.smoothed(OUTCOMES) + (1 - alpha) * left.smoothed(OUTCOMES)
    assert float(probability @ smoothed) == pytest.approx(1.4)


def test_smoothed_bernoulli_is_a_spike_forward_and_the_smoothed_derivative_backward():
    p = torch.tensor([0.2, 0.2], dtype=torch.float64, requires_grad=True)
    for combination, expected in (("right", [1.25, 0]), ("left", [0, 5]), ("matched", [1, 1]), (0.5, [0.625, 2.5])):
        spikes = smoothed_bernoulli(p, OUTCOMES, combination)
        assert torch.equal(spikes, OUTCOMES)
        (gradient,) = torch.autograd.grad(spikes.sum(), p)
        assert gradient.tolist() == pytest.approx(expected)


def test_unknown_combination_is_named():
    with pytest.raises(ParameterError, match="combination = 'both'"):
        bernoulli_derivative(OUTCOMES, OUTCOMES, "both")


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_propagation_rule_is_exact(combination):
    """The gradient is the sum over units of E[w p' dU (V(jumped) - V(stayed))], V the value of a spike pattern.

    V comes from enumeration of the layers above; no randomness is left in this check.
    """
    objective = random_objective((3, 3, 2, 1), beta=3.0, seed=2)
    net, layers = objective.net, objective.net.layers(objective.parameters)
    path, probability = objective.paths()

    def value(layer, spikes):
        """E[f | spikes of this layer]."""
        if layer == len(layers) - 1:
            return objective.output(spikes)
        upper = PerceptronNet(net.sizes[layer + 1 :], net.escape)
        parameters = torch.cat([torch.cat([w.flatten(), b]) for w, b in layers[layer + 1 :]])
        return torch.stack([Objective(upper, parameters, s).expectation() for s in spikes])

    gradient = []
    before = objective.x.expand(len(probability), -1)
    for layer, ((weights, bias), spikes) in enumerate(zip(layers, path, strict=True)):
        x = before @ weights.mT + bias - net.threshold
        stayed = value(layer, spikes)
        for_weights, for_bias = [], []
        for unit in range(len(bias)):
            derivative = bernoulli_derivative(net.escape.value(x[:, unit]), spikes[:, unit], combination)
            jumped = spikes.clone()
            jumped[:, unit] = derivative.alternative
            contribution = derivative.weight * net.escape.derivative(x[:, unit]) * (value(layer, jumped) - stayed)
            for_weights.append((probability * contribution) @ before)
            for_bias.append(probability @ contribution)
        gradient += [*for_weights, torch.stack(for_bias)]
        before = spikes
    torch.testing.assert_close(torch.cat(gradient), objective.gradient(), rtol=1e-11, atol=1e-13)


def z_scores(samples, expected):
    return ((samples.mean(0) - expected) / (samples.std(0) / len(samples) ** 0.5))[expected != 0]


@pytest.mark.parametrize("prune", [True, False], ids=["one alternative", "all alternatives"])
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_unbiased_against_enumeration(combination, prune):
    """n = 40,000 runs on a net of three layers: every component within 4.5 standard errors of the exact gradient."""
    objective = random_objective((3, 3, 2, 1), beta=3.0, seed=2)
    samples = stochastic_derivative(
        objective, 40_000, torch.Generator().manual_seed(0), combination=combination, prune=prune
    )
    z = z_scores(samples, objective.gradient())
    assert len(z) > 10
    assert z.abs().max() < 4.5


def test_unbiased_for_another_escape_function_and_a_nonlinear_output():
    base = random_objective((3, 3, 2), beta=3.0, seed=4)
    objective = Objective(
        PerceptronNet(base.net.sizes, ErfEscape(0.5)), base.parameters, base.x, lambda s: (s.sum(-1) - 0.3) ** 3
    )
    samples = stochastic_derivative(objective, 40_000, torch.Generator().manual_seed(1))
    assert z_scores(samples, objective.gradient()).abs().max() < 4.5


def test_directional_derivatives():
    objective = random_objective((3, 3, 2, 1), beta=3.0, seed=2)
    rng = torch.Generator().manual_seed(3)
    directions = torch.randn(4, objective.net.n_parameters, generator=rng, dtype=torch.float64)
    samples = stochastic_derivative(objective, 40_000, rng, directions)
    assert samples.shape == (40_000, 4)
    assert z_scores(samples, directions @ objective.gradient()).abs().max() < 4.5


def test_without_coupled_randomness_the_variance_is_larger():
    objective = random_objective((3, 3, 2, 1), beta=3.0, seed=2)
    coupled, independent = (
        stochastic_derivative(objective, 40_000, torch.Generator().manual_seed(0), prune=False, coupled=coupled)
        for coupled in (True, False)
    )
    assert z_scores(independent, objective.gradient()).abs().max() < 4.5
    assert independent.var(0).sum() > 1.5 * coupled.var(0).sum()


def test_pruning_keeps_the_mean_and_raises_the_variance():
    objective = random_objective((3, 3, 2, 1), beta=3.0, seed=2)
    every, one = (
        stochastic_derivative(objective, 40_000, torch.Generator().manual_seed(0), prune=prune)
        for prune in (False, True)
    )
    assert one.var(0).sum() > 1.5 * every.var(0).sum()

    n = 50_000
    alternatives = torch.arange(3, dtype=torch.float64).view(1, 3, 1).expand(n, -1, -1)
    weights = torch.tensor([[1.0, -2.0], [0.5, 0.0], [0.0, 0.0]], dtype=torch.float64).expand(n, -1, -1)
    kept, weight = _prune(alternatives, weights, torch.Generator().manual_seed(0))
    assert kept.shape == (n, 1, 1)
    assert not (kept == 2).any()  # no weight, never kept
    for alternative in (0, 1):
        mean = (weight * (kept == alternative)).mean(0)[0]
        torch.testing.assert_close(mean, weights[0, alternative], rtol=0.03, atol=1e-12)


def test_same_seed_same_samples():
    objective = random_objective((3, 3, 1), beta=3.0, seed=2)
    first, again = (stochastic_derivative(objective, 10, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, again)
