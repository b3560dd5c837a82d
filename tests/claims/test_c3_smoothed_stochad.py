"""C3. Deep stochastic nets: surrogate gradient = chained smoothed stochastic derivative, on every single path.

Section 3.2.2, Fig 3: with the surrogate that matches the escape noise, back-propagation of surrogate gradients through
a stochastic run is the chain of smoothed stochastic derivatives. The mean over all paths is biased against the exact
derivative of E[y] as soon as there is a hidden layer, and no number of paths removes that.
"""

import pytest
import torch

from sgtheory.neurons import (
    ErfEscape,
    EscapeDerivative,
    ExponentialEscape,
    SigmoidDerivative,
    SigmoidEscape,
    SuperSpike,
)
from sgtheory.theory import (
    Objective,
    PerceptronNet,
    ScoreFunction,
    SmoothedStochAD,
    StochAD,
    SurrogateGradient,
    measure,
    random_objective,
)

DEPTHS = [(4, 1), (4, 3, 1), (4, 3, 3, 1), (4, 3, 2, 3, 1), (4, 2, 2, 2, 2, 2)]
PAIRS = [
    (SigmoidEscape(1.0), SigmoidDerivative(1.0)),
    (SigmoidEscape(10.0), SigmoidDerivative(10.0)),
    (ErfEscape(0.3), EscapeDerivative(ErfEscape(0.3))),
    (ExponentialEscape(p0=0.2, delta_u=0.8), EscapeDerivative(ExponentialEscape(p0=0.2, delta_u=0.8))),
]


@pytest.mark.parametrize("sizes", DEPTHS, ids=str)
@pytest.mark.parametrize(("escape", "surrogate"), PAIRS, ids=lambda o: type(o).__name__)
def test_equal_on_every_path(sizes, escape, surrogate):
    """All paths with positive probability are compared, in float64, to 1e-12 of the largest component."""
    base = random_objective(sizes, beta=1.0, seed=1)
    objective = Objective(PerceptronNet(sizes, escape), base.parameters, base.x, lambda s: (s.sum(-1) - 0.2) ** 2)
    path, _ = objective.paths()
    by_surrogate = SurrogateGradient(surrogate).on_paths(objective, path)
    by_stochad = SmoothedStochAD("matched").on_paths(objective, path)
    assert by_surrogate.abs().max() > 1e-4
    assert (by_surrogate - by_stochad).abs().max() < 1e-12 * by_surrogate.abs().max()


@pytest.mark.parametrize("surrogate", [SuperSpike(5.0), SigmoidDerivative(4.9)], ids=str)
def test_an_unmatched_surrogate_differs_on_every_path(surrogate):
    """Negative control."""
    objective = random_objective((4, 3, 3, 1), beta=5.0, seed=1)
    path, _ = objective.paths()
    stochad = SmoothedStochAD().on_paths(objective, path)
    difference = (SurrogateGradient(surrogate).on_paths(objective, path) - stochad).norm(dim=1)
    assert (difference > 1e-3 * stochad.norm(dim=1)).all()


def test_other_combinations_of_left_and_right_differ():
    """Negative control: the surrogate is the matched combination and no other."""
    objective = random_objective((4, 3, 3, 1), beta=5.0, seed=1)
    path, _ = objective.paths()
    surrogate = SurrogateGradient(SigmoidDerivative(5.0)).on_paths(objective, path)
    for combination in ("right", "left", 0.5):
        assert (SmoothedStochAD(combination).on_paths(objective, path) - surrogate).abs().max() > 0.1


def test_without_hidden_layer_it_is_exact_and_with_one_it_is_biased():
    for seed in range(5):
        assert measure(SmoothedStochAD(), random_objective((4, 1), beta=5.0, seed=seed)).relative_bias < 1e-13
        assert measure(SmoothedStochAD(), random_objective((4, 3, 1), beta=5.0, seed=seed)).relative_bias > 0.01


def test_the_bias_is_that_of_a_tangent_in_place_of_a_difference():
    """For one hidden unit, exact: p1' (q(1) - q(0)); smoothed: p1' E[q'(h)] v. The mean over paths has the bias, so it
    does not come from the choice of a path."""
    v, beta = 1.2, 4.0
    parameters = torch.tensor([0.9, 0.0, v, 0.1], dtype=torch.float64)
    net = PerceptronNet((1, 1, 1), SigmoidEscape(beta))
    objective = Objective(net, parameters, torch.ones(1, dtype=torch.float64))
    hidden, output = (torch.tensor(u, dtype=torch.float64) for u in ([0.9 - 1], [0.1 - 1, v + 0.1 - 1]))
    p, q = net.escape.value(hidden), net.escape.value(output)
    slope, slopes = net.escape.derivative(hidden), net.escape.derivative(output)
    quality = measure(SmoothedStochAD(), objective)
    assert float(quality.gradient[0]) == pytest.approx(float(slope * (q[1] - q[0])), rel=1e-12)
    assert float(quality.mean[0]) == pytest.approx(float(slope * v * ((1 - p) * slopes[0] + p * slopes[1])), rel=1e-12)


def test_averaging_over_paths_does_not_reduce_the_bias():
    """Section 7 says that averaging reduces the bias: the error of the mean over k = 4096 paths is the bias itself,
    while that of unbiased estimates keeps falling."""
    objective = random_objective((3, 2, 2, 1), beta=5.0, seed=20)
    gradient, bias = objective.gradient(), measure(SmoothedStochAD(), objective).relative_bias
    assert bias > 0.2
    k, repeats = 4096, 20
    for estimator, low, high in (
        (SmoothedStochAD(), 0.95 * bias, 1.1 * bias),
        (StochAD(prune=False), 0, 0.2 * bias),
        (ScoreFunction(), 0, 0.5 * bias),
    ):
        samples = estimator.sample(objective, repeats * k, torch.Generator().manual_seed(0))
        error = (samples.unflatten(0, (repeats, k)).mean(1) - gradient).norm(dim=1).mean() / gradient.norm()
        assert low < float(error) < high
