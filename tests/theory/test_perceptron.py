"""Perceptron nets: enumeration against brute force, finite differences and sampling."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.errors import ParameterError, UserError
from sgtheory.neurons import ErfEscape, ExponentialEscape, SigmoidEscape, Step, SuperSpike, surrogate_spike
from sgtheory.theory import (
    Objective,
    PerceptronNet,
    pattern_probabilities,
    random_objective,
    spike_patterns,
)

ESCAPES = [SigmoidEscape(3.0), ErfEscape(0.4), ExponentialEscape(p0=0.4, delta_u=0.9)]


def net_with(escape, sizes=(3, 3, 2, 1), seed=0):
    base = random_objective(sizes, beta=3.0, seed=seed)
    return Objective(PerceptronNet(sizes, escape), base.parameters, base.x)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_pattern_probabilities_are_products_over_units(p):
    probabilities = pattern_probabilities(torch.tensor(p, dtype=torch.float64))
    for pattern, probability in zip(spike_patterns(len(p)), probabilities, strict=True):
        expected = math.prod(q if s else 1 - q for q, s in zip(p, pattern.tolist(), strict=True))
        assert probability == pytest.approx(expected, abs=1e-15)
    assert float(probabilities.sum()) == pytest.approx(1)


def test_expectation_of_a_small_net_by_hand():
    w, v, beta, theta = (0.7, -0.4), (1.2, 0.9), 2.0, 1.0
    net = PerceptronNet((1, 2, 1), SigmoidEscape(beta))
    parameters = torch.tensor([*w, 0.1, 0.2, *v, -0.3], dtype=torch.float64)
    objective = Objective(net, parameters, torch.ones(1, dtype=torch.float64))

    def sigma(u):
        return 1 / (1 + math.exp(-beta * (u - theta)))

    expected = 0.0
    for h in itertools.product((0, 1), repeat=2):
        p = (sigma(w[0] + 0.1), sigma(w[1] + 0.2))
        probability = math.prod(q if s else 1 - q for q, s in zip(p, h, strict=True))
        expected += probability * sigma(v[0] * h[0] + v[1] * h[1] - 0.3)
    assert float(objective.expectation()) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda e: type(e).__name__)
def test_layerwise_expectation_equals_the_sum_over_all_paths(escape):
    objective = net_with(escape)
    path, probability = objective.paths()
    assert float(probability.sum()) == pytest.approx(1, abs=1e-13)
    assert float(probability @ objective.output(path[-1])) == pytest.approx(float(objective.expectation()), abs=1e-14)


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda e: type(e).__name__)
def test_gradient_is_the_central_difference_of_the_expectation(escape):
    objective = net_with(escape)
    step = 1e-5 * torch.eye(objective.net.n_parameters, dtype=torch.float64)
    upper = objective.expectation(objective.parameters + step)  # a batch of nets, one per parameter
    lower = objective.expectation(objective.parameters - step)
    torch.testing.assert_close(objective.gradient(), (upper - lower) / 2e-5, rtol=1e-7, atol=1e-9)


def test_a_function_of_several_outputs():
    base = random_objective((3, 3, 2), beta=3.0, seed=1)
    objective = Objective(base.net, base.parameters, base.x, output=lambda s: (s[..., 0] - 2 * s[..., 1] - 0.5) ** 2)
    path, probability = objective.paths()
    assert float(probability @ objective.output(path[-1])) == pytest.approx(float(objective.expectation()), abs=1e-14)


def test_sampled_outputs_have_the_exact_mean():
    n = 100_000
    for seed in range(4):
        objective = random_objective((4, 3, 3, 1), beta=5.0, seed=seed)
        y = objective.output(objective.sample_paths(n, torch.Generator().manual_seed(seed))[-1])
        p = float(objective.expectation())
        z = (float(y.mean()) - p) / math.sqrt(p * (1 - p) / n)
        assert abs(z) < 4


def test_sixteen_hidden_units():
    objective = random_objective((4, 16, 1), beta=2.0, seed=0)
    n = 100_000
    y = objective.output(objective.sample_paths(n, torch.Generator().manual_seed(1))[-1])
    p = float(objective.expectation())
    assert abs(float(y.mean()) - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_deterministic_path_is_the_hard_threshold():
    objective = random_objective((5, 4, 3, 1), beta=5.0, seed=3)
    spikes = objective.x
    for (weights, bias), layer in zip(
        objective.net.layers(objective.parameters), objective.deterministic_path(), strict=True
    ):
        spikes = (weights @ spikes + bias > objective.net.threshold).double()
        assert torch.equal(layer[0], spikes)


def test_steep_escape_noise_is_the_deterministic_net():
    objective = random_objective((5, 4, 3, 1), beta=1e6, seed=3)
    paths = objective.sample_paths(20, torch.Generator().manual_seed(0))
    for layer, hard in zip(paths, objective.deterministic_path(), strict=True):
        assert torch.equal(layer, hard.expand_as(layer))
    assert float(Objective(objective.net.deterministic, objective.parameters, objective.x).expectation()) == float(
        objective.deterministic_path()[-1][0, 0]
    )


def test_coupled_runs_differ_only_where_the_probability_does():
    objective = random_objective((5, 4, 3, 1), beta=5.0, seed=3)
    net, uniforms = objective.net, objective.net.uniforms((1000,), torch.Generator().manual_seed(0))
    assert net.escape != Step()
    first = net.simulate(objective.parameters, objective.x, uniforms)
    again = net.simulate(objective.parameters, objective.x, uniforms)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    shift = torch.zeros_like(objective.parameters)
    shift[20] = 0.3  # bias of the first hidden unit
    moved = net.simulate(objective.parameters + shift, objective.x, uniforms)
    assert torch.equal(moved[0][:, 1:], first[0][:, 1:])
    assert (moved[0][:, 0] >= first[0][:, 0]).all()
    assert (moved[0][:, 0] > first[0][:, 0]).any()


def test_surrogate_spike_passes_spikes_forward_and_the_surrogate_backward():
    x = torch.tensor([-0.2, 0.1, 0.4], dtype=torch.float64, requires_grad=True)
    spikes = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    out = surrogate_spike(x, spikes, SuperSpike(10.0).derivative)
    assert torch.equal(out, spikes)
    (gradient,) = torch.autograd.grad((out * torch.tensor([1.0, 2.0, 3.0])).sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([1 / 9, 2 / 4, 3 / 25], dtype=torch.float64))


def test_mistakes_are_named():
    with pytest.raises(ParameterError, match="sizes"):
        PerceptronNet((3,))
    with pytest.raises(ParameterError, match="sizes"):
        PerceptronNet((3, 0, 1))
    net, x = PerceptronNet((2, 1)), torch.ones(2, dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"parameters .* must be float64 of the shape \[..., 3\]"):
        Objective(net, torch.zeros(3), x)
    with pytest.raises(ParameterError, match=r"x .* must be float64 of the shape \[2\]"):
        Objective(net, torch.zeros(3, dtype=torch.float64), x[:1])
    with pytest.raises(UserError, match="at most 20 units in any two adjacent layers"):
        random_objective((2, 11, 10, 1), beta=1.0, seed=0).expectation()
    with pytest.raises(UserError, match="at most 18 random spikes"):
        random_objective((2, 10, 9, 1), beta=1.0, seed=0).paths()
