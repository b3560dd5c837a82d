"""Initialisation of networks: what the standard deviations promise, and what they are in the paper's network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.errors import ParameterError
from sgtheory.lif import Noise, lif
from sgtheory.networks import ConvShape, ConvSNN, fluctuation_driven_std, psp_energy, recurrent_fluctuation_driven_std
from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike

NEURON = LIFParameters(20e-3, 10e-3, 2e-3)
PAPER = [ConvShape(16, 21, 10, 0, 5), ConvShape(32, 7, 3, 0, 5), ConvShape(64, 7, 3, 0, 5)]


def paper_network(sigma_u=1.3, **options):
    net = ConvSNN(700, PAPER, 20, NEURON, LIFParameters(0.7, 10e-3, 2e-3), SuperSpike(10.0), **options)
    net.initialise(Noise(1), sigma_u, 15.8, 0.9)
    return net


@settings(max_examples=15)
@given(st.floats(5e-3, 50e-3), st.floats(2e-3, 50e-3))
def test_psp_energy_is_that_of_the_simulated_potential(tau_mem, tau_syn):
    neuron = LIFParameters(tau_mem, tau_syn, 2e-3, threshold=1e6)
    inputs = torch.zeros(1, 600, 1, dtype=torch.float64)
    inputs[0, 0] = 1.0
    _, potential = lif(inputs, neuron, SuperSpike(1.0), backend="reference")
    assert psp_energy(neuron) == pytest.approx(2e-3 * float(potential.square().sum()), rel=1e-6)


def test_psp_energy_of_equal_time_constants_is_the_limit():
    near, equal = (LIFParameters(10e-3 + d, 10e-3, 1e-3) for d in (1e-9, 0.0))
    assert psp_energy(equal) == pytest.approx(psp_energy(near), rel=1e-5)


def test_fine_steps_give_the_integral():
    ff, _ = recurrent_fluctuation_driven_std(1.0, 200, 0, 50.0, 0.9, LIFParameters(10e-3, 5e-3, 1e-6))
    assert ff == pytest.approx(fluctuation_driven_std(1.0, 200, 50.0, 10e-3, 5e-3), rel=1e-3)


def test_the_layers_of_the_paper():
    """The standard deviations of the authors' initial weights (one draw of theirs), within four standard errors."""
    expected = {"hidden1": 1.458, "hidden1 recurrent": 0.261, "hidden2": 0.648, "hidden2 recurrent": 0.182,
                "hidden3": 0.457, "hidden3 recurrent": 0.128, "readout": 0.056}  # fmt: skip
    net = paper_network()
    assert net.sizes == [(1, 700), (16, 68), (32, 21), (64, 5)]
    assert sum(w.numel() for w in net.parameters()) == 51536
    assert [name for name, _ in net.weights()] == list(expected)
    for name, weight in net.weights():
        w = weight.detach()
        for other in (expected[name], float(w.std())):
            n = w.numel()
            exact = float(np.sqrt(float(w.square().mean())))
            assert exact == pytest.approx(other, rel=4 / np.sqrt(n) + 0.01), name
        assert abs(float(w.mean())) < 4 * float(w.std()) / np.sqrt(w.numel())


def test_potentials_fluctuate_as_asked_for():
    """Poisson input at the expected rate, no reset: s.d. of U is sigma_u sqrt(alpha) without recurrence. n = 3e5."""
    neuron = LIFParameters(20e-3, 10e-3, 2e-3, threshold=1e6)
    std, _ = recurrent_fluctuation_driven_std(1.3, 50, 0, 15.8, 0.9, neuron)
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(64, 400, 50, generator=generator) < 15.8 * 2e-3).float()
    weights = torch.randn(50, 400, generator=generator) * std
    _, potential = lif(spikes @ weights, neuron, SuperSpike(1.0))
    centred = potential[:, 100:] - potential[:, 100:].mean(dim=(0, 1))
    bernoulli = np.sqrt(1 - 15.8 * 2e-3)  # of a variable that is 1 with this probability, relative to Poisson
    assert float(centred.std()) == pytest.approx(1.3 * bernoulli, rel=0.03)


@pytest.mark.parametrize("escape", [Step(), SigmoidEscape(10.0)], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_activity_is_what_is_counted(escape, backend):
    net = ConvSNN(
        30, [ConvShape(4, 5, 2, 1, 3), ConvShape(3, 4, 2)], 5, NEURON, LIFParameters(0.1, 10e-3, 2e-3),
        SuperSpike(10.0), backend,
    )  # fmt: skip
    net.initialise(Noise(2), 3.0, 40.0, 0.9)
    inputs = (torch.rand(53, 25, 30, generator=torch.Generator().manual_seed(0)) < 0.15).to(torch.uint8)
    noise = Noise(3, stream=7, samples=torch.arange(53) + 11)
    potentials, counts = net(inputs, escape, noise)
    again, spikes = net.activity(inputs, escape, noise)
    assert torch.equal(potentials, again)
    for count, layer in zip(counts, spikes, strict=True):
        assert count.sum() > 100
        assert torch.equal(count.flatten(1), layer.sum(dim=1).to(count.dtype))
    assert [name for name, _ in net.weights()] == ["hidden1", "hidden1 recurrent", "hidden2", "readout"]


def test_same_seed_same_weights():
    a, b = paper_network(), paper_network()
    assert all(torch.equal(v, w) for v, w in zip(a.parameters(), b.parameters(), strict=True))
    seen = torch.cat([w.flatten()[:100] / w.std() for _, w in a.weights()])
    assert len(seen.unique()) > 690  # no two connections share their numbers


def test_refusals():
    with pytest.raises(ParameterError, match="recurrent_kernel"):
        ConvShape(4, 3, recurrent_kernel=4)
    with pytest.raises(ParameterError, match=r"kernels\[1\] = 7: must fit the 6 positions"):
        ConvSNN(10, [ConvShape(4, 5), ConvShape(4, 7)], 5, NEURON, NEURON, SuperSpike(10.0))
    with pytest.raises(ParameterError, match="alpha"):
        recurrent_fluctuation_driven_std(1.0, 10, 10, 15.8, 0.0, NEURON)
