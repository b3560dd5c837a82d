"""Time constants and thresholds of each neuron: every backend against the definition, and what the module learns."""

import itertools
from dataclasses import replace

import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.lif import LIF, Layer, Noise, Readout, leaky_readout, lif, mean_surrogate_error, simulate, spiking_network
from sgtheory.neurons import (
    ErfEscape,
    LIFParameters,
    MultilayerSpiker,
    RectifiedLinear,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    SuperSpike,
)

OPTIONS = list(itertools.product(("next", "same"), ("attached", "detached"), (0, 1)))
NEURONS = (
    (Step(), SuperSpike(10.0)),
    (SigmoidEscape(10.0), SigmoidDerivative(7.0)),
    (ErfEscape(), MultilayerSpiker()),
    (SigmoidEscape(5.0), RectifiedLinear(2.0)),
)
KINDS = {
    "no recurrence": ((2, 70, 1300), None),  # more neurons than one block, more steps than two segments
    "dense": ((3, 25, 20), (20, 20)),
    "convolution": ((10, 20, 4, 9), (4, 4, 5)),
    "channels": ((3, 20, 4, 9), None),
}
TENSORS = ("tau_mem", "tau_syn", "threshold")
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-12}  # of the largest


def differing(neurons, dtype, options=("next", "detached", 0), seed=1):
    """Parameters of so many neurons, all of which ask for gradients."""
    generator = torch.Generator().manual_seed(seed)
    lowest = {"tau_mem": 8e-3, "tau_syn": 4e-3, "threshold": 0.6}
    values = {name: low * (1 + torch.rand(neurons, generator=generator).to(dtype)) for name, low in lowest.items()}
    reset, reset_gradient, delay = options
    fixed = {"dt": 1e-3, "reset": reset, "reset_gradient": reset_gradient, "delay": delay}
    return LIFParameters(**{name: value.requires_grad_() for name, value in values.items()}, **fixed)


def layer(kind, dtype):
    shape, kernel = KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    inputs = 9 * (torch.rand(shape, generator=generator) < 0.15).to(dtype)
    recurrent = None if kernel is None else 0.5 * torch.randn(kernel, generator=generator, dtype=dtype)
    return inputs, recurrent


def run(inputs, parameters, neuron, recurrent, backend):
    """Spikes and potentials, and the gradients of a random linear function of both."""
    leaves = [t.detach().clone().requires_grad_() for t in (inputs, recurrent) if t is not None]
    escape, surrogate = neuron
    out = lif(leaves[0], parameters, surrogate, escape, Noise(5), (*leaves, None)[1], backend)
    weights = torch.randn((2, *inputs.shape), generator=torch.Generator().manual_seed(1), dtype=inputs.dtype)
    loss = sum((o * w).sum() for o, w in zip(out, weights, strict=True))
    wanted = [value for value in parameters.tensors.values() if value.requires_grad]
    return [o.detach() for o in out], torch.autograd.grad(loss, [*leaves, *wanted])


