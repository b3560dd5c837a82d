"""Sequences in pieces: the bits of the whole, on every backend, with noise that goes on; truncated gradients."""

import itertools

import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.lif import LIF, Layer, Noise, Readout, State, leaky_readout, lif, spiking_network
from sgtheory.neurons import ErfEscape, LIFParameters, SigmoidEscape, Step, SuperSpike

KINDS = {
    "no recurrence": ((2, 40, 70), None),
    "dense": ((3, 40, 20), (20, 20)),
    "convolution": ((9, 20, 4, 9), (4, 4, 5)),
    "channels": ((3, 20, 4, 9), None),
}
PIECES = (1, 12)  # and the rest
ESCAPES = (Step(), SigmoidEscape(10.0), ErfEscape())


def case(kind, reset, delay, escape, dtype=torch.float32, **values):
    """Inputs, and the other arguments of :func:`lif`."""
    shape, kernel = KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    inputs = 9 * (torch.rand(shape, generator=generator) < 0.15).to(dtype)
    recurrent = None if kernel is None else 0.5 * torch.randn(kernel, generator=generator, dtype=dtype)
    parameters = LIFParameters(10e-3, 5e-3, 1e-3, reset=reset, reset_gradient="attached", delay=delay)
    return inputs, (parameters, SuperSpike(), escape, Noise(3), recurrent)


def pieces_of(inputs):
    return inputs.split([*PIECES, inputs.shape[1] - sum(PIECES)], dim=1)


def in_pieces(inputs, arguments, backend, state):
    found = []
    for piece in pieces_of(inputs):
        spikes, potential, state = lif(piece, *arguments, backend=backend, state=state)
        found.append((spikes, potential))
    return *(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)), state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_pieces_of_a_sequence_give_the_bits_of_the_whole(kind, backend):
    for (reset, delay), escape in itertools.product([("next", 1), ("same", 0)], ESCAPES):
        inputs, arguments = case(kind, reset, delay, escape)
        spikes, potential = lif(inputs, *arguments, backend=backend)
        of_pieces = in_pieces(inputs, arguments, backend, State())
        assert torch.equal(of_pieces[0], spikes)
        assert torch.equal(of_pieces[1], potential)
        assert of_pieces[2].step == inputs.shape[1]
        assert 0.02 < float(spikes.mean()) < 0.7


