"""The exact gradient of the expected loss of networks of LIF neurons: every way to find it agrees with every other."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sgtheory.errors import ParameterError, UserError
from sgtheory.lif import Noise, lif
from sgtheory.metrics import PSPKernel, van_rossum_distance
from sgtheory.neurons import LIFParameters, SigmoidDerivative, SigmoidEscape, SuperSpike
from sgtheory.theory import (
    BinaryConcrete,
    ControlledScoreFunction,
    Exact,
    FiniteDifferences,
    Jumps,
    LIFNet,
    LIFObjective,
    ScoreFunction,
    ShrunkScoreFunction,
    SmoothedStochAD,
    SpikeCountLoss,
    SurrogateGradient,
    VanRossumLoss,
    measure,
    random_lif_objective,
    random_objective,
    side_by_side,
)

BETA = 2.0
KERNEL = PSPKernel(3e-3, 1.5e-3, 1e-3, eps0=1.0)
QUICK = LIFParameters(5e-3, 3e-3, 1e-3)
NETS = {
    "deep": {"sizes": (2, 1, 1), "steps": 8},
    "same": {"sizes": (2, 1, 1), "steps": 8, "neurons": replace(QUICK, reset="same")},
    "delay": {"sizes": (2, 1, 1), "steps": 8, "neurons": replace(QUICK, delay=1)},
    "recurrent": {"sizes": (1, 2, 1), "steps": 5, "recurrent": True},
    "recurrent same": {"sizes": (1, 2, 1), "steps": 5, "recurrent": True, "neurons": replace(QUICK, reset="same")},
    "deeper": {"sizes": (1, 1, 1, 1), "steps": 5},
}


def leaky(target, decay=0.7):
    """A loss that a spike changes in its own step and in those that follow."""
    lag = torch.arange(len(target))[:, None] - torch.arange(len(target))
    memory = torch.where(lag >= 0, decay ** lag.clamp(min=0), 0.0).double()
    return lambda spikes: 0.5 * (memory @ (spikes - target)).square().mean(-1)


def tiny(sizes, steps, neurons=QUICK, recurrent=False, **_):
    """Inputs in every step and strong weights, so that each weight matters within a few steps."""
    net = LIFNet(sizes, steps, neurons, SigmoidEscape(BETA), recurrent)
    rng = torch.Generator().manual_seed(1)
    parameters = 5 + 2 * torch.randn(net.n_parameters, generator=rng, dtype=torch.float64)
    x = torch.ones(steps, sizes[0], dtype=torch.float64)
    x[1::3, 0] = 0
    target = (torch.rand(steps, sizes[-1], generator=rng, dtype=torch.float64) < 0.4).double()
    return LIFObjective(net, parameters, x, output=leaky(target))


def z_of(estimator, objective, exact, n, seed=0):
    """Largest |mean - exact| in standard errors over the weights that matter."""
    quality = measure(estimator, objective, n, seed, gradient=exact)
    assert quality.samples == n
    matters = exact.abs() > 1e-3 * exact.abs().max()
    assert matters.sum() >= 3
    return float((quality.bias / quality.standard_error)[matters].abs().max())


@pytest.mark.parametrize("name", NETS)
def test_the_gradient_by_enumeration_is_that_of_the_expected_loss(name):
    objective = tiny(**NETS[name])
    gradient, step = objective.gradient(), 1e-5
    steps = step * torch.eye(len(gradient), dtype=torch.float64)
    for k in (0, len(gradient) - 1):
        up, down = (objective.expectation(objective.parameters + sign * steps[k]) for sign in (1, -1))
        assert float((up - down) / (2 * step)) == pytest.approx(float(gradient[k]), rel=1e-6, abs=1e-9)
    torch.testing.assert_close(Exact().sample(objective, 2, None)[1], gradient)


@pytest.mark.parametrize(
    "estimator",
    [
        ScoreFunction(paths=8),
        ScoreFunction(baseline=True, paths=8),
        ControlledScoreFunction(SigmoidDerivative(BETA), paths=8),
        Jumps(),
        Jumps(3),
        Jumps(3, coupled=False),
        Jumps(2, "right"),
        Jumps(2, "left"),
        FiniteDifferences(0.3, coupled=True, central=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["deep", "recurrent same", "delay"])
def test_unbiased_estimators_agree_with_enumeration(estimator, name):
    """n = 8000 estimates: each of 3 to 7 weights within 4 standard errors of the exact derivative. (The finite
    differences have a bias of epsilon^2 / 6 times the third derivative, far below their error.)"""
    objective = tiny(**NETS[name])
    assert z_of(estimator, objective, objective.gradient(), 8000) < 4


@dataclass(frozen=True)
class TooLate(LIFObjective):
    """Each spike is given the loss one step too late."""

    def consequences(self, path):
        layers = len(self.net.sizes) - 1
        given = super().consequences(path)
        return given[layers:] + [torch.zeros_like(given[0])] * layers


@pytest.mark.parametrize(
    "estimator",
    [
        SurrogateGradient(SigmoidDerivative(BETA), paths=8),
        SurrogateGradient(SuperSpike(10.0), paths=8),
        SmoothedStochAD(paths=8),
        BinaryConcrete(0.5),
    ],
    ids=str,
)
def test_biased_estimators_are_caught(estimator):
    objective = tiny(**NETS["deep"])
    assert z_of(estimator, objective, objective.gradient(), 8000) > 8


@pytest.mark.parametrize("name", NETS)
def test_no_part_of_the_loss_is_left_out_and_none_is_needless(name):
    """Enumerated: the score function is exact with what ``consequences`` gives, and wrong with one step less."""
    objective = tiny(**{**NETS[name], "steps": min(NETS[name]["steps"], 14 // sum(NETS[name]["sizes"][1:]))})
    assert measure(ScoreFunction(), objective).relative_bias < 1e-11
    fields = (objective.net, objective.parameters, objective.x)
    assert measure(ScoreFunction(), TooLate(*fields, output=objective.output)).relative_bias > 1e-3


def test_the_matched_weights_are_the_local_expectation():
    """On a net without hidden layers and a single step nothing follows: the credit is f(1) - f(0) in every sample."""
    objective = random_objective((3, 1), beta=BETA, seed=0)
    torch.testing.assert_close(
        Jumps().sample(objective, 5, torch.Generator().manual_seed(0)), objective.gradient().expand(5, -1)
    )


def test_jumps_of_perceptrons_are_unbiased():
    objective = random_objective((3, 3, 2, 1), beta=3.0, seed=2)
    assert z_of(Jumps(), objective, objective.gradient(), 20_000) < 4
    assert z_of(Jumps(1), objective, objective.gradient(), 20_000) < 4


def test_what_is_coupled_varies_less():
    objective = tiny(**NETS["deep"])
    together, apart = (
        measure(Jumps(coupled=coupled), objective, 2000, gradient=objective.gradient()) for coupled in (1, 0)
    )
    assert together.variance.sum() < 0.9 * apart.variance.sum()


def test_nothing_is_not_a_number_where_spikes_are_as_good_as_impossible():
    """Strong inhibition: the inverse of a firing probability such as 1e-310 is infinite."""
    objective = random_lif_objective((12, 8, 2), 40, 10.0, 1)
    assert Jumps(4).sample(objective, 200, torch.Generator().manual_seed(4)).isfinite().all()


def test_shrinking_towards_the_surrogate_lowers_the_squared_error():
    """12-8-2 neurons, 20 steps, 6 paths an estimate, n = 300 estimates: below 0.8 of that of the likelihood ratio (0.5
    found, s.e. 0.03)."""
    objective, rng = random_lif_objective((12, 8, 2), 20, 10.0, 0), torch.Generator().manual_seed(1)
    gradient = ScoreFunction(baseline=True, paths=1000).sample(objective, 20, rng).mean(0)
    errors = [
        (estimator.sample(objective, 300, rng) - gradient).square().sum(1).mean()
        for estimator in (
            ScoreFunction(baseline=True, paths=6),
            ShrunkScoreFunction(SigmoidDerivative(10.0), paths=6),
        )
    ]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("neurons", [LIFParameters(10e-3, 5e-3, 1e-3), LIFParameters(10e-3, 5e-3, 1e-3, reset="same")])
@pytest.mark.parametrize("recurrent", [False, True])
def test_larger_networks_where_nothing_can_be_enumerated(neurons, recurrent):
    """8-5-2 neurons, 30 steps, along four projections: likelihood ratio (n = 40 x 1000 paths), jumps (n = 1500) and
    finite differences (n = 300) differ by less than 4 standard errors, and the matched surrogate by more than 8."""
    objective = random_lif_objective((8, 5, 2), 30, 8.0, 3, neurons=neurons, recurrent=recurrent)
    rng = torch.Generator().manual_seed(7)
    projections = torch.randn(4, objective.net.n_parameters, generator=rng, dtype=torch.float64)
    found = []
    for estimator, n in (
        (ScoreFunction(baseline=True, paths=1000), 40),
        (Jumps(8), 1500),
        (FiniteDifferences(0.05, coupled=True, central=True), 300),
        (SurrogateGradient(SigmoidDerivative(8.0), paths=1000), 40),
    ):
        values = estimator.sample(objective, n, rng) @ projections.T
        found.append((values.mean(0), values.var(0) / n))
    z = [
        float(((a - b) / (u + v).sqrt()).abs().max()) for (a, u), (b, v) in itertools.combinations(found, 2)
    ]  # of pairs 01 02 03 12 13 23
    assert max(z[0], z[1], z[3]) < 4
    assert z[2] > 8


@pytest.mark.parametrize("reset", ["next", "same"])
@pytest.mark.parametrize("gradient", ["attached", "detached"])
@pytest.mark.parametrize("delay", [0, 1])
def test_the_network_is_that_of_the_lif_core(reset, gradient, delay):
    """Same random numbers: the same spikes and the same surrogate gradients as layers of :func:`sgtheory.lif.lif`."""
    neurons = LIFParameters(5e-3, 3e-3, 1e-3, reset=reset, reset_gradient=gradient, delay=delay)
    objective = random_lif_objective((4, 3, 2), 20, 6.0, 0, neurons=neurons, recurrent=True, rate=0.1)
    net, escape, surrogate, paths = objective.net, objective.net.escape, SuperSpike(3.0), 5
    uniforms = [
        Noise(1, stream=layer).uniform(paths, range(20), net.sizes[layer + 1], torch.float64) for layer in (0, 1)
    ]
    path = net.simulate(
        objective.parameters,
        objective.x,
        [r for both in zip(*(u.unbind(1) for u in uniforms), strict=True) for r in both],
    )

    parameters = objective.parameters.clone().requires_grad_()
    hidden, recurrent, output = net.matrices(parameters)
    spikes, _ = lif(
        (objective.x @ hidden.T).expand(paths, -1, -1), neurons, surrogate, escape, Noise(1, stream=0), recurrent
    )
    spikes, _ = lif(spikes @ output.T, neurons, surrogate, escape, Noise(1, stream=1))
    assert 10 < spikes.sum() < 100
    torch.testing.assert_close(spikes, objective.output_spikes(path))
    (expected,) = torch.autograd.grad(objective.output(spikes).sum() / paths, parameters)
    mean = SurrogateGradient(surrogate, paths=paths).on_paths(objective, [s[None] for s in path])
    torch.testing.assert_close(mean[0], expected)


def test_the_share_of_the_reset_goes_from_detached_to_attached():
    objective = tiny(**NETS["deep"])
    rng = torch.Generator().manual_seed(0)
    path = objective.sample_paths(3, rng)

    def gradient(**changes):
        of = replace(objective, net=replace(objective.net, **changes))
        return SmoothedStochAD().on_paths(of, path)

    attached, detached = (gradient(neurons=replace(QUICK, reset_gradient=kind)) for kind in ("attached", "detached"))
    torch.testing.assert_close(gradient(reset_share=1.0), attached)
    torch.testing.assert_close(gradient(reset_share=0.0), detached)
    assert not torch.allclose(attached, detached)
    between = gradient(reset_share=1e-4)
    assert (between - detached).norm() < 1e-2 * (attached - detached).norm()


@pytest.mark.parametrize("estimator", [SmoothedStochAD(paths=3), ScoreFunction(baseline=True, paths=3)], ids=str)
def test_one_set_of_parameters_for_each_estimate(estimator):
    """The same random numbers: the estimate at each set is the one that it has alone."""
    objective = tiny(**NETS["recurrent"])
    sets = torch.stack([objective.parameters, 0.8 * objective.parameters])
    found = estimator.sample(replace(objective, parameters=sets), 2, torch.Generator().manual_seed(0))
    for k, parameters in enumerate(sets):
        alone = estimator.sample(replace(objective, parameters=parameters), 2, torch.Generator().manual_seed(0))
        torch.testing.assert_close(found[k], alone[k])


@pytest.mark.parametrize(
    "estimator",
    [
        SurrogateGradient(SigmoidDerivative(BETA), path="deterministic"),
        ScoreFunction(baseline=True, paths=3),
        ControlledScoreFunction(SigmoidDerivative(BETA), paths=3),
        ShrunkScoreFunction(SigmoidDerivative(BETA), paths=3),
    ],
    ids=str,
)
def test_networks_side_by_side_have_inputs_and_targets_of_their_own(estimator):
    objectives = [random_lif_objective((4, 3, 2), 20, 5.0, seed, rate=0.1) for seed in (0, 1)]
    found = estimator.sample(side_by_side(objectives), 2, torch.Generator().manual_seed(0))
    for k, objective in enumerate(objectives):
        twice = replace(objective, parameters=objective.parameters.expand(2, -1))
        torch.testing.assert_close(found[k], estimator.sample(twice, 2, torch.Generator().manual_seed(0))[k])
    assert not torch.allclose(found[0], found[1])


def test_the_loss_of_spike_counts_is_their_cross_entropy():
    rng = torch.Generator().manual_seed(0)
    spikes = (torch.rand(5, 12, 3, generator=rng) < 0.3).double()
    labels = torch.tensor([0, 1, 2, 2, 0])
    loss = SpikeCountLoss(torch.eye(3, dtype=torch.float64)[labels])(spikes)
    assert loss.shape == (5, 12)
    expected = torch.nn.functional.cross_entropy(spikes.sum(1), labels, reduction="none")
    torch.testing.assert_close(loss.sum(-1), expected)


def test_the_loss_is_the_van_rossum_distance():
    rng = np.random.default_rng(0)
    spikes, target = rng.random((3, 20, 2)) < 0.3, rng.random((20, 2)) < 0.3
    loss = VanRossumLoss(KERNEL, torch.from_numpy(target).double())(torch.from_numpy(spikes).double())
    np.testing.assert_allclose(loss.sum(-1), van_rossum_distance(spikes, target, KERNEL), rtol=1e-12)


def test_random_networks_fire_at_the_wanted_rate():
    for rate in (0.03, 0.1):
        objective = random_lif_objective((12, 8, 2), 50, 10.0, 0, rate=rate)
        path = objective.sample_paths(500, torch.Generator().manual_seed(0))
        for layer in (0, 1):
            assert float(torch.stack(path[layer::2]).mean()) == pytest.approx(rate, rel=0.15)


def test_mistakes_are_named():
    with pytest.raises(ParameterError, match="steps"):
        LIFNet((2, 1), 0)
    with pytest.raises(ParameterError, match="sizes"):
        LIFNet((2,), 5)
    with pytest.raises(ParameterError, match="alternatives"):
        Jumps(0)
    with pytest.raises(ParameterError, match="paths"):
        ShrunkScoreFunction(SigmoidDerivative(BETA), paths=1)
    objective = random_lif_objective((2, 2, 2), 10, 5.0, 0)
    with pytest.raises(UserError, match="18"):
        objective.gradient()
    with pytest.raises(ParameterError, match="x ="):
        replace(objective, x=objective.x[:5])