def assert_close(expected, found, tolerance):
    for e, f in zip(expected, found, strict=True):
        assert float((e - f).abs().max()) <= tolerance * float(e.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_equals_definition(kind, dtype):
    inputs, recurrent = layer(kind, dtype)
    for options, neuron in zip(OPTIONS, NEURONS + NEURONS[::-1], strict=True):
        parameters = differing(inputs.shape[2], dtype, options)
        results = [run(inputs, parameters, neuron, recurrent, backend) for backend in ("reference", "cpu")]
        (expected, of_expected), (found, of_found) = results
        assert torch.equal(expected[0], found[0])
        assert 0.01 < float(expected[0].mean()) < 0.6
        if recurrent is None:
            assert torch.equal(expected[1], found[1])
        assert_close([*expected[1:], *of_expected], [*found[1:], *of_found], TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_numbers_and_tensors_of_equal_numbers_give_the_same_bits(kind, backend):
    inputs, recurrent = layer(kind, torch.float32)
    for options, neuron in zip(OPTIONS, NEURONS * 2, strict=True):
        numbers = replace(differing(1, torch.float64, options), tau_mem=8e-3, tau_syn=5e-3, threshold=0.7)
        values = {name: torch.tensor(getattr(numbers, name), dtype=torch.float64) for name in TENSORS}
        for tensors in (values, {name: value.expand(inputs.shape[2]) for name, value in values.items()}):
            shared, own = (run(inputs, p, neuron, recurrent, backend) for p in (numbers, replace(numbers, **tensors)))
            for a, b in zip(itertools.chain(*shared), itertools.chain(*own), strict=True):
                assert torch.equal(a, b)


def network(dtype, options, neuron, steps=30):
    """Two convolutional layers and a readout, of which everything differs; some are fixed."""
    escape, surrogate = neuron
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return (1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()

    first, second, units = (differing(n, dtype, options, seed=n) for n in (4, 6, 5))
    second = replace(second, tau_syn=second.tau_syn.detach(), threshold=0.8)
    layers = [Layer(first, surrogate, escape, stride=3), Layer(second, surrogate, escape, 2, 1)]
    weights, recurrent, last = [normal(4, 1, 7), normal(6, 4, 5)], [normal(4, 4, 5), None], normal(5, 42)
    inputs = (torch.rand(10, steps, 50, generator=generator) < 0.1).to(torch.uint8)
    leaves = [*weights, recurrent[0], last, *first.tensors.values(), second.tau_mem, units.tau_mem, units.tau_syn]
    return (inputs, layers, weights, recurrent, Readout(units, -0.1), last, Noise(3)), leaves


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("i", [0, 3, 5, 6])
def test_networks_equal_the_definition(dtype, i):
    arguments, leaves = network(dtype, OPTIONS[i], NEURONS[i % 4])
    found = []
    for options in ({"backend": "reference"}, {"backend": "cpu"}, {"backend": "cpu", "recompute": True}):
        potentials, counts = spiking_network(*arguments, **options)
        loss = potentials.square().sum() + sum(count.square().sum() for count in counts)
        found.append(([potentials.detach(), *(c.detach() for c in counts)], torch.autograd.grad(loss, leaves)))
    for out, gradients in found[1:]:
        assert all(map(torch.equal, found[0][0][1:], out[1:]))
        assert min(float(count.mean()) for count in out[1:]) > 0.3
        assert_close(found[0][0][:1], out[:1], TOLERANCE[dtype])
        assert_close(found[0][1], gradients, TOLERANCE[dtype])


def test_a_readout_of_units_that_differ_is_made_of_its_units():
    parameters = differing(5, torch.float64)
    tau_mem, tau_syn = parameters.tau_mem.tolist(), parameters.tau_syn.tolist()
    inputs = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = leaky_readout(inputs, parameters, 0.5)
    for unit in range(5):
        alone = LIFParameters(tau_mem[unit], tau_syn[unit], parameters.dt)
        torch.testing.assert_close(together[..., [unit]], leaky_readout(inputs[..., [unit]], alone, 0.5))


def test_pieces_for_other_rules_take_neurons_that_differ():
    inputs, _ = layer("no recurrence", torch.float32)
    parameters, surrogate = differing(1300, torch.float32), SuperSpike()
    expected, u = lif(inputs, parameters, surrogate)
    potentials, spikes = torch.empty(inputs.shape).numpy(), torch.empty(inputs.shape).numpy()
    simulate(inputs.numpy(), parameters, Step(), Noise(0), potentials, spikes)
    assert torch.equal(torch.from_numpy(spikes), expected)
    assert torch.equal(torch.from_numpy(potentials), u)
    error = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    found = mean_surrogate_error(error.numpy(), potentials, spikes, surrogate, parameters)
    of_definition = (surrogate.derivative(u - parameters.threshold, expected) * error).mean(dim=0)
    torch.testing.assert_close(torch.from_numpy(found), of_definition.detach(), rtol=1e-5, atol=1e-6)


def module(**options):
    torch.manual_seed(0)
    parameters = LIFParameters(10e-3, 4e-3 * (1 + torch.rand(8)), 1e-3)
    return LIF(10, 8, parameters, SuperSpike(), SigmoidEscape(), noise=Noise(1), **options)


INPUTS = 4 * (torch.rand(4, 30, 10, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_a_module_starts_where_it_is_told_and_stays_positive():
    fixed, learning = module(), module(learn=TENSORS)
    for name in TENSORS:
        expected = torch.as_tensor(getattr(fixed.neuron, name)).expand(8)
        torch.testing.assert_close(getattr(learning.neuron, name), expected, rtol=1e-6, atol=0)
    optimiser = torch.optim.SGD(learning.parameters(), lr=1.0)
    for _ in range(3):
        learning(INPUTS).sum().backward()
        optimiser.step()
    for name in TENSORS:
        value = getattr(learning.neuron, name)
        assert bool((value > 0).all())
        assert len(value.unique()) == 8


def test_a_module_learns_time_constants():
    """Towards spike counts of a layer with the same weights and other time constants."""
    layer, target = module(learn=TENSORS[:2]), module()
    weighted, slow = (INPUTS @ target.weight.T).detach(), LIFParameters(15e-3, 8e-3, 1e-3)
    wanted, _ = lif(weighted, slow, SuperSpike(), SigmoidEscape(), Noise(1))
    optimiser = torch.optim.Adam([layer.log_tau_mem, layer.log_tau_syn], lr=0.05)
    losses = []
    for _ in range(60):
        loss = (layer(INPUTS, Noise(1)).mean(dim=1) - wanted.mean(dim=1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_what_differs_is_saved_and_moved():
    layer, other = module(learn=["threshold"]), module(learn=["threshold"])
    with torch.no_grad():
        layer.log_threshold += torch.rand(8)
        other.tau_syn *= 2
    assert {"log_threshold", "tau_syn"} < set(layer.state_dict())
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(INPUTS), layer(INPUTS))
    assert layer.double()(INPUTS.double()).dtype == torch.float64
    assert layer.neuron.tau_syn.dtype == torch.float64
    assert "learn=('threshold',)" in repr(layer)


TEN = torch.full((10,), 5e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIFParameters(tau_mem=torch.tensor([1e-3, 0.0])), "tau_mem"),
        (lambda: LIFParameters(tau_syn=torch.tensor([1e-3, float("nan")])), "tau_syn"),
        (lambda: LIFParameters(threshold=torch.tensor([float("inf")])), "threshold"),
        (lambda: LIFParameters(tau_mem=torch.ones(3, dtype=torch.int64)), "floating-point"),
        (lambda: LIFParameters(tau_mem=torch.ones(3, 2)), "one axis"),
        (lambda: lif(torch.zeros(1, 2, 9), LIFParameters(tau_mem=TEN), SuperSpike()), "tau_mem"),
        (lambda: lif(torch.zeros(1, 2, 9, 10), LIFParameters(tau_mem=TEN), SuperSpike()), r"\[9\]"),
        (lambda: leaky_readout(torch.zeros(1, 2, 9), LIFParameters(tau_syn=TEN)), "tau_syn"),
        (lambda: LIF(10, 8, LIFParameters(tau_mem=TEN), SuperSpike()), "tau_mem"),
        (lambda: LIF(10, 8, LIFParameters(), SuperSpike(), learn=["tau"]), "tau_mem, tau_syn, threshold"),
        (lambda: LIF(10, 8, LIFParameters(threshold=-1.0), SuperSpike(), learn=["threshold"]), "positive"),
    ],
)
def test_wrong_numbers_get_one_sentence(make, message):
    with pytest.raises(ParameterError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_wrong_numbers_of_a_network_are_named():
    arguments, _ = network(torch.float32, OPTIONS[0], NEURONS[0])
    layers = [arguments[1][0], replace(arguments[1][1], parameters=LIFParameters(tau_syn=TEN))]
    with pytest.raises(ParameterError, match=r"layers\[1\]\.tau_syn"):
        spiking_network(arguments[0], layers, *arguments[2:])
    with pytest.raises(ParameterError, match=r"readout\.tau_syn"):
        spiking_network(*arguments[:4], Readout(LIFParameters(tau_syn=TEN)), *arguments[5:])
