"""C7 (Sections 4.2, 8.3, Fig 5): around a closed loop the surrogate gradient does not integrate to zero, the true
gradient does, and neither is an artefact of the step size."""

import math

import pytest
import torch

from sgtheory.neurons import EscapeDerivative, SigmoidDerivative, SigmoidEscape
from sgtheory.theory import Loop, SigmoidNet, circulation, riemann_sum

BETA, BETAS_SG = 10_000.0, (1.0, 5.0, 20.0)
NET = SigmoidNet(SigmoidEscape(BETA))
LOOP = Loop.in_random_plane(torch.zeros(5, dtype=torch.float64), radius=1.8, plane_seed=124)
FIELDS = NET.fields([SigmoidDerivative(beta) for beta in BETAS_SG])


@pytest.fixture(scope="module")
def result():
    return circulation(FIELDS, LOOP, tolerance=1e-8, monitor=NET.signals)


def test_surrogate_gradients_have_a_circulation(result):
    assert result.converged
    assert (result.error[1:] < 1e-8).all()
    assert (result.value[1:].abs() > 0.01).all()
    torch.testing.assert_close(
        result.value[1:], torch.tensor([-0.0424810, 0.3691099, 1.8176020], dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_the_true_gradient_has_none_although_the_output_changes_by_three_along_the_loop(result):
    assert abs(result.value[0]) <= result.error[0] <= 1e-8
    assert result.variation[0] == pytest.approx(3, abs=1e-6)


def test_integrated_from_the_start_the_true_gradient_is_the_output_everywhere(result):
    y = NET.output(LOOP.points(torch.cat([torch.zeros(1, dtype=torch.float64), result.angles])))
    torch.testing.assert_close(result.cumulative[0], y[1:] - y[0], rtol=0, atol=1e-8)


def test_the_circulation_does_not_vanish_with_the_step(result):
    """Plain sums with step length converge to the same values, in proportion to the step."""
    surrogate = NET.fields([SigmoidDerivative(beta) for beta in BETAS_SG])
    distances = [
        (riemann_sum(surrogate, LOOP, points)[1:] - result.value[1:]).abs().max() for points in (1000, 100_000)
    ]
    assert distances[1] < 1e-4 < distances[0]


def test_1500_points_do_not_resolve_the_true_gradient_of_so_steep_a_net():
    """The number of points of the authors' notebook: an error of 0.19 in what is zero."""
    assert abs(riemann_sum(FIELDS, LOOP, 1500)[0]) > 0.1


def test_a_sum_without_step_length_grows_with_the_number_of_points():
    def without_step_length(points):
        return riemann_sum(FIELDS, LOOP, points)[2] * points / (2 * math.pi * LOOP.radius)

    assert without_step_length(20_000) / without_step_length(10_000) == pytest.approx(2, rel=0.01)


def test_with_the_steepness_of_the_forward_pass_it_is_the_true_gradient():
    net = SigmoidNet(SigmoidEscape(20.0))
    both = circulation(net.fields([SigmoidDerivative(20.0), SigmoidDerivative(19.0)]), LOOP, monitor=net.signals)
    assert abs(both.value[1]) <= both.error[1] + 1e-12
    assert abs(both.value[2]) > 100 * both.error[2]
    points = torch.randn(10, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    true, surrogate = net.fields([EscapeDerivative(SigmoidEscape(20.0))])(points)
    assert torch.equal(true, surrogate)
