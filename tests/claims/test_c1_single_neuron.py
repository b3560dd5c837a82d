"""C1. One perceptron: surrogate derivative = derivative of the expected output = smoothed stochastic derivative.

Section 3.1, Eqs 2-6: if the surrogate is the derivative of the escape noise, dS/dw is the same number by every route,
for either outcome of the stochastic neuron and for the deterministic one.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.neurons import (
    ErfEscape,
    EscapeDerivative,
    ExponentialEscape,
    SigmoidDerivative,
    SigmoidEscape,
    SuperSpike,
)
from sgtheory.theory import Objective, PerceptronNet, SmoothedStochAD, SurrogateGradient, measure

weights = st.lists(st.floats(-1, 1), min_size=4, max_size=4)  # three weights and a bias
escapes = st.one_of(
    st.floats(0.5, 10).map(SigmoidEscape),
    st.floats(0.1, 2).map(ErfEscape),
    st.floats(0.2, 2).map(lambda width: ExponentialEscape(p0=0.1, delta_u=width)),
)


def perceptron(parameters, escape, output=lambda s: s[..., 0]):
    x = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    return Objective(PerceptronNet((3, 1), escape), torch.tensor(parameters, dtype=torch.float64), x, output)


@settings(deadline=None)
@given(weights, escapes)
def test_every_route_gives_the_derivative_of_the_expectation(parameters, escape):
    objective = perceptron(parameters, escape)
    exact = objective.gradient()
    for estimator in (
        SurrogateGradient(EscapeDerivative(escape), path="stochastic"),
        SurrogateGradient(EscapeDerivative(escape), path="deterministic"),
        SmoothedStochAD("matched"),
    ):
        every_outcome, _ = estimator.support(objective)
        torch.testing.assert_close(every_outcome, exact.expand_as(every_outcome), rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(weights, st.floats(0.5, 10))
def test_right_and_left_agree_with_it_on_average_only(parameters, beta):
    objective = perceptron(parameters, SigmoidEscape(beta))
    exact = objective.gradient()
    for side in ("right", "left"):
        values, probability = SmoothedStochAD(side).support(objective)
        torch.testing.assert_close(probability @ values, exact, rtol=1e-11, atol=1e-12)
        assert (values == 0).all(dim=1).tolist() == [side == "left", side == "right"]  # S = 0, S = 1


def test_an_unmatched_surrogate_differs():
    """Negative control: another steepness, another shape."""
    objective = perceptron([0.4, 0.1, 0.3, 0.1], SigmoidEscape(5.0))
    for surrogate in (SigmoidDerivative(4.0), SuperSpike(5.0)):
        assert measure(SurrogateGradient(surrogate), objective).relative_bias > 0.1


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_the_limit_of_the_claim_is_a_nonlinear_loss(target):
    """A loss (S - target)^2 has dE[loss]/dw = (1 - 2 target) p', but the surrogate gradient is 2 (p - target) p' on
    average: the derivative of the neuron is right and the gradient of the loss is not, unless p = 1/2."""
    objective = perceptron([0.4, 0.1, 0.3, 0.1], SigmoidEscape(5.0), lambda s: (s[..., 0] - target) ** 2)
    p = float(perceptron([0.4, 0.1, 0.3, 0.1], SigmoidEscape(5.0)).expectation())
    slope = 5.0 * p * (1 - p) * torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    quality = measure(SurrogateGradient(SigmoidDerivative(5.0)), objective)
    torch.testing.assert_close(quality.gradient, (1 - 2 * target) * slope)
    torch.testing.assert_close(quality.mean, 2 * (p - target) * slope)
    assert quality.relative_bias > 0.1
