"""What the core cannot use is refused in one sentence: kinds of objects, types and shapes of arrays, sizes."""

import numpy as np
import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.lif import (
    LIF,
    Layer,
    Noise,
    Readout,
    filter_cascade,
    leaky_readout,
    lif,
    mean_surrogate_error,
    simulate,
    spike_product,
    spiking_network,
    weight_gradient,
    weighted_spikes,
)
from sgtheory.networks import psp_energy, recurrent_fluctuation_driven_std
from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike
from sgtheory.theory import LIFNet, simulate_events

DIFFERING = LIFParameters(tau_mem=torch.tensor([1e-2, 2e-2]))
NEURON, SURROGATE = LIFParameters(), SuperSpike(10.0)
INPUTS = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0))
WRONG = {
    "list": lambda: lif([[1.0]], NEURON, SURROGATE),
    "numpy": lambda: lif(INPUTS.numpy(), NEURON, SURROGATE),
    "int tensor": lambda: lif((INPUTS > 0.5).int(), NEURON, SURROGATE),
    "complex": lambda: lif(INPUTS.to(torch.complex64), NEURON, SURROGATE),
    "params none": lambda: lif(INPUTS, None, SURROGATE),
    "surrogate class": lambda: lif(INPUTS, NEURON, SuperSpike),
    "surrogate none": lambda: lif(INPUTS, NEURON, None),
    "escape class": lambda: lif(INPUTS, NEURON, SURROGATE, SigmoidEscape, Noise(1)),
    "noise int": lambda: lif(INPUTS, NEURON, SURROGATE, SigmoidEscape(5.0), 1),
    "noise dict": lambda: lif(INPUTS, NEURON, SURROGATE, SigmoidEscape(5.0), {}),
    "recurrent numpy": lambda: lif(INPUTS, NEURON, SURROGATE, recurrent=np.eye(4, dtype=np.float32)),
    "recurrent list": lambda: lif(INPUTS, NEURON, SURROGATE, recurrent=[[1.0]]),
    "backend none": lambda: lif(INPUTS, NEURON, SURROGATE, backend=None),
    "backend list": lambda: lif(INPUTS, NEURON, SURROGATE, backend=[]),
    "samples bool": lambda: lif(
        INPUTS, NEURON, SURROGATE, SigmoidEscape(5.0), Noise(1, samples=torch.tensor([True, False]))
    ),
    "no neurons": lambda: lif(torch.empty(2, 5, 0), NEURON, SURROGATE, recurrent=torch.empty(0, 0)),
    "no channels": lambda: lif(torch.empty(2, 5, 0, 4), NEURON, SURROGATE, recurrent=torch.empty(0, 0, 3)),
    "no positions": lambda: lif(torch.empty(2, 5, 3, 0), NEURON, SURROGATE, recurrent=torch.empty(3, 3, 3)),
    "float16 array": lambda: weighted_spikes(np.zeros((1, 2, 3), bool), np.zeros((3, 2), "f2"), np.zeros((1, 2, 2))),
    "foreign bytes": lambda: weighted_spikes(np.zeros((1, 2, 3), bool), np.zeros((3, 2), ">f4"), np.zeros((1, 2, 2))),
    "uint16 spikes": lambda: weighted_spikes(np.zeros((1, 2, 3), "u2"), np.zeros((3, 2)), np.zeros((1, 2, 2))),
    "psp tensor": lambda: psp_energy(DIFFERING),
    "initialise tensor": lambda: recurrent_fluctuation_driven_std(1.0, 3, 3, 10.0, 0.9, DIFFERING),
    "events tensor": lambda: simulate_events(
        np.zeros(1), np.zeros(1, int), np.ones((1, 2)), np.zeros((2, 2)), DIFFERING, 0.1
    ),
    "LIFNet tensor": lambda: LIFNet((2, 2), 5, DIFFERING),
    "readout list": lambda: leaky_readout([1.0], NEURON),
    "readout initial str": lambda: leaky_readout(INPUTS, NEURON, "a"),
    "LIF 0": lambda: LIF(0, 3, NEURON, SURROGATE),
    "LIF neg": lambda: LIF(-1, 3, NEURON, SURROGATE),
    "LIF float": lambda: LIF(2.5, 3, NEURON, SURROGATE),
    "LIF kernel 0": lambda: LIF(4, 3, NEURON, SURROGATE, kernel=0),
    "LIF stride 0": lambda: LIF(4, 3, NEURON, SURROGATE, kernel=3, stride=0),
    "LIF pad -1": lambda: LIF(4, 3, NEURON, SURROGATE, kernel=3, padding=-1),
    "LIF recurrent 2.0": lambda: LIF(4, 3, NEURON, SURROGATE, recurrent=1.0),
    "LIF wrong input": lambda: LIF(4, 3, NEURON, SURROGATE)(torch.rand(2, 5, 7)),
    "LIF wrong ndim": lambda: LIF(4, 3, NEURON, SURROGATE)(torch.rand(5, 4)),
    "LIF conv on dense": lambda: LIF(4, 3, NEURON, SURROGATE, kernel=3)(INPUTS),
    "net layers none": lambda: spiking_network(INPUTS.to(torch.uint8), None, [], [], Readout(NEURON), torch.rand(2, 4)),
    "net empty": lambda: spiking_network((INPUTS > 0.5).to(torch.uint8), [], [], [], Readout(NEURON), torch.rand(2, 4)),
    "net counts": lambda: spiking_network(
        (INPUTS > 0.5).to(torch.uint8), [Layer(NEURON, SURROGATE, Step())], [], [], Readout(NEURON), torch.rand(2, 4)
    ),
    "net w numpy": lambda: spiking_network(
        (INPUTS > 0.5).to(torch.uint8),
        [Layer(NEURON, SURROGATE, Step())],
        [np.zeros((3, 1, 2), np.float32)],
        [None],
        Readout(NEURON),
        torch.rand(2, 9),
    ),
    "net layer type": lambda: spiking_network(
        (INPUTS > 0.5).to(torch.uint8), [NEURON], [torch.rand(3, 1, 2)], [None], Readout(NEURON), torch.rand(2, 9)
    ),
    "net stride 0": lambda: spiking_network(
        (INPUTS > 0.5).to(torch.uint8),
        [Layer(NEURON, SURROGATE, Step(), stride=0)],
        [torch.rand(3, 1, 2)],
        [None],
        Readout(NEURON),
        torch.rand(2, 9),
    ),
    "net stride float": lambda: spiking_network(
        (INPUTS > 0.5).to(torch.uint8),
        [Layer(NEURON, SURROGATE, Step(), stride=1.5)],
        [torch.rand(3, 1, 2)],
        [None],
        Readout(NEURON),
        torch.rand(2, 9),
    ),
    "net readout": lambda: spiking_network(
        (INPUTS > 0.5).to(torch.uint8),
        [Layer(NEURON, SURROGATE, Step())],
        [torch.rand(3, 1, 2)],
        [None],
        NEURON,
        torch.rand(2, 9),
    ),
    "simulate list": lambda: simulate([1], NEURON, Step(), Noise(0), np.zeros((1, 2, 3)), np.zeros((1, 2, 3))),
    "simulate tensors": lambda: simulate(
        torch.ones((1, 2, 3)), NEURON, Step(), Noise(0), torch.zeros((1, 2, 3)), torch.zeros((1, 2, 3))
    ),
    "weighted float spikes": lambda: weighted_spikes(np.ones((1, 2, 3)), np.ones((3, 2)), np.ones((1, 2, 2))),
    "weighted int w": lambda: weighted_spikes(np.ones((1, 2, 3), np.uint8), np.ones((3, 2), int), np.ones((1, 2, 2))),
    "weighted list": lambda: weighted_spikes([[1]], np.ones((3, 2)), np.ones((1, 2, 2))),
    "cascade str": lambda: filter_cascade(np.ones((1, 2, 3)), "a", 0.1, 0.1, 0, False, np.ones((1, 2, 3))),
    "cascade neg lag": lambda: filter_cascade(np.ones((1, 2, 3)), 0.2, 0.1, 0.1, -1, False, np.ones((1, 2, 3))),
    "cascade float lag": lambda: filter_cascade(np.ones((1, 2, 3)), 0.2, 0.1, 0.1, 0.5, False, np.ones((1, 2, 3))),
    "cascade 2d": lambda: filter_cascade(np.ones((2, 3)), 0.2, 0.1, 0.1, 0, False, np.ones((2, 3))),
    "mse shapes": lambda: mean_surrogate_error(
        np.ones((1, 2, 3)), np.ones((1, 2, 4)), np.ones((1, 2, 3)), SURROGATE, NEURON
    ),
    "mse shapes2": lambda: mean_surrogate_error(
        np.ones((2, 2, 3)), np.ones((1, 2, 3)), np.ones((1, 2, 3)), SURROGATE, NEURON
    ),
    "product shapes": lambda: spike_product((INPUTS > 0.5).float(), torch.rand(5, 2)),
    "product non-spikes": lambda: spike_product(INPUTS * 3, torch.rand(4, 2)),
    "product numpy": lambda: spike_product((INPUTS > 0.5).float().numpy(), torch.rand(4, 2)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_get_one_sentence(name):
    with pytest.raises(ParameterError) as error:
        WRONG[name]()
    assert "\n" not in str(error.value)


def test_indices_of_samples_may_be_a_list_or_an_array():
    expected = Noise(1, samples=torch.tensor([3, 0])).uniform(2, range(4), 5)
    for samples in ([3, 0], (3, 0), np.array([3, 0]), np.array([3, 0], np.uint8)):
        assert torch.equal(Noise(1, samples=samples).uniform(2, range(4), 5), expected)


def test_views_of_arrays_are_read_as_they_are():
    rng = np.random.default_rng(0)
    spikes, weight = rng.integers(0, 2, (3, 4, 12), np.uint8)[..., ::2], rng.normal(size=(6, 5))
    out, gradient = np.empty((3, 4, 5)), np.empty((6, 5))
    weighted_spikes(spikes, weight, out)
    np.testing.assert_allclose(out, spikes @ weight, atol=1e-12)
    weight_gradient(spikes.astype(bool), out, gradient)
    np.testing.assert_allclose(gradient, np.einsum("bni,bnj->ij", spikes, out), atol=1e-12)
