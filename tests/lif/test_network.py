"""Recurrent layers and whole networks: compiled against the definition, memory options, threads, mistakes."""

import itertools

import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.lif import Layer, Noise, Readout, lif, spiking_network
from sgtheory.neurons import (
    ErfEscape,
    EscapeDerivative,
    LIFParameters,
    MultilayerSpiker,
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
    (SigmoidEscape(5.0), EscapeDerivative(SigmoidEscape(5.0))),
)
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-12}


def parameters(reset="next", reset_gradient="detached", delay=0):
    return LIFParameters(20e-3, 10e-3, 2e-3, reset=reset, reset_gradient=reset_gradient, delay=delay)


def assert_same(a, b, dtype):
    assert float((a - b).abs().max()) <= TOLERANCE[dtype] * max(float(a.abs().max()), 1e-30)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "kernel"), [((3, 25, 20), (20, 20)), ((10, 20, 4, 9), (4, 4, 5))])
def test_recurrent_layers_equal_the_definition(options, dtype, shape, kernel):
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(shape, generator=generator) < 0.15).to(dtype) * 9
    v = torch.randn(kernel, generator=generator, dtype=dtype) * 0.5
    for escape, surrogate in NEURONS[:2] if dtype == torch.float64 else NEURONS[2:]:
        results = []
        for backend in ("reference", "cpu"):
            inputs, recurrent = x.clone().requires_grad_(), v.clone().requires_grad_()
            s, u = lif(inputs, parameters(*options), surrogate, escape, Noise(5), recurrent, backend)
            of_s, of_u = torch.randn((2, *shape), generator=torch.Generator().manual_seed(1), dtype=dtype)
            (s * of_s + u * of_u).sum().backward()
            results.append((s.detach(), u.detach(), inputs.grad, recurrent.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert 0.01 < float(results[0][0].mean()) < 0.6
        for a, b in zip(*results, strict=True):
            assert_same(a, b, dtype)


def network(dtype=torch.float32, options=(), escape=NEURONS[0][0], surrogate=NEURONS[0][1], batch=10):
    """Two convolutional layers, the second not recurrent and padded, and a dense one on top."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    p = parameters(*options)
    layers = [Layer(p, surrogate, escape, stride=3), Layer(p, surrogate, escape, 2, 1), Layer(p, surrogate, escape)]
    weights = [2 * normal(4, 1, 7), normal(6, 4, 5), normal(7, 6, 7)]
    recurrent = [0.3 * normal(4, 4, 5), None, 0.3 * normal(7, 7, 1)]
    leaves = [*weights, recurrent[0], recurrent[2], normal(5, 7)]
    for leaf in leaves:
        leaf.retain_grad()
    inputs = (torch.rand(batch, 30, 50, generator=generator) < 0.1).to(torch.uint8)
    readout = Readout(LIFParameters(0.7, 10e-3, 2e-3, delay=p.delay))
    return (inputs, layers, weights, recurrent, readout, leaves[-1]), leaves


def trained(arguments, leaves, **options):
    """Outputs and gradients of a loss that looks at potentials and counts."""
    for leaf in leaves:
        leaf.grad = None
    potentials, counts = spiking_network(*arguments, Noise(3), **options)
    loss = potentials.amax(dim=1).square().sum() + sum(c.square().mean() for c in counts)
    loss.backward(retain_graph=True)
    return [potentials.detach(), *(c.detach() for c in counts), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_equal_the_definition(number, dtype):
    """Every option with two of the neurons, every pair of an option and a neuron in one of the two types."""
    options, first = OPTIONS[number], 2 * (dtype == torch.float32)
    for escape, surrogate in NEURONS[first : first + 2]:
        arguments, leaves = network(dtype, options, escape, surrogate)
        expected = trained(arguments, leaves, backend="reference")
        for recompute in (False, True):
            got = trained(arguments, leaves, backend="cpu", recompute=recompute)
            for a, b in zip(expected, got, strict=True):
                assert a.shape == b.shape
                assert_same(a, b, dtype)
            for a, b in zip(expected[1:4], got[1:4], strict=True):
                assert torch.equal(a, b)
        assert all(float(c.mean()) > 0.03 for c in expected[1:4])


def test_another_recurrent_weight_is_noticed():
    """Negative control for the comparisons above."""
    arguments, leaves = network()
    expected = trained(arguments, leaves)
    with torch.no_grad():
        arguments[3][0][0, 0, 2] += 0.05
    assert any(not torch.allclose(a, b, rtol=1e-4) for a, b in zip(expected, trained(arguments, leaves), strict=True))


def test_threads_and_memory_options_do_not_change_a_bit():
    arguments, leaves = network(batch=37, escape=SigmoidEscape(10.0))
    results = []
    before = torch.get_num_threads()
    try:
        for threads, recompute in ((1, False), (2, False), (2, True)):
            torch.set_num_threads(threads)
            results.append(trained(arguments, leaves, recompute=recompute))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_is_computed_again_is_not_computed_from_something_else():
    """Inputs of one channel are read where they are in the backward pass, too; samples of the noise are copied."""
    arguments, _ = network(escape=SigmoidEscape(10.0))
    potentials, _ = spiking_network(*arguments, Noise(3), backend="cpu", recompute=True)
    arguments[0].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        potentials.sum().backward()
    gradients = []
    for change in (False, True):
        arguments, leaves = network(escape=SigmoidEscape(10.0))
        samples = torch.arange(10)
        potentials, _ = spiking_network(*arguments, Noise(3, samples=samples), backend="cpu", recompute=True)
        if change:
            samples += 5
        potentials.sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_sample_does_not_depend_on_its_batch():
    (inputs, *rest), _ = network(escape=SigmoidEscape(10.0))
    with torch.no_grad():
        potentials, counts = spiking_network(inputs, *rest, Noise(3))
        chosen = torch.tensor([7, 2])
        again, counts_again = spiking_network(inputs[chosen], *rest, Noise(3, samples=chosen))
    assert torch.equal(potentials[chosen], again)
    assert all(torch.equal(a[chosen], b) for a, b in zip(counts, counts_again, strict=True))


def test_a_second_backward_pass_computes_the_same():
    arguments, leaves = network()
    potentials, _ = spiking_network(*arguments, Noise(3))
    gradients = []
    for _ in range(2):
        (gradient,) = torch.autograd.grad(potentials.sum(), leaves[:1], retain_graph=True)
        gradients.append(gradient)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(2, 5, 50), "uint8"),
        (0, torch.zeros(2, 0, 50, dtype=torch.uint8), "time > 0"),
        (2, [torch.zeros(4, 2, 7), torch.zeros(6, 4, 5), torch.zeros(7, 6, 7)], r"weights\[0\]"),
        (3, [torch.zeros(4, 4, 4), None, None], r"recurrent\[0\]"),
        (5, torch.zeros(5, 8), "readout_weight"),
    ],
)
def test_wrong_shapes_get_one_sentence(position, value, message):
    arguments = list(network()[0])
    arguments[position] = value
    with pytest.raises(ParameterError, match=message):
        spiking_network(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_is_refused_with_a_reason_where_it_is_not():
    with pytest.raises(ParameterError, match="not available here"):
        lif(torch.zeros(1, 2, 3), parameters(), SuperSpike(), backend="cuda")
