"""The line integrator on fields whose circulation is known in closed form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from sgtheory.errors import ParameterError, UserError
from sgtheory.theory import Loop, circulation, gradient_field, riemann_sum


def a_loop(seed=3, radius=1.3, parameters=4):
    centre = torch.randn(parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Loop.in_random_plane(centre, radius, plane_seed=seed)


def test_the_plane_is_the_one_of_the_paper():
    loop = Loop.in_random_plane(torch.zeros(5, dtype=torch.float64), 1.8, plane_seed=124)
    np.testing.assert_array_equal(loop.directions, ortho_group.rvs(5, random_state=124)[:2])
    torch.testing.assert_close(loop.points(torch.tensor([0.0, math.pi / 2]).double()), 1.8 * loop.directions.flip(0))


def test_velocity_is_the_derivative_of_the_points():
    loop, angles, step = a_loop(), torch.linspace(0, 6, 20, dtype=torch.float64), 1e-6
    differences = (loop.points(angles + step) - loop.points(angles - step)) / (2 * step)
    torch.testing.assert_close(loop.velocity(angles), differences, rtol=0, atol=1e-8)
    torch.testing.assert_close(loop.velocity(angles).norm(dim=1), torch.full((20,), 1.3, dtype=torch.float64))


def test_a_rotation_has_the_circulation_of_stokes_theorem():
    loop = a_loop()
    a = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = a - a.T
    result = circulation(lambda points: (points @ a.T)[None], loop)
    d1, d2 = loop.directions
    assert result.value[0] == pytest.approx(float(2 * math.pi * loop.radius**2 * (d1 @ a @ d2)), rel=1e-12)
    assert result.converged
    assert result.error[0] < 1e-12


def test_several_fields_share_the_points_and_keep_their_own_integrals():
    loop = a_loop()
    rotation = torch.tensor([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 2], [0, 0, -2, 0]], dtype=torch.float64)
    potential = gradient_field(lambda points: torch.sin(points).prod(-1))
    both = circulation(lambda points: torch.stack([points @ rotation.T, potential(points)]), loop)
    alone = circulation(lambda points: (points @ rotation.T)[None], loop)
    assert both.value[0] == pytest.approx(alone.value[0].item(), rel=1e-12)
    assert abs(both.value[1]) < 1e-12
    assert both.variation[1] > 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-0.9, 0.9))
def test_the_error_bar_covers_the_error_on_a_field_that_jumps(seed, offset):
    """F = v where n theta > c, else 0: the integral is v times the chord between the two jumps."""
    loop = a_loop(seed)
    rng = torch.Generator().manual_seed(seed)
    v, n = torch.randn(2, 4, dtype=torch.float64, generator=rng)
    in_plane = loop.directions @ n  # n theta = n centre + radius (in_plane_1 sin a + in_plane_2 cos a)
    c = n @ loop.centre + offset * loop.radius * in_plane.norm()
    result = circulation(lambda points: (torch.outer((points @ n > c).double(), v))[None], loop, tolerance=1e-6)

    middle, half = math.atan2(in_plane[0], in_plane[1]), math.acos(offset)
    start, end = loop.points(torch.tensor([middle - half, middle + half], dtype=torch.float64))
    exact = float(v @ (end - start))
    assert result.converged
    assert abs(float(result.value[0]) - exact) <= result.error[0] <= 1e-6


STEEP, NORMAL = 1e6, torch.tensor([1.0, -0.5, 0.3, 0.2], dtype=torch.float64)


def steep_output(points):
    return torch.sigmoid(STEEP * ((points - a_loop().centre) @ NORMAL - 0.1))


def test_a_monitor_finds_the_spikes_of_a_steep_gradient():
    """y rises once and falls once along the loop: the integral of |grad y d theta| is 2."""
    field = gradient_field(steep_output)
    result = circulation(lambda p: field(p)[None], a_loop(), monitor=lambda p: steep_output(p)[None])
    assert result.variation[0] == pytest.approx(2, abs=1e-6)
    assert abs(result.value[0]) <= result.error[0] <= 1e-8
    y = steep_output(a_loop().points(torch.cat([torch.zeros(1, dtype=torch.float64), result.angles])))
    torch.testing.assert_close(result.cumulative[0], y[1:] - y[0], rtol=0, atol=1e-7)


def test_without_a_monitor_the_same_spikes_are_missed_and_the_zero_means_nothing():
    field = gradient_field(steep_output)
    result = circulation(lambda p: field(p)[None], a_loop())
    assert result.variation[0] < 1e-6
    assert result.converged


def test_refinement_stops_at_max_points_and_says_so():
    field = gradient_field(steep_output)
    result = circulation(lambda p: field(p)[None], a_loop(), max_points=2000, monitor=lambda p: steep_output(p)[None])
    assert not result.converged
    assert result.points <= 2000


def test_the_table_shows_the_error_shrinking_with_the_points():
    loop = a_loop()
    result = circulation(lambda p: torch.sign(p[None] - loop.centre), loop, tolerance=1e-5)
    points = [row["points"] for row in result.table]
    errors = [float(row["error"][0]) for row in result.table]
    assert points == sorted(points)
    assert errors[-1] <= 1e-5 < 100 * 1e-5 < errors[0]
    assert result.table[-1]["value"][0] == result.value[0]


def test_a_field_that_is_not_finite_is_an_error():
    with pytest.raises(UserError, match="not a finite number"):
        circulation(lambda p: (p / (p > 0))[None], a_loop())


def test_riemann_sum_converges_to_the_same_value():
    field = gradient_field(lambda p: torch.sigmoid(5 * p.sum(-1)))

    def turning(points):
        return (field(points) * (1 + points[:, :1]))[None]

    loop = a_loop(radius=0.5)
    exact = circulation(turning, loop).value
    torch.testing.assert_close(riemann_sum(turning, loop, 400), exact, rtol=0, atol=1e-12)
    assert abs(riemann_sum(turning, loop, 8) - exact) > 1e-7


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Loop.in_random_plane(torch.zeros(1, dtype=torch.float64), 1.0, 0), "centre"),
        (lambda: Loop.in_random_plane(torch.zeros(3), 1.0, 0), "centre"),
        (lambda: Loop.in_random_plane(torch.zeros(3, dtype=torch.float64), 0.0, 0), "radius"),
        (lambda: Loop.in_random_plane(torch.zeros(3, dtype=torch.float64), 1.0, -1), "plane_seed"),
        (lambda: Loop(torch.zeros(3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64), 1.0), "directions"),
        (lambda: circulation(lambda p: p, a_loop()), "field"),
        (lambda: riemann_sum(lambda p: p[None], a_loop(), 0), "points"),
        (lambda: circulation(lambda p: p[None], a_loop(), tolerance=0.0), "tolerance"),
        (lambda: circulation(lambda p: p[None], a_loop(), max_points=10), "max_points"),
    ],
)
def test_mistakes_are_named(call, name):
    with pytest.raises(ParameterError, match=name):
        call()