def test_a_step_that_is_forgotten_is_other_noise():
    """Negative control: with the values alone the noise of the first piece would come again."""
    inputs, arguments = case("dense", "next", 1, ESCAPES[1])
    spikes, _ = lif(inputs, *arguments)
    _, _, state = lif(inputs[:, :20], *arguments, state=State())
    again = State(state.potential, state.current, state.arriving)
    assert not torch.equal(lif(inputs[:, 20:], *arguments, state=again)[0], spikes[:, 20:])
    rest = lif(inputs[:, 20:], *arguments[:3], Noise(3, first_step=20), *arguments[4:], state=again)[0]
    assert torch.equal(rest, spikes[:, 20:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delay", [0, 1])
def test_gradients_end_where_a_piece_begins(kind, delay):
    """Truncated back-propagation: those of the definition, also for what each neuron has of its own."""
    inputs, arguments = case(kind, "next", delay, SigmoidEscape(10.0), torch.float64)
    found = []
    for backend in ("reference", "cpu"):
        leaves = [torch.full(inputs.shape[2:3], tau, dtype=inputs.dtype).requires_grad_() for tau in (9e-3, 6e-3)]
        parameters = LIFParameters(*leaves, 1e-3, reset_gradient="attached", delay=delay)
        x = inputs.clone().requires_grad_()
        state, gradients = State(), []
        for piece in pieces_of(x):
            spikes, potential, state = lif(piece, parameters, *arguments[1:], backend, state=state)
            loss = spikes.square().sum() + potential.square().sum() + 0 * piece.sum()  # in one step nothing arrives
            gradients += torch.autograd.grad(loss, [x, *leaves], retain_graph=True, materialize_grads=True)
        assert not any(t.requires_grad for t in (state.potential, state.current, state.arriving))
        found.append(gradients)
    for expected, compiled in zip(*found, strict=True):
        largest = max(float(expected.abs().max()), 1e-30)
        torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-12 * largest)
    assert found[0][-3][:, : sum(PIECES)].abs().max() == 0
    assert found[0][-3].abs().max() > 0


@pytest.mark.parametrize("delay", [0, 1])
def test_readouts_go_on(delay):
    parameters = LIFParameters(10e-3, 5e-3, 1e-3, delay=delay)
    inputs = torch.randn(3, 30, 4, generator=torch.Generator().manual_seed(0))
    state, found = State(), []
    for piece in pieces_of(inputs):
        potentials, state = leaky_readout(piece, parameters, 0.3, state=state)
        found.append(potentials)
    assert torch.equal(torch.cat(found, dim=1), leaky_readout(inputs, parameters, 0.3))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_not_changed_with_the_inputs(kind, backend):
    inputs, (neuron, *rest) = case(kind, "next", 1, Step())
    inputs = inputs + 0.1
    states = [lif(inputs, neuron, *rest, backend=backend, state=State())[2]]
    if inputs.ndim == 3:
        states.append(leaky_readout(inputs, neuron, state=State(), backend=backend)[1])
    before = [state.arriving.clone() for state in states]
    inputs.zero_()
    assert all(torch.equal(state.arriving, was) for state, was in zip(states, before, strict=True))
    assert all(was.abs().max() > 0 for was in before)


def network(delay):
    generator = torch.Generator().manual_seed(0)
    parameters = LIFParameters(20e-3, 10e-3, 2e-3, reset_gradient="attached", delay=delay)
    layers = [Layer(parameters, SuperSpike(), SigmoidEscape(), stride) for stride in (3, 2)]

    def normal(*shape):
        return 2 * torch.randn(shape, generator=generator)

    weights, recurrent = [normal(4, 1, 7), normal(6, 4, 5)], [0.3 * normal(4, 4, 5), None]
    inputs = (torch.rand(10, 30, 50, generator=generator) < 0.1).to(torch.uint8)
    readout = Readout(LIFParameters(0.1, 10e-3, 2e-3, delay=delay), 0.2)
    return inputs, (layers, weights, recurrent, readout, normal(5, 36), Noise(3))


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("options", [{"backend": "reference"}, {"backend": "cpu"}, {"recompute": True}])
def test_networks_go_on(delay, options):
    inputs, arguments = network(delay)
    readout_weight = arguments[4].requires_grad_()
    expected, counts = spiking_network(inputs, *arguments, **options)
    state, found, total, gradients = [State()] * 3, [], 0, []
    for piece in pieces_of(inputs):
        potentials, part, state = spiking_network(piece, *arguments, **options, state=state)
        found.append(potentials)
        total = [a + b for a, b in zip(part, total or [0, 0], strict=True)]
        gradients += torch.autograd.grad(potentials.square().sum() + 0 * readout_weight.sum(), readout_weight)
    assert all(map(torch.equal, counts, total))
    assert min(float(count.detach().mean()) for count in counts) > 0.1
    exact = {"rtol": 1e-5, "atol": 1e-5} if "reference" in options.values() else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(torch.cat(found, dim=1), expected, **exact)
    assert [s.step for s in state] == [30] * 3
    of_reference, state = [], [State()] * 3
    for piece in pieces_of(inputs):
        potentials, _, state = spiking_network(piece, *arguments, backend="reference", state=state)
        of_reference += torch.autograd.grad(potentials.square().sum() + 0 * readout_weight.sum(), readout_weight)
    for a, b in zip(gradients, of_reference, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=3e-5 * float(b.abs().max()) + 1e-30)


def test_modules_go_on_with_noise_that_they_are_given():
    torch.manual_seed(0)
    layer = LIF(10, 8, LIFParameters(10e-3, 5e-3, 1e-3), SuperSpike(), SigmoidEscape(), recurrent=1)
    inputs = 4 * torch.rand(3, 30, 10)
    state, found = State(), []
    for piece in inputs.split(10, dim=1):
        spikes, state = layer(piece, Noise(1), state)
        found.append(spikes)
    torch.testing.assert_close(torch.cat(found, dim=1), layer(inputs, Noise(1)))
    with pytest.raises(ParameterError, match="same for all pieces"):
        layer(inputs, state=State())


def test_wrong_states_get_one_sentence():
    inputs, arguments = case("dense", "next", 0, Step())
    for state, message in (
        (State(torch.zeros(3, 19)), r"state\.potential .*\[3, 20\]"),
        (State(current=torch.zeros(3, 20, dtype=torch.float64)), r"state\.current .*float32"),
        (3, "State"),
    ):
        with pytest.raises(ParameterError, match=message):
            lif(inputs, *arguments, state=state)
    with pytest.raises(ParameterError, match="step"):
        State(step=-1)
    inputs, arguments = network(0)
    for state, message in (
        ([State()] * 2, "list of 3"),
        ([State(), State(step=1), State()], r"state\[1\]\.step"),
    ):
        with pytest.raises(ParameterError, match=message):
            spiking_network(inputs, *arguments, state=state)
