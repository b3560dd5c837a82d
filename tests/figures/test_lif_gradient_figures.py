"""Figures E4 and E6: verdicts follow from the numbers, and turn with them."""

import copy
import json

import pytest
from conftest import ROOT

from sgtheory.claims import from_json
from sgtheory.figures import figE4, figE6


def published(name):
    numbers = json.loads((ROOT / "figures" / "published" / f"{name}.json").read_text())
    return from_json({key: value for key, value in numbers.items() if key not in ("claims", "provenance")})


def holds(module, numbers):
    return {claim.id for claim in module.claims(numbers) if claim.verdict == "reproduced"}


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
