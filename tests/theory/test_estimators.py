"""Estimators: what is known of each in closed form, and how their quality is measured."""

import math

import pytest
import torch
from scipy.integrate import quad

from sgtheory.errors import ParameterError
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape, StraightThrough
from sgtheory.theory import (
    BinaryConcrete,
    Estimator,
    Exact,
    FiniteDifferences,
    Objective,
    PerceptronNet,
    ScoreFunction,
    SmoothedStochAD,
    StochAD,
    SurrogateGradient,
    measure,
    random_objective,
)

BETA = 3.0
UNBIASED = [
    Exact(),
    ScoreFunction(),
    ScoreFunction(paths=4),
    ScoreFunction(baseline=True, paths=3),
    StochAD(),
    StochAD(prune=False),
    StochAD(coupled=False),
]
BIASED = [
    SmoothedStochAD(),
    SmoothedStochAD("right"),
    SmoothedStochAD(paths=4),
    SurrogateGradient(SigmoidDerivative(BETA)),
    SurrogateGradient(SigmoidDerivative(BETA), path="deterministic"),
    SurrogateGradient(StraightThrough()),
    FiniteDifferences(0.5, coupled=True),
    BinaryConcrete(0.5),
    BinaryConcrete(0.5, straight_through=True),
]


@pytest.fixture
def objective():
    return random_objective((3, 3, 2, 1), beta=BETA, seed=2)


def perceptron(w=0.3, b=0.4):
    """One unit, one input: E[y] = sigma_beta(w + b - 1)."""
    parameters = torch.tensor([w, b], dtype=torch.float64)
    return Objective(PerceptronNet((1, 1), SigmoidEscape(BETA)), parameters, torch.ones(1, dtype=torch.float64))


def bias_z(quality):
    """Largest |bias| / standard error over the parameters that matter."""
    matters = quality.gradient != 0
    return float((quality.bias / quality.standard_error)[matters].abs().max())


@pytest.mark.parametrize("estimator", UNBIASED, ids=str)
def test_unbiased_estimators(estimator, objective):
    """Enumerated, or n = 30,000 samples: every component within 4.5 standard errors."""
    quality = measure(estimator, objective, samples=30_000)
    if quality.samples:
        assert bias_z(quality) < 4.5
    else:
        assert quality.relative_bias < 1e-12


@pytest.mark.parametrize("estimator", BIASED, ids=str)
def test_biased_estimators_are_caught(estimator, objective):
    quality = measure(estimator, objective, samples=30_000)
    if quality.samples:
        assert bias_z(quality) > 6
    else:
        assert quality.relative_bias > 1e-3


@pytest.mark.parametrize(
    "estimator", [SmoothedStochAD(), ScoreFunction(), SurrogateGradient(SigmoidDerivative(BETA))], ids=str
)
def test_samples_agree_with_the_enumerated_moments(estimator, objective):
    n = 50_000
    quality = measure(estimator, objective)
    samples = estimator.sample(objective, n, torch.Generator().manual_seed(5))
    z = (samples.mean(0) - quality.mean) / (quality.variance / n).sqrt()
    assert z[quality.variance > 1e-12].abs().max() < 4.5
    assert float(samples.var(0).sum() / quality.variance.sum()) == pytest.approx(1, abs=0.05)


def test_averaging_over_paths_divides_the_variance_and_keeps_the_bias(objective):
    one, many = (measure(SmoothedStochAD(paths=k), objective, samples=20_000) for k in (1, 8))
    assert float(many.variance.sum() / one.variance.sum()) == pytest.approx(1 / 8, rel=0.05)
    noise = float(many.standard_error.norm() / many.gradient.norm())
    assert many.relative_bias == pytest.approx(one.relative_bias, abs=3 * noise)
    assert one.relative_bias > 10 * noise


def test_baseline_lowers_the_variance_of_the_score_function(objective):
    plain, baseline = (measure(ScoreFunction(baseline=b, paths=8), objective, samples=5000) for b in (False, True))
    assert baseline.variance.sum() < 0.8 * plain.variance.sum()


def test_independent_finite_differences_of_a_perceptron():
    """Variance (p (1-p) + q (1-q)) / epsilon^2 and mean (q - p) / epsilon, with q the perturbed probability."""
    objective, epsilon, n = perceptron(), 0.2, 100_000
    p, q = (1 / (1 + math.exp(-BETA * (0.7 + shift - 1))) for shift in (0, epsilon))
    quality = measure(FiniteDifferences(epsilon), objective, samples=n)
    variance = (p * (1 - p) + q * (1 - q)) / epsilon**2
    assert quality.variance.tolist() == pytest.approx([variance] * 2, rel=0.02)
    assert quality.mean.tolist() == pytest.approx([(q - p) / epsilon] * 2, abs=4 * math.sqrt(variance / n))


