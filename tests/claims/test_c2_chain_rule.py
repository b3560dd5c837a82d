"""C2. Two hidden layers: the chain rule does not commute with the expectation.

Section 3.2.1, Fig 2: for x -w-> h1 -v-> h2 -u-> y, the derivative of E[y] with respect to w is not E[product of local
derivatives], and that is not the product of the E[local derivative]. Everything is enumerated; the exact derivative is
also written by hand.
"""

import math
from dataclasses import replace

import pytest
import torch

from sgtheory.figures import fig2
from sgtheory.theory import chain_rule_derivatives, perceptron_chain

W, V, U = 1.1, 1.3, 0.9


def sigma(x, beta):
    return 1 / (1 + math.exp(-beta * x))


def slope(x, beta):
    return beta * sigma(x, beta) * (1 - sigma(x, beta))


def by_hand(beta):
    """The three quantities from their definitions, theta = 1, x = 1."""
    p1 = sigma(W - 1, beta)
    p2 = {h1: sigma(V * h1 - 1, beta) for h1 in (0, 1)}
    py = {h2: sigma(U * h2 - 1, beta) for h2 in (0, 1)}
    exact = slope(W - 1, beta) * (p2[1] - p2[0]) * (py[1] - py[0])

    probability = {(h1, h2): (p1 if h1 else 1 - p1) * (p2[h1] if h2 else 1 - p2[h1]) for h1 in (0, 1) for h2 in (0, 1)}
    d2 = {h1: V * slope(V * h1 - 1, beta) for h1 in (0, 1)}
    dy = {h2: U * slope(U * h2 - 1, beta) for h2 in (0, 1)}
    expected_product = slope(W - 1, beta) * sum(p * d2[h1] * dy[h2] for (h1, h2), p in probability.items())
    product_of_expectations = (
        slope(W - 1, beta)
        * sum(p * d2[h1] for (h1, _), p in probability.items())
        * sum(p * dy[h2] for (_, h2), p in probability.items())
    )
    rate1 = sigma(W - 1, beta)
    rate2 = sigma(V * rate1 - 1, beta)
    rates = slope(W - 1, beta) * V * slope(V * rate1 - 1, beta) * U * slope(U * rate2 - 1, beta)
    return {
        "exact": exact,
        "expected_product": expected_product,
        "product_of_expectations": product_of_expectations,
        "rates": rates,
    }


@pytest.mark.parametrize("beta", [1.0, 5.0, 10.0])
def test_enumeration_agrees_with_the_definitions(beta):
    assert chain_rule_derivatives(perceptron_chain(W, V, U, beta)) == pytest.approx(by_hand(beta), rel=1e-12)


@pytest.mark.parametrize("beta", [2.0, 5.0, 10.0])
def test_none_of_the_chain_rules_is_the_derivative_of_the_expectation(beta):
    values = chain_rule_derivatives(perceptron_chain(W, V, U, beta))
    exact = values.pop("exact")
    for value in values.values():
        assert abs(value / exact - 1) > 0.01


@pytest.mark.parametrize("beta", [2.0, 5.0, 10.0])
def test_the_factors_are_not_independent(beta):
    values = chain_rule_derivatives(perceptron_chain(W, V, U, beta))
    assert abs(values["expected_product"] / values["product_of_expectations"] - 1) > 0.01


@pytest.mark.parametrize("x", [1.0, 2.0])
def test_they_agree_where_the_net_is_linear(x):
    """Negative control: as beta -> 0 the escape noise becomes linear over the potentials and all four coincide."""
    chain = replace(perceptron_chain(W, V, U, 1e-3), x=torch.full((1,), x, dtype=torch.float64))
    values = chain_rule_derivatives(chain)
    assert [v / values["exact"] for v in values.values()] == pytest.approx([1] * 4, rel=1e-5)


def test_figure_states_the_claim():
    (claim,) = fig2.claims(fig2.measure(points=21, samples=5000))
    assert claim.id == "C2"
    assert claim.holds
