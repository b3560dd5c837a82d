"""The LIF module in ordinary PyTorch code: noise of its own, state, types, what it says of itself."""

import copy
import io

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from sgtheory.errors import ParameterError, UserError
from sgtheory.lif import LIF, Layer, Noise, Readout, leaky_readout, lif, network_activity, spiking_network
from sgtheory.neurons import LIFParameters, SigmoidDerivative, SigmoidEscape, SuperSpike

NEURON = LIFParameters(10e-3, 5e-3, 1e-3)
ESCAPE = SigmoidEscape(10.0)
INPUTS = 2 * torch.rand(4, 30, 10, generator=torch.Generator().manual_seed(0))


def two_layers(seed=0):
    torch.manual_seed(seed)
    layers = [LIF(10, 8, NEURON, SuperSpike(), ESCAPE), LIF(8, 8, NEURON, SuperSpike(), ESCAPE, recurrent=1)]
    for layer in layers:
        layer.weight.data *= 4
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("learn", [(), ("tau_mem",)])
def test_a_layer_of_tensors_of_a_graph_is_copied(learn):
    tau = torch.full((6,), 9e-3, requires_grad=True) * 1
    layer = LIF(10, 6, LIFParameters(tau, 5e-3, 1e-3), SuperSpike(), learn=learn)
    again = copy.deepcopy(layer)
    assert torch.equal(again(INPUTS), layer(INPUTS))
    with torch.no_grad():
        tau.fill_(1e-3)  # the layer has its own
    assert torch.equal(again(INPUTS), layer(INPUTS))


def test_draws_of_evaluation_are_not_taken_for_training():
    with pytest.raises(ParameterError, match=r"noise\.draw = 2147483648: must be below 2\*\*31"):
        LIF(10, 6, NEURON, SuperSpike(), ESCAPE, noise=Noise(1, draw=2**31))


@pytest.mark.parametrize("options", [{}, {"recurrent": 1}, {"kernel": 5, "stride": 2, "padding": 1, "recurrent": 3}])
def test_the_module_learns_a_rate(options):
    torch.manual_seed(0)
    layer = LIF(10, 6, NEURON, SigmoidDerivative(10.0), SigmoidEscape(10.0), **options)
    shape = (4, 40, 10, 12) if "kernel" in options else (4, 40, 10)
    inputs = 2 * torch.rand(shape)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for draw in range(40):
        spikes = layer(inputs, Noise(1, draw=draw))
        loss = (spikes.mean() - 0.2).square()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert spikes.shape == ((4, 40, 6, 5) if "kernel" in options else (4, 40, 6))
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])


def test_every_layer_and_every_call_has_noise_of_its_own():
    model = two_layers()
    first, second = model(INPUTS), model(INPUTS)
    assert 0.02 < float(first.detach().mean()) < 0.9
    assert not torch.equal(first, second)
    again = two_layers()
    assert torch.equal(again(INPUTS), first)
    assert torch.equal(again(INPUTS), second)
    other = two_layers()
    other.load_state_dict({**two_layers(1).state_dict(), **dict(model.named_parameters())})
    assert not torch.equal(other(INPUTS), first)  # the same weights, another seed
    states = [layer.get_extra_state().tolist() for layer in model]
    assert states[0][:2] != states[1][:2]
    assert [state[2:] for state in states] == [[2, 0], [2, 0]]


def test_its_own_noise_is_that_of_the_operation():
    layer = LIF(10, 8, NEURON, SuperSpike(), ESCAPE, noise=Noise(seed=3, stream=5, draw=7))
    expected = [
        lif(INPUTS @ layer.weight.T, NEURON, SuperSpike(), ESCAPE, Noise(3, 5, draw))[0]
        for draw in (7, 8, 2**31, 2**31 + 1)
    ]
    found = [layer(INPUTS), layer(INPUTS)]
    layer.eval()
    found += [layer(INPUTS), layer(INPUTS)]
    assert all(map(torch.equal, expected, found))


def test_weights_are_those_of_the_deterministic_layer():
    torch.manual_seed(0)
    deterministic = [LIF(10, 8, NEURON, SuperSpike()).weight for _ in range(2)]
    torch.manual_seed(0)
    given = [LIF(10, 8, NEURON, SuperSpike(), ESCAPE, noise=Noise(1)).weight for _ in range(2)]
    torch.manual_seed(0)
    drawn = [LIF(10, 8, NEURON, SuperSpike(), ESCAPE).weight for _ in range(2)]
    assert all(map(torch.equal, deterministic, drawn))
    assert all(map(torch.equal, deterministic, given))


def test_evaluations_do_not_change_the_training():
    model, undisturbed = two_layers(), two_layers()
    assert torch.equal(model(INPUTS), undisturbed(INPUTS))
    evaluated = [model.eval()(INPUTS) for _ in range(2)]
    assert not torch.equal(*evaluated)
    model(INPUTS)
    assert torch.equal(model.train()(INPUTS), undisturbed(INPUTS))


