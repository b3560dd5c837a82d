"""Thresholds that adapt: the equations, gradients, every backend against the definition, pieces of a sequence.

Kernels are compiled once more for each kind of arguments, so what is not slow has one kind: float32, neurons that are
alike, and a state.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_differing_neurons import KINDS, NEURONS, OPTIONS, TOLERANCE, assert_close, differing, layer, network
from test_lif import smooth_spikes  # noqa: F401 (a fixture)
from test_state import in_pieces

from sgtheory.errors import ParameterError
from sgtheory.lif import LIF, Noise, State, lif, mean_surrogate_error, simulate, spiking_network
from sgtheory.neurons import LIFParameters, SigmoidDerivative, SigmoidEscape, Step, SuperSpike
from sgtheory.theory import LIFNet, real_time_recurrent_learning, simulate_events

ADAPTATION = {"adaptation": 0.2, "tau_adaptation": 30e-3}


def adapting(neurons, dtype, options, differ=True):
    """Parameters of neurons that adapt. All may differ, and ask for gradients; the first of them does not adapt."""
    if not differ:
        return LIFParameters(10e-3, 5e-3, 1e-3, 0.8, *options, **ADAPTATION)
    factor = 0.5 + torch.rand(neurons, generator=torch.Generator().manual_seed(2)).to(dtype)
    own = {name: value * factor for name, value in ADAPTATION.items()}
    own["adaptation"][0] = 0.0
    return replace(differing(neurons, dtype, options), **{name: value.requires_grad_() for name, value in own.items()})


def run(inputs, parameters, neuron, recurrent, backend):
    """Spikes, potentials and A at the end, and the gradients of a random linear function of the first two."""
    leaves = [t.detach().clone().requires_grad_() for t in (inputs, recurrent) if t is not None]
    escape, surrogate = neuron
    *out, state = lif(leaves[0], parameters, surrogate, escape, Noise(5), (*leaves, None)[1], backend, state=State())
    weights = torch.randn((2, *inputs.shape), generator=torch.Generator().manual_seed(1), dtype=inputs.dtype)
    loss = sum((o * w).sum() for o, w in zip(out, weights, strict=True))
    gradients = torch.autograd.grad(loss, [*leaves, *parameters.tensors.values()])
    return [out[0].detach(), state.adapted, out[1].detach()], gradients


@pytest.mark.parametrize("delay", [0, 1])
def test_the_equations_by_hand(delay):
    """A spike raises the threshold from the next step on, whatever the delay; with plain Python numbers."""
    p = LIFParameters(10e-3, 5e-3, 1e-3, reset="same", delay=delay, **ADAPTATION)
    x = [8.0 * (n % 3 == 0) for n in range(40)]
    u, current, adapted, spikes = 0.0, 0.0, 0.0, []
    for n in range(len(x)):
        spikes.append(float(u > 1 + 0.2 * adapted))
        u = math.exp(-0.1) * u * (1 - spikes[n]) + (1 - math.exp(-0.1)) * current
        current = math.exp(-0.2) * current + (x[n - delay] if n >= delay else 0.0)
        adapted = math.exp(-1 / 30) * adapted + spikes[n]
    inputs = torch.tensor(x, dtype=torch.float64).view(1, -1, 1)
    found, _, state = lif(inputs, p, SuperSpike(), backend="reference", state=State())
    assert found[0, :, 0].tolist() == spikes
    assert float(state.adapted) == pytest.approx(adapted, rel=1e-12)
    assert 3 < sum(spikes) < sum(lif(inputs, replace(p, adaptation=0.0), SuperSpike())[0].flatten()) - 3


@pytest.mark.usefixtures("smooth_spikes")
def test_gradients_of_the_definition_against_finite_differences():
    """With the smooth stand-in for the spike the gradient is a true one, for what neurons have of their own as well."""
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": torch.float64, "requires_grad": True}
    own = [0.5 + torch.rand(3, generator=generator, dtype=torch.float64) for _ in range(2)]
    leaves = torch.randn((1, 7, 3), **options), torch.randn((3, 3), **options), *(t.requires_grad_() for t in own)

    def f(x, v, adaptation, tau, reset_gradient="attached"):
        p = LIFParameters(8e-3, 4e-3, 1e-3, 0.5, "next", reset_gradient, 0, adaptation, 10e-3 * tau)
        return lif(x, p, SigmoidDerivative(2.0), recurrent=v, backend="reference")

    assert torch.autograd.gradcheck(f, leaves)
    # negative control: another derivative with respect to A
    assert not torch.autograd.gradcheck(lambda *a: f(*a[:2], a[2].detach(), a[3]), leaves, raise_exception=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_compiled_equals_definition(kind, dtype):
    """All options, with neurons that are alike in float32 and others in float64."""
    inputs, recurrent = layer(kind, dtype)
    for options, neuron in zip(OPTIONS, NEURONS + NEURONS[::-1], strict=True):
        parameters = adapting(inputs.shape[2], dtype, options, differ=dtype == torch.float64)
        results = [run(inputs, parameters, neuron, recurrent, backend) for backend in ("reference", "cpu")]
        (expected, of_expected), (found, of_found) = results
        assert all(map(torch.equal, expected[:2], found[:2]))
        assert 0.01 < float(expected[0].mean()) < 0.6
        if recurrent is None:
            assert torch.equal(expected[2], found[2])
        assert_close([expected[2], *of_expected], [found[2], *of_found], TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_pieces_of_a_sequence_give_the_bits_of_the_whole(kind, backend):
    inputs, recurrent = layer(kind, torch.float32)
    arguments = adapting(1, torch.float32, OPTIONS[1], False), SuperSpike(), SigmoidEscape(10.0), Noise(3), recurrent
    spikes, potential, _ = lif(inputs, *arguments, backend=backend, state=State())
    *found, state = in_pieces(inputs, arguments, backend, State())
    assert torch.equal(found[0], spikes)
    assert torch.equal(found[1], potential)
    assert bool((state.adapted > 0).any())
    # negative control: what is forgotten changes the rest
    _, _, state = lif(inputs[:, :15], *arguments, backend=backend, state=State())
    rest, *_ = lif(inputs[:, 15:], *arguments, backend=backend, state=replace(state, adapted=None))
    assert not torch.equal(rest, spikes[:, 15:])


def test_networks_equal_the_definition():
    (inputs, layers, *rest), leaves = network(torch.float32, OPTIONS[6], NEURONS[1])
    layers = [replace(layer, parameters=adapting(1, torch.float32, OPTIONS[6], differ=False)) for layer in layers]
    leaves, found = leaves[:4], []
    for options in ({"backend": "reference"}, {"backend": "cpu"}, {"backend": "cpu", "recompute": True}):
        potentials, counts, state = spiking_network(inputs, layers, *rest, **options, state=[State()] * 3)
        loss = potentials.square().sum() + sum(count.square().sum() for count in counts)
        adapted = [one.adapted for one in state[:-1]]
        found.append(([potentials.detach(), *adapted, *counts], torch.autograd.grad(loss, leaves)))
    for out, gradients in found[1:]:
        assert all(map(torch.equal, found[0][0][1:], out[1:]))
        assert_close(found[0][0][:1], out[:1], TOLERANCE[torch.float32])
        assert_close(found[0][1], gradients, TOLERANCE[torch.float32])


def test_a_module_learns_its_adaptation():
    torch.manual_seed(0)
    p = LIFParameters(10e-3, 5e-3, 1e-3, **ADAPTATION)
    options = {"recurrent": 1, "backend": "reference", "learn": ("adaptation", "tau_adaptation")}
    module = LIF(10, 8, p, SuperSpike(), **options)
    inputs = 4 * (torch.rand(4, 30, 10) < 0.3).float()
    module(inputs).sum().backward()
    assert bool((module.log_adaptation.grad < 0).any())  # more adaptation, fewer spikes
    assert bool((module.log_tau_adaptation.grad != 0).any())
    with pytest.raises(ParameterError, match=r"adaptation = 0\.0: must be positive to be learnt"):
        LIF(10, 8, LIFParameters(), SuperSpike(), learn=["adaptation"])


@pytest.mark.slow
def test_pieces_for_other_rules():
    inputs, _ = layer("no recurrence", torch.float32)
    parameters = adapting(1300, torch.float32, OPTIONS[0], differ=False)
    expected, u = lif(inputs, parameters, SuperSpike())
    potentials, spikes = torch.empty(inputs.shape).numpy(), torch.empty(inputs.shape).numpy()
    simulate(inputs.numpy(), parameters, Step(), Noise(0), potentials, spikes)
    assert torch.equal(torch.from_numpy(spikes), expected)
    assert torch.equal(torch.from_numpy(potentials), u)


def test_what_does_not_know_adaptation_refuses_it():
    p, zeros = LIFParameters(**ADAPTATION), np.zeros((1, 2, 3))
    one, weights = torch.zeros(2, 3, dtype=torch.float64), np.zeros((3, 3))
    for use in (
        lambda: mean_surrogate_error(zeros, zeros, zeros, SuperSpike(), p),
        lambda: real_time_recurrent_learning(one, one.new_zeros(3, 3), one.new_zeros(3, 3), p, SuperSpike()),
        lambda: simulate_events(np.zeros(1), np.zeros(1, int), weights, weights, p, 1.0),
        lambda: LIFNet((3, 2), 4, p),
    ):
        with pytest.raises(ParameterError, match=r"adaptation = 0\.2: must be 0 for"):
            use()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adaptation": -0.1}, "adaptation = -0.1: must be from 0"),
        ({"adaptation": float("nan")}, "adaptation = nan: must be from 0"),
        ({"adaptation": "much"}, "adaptation = 'much': must be a number"),
        ({"adaptation": torch.tensor([1.0, -1.0])}, "adaptation = .*must be from 0"),
        ({"tau_adaptation": 0.0}, "tau_adaptation = 0.0"),
    ],
)
def test_wrong_numbers_get_one_sentence(values, message):
    with pytest.raises(ParameterError, match=message):
        LIFParameters(**values)
