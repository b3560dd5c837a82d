"""C4. The variance of finite differences is 1/epsilon^2, lower with coupled randomness, lower still for smoothed paths.

Section 3.2.2, Fig 3. Independent runs: Var = (Var f + Var f') / epsilon^2. Coupled runs differ with a probability
proportional to epsilon, so Var ~ 1/epsilon. Neither beats the smoothed stochastic derivative on small random nets at
moderate steepness; at large steepness the claim has exceptions.
"""

import numpy as np
import pytest
import torch

from sgtheory.theory import (
    FiniteDifferences,
    ScoreFunction,
    SmoothedStochAD,
    StochAD,
    measure,
    random_objective,
)

EPSILONS = np.geomspace(0.01, 0.16, 5)


@pytest.fixture
def objective():
    return random_objective((3, 2, 2, 1), beta=5.0, seed=20)


@pytest.mark.parametrize(("coupled", "exponent"), [(False, -2), (True, -1)], ids=["independent", "coupled"])
def test_exponent_of_the_variance(objective, coupled, exponent):
    """Least squares on five perturbations, n = 20,000 each."""
    variance = [
        float(measure(FiniteDifferences(float(e), coupled), objective, samples=20_000).variance.sum()) for e in EPSILONS
    ]
    slope = np.polyfit(np.log(EPSILONS), np.log(variance), 1)[0]
    assert slope == pytest.approx(exponent, abs=0.1)


def test_smaller_perturbations_are_more_accurate(objective):
    """The mean of the finite difference, by enumeration of both nets: the error is proportional to epsilon."""
    parameters, gradient = objective.parameters, objective.gradient()
    errors = []
    for epsilon in (0.01, 0.001):
        moved = parameters + epsilon * torch.eye(len(parameters), dtype=torch.float64)
        errors.append(float(((objective.expectation(moved) - objective.expectation()) / epsilon - gradient).norm()))
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [(3, 3, 1), (3, 2, 2, 1), (3, 2, 2, 2, 1)], ids=str)
def test_order_of_the_variances(sizes, seed):
    """smoothed < unbiased stochAD < score function, smoothed < coupled < independent finite differences."""
    objective = random_objective(sizes, beta=5.0, seed=seed)

    def variance(estimator):
        return float(measure(estimator, objective, samples=5000).variance.sum())

    smoothed, stochad, score = variance(SmoothedStochAD()), variance(StochAD(prune=False)), variance(ScoreFunction())
    coupled, independent = variance(FiniteDifferences(0.1, True)), variance(FiniteDifferences(0.1))
    assert smoothed < stochad < score
    assert smoothed < coupled < independent


def test_the_order_has_exceptions_for_steep_neurons():
    """At beta = 20 there are nets where unbiased stochAD has a lower variance than the smoothed derivative."""
    lower = 0
    for seed in range(16):
        objective = random_objective((4, 3, 3, 1), beta=20.0, seed=seed)
        smoothed, stochad = (measure(e, objective, samples=2000) for e in (SmoothedStochAD(), StochAD(prune=False)))
        lower += bool(stochad.variance.sum() < 0.9 * smoothed.variance.sum())
    assert lower >= 2
