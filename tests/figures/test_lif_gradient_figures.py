"""Figures E4 to E7: verdicts follow from the numbers, and turn with them."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import ROOT

from sgtheory.claims import from_json
from sgtheory.figures import figE4, figE5, figE6, figE7
from sgtheory.figures._statistics import median_difference, median_interval

OF_100_COLUMNS = 71  # what `make claims` leaves to the number that decides


def published(name):
    numbers = json.loads((ROOT / "figures" / "published" / f"{name}.json").read_text())
    return from_json({key: value for key, value in numbers.items() if key not in ("claims", "provenance")})


def holds(module, numbers):
    return {claim.id for claim in module.claims(numbers) if claim.verdict == "reproduced"}


@pytest.mark.parametrize("module", [figE4, figE5, figE6, figE7])
def test_what_decides_has_room_on_a_line(module):
    for claim in module.claims(published(module.__name__.rpartition(".")[2])):
        assert 0 < len(claim.decides) <= OF_100_COLUMNS, claim.decides


def test_the_difference_of_medians_is_not_that_of_pairs():
    """Two equal samples in the same order: paired, the difference is 0 without error."""
    values = np.random.default_rng(0).normal(size=400)
    assert median_interval(values - values) == (0, 0, 0)
    middle, low, high = median_difference(values + 1, values)
    assert middle == pytest.approx(1)
    # standard error of a median of n normal numbers: sqrt(pi / 2 n); of a difference sqrt(2) times that
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(np.pi / 400), rel=0.2)
    assert median_difference([np.nan, *values], [2.0])[0] == pytest.approx(np.median(values) - 2)


def test_attached_and_detached_exchanged():
    numbers = published("figE4")
    assert holds(figE4, numbers) >= {"E4.length", "E4.depth", "E4.direction", "E4.tails"}
    for tables in (*numbers["over_beta"].values(), numbers["others"].values()):
        for table in tables:
            table["0"], table["1"] = table["1"], table["0"]
    assert not holds(figE4, numbers) & {"E4.length", "E4.depth", "E4.direction", "E4.tails"}


def test_growth_decides_about_the_term():
    numbers = published("figE4")
    assert "E4.term" in holds(figE4, numbers)
    numbers["sensitivity"] = numbers["sensitivity"][::-1]
    assert "E4.term" not in holds(figE4, numbers)


@pytest.mark.parametrize(
    ("one", "other", "lost"),
    [("after_surrogate", "after_unbiased", "E6.stops"), ("surrogate", "exact", "E6.stationary")],
)
def test_what_surrogate_and_unbiased_gradients_reach_exchanged(one, other, lost):
    numbers = published("figE6")
    assert lost in holds(figE6, numbers)
    exchanged = copy.deepcopy(numbers)
    for condition in exchanged["conditions"]:
        condition[one], condition[other] = condition[other], condition[one]
    assert holds(figE6, exchanged) == holds(figE6, numbers) - {lost}


def test_depth_and_time_decide_about_direction_and_gain():
    numbers = published("figE6")
    topics = {"depths": "E6.depth", "durations": "E6.time"}

    def verdicts():
        return {claim.id: claim.verdict for claim in figE6.claims(numbers)}

    for key in topics:
        few, many = numbers[key][0], numbers[key][-1]
        few["known"], many["known"] = np.ones((2, *few["known"].shape))
        many["cosine"] = few["cosine"] - 1
        many["after_surrogate"], many["after_unbiased"] = few["after_surrogate"], few["after_unbiased"] / 2
    assert {verdicts()[topic] for topic in (*topics.values(), "E6.left")} == {"reproduced"}
    for key, topic in topics.items():
        numbers[key].reverse()
        assert (verdicts()[topic], verdicts()["E6.left"]) == ("contradicted", "contradicted")
        numbers[key].reverse()
        many = numbers[key][-1]
        many["known"][-1, 1:] = 0
        assert verdicts()[topic] == "undecided at this scale"


def test_surrogate_and_likelihood_ratio_exchanged():
    numbers = published("figE5")
    assert holds(figE5, numbers) >= {"E5.error", "E5.control"}
    for stages in numbers["gradients"]:
        for quality in stages.values():
            moments = quality["moments"]
            moments["attached"], moments["likelihood"] = moments["likelihood"], moments["attached"]
            moments["detached"] = moments["attached"]
    assert "E5.error" not in holds(figE5, numbers)


def test_a_control_variate_pays_if_it_halves_the_variance():
    numbers = published("figE5")
    for stages in numbers["gradients"]:
        for quality in stages.values():
            quality["moments"]["controlled"] = quality["moments"]["likelihood"] / 2
    assert "E5.control" not in holds(figE5, numbers)


def test_worth_follows_from_the_losses_that_are_reached():
    numbers = published("figE5")
    (before,) = [claim for claim in figE5.claims(numbers) if claim.id == "E5.worth"]
    assert before.verdict == "undecided at this scale"
    steep = numbers["training"]["matching"][-1]
    for name in figE5.CORRECTED:
        steep[name] = steep[name] / 10
    assert "E5.worth" in holds(figE5, numbers)


def test_the_error_in_direction_is_that_of_the_best_multiple():
    rng = torch.Generator().manual_seed(0)
    gradient = torch.randn(20, generator=rng, dtype=torch.float64)
    estimates = 3 * gradient + 4 * torch.randn(4000, 20, generator=rng, dtype=torch.float64) + 1
    moments = np.array(figE5._moments(estimates, gradient.expand(2, -1), unbiased=False))
    errors = [
        ((c * estimates - gradient).square().sum(1).mean() / gradient.square().sum()).item()
        for c in np.linspace(0, 0.5, 501)
    ]
    assert figE5._direction_error(moments) == pytest.approx(min(errors), rel=1e-3)
    assert figE5._squared_error(moments) == pytest.approx(
        ((estimates - gradient).square().sum(1).mean() / gradient.square().sum()).item(), rel=1e-3
    )


def test_what_is_chosen_on_the_other_nets():
    """Choice 0 has the least median without net 2, choice 1 without the others."""
    values = np.array([[1.0, 1.0, 9.0], [2.0, 2.0, 2.0]])
    assert figE5._leave_one_out(values).tolist() == [2.0, 2.0, 9.0]


def test_surrogate_and_exact_gradient_exchanged():
    numbers = published("figE7")
    assert holds(figE7, numbers) == {"E7.curl", "E7.path", "E7.loops", "E7.network"}
    for stages in numbers["small"]:
        for fields in stages.values():
            fields["detached 1"], fields["exact"] = fields["exact"], fields["detached 1"]
    for stage in figE7.STAGES:
        loop, network = numbers["loops"][stage], numbers["network"][stage]
        loop["surrogate"], loop["exact"] = loop["exact"], loop["surrogate"]
        network["between"], network["graded"] = network["graded"], network["between"]
    assert not holds(figE7, numbers) & {"E7.curl", "E7.loops", "E7.network"}


def test_curl_along_each_path_is_that_of_the_attached_reset():
    numbers = published("figE7")
    for stages in numbers["small"]:
        for fields in stages.values():
            fields["detached 1"], fields["attached 1"] = fields["attached 1"], fields["detached 1"]
    assert "E7.path" not in holds(figE7, numbers)


def test_the_jacobian_from_a_circle():
    """Of a linear field; and of the gradient of sin(x) cos(2 y) at any radius no antisymmetric part."""
    linear = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    plane, centre = torch.eye(2, dtype=torch.float64), torch.tensor([0.3, -0.2], dtype=torch.float64)

    def around(field, radius):
        return figE7._circle_jacobian(figE7._on_circle(field, centre, plane, radius, 16), radius)

    torch.testing.assert_close(around(lambda at: linear @ at, 0.7), linear)

    def gradient(at):
        x, y = at
        return torch.stack([x.cos() * (2 * y).cos(), -2 * x.sin() * (2 * y).sin()])

    curved = around(gradient, 0.7)
    torch.testing.assert_close(curved, curved.mT)
