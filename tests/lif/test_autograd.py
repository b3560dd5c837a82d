"""What PyTorch does with the operations: derivatives are right or refused, on every backend."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from sgtheory.errors import UserError
from sgtheory.lif import LIF, Layer, Noise, Readout, leaky_readout, lif, spike_product, spiking_network
from sgtheory.neurons import LIFParameters, SigmoidEscape, SuperSpike

NEURON = LIFParameters(10e-3, 5e-3, 1e-3, reset_gradient="attached")
ONCE = "differentiated twice"


def randn(*shape):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def run_layer(inputs, recurrent=None, backend="cpu"):
    return lif(inputs, NEURON, SuperSpike(5.0), SigmoidEscape(5.0), Noise(1), recurrent, backend)


SPIKES = (randn(2, 30, 12) > 1).to(torch.uint8)


def run_network(weight, recurrent, readout, backend="cpu"):
    layers = [Layer(NEURON, SuperSpike(5.0), SigmoidEscape(5.0))]
    return spiking_network(SPIKES, layers, [weight], [recurrent], Readout(NEURON), readout, Noise(1), backend)


def leaf(*shape):
    return randn(*shape).requires_grad_()


LAYERS = {
    "no recurrence": (lambda: [leaf(2, 30, 7)], run_layer),
    "dense": (lambda: [leaf(2, 30, 7), leaf(7, 7)], run_layer),
    "convolution": (lambda: [leaf(2, 30, 3, 5), leaf(3, 3, 3)], run_layer),
}
NETWORK = (lambda: [leaf(4, 1, 5), leaf(4, 4, 3), leaf(3, 32)], run_network)


@pytest.mark.parametrize("loss", [torch.square, lambda spikes: 2 * spikes], ids=["curved", "linear"])
@pytest.mark.parametrize("case", [*LAYERS.values(), NETWORK], ids=[*LAYERS, "network"])
def test_second_derivatives_are_refused(case, loss):
    """Also where the gradient that comes from above is a constant."""
    make, run = case
    leaves = make()
    first, _ = run(*leaves)
    first = loss(first).sum()
    gradients = torch.autograd.grad(first, leaves, create_graph=True)
    for gradient in gradients:
        with pytest.raises(UserError, match=ONCE):
            (first + gradient.square().sum()).backward(retain_graph=True)


def test_second_derivatives_of_products_with_spikes_are_refused():
    spikes, weight = (randn(2, 5, 7) > 1).float().requires_grad_(), leaf(7, 3)
    for gradient in torch.autograd.grad(spike_product(spikes, weight).sum(), (spikes, weight), create_graph=True):
        with pytest.raises(UserError, match=ONCE):
            gradient.sum().backward(retain_graph=True)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("of", ["potential", "both"])
def test_a_penalty_on_the_potential_has_the_same_effect_on_every_backend(name, of):
    make, run = LAYERS[name]
    found = []
    for backend in ("reference", "cpu"):
        leaves = make()
        spikes, potential = run(*leaves, *[None] * (2 - len(leaves)), backend)
        loss = torch.relu(potential - 0.5).square().mean() + (spikes.mean() if of == "both" else 0)
        found.append(torch.autograd.grad(loss, leaves))
    for a, b in zip(*found, strict=True):
        assert float(a.abs().max()) > 0
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6 * float(a.abs().max()))


def test_hessian_of_the_definition_is_not_zero():
    """Where a second derivative is promised it is there: float64, plain PyTorch."""
    inputs = leaf(1, 20, 4).double().detach().requires_grad_()
    spikes, _ = lif(inputs, NEURON, SuperSpike(5.0), backend="reference")
    (gradient,) = torch.autograd.grad(spikes.sum(), inputs, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), inputs)
    assert float(second.abs().max()) > 0


class Model(torch.nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.layer = LIF(6, 9, NEURON, SuperSpike(5.0), SigmoidEscape(5.0), recurrent=recurrent)
        self.readout = torch.nn.Linear(9, 3)

    def forward(self, inputs):
        return leaky_readout(self.readout(self.layer(inputs, Noise(2))), NEURON).amax(dim=1)


@pytest.fixture(params=[None, 1], ids=["no recurrence", "recurrent"])
def model(request):
    torch.manual_seed(0)
    return Model(request.param)


INPUTS = (randn(2, 20, 6) > 1).float()


def gradients(model, run):
    out = run(INPUTS)
    return out, *torch.autograd.grad(out.square().sum(), list(model.parameters()))


def test_compiled_models_break_the_graph_at_the_layer(model):
    expected = gradients(model, model)
    found = gradients(model, torch.compile(model, backend="aot_eager"))
    assert all(map(torch.equal, expected, found))


def test_checkpoints_copies_and_functional_calls(model):
    expected = gradients(model, model)
    for run in (
        lambda x: checkpoint(model, x, use_reentrant=False),
        lambda x: torch.func.functional_call(model, dict(model.named_parameters()), (x,)),
    ):
        assert all(map(torch.equal, expected, gradients(model, run)))
    again = copy.deepcopy(model)
    assert all(map(torch.equal, expected, gradients(again, again)))


TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(lambda y: f(y).square().sum())(x),
    "vmap": lambda f, x: torch.func.vmap(f)(x.expand(2, *x.shape)),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("case", [*LAYERS.values(), NETWORK], ids=[*LAYERS, "network"])
def test_transforms_of_functions_are_refused(transform, case):
    make, run = case
    for which, leaf in enumerate(leaves := [t.detach() for t in make()]):

        def one(x, which=which, leaves=leaves):
            return run(*leaves[:which], x, *leaves[which + 1 :])[0]

        with pytest.raises(UserError, match="backend='reference'"):
            TRANSFORMS[transform](one, leaf)


@pytest.mark.parametrize("name", LAYERS)
def test_transforms_of_the_definition(name):
    make, run = LAYERS[name]
    leaves = [t.detach() for t in make()]

    def run_reference(*leaves):
        return run(*leaves, *[None] * (2 - len(leaves)), "reference")[0]

    graph = [t.clone().requires_grad_() for t in leaves]
    expected = torch.autograd.grad(run_reference(*graph).square().sum(), graph)
    arguments = tuple(range(len(leaves)))
    found = torch.func.grad(lambda *t: run_reference(*t).square().sum(), arguments)(*leaves)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)
    spikes, tangent = torch.func.jvp(run_reference, tuple(leaves), tuple(leaves))
    torch.testing.assert_close(
        (2 * spikes * tangent).sum(), sum((g * t).sum() for g, t in zip(found, leaves, strict=True))
    )
    both = torch.func.vmap(run_reference)(*(torch.stack([t, 2 * t]) for t in leaves))
    for i, scale in enumerate((1, 2)):
        assert torch.equal(both[i], run_reference(*(scale * t for t in leaves)))
