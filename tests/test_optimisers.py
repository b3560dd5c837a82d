"""SMORMS3 as written."""

import copy

import numpy as np
import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.optimisers import OPTIMISERS, SMORMS3, make_optimiser


def test_smorms3_as_written():
    rng = np.random.default_rng(0)
    w = torch.from_numpy(rng.standard_normal(7)).requires_grad_()
    expected, mem, g, g2 = w.detach().numpy().copy(), np.ones(7), np.zeros(7), np.zeros(7)
    optimiser = SMORMS3([w], lr=0.01)
    for _ in range(30):
        h = rng.standard_normal(7) * 10.0 ** np.arange(-3, 4)
        w.grad = torch.from_numpy(h.copy())
        optimiser.step()
        r = 1 / (mem + 1)
        g = (1 - r) * g + r * h
        g2 = (1 - r) * g2 + r * h**2
        x = g**2 / (g2 + 1e-16)
        mem = 1 + mem * (1 - x)
        expected -= h * np.minimum(0.01, x) / (np.sqrt(g2) + 1e-16)
        np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_resumed_optimiser_takes_the_same_steps(name):
    def quadratic(w):
        return (w * torch.arange(1.0, 5.0)).square().sum()

    def train(w, optimiser, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            quadratic(w).backward()
            optimiser.step()

    w = torch.ones(4, requires_grad=True)
    optimiser = make_optimiser(name, [w], 0.01)
    train(w, optimiser, 5)
    other = w.detach().clone().requires_grad_()
    resumed = make_optimiser(name, [other], 0.01)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    before = float(quadratic(w).detach())
    train(w, optimiser, 5)
    train(other, resumed, 5)
    assert torch.equal(w, other)
    assert float(quadratic(w).detach()) < before


def test_silent_parameters_stay():
    w = torch.ones(3, requires_grad=True)
    w.grad = torch.zeros(3)
    SMORMS3([w], lr=0.01).step()
    assert torch.equal(w.detach(), torch.ones(3))


def test_refusals():
    with pytest.raises(ParameterError, match="optimiser = 'rmsprop': must be one of smorms3"):
        make_optimiser("rmsprop", [torch.ones(1)], 0.1)
    for name in OPTIMISERS:
        with pytest.raises(ParameterError, match="learning_rate"):
            make_optimiser(name, [torch.ones(1)], 0.0)