def test_coupled_finite_differences_of_a_perceptron():
    """The two runs differ with probability q - p, so the variance is (q-p) (1 - (q-p)) / epsilon^2."""
    objective, epsilon, n = perceptron(), 0.2, 100_000
    p, q = (1 / (1 + math.exp(-BETA * (0.7 + shift - 1))) for shift in (0, epsilon))
    quality = measure(FiniteDifferences(epsilon, coupled=True), objective, samples=n)
    assert quality.variance.tolist() == pytest.approx([(q - p) * (1 - q + p) / epsilon**2] * 2, rel=0.05)


@pytest.mark.parametrize("straight_through", [False, True])
def test_binary_concrete_of_a_perceptron(straight_through):
    """For one unit the mean relaxed derivative is beta / T * integral over r of s (1 - s)."""
    objective, temperature, n = perceptron(), 0.7, 100_000
    logit = BETA * (0.7 - 1)

    def slope(r):
        s = 1 / (1 + math.exp(-(logit - math.log(r / (1 - r))) / temperature))
        return BETA / temperature * s * (1 - s)

    expected, _ = quad(slope, 0, 1)
    quality = measure(BinaryConcrete(temperature, straight_through), objective, samples=n)
    assert abs(float(quality.mean[0]) - expected) < 4 * float(quality.standard_error[0])


def test_straight_through_concrete_runs_on_spikes():
    """The gradient of an upper weight is zero where the unit below it did not spike."""
    objective = random_objective((3, 2, 1), beta=BETA, seed=0)
    rng = torch.Generator().manual_seed(0)
    hard = BinaryConcrete(0.5, straight_through=True).sample(objective, 200, rng)
    soft = BinaryConcrete(0.5).sample(objective, 200, rng)
    upper = slice(8, 10)  # the weights of the output unit
    assert 20 < int((hard[:, upper] == 0).sum()) < 380
    assert not (soft[:, upper] == 0).any()


class Fixed(Estimator):
    """Two values with equal probability, in terms of the exact gradient."""

    def sample(self, objective, n, rng):
        g = objective.gradient()
        return torch.where(torch.rand(n, 1, generator=rng, dtype=torch.float64) < 0.5, 3 * g, -g)

    def cost(self, net):
        return 0.0


def test_measure_on_a_known_estimator(objective):
    quality = measure(Fixed(), objective, samples=10_000)
    g = objective.gradient()
    assert quality.cosine == pytest.approx(1)
    assert quality.sample_cosine == pytest.approx(0, abs=0.05)
    assert quality.sign_agreement == 1
    assert quality.sample_sign_agreement == pytest.approx(0.5, abs=0.03)
    assert quality.relative_bias == pytest.approx(0, abs=0.1)
    assert quality.relative_sd == pytest.approx(2, abs=0.05)
    torch.testing.assert_close(quality.standard_error, 2 * g.abs() / 100, rtol=0.02, atol=1e-12)


def test_costs_count_passes(objective):
    net = objective.net  # 3 + 2 + 1 units, 23 parameters
    assert net.n_parameters == 23
    assert SmoothedStochAD(paths=5).cost(net) == 10
    assert FiniteDifferences().cost(net) == 46
    assert FiniteDifferences(coupled=True).cost(net) == 24
    assert StochAD().cost(net) == 2
    assert StochAD(prune=False).cost(net) == pytest.approx(1 + (3 * 2 + 5 * 1) / 6)
    assert Exact().cost(net) == pytest.approx(2 * (1 * 3 + 8 * 2 + 4 * 1) / 6)


def test_same_seed_same_measurement(objective):
    for estimator in (StochAD(), FiniteDifferences(), BinaryConcrete(), ScoreFunction(baseline=True, paths=2)):
        first, again, other = (measure(estimator, objective, 50, seed) for seed in (1, 1, 2))
        assert torch.equal(first.mean, again.mean)
        assert not torch.equal(first.mean, other.mean)


def test_mistakes_are_named(objective):
    for make, name in (
        (lambda: SmoothedStochAD(paths=0), "paths"),
        (lambda: ScoreFunction(baseline=True), "paths"),
        (lambda: SurrogateGradient(StraightThrough(), path="both"), "path"),
        (lambda: FiniteDifferences(epsilon=0), "epsilon"),
        (lambda: BinaryConcrete(temperature=-1), "temperature"),
        (lambda: measure(Exact(), objective, samples=1), "samples"),
    ):
        with pytest.raises(ParameterError) as error:
            make()
        assert error.value.name == name
