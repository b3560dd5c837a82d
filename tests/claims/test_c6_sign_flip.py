"""C6 (Section 4.1, Eqs 7-9, Table 1, Fig 4): a surrogate gradient can point against the true gradient."""

import math

import pytest
import torch

from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import gradient_field, sigmoid_net

TABLE_1 = torch.tensor([0.0, 0.05, 0.1, 1.0, -1.0], dtype=torch.float64)  # w, v1, v2, u1, u2
X, BETA, BETA_SG = 1.0, 100.0, 25.0


def output(points):
    return sigmoid_net(points, X, SigmoidEscape(BETA), SigmoidDerivative(BETA_SG))["y"]


def dy_dw(beta_sg):
    net = gradient_field(lambda p: sigmoid_net(p, X, SigmoidEscape(BETA), SigmoidDerivative(beta_sg))["y"])
    return float(net(TABLE_1)[0])


def test_the_true_derivative_is_positive():
    step = 1e-6 * torch.eye(5, dtype=torch.float64)[0]
    difference = float(output(TABLE_1 + step) - output(TABLE_1 - step)) / 2e-6
    assert dy_dw(BETA) == pytest.approx(difference, rel=1e-6)
    assert difference > 0.5


def test_the_surrogate_derivative_is_negative():
    assert dy_dw(BETA_SG) < -1


def test_the_sign_is_that_of_the_first_factor_of_eq_9():
    """u1 v1 s'(v1 g) + u2 v2 s'(v2 g) with g = s(0) = 1/2: 0.05 s'(0.025) - 0.1 s'(0.05)."""

    def factor(beta):
        def slope(x):
            p = 1 / (1 + math.exp(-beta * x))
            return beta * p * (1 - p)

        return 0.05 * slope(0.025) - 0.1 * slope(0.05)

    assert factor(BETA) == pytest.approx(0.2841, abs=1e-4)
    assert factor(BETA_SG) == pytest.approx(-0.1489, abs=1e-4)
    for beta in (5.0, 25.0, 50.0, 80.0, 100.0):
        assert math.copysign(1, dy_dw(beta)) == math.copysign(1, factor(beta))
