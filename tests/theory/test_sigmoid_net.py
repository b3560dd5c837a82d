"""The five-weight sigmoid net: back-propagation with two steepnesses against formulas written by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.neurons import EscapeDerivative, SigmoidDerivative, SigmoidEscape, Step, SuperSpike
from sgtheory.theory import gradient_field, sigmoid_net

weight = st.floats(-2, 2)
steepness = st.floats(0.5, 30)


def slope(beta, potential):
    p = torch.sigmoid(beta * potential)
    return beta * p * (1 - p)


def eq9_by_hand(weights, x, beta, beta_sg):
    """All five derivatives of y; the first is Eq 9."""
    w, v1, v2, u1, u2 = weights
    g = torch.sigmoid(beta * w * x)
    h1, h2 = torch.sigmoid(beta * v1 * g), torch.sigmoid(beta * v2 * g)
    dy = slope(beta_sg, u1 * h1 + u2 * h2)
    dh1, dh2 = slope(beta_sg, v1 * g), slope(beta_sg, v2 * g)
    dw = (u1 * v1 * dh1 + u2 * v2 * dh2) * dy * slope(beta_sg, w * x) * x
    return torch.stack([dw, u1 * dh1 * g * dy, u2 * dh2 * g * dy, h1 * dy, h2 * dy])


def surrogate_gradient(weights, x, escape, surrogate):
    return gradient_field(lambda points: sigmoid_net(points, x, escape, surrogate)["y"])(weights)


@settings(deadline=None)
@given(st.lists(weight, min_size=5, max_size=5), weight, steepness, steepness)
def test_back_propagation_gives_eq_9(weights, x, beta, beta_sg):
    weights = torch.tensor(weights, dtype=torch.float64)
    gradient = surrogate_gradient(weights, x, SigmoidEscape(beta), SigmoidDerivative(beta_sg))
    torch.testing.assert_close(gradient, eq9_by_hand(weights, x, beta, beta_sg), rtol=1e-10, atol=1e-14)


def test_equal_steepness_gives_the_true_gradient():
    weights = torch.randn(50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    escape = SigmoidEscape(3.0)

    def output(points):
        return sigmoid_net(points, 0.7, escape, SuperSpike(5.0))["y"]  # the forward pass ignores the surrogate

    step = 1e-5 * torch.eye(5, dtype=torch.float64)
    differences = (output(weights[:, None] + step) - output(weights[:, None] - step)) / 2e-5
    gradient = surrogate_gradient(weights, 0.7, escape, EscapeDerivative(escape))
    torch.testing.assert_close(gradient, differences, rtol=1e-6, atol=1e-9)


def test_a_step_gives_the_deterministic_net_and_still_a_surrogate_gradient():
    weights = torch.tensor([[0.5, 1.0, -1.0, 0.3, -0.2], [-0.5, 1.0, -1.0, 0.3, -0.2]], dtype=torch.float64)
    activities = sigmoid_net(weights, 1.0, Step(), SigmoidDerivative(5.0))
    assert {name: values.tolist() for name, values in activities.items()} == {
        "g": [1.0, 0.0],
        "h1": [1.0, 0.0],
        "h2": [0.0, 0.0],
        "y": [1.0, 0.0],
    }
    gradient = surrogate_gradient(weights, 1.0, Step(), SigmoidDerivative(5.0))
    dy_dw = (0.3 * 1.0 * slope_of(1.0) + 0.2 * slope_of(-1.0)) * slope_of(0.3) * slope_of(0.5)
    assert gradient[0, 0] == pytest.approx(dy_dw)


def slope_of(potential):
    return float(slope(5.0, torch.tensor(potential, dtype=torch.float64)))
