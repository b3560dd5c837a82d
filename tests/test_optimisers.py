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


def test_smorms3_gives_every_weight_the_bits_of_these_operations():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((5, 3, 2), (7,), (4, 33))]
    expected = [w.detach().clone() for w in weights]
    states = [(torch.ones_like(w), torch.zeros_like(w), torch.zeros_like(w)) for w in expected]
    optimiser = SMORMS3(weights, lr=0.01)
    for step in range(20):
        for w in weights[: 2 if step % 5 else 3]:
            w.grad = torch.randn(w.shape, generator=generator)
        optimiser.step()
        for w, e, (mem, g, g2) in zip(weights, expected, states, strict=True):
            if w.grad is not None:
                r = 1 / (mem + 1)
                g.lerp_(w.grad, r)
                g2.lerp_(w.grad.square(), r)
                x = g.square() / (g2 + 1e-16)
                mem.mul_(1 - x).add_(1)
                e.sub_(w.grad * x.clamp(max=0.01) / (g2.sqrt() + 1e-16))
            assert torch.equal(w.detach(), e)
            w.grad = None


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
