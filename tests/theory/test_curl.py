"""Jacobian and circulation of the mean of an estimator, from paths drawn at one point, against enumeration."""

from dataclasses import replace

import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.neurons import LIFParameters, SigmoidDerivative, SigmoidEscape
from sgtheory.theory import (
    LIFNet,
    LIFObjective,
    SurrogateGradient,
    likelihood_field,
    mean_circulation,
    mean_jacobians,
)

SURROGATE = SurrogateGradient(SigmoidDerivative(1.0))


def objective():
    """2-1-1 neurons, 7 steps: 14 random spikes."""
    net = LIFNet((2, 1, 1), 7, LIFParameters(5e-3, 3e-3, 1e-3), SigmoidEscape(2.0))
    rng = torch.Generator().manual_seed(1)
    parameters = 5 + 2 * torch.randn(net.n_parameters, generator=rng, dtype=torch.float64)
    x = torch.ones(7, 2, dtype=torch.float64)
    x[1::3, 0] = 0
    target = torch.tensor([0, 0, 0, 1, 0, 0, 1], dtype=torch.float64)[:, None]
    return LIFObjective(net, parameters, x, output=lambda spikes: 0.5 * (spikes - target).square().sum(-1))


def fields():
    return {"surrogate": SURROGATE.on_paths, "exact": likelihood_field()}


def enumerated(here, field):
    """Its exact mean at the parameters of ``here``."""
    path, probability = here.paths()
    return probability @ field(here, [spikes[:, None] for spikes in path])


def exact_jacobian(field, step=1e-4):
    here = objective()
    columns = []
    for d in torch.eye(here.net.n_parameters, dtype=torch.float64):
        up, down = (enumerated(replace(here, parameters=here.parameters + sign * step * d), field) for sign in (1, -1))
        columns.append((up - down) / (2 * step))
    return torch.stack(columns, -1)


def test_the_jacobian_of_the_mean_is_that_of_all_paths():
    """n = 16,000 paths in 20 batches: within 4 standard errors, and without the paths that become more likely it is
    off by more than 8."""
    here = objective()
    found = mean_jacobians(
        here,
        fields(),
        torch.eye(here.net.n_parameters, dtype=torch.float64),
        16_000,
        20,
        torch.Generator().manual_seed(0),
    )
    for name, field in fields().items():
        expected = exact_jacobian(field)
        fixed, both = found[name][0], found[name].sum(0)

        error = both.std(0) / len(both) ** 0.5
        assert ((both.mean(0) - expected) / error).abs().max() < 4
        assert ((fixed.mean(0) - expected) / error).abs().max() > 8
    surrogate, exact = (exact_jacobian(field) for field in fields().values())
    assert (exact - exact.mT).norm() < 1e-6 * exact.norm()
    assert (surrogate - surrogate.mT).norm() > 0.02 * surrogate.norm()


def test_a_loop_has_the_circulation_of_the_jacobian_and_a_gradient_has_none():
    """A small loop around 4000 paths in 8 batches; the gradient of the weighted mean of the loss has no circulation at
    any radius, to rounding."""
    here, rng = objective(), torch.Generator().manual_seed(3)
    plane = torch.eye(here.net.n_parameters, dtype=torch.float64)[[0, 2]]
    path = [spikes[:, None] for spikes in here.sample_paths(4000, rng)]

    def weighted_loss(here, path):
        value = here.value(path)
        return here.gradients(lambda p: value * here.log_likelihood(p, path).sum(0), len(path[0]))

    around = mean_circulation(here, SURROGATE.on_paths, plane, 0.05, 8, path, 8) / (torch.pi * 0.05**2)
    jacobian = exact_jacobian(SURROGATE.on_paths)
    expected = plane[1] @ jacobian @ plane[0] - plane[0] @ jacobian @ plane[1]
    assert ((around.mean() - expected) / (around.std() / 8**0.5)).abs() < 4
    assert around.mean().abs() > 4 * around.std() / 8**0.5
    size = mean_circulation(here, SURROGATE.on_paths, plane, 0.5, 16, path, 8).abs().max()
    assert mean_circulation(here, weighted_loss, plane, 0.5, 16, path, 8).abs().max() < 1e-9 * size


def test_paths_that_cannot_be_divided_are_named():
    with pytest.raises(ParameterError, match="paths = 10"):
        mean_jacobians(objective(), fields(), torch.eye(3, dtype=torch.float64), 10, 4, torch.Generator())