def test_a_loaded_model_goes_on_with_the_same_noise():
    model = two_layers()
    model(INPUTS)
    model.eval()(INPUTS)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = two_layers(1)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(2):
        assert torch.equal(model.eval()(INPUTS), loaded.eval()(INPUTS))
        assert torch.equal(model.train()(INPUTS), loaded.train()(INPUTS))


def test_given_noise_leaves_its_own_where_it_is():
    layer, undisturbed = two_layers()[0], two_layers()[0]
    spikes = layer(INPUTS, Noise(1))
    assert torch.equal(spikes, layer(INPUTS, Noise(1)))
    assert torch.equal(layer(INPUTS), undisturbed(INPUTS))


def test_checkpoints_take_given_noise_only():
    """Computed again in the backward pass, a layer would take its next draw."""
    layer, undisturbed = two_layers()[0], two_layers()[0]
    for reentrant in (True, False):
        spikes = checkpoint(layer, INPUTS.clone().requires_grad_(), use_reentrant=reentrant)
        with pytest.raises(UserError, match="given its noise"):
            spikes.sum().backward()
    gradients = []
    for run in (layer, lambda *args: checkpoint(layer, *args, use_reentrant=False)):
        gradients += torch.autograd.grad(run(INPUTS, Noise(1)).square().sum(), layer.weight)
    assert torch.equal(*gradients)
    for _ in range(2):
        undisturbed(INPUTS)
    assert torch.equal(layer(INPUTS), undisturbed(INPUTS))


def test_copies_and_compiled_models_draw_the_same_noise():
    model = two_layers()
    again, compiled = copy.deepcopy(model), torch.compile(copy.deepcopy(model), backend="aot_eager")
    for _ in range(10):  # more often than a function is compiled
        assert torch.equal(expected := model(INPUTS), again(INPUTS))
        assert torch.equal(expected, compiled(INPUTS))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
@pytest.mark.parametrize("options", [{}, {"kernel": 3, "recurrent": 3}])
def test_spikes_may_be_whole_numbers(dtype, options):
    layer = LIF(10, 8, NEURON, SuperSpike(), **options)
    spikes = INPUTS > 1
    spikes = spikes.unsqueeze(-1).expand(-1, -1, -1, 6) if options else spikes
    assert torch.equal(layer(spikes.to(dtype)), layer(spikes.float()))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_neurons_in_float32(backend, dtype):
    """Half precision is made float32 at the door, and nothing inside is cast back."""
    inputs, recurrent = INPUTS.to(dtype), torch.randn(10, 10, dtype=dtype)
    deep = (INPUTS > 1).to(torch.uint8)
    layers = [Layer(NEURON, SuperSpike(), ESCAPE)]
    weights = [torch.randn(8, 1, 3)], [torch.randn(8, 8, 3)], Readout(NEURON), torch.randn(3, 64)
    operations = (
        lambda x, v: lif(x, NEURON, SuperSpike(), ESCAPE, Noise(1), v, backend),
        lambda x, v: lif(inputs=x, parameters=NEURON, surrogate=SuperSpike(), recurrent=v, backend=backend),
        lambda x, v: [leaky_readout(x, NEURON, backend=backend)],
        lambda x, v: [spiking_network(deep, layers, *weights, Noise(1), backend)[0]],
        lambda x, v: network_activity(deep, layers, *weights, Noise(1), backend)[1],
    )
    for operation in operations:
        expected = operation(inputs.float(), recurrent.float())
        with torch.autocast("cpu", dtype):
            found = operation(inputs, recurrent)
        assert all(map(torch.equal, expected, found))
        assert all(map(lambda a, b: a.dtype == b.dtype, expected, found))
    with pytest.raises(ParameterError, match="float32 or float64"):
        operations[0](inputs, recurrent)


def test_modules_train_under_autocast():
    model = two_layers()
    with torch.autocast("cpu", torch.bfloat16):
        spikes = model(INPUTS)
    spikes.sum().backward()
    for parameter in model.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.any()


def test_it_says_what_it_is():
    shown = repr(LIF(10, 8, NEURON, SuperSpike(20.0), ESCAPE, kernel=5, stride=2, recurrent=3))
    for part in ("LIF(10, 8, kernel=5, stride=2, padding=0, recurrent=3", "tau_mem=0.01", "beta=20.0", "SigmoidEscape"):
        assert part in shown
    assert "LIF(10, 8, recurrent=1, LIFParameters" in repr(LIF(10, 8, NEURON, SuperSpike(), recurrent=1))


def test_noise_that_names_samples_is_refused():
    with pytest.raises(ParameterError, match="batches differ"):
        LIF(10, 8, NEURON, SuperSpike(), ESCAPE, noise=Noise(1, samples=torch.arange(4)))
