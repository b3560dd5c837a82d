"""The Triton kernels against the reference, run by Triton's interpreter on the CPU.

The interpreter has to be chosen before Triton is imported, so test_cuda.py runs this file in a process of its own.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_cases import (
    CONVOLUTIONS,
    ESCAPES,
    NOISE,
    OPTIONS,
    SIGMOID,
    SURROGATES,
    Triangular,
    assert_like_reference,
    assert_same,
    assert_weight_gradient,
    differing,
    fast,
    layer,
    run,
    sixty_fourths,
)
from torch.library import opcheck

sys.path.append(str(Path(__file__).parents[1] / "reliability"))
import number_cases

from sgtheory.errors import ParameterError
from sgtheory.lif import Noise, _noise, _reference
from sgtheory.lif.cuda import backend as cuda
from sgtheory.lif.cuda import operators
from sgtheory.neurons import LIFParameters, Step


@pytest.mark.parametrize(("reset", "reset_gradient", "delay"), OPTIONS)
@pytest.mark.parametrize("name", ["feedforward", "dense", "convolution"])
def test_every_option_on_every_kind_of_layer(name, reset, reset_gradient, delay):
    parameters = fast(reset=reset, reset_gradient=reset_gradient, delay=delay)
    assert_like_reference(*layer(name), parameters)


@pytest.mark.parametrize("name", ["feedforward", "dense", "convolution"])
@pytest.mark.parametrize(("reset", "reset_gradient", "delay"), OPTIONS[::3])
def test_neurons_that_differ(name, reset, reset_gradient, delay):
    inputs, recurrent = layer(name)
    parameters = differing(inputs.shape[2], reset=reset, reset_gradient=reset_gradient, delay=delay)
    assert_like_reference(inputs, recurrent, parameters, SURROGATES[-1 if delay else 0])


@pytest.mark.parametrize("name", ["feedforward", "dense", "convolution"])
@pytest.mark.parametrize(("reset", "reset_gradient", "delay"), OPTIONS[::5])
def test_thresholds_that_adapt(name, reset, reset_gradient, delay):
    inputs, recurrent = layer(name)
    options = {"reset": reset, "reset_gradient": reset_gradient, "delay": delay}
    if delay:
        own = {"adaptation": sixty_fourths(0, 64, inputs.shape[2], seed=9), "tau_adaptation": torch.tensor([3e-3])}
        assert_like_reference(inputs, recurrent, differing(inputs.shape[2], **own, **options), SURROGATES[-1])
    else:
        assert_like_reference(inputs, recurrent, fast(adaptation=0.4, tau_adaptation=3e-3, **options))


@pytest.mark.parametrize("name", ["feedforward", "dense", "convolution"])
@pytest.mark.parametrize(("delay", "escape"), [(0, SIGMOID), (1, Triangular())])
def test_pieces_of_a_sequence_give_the_bits_of_the_whole(name, delay, escape):
    inputs, recurrent = layer(name)
    case = fast(reset_gradient="attached", delay=delay, adaptation=0.4 * delay), SURROGATES[0], escape
    expected = _reference.layer(inputs, *case, NOISE, recurrent)
    start, found = [torch.zeros_like(inputs[:, 0])] * 4, []
    for piece, first_step in zip(inputs.split([1, 2, 3], dim=1), (0, 1, 3), strict=True):
        arguments = piece, *case, NOISE.at(first_step=first_step), recurrent, True, start
        of_reference = _reference.layer(*arguments)
        *done, end = cuda.layer(*arguments)
        assert all(map(torch.equal, end, of_reference[2]))
        found.append(done)
        start = end
    for whole, pieces in zip(expected, zip(*found, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(pieces, dim=1))


@pytest.mark.parametrize("name", ["many channels", "few positions", "channels without recurrence"])
def test_shapes_that_need_padding(name):
    assert_like_reference(*layer(name), fast(reset_gradient="attached"))


@pytest.mark.parametrize("i", range(len(SURROGATES)))
def test_every_escape_function_and_surrogate(i):
    inputs = sixty_fourths(-128, 256, 2, 6, 20)
    assert_like_reference(inputs, None, fast(threshold=0.8), SURROGATES[i], ESCAPES[i % len(ESCAPES)])


def test_thresholds_in_blocks_of_steps(monkeypatch):
    monkeypatch.setattr(cuda, "THRESHOLDS_AT_ONCE", 2 * 2 * 20)
    assert_like_reference(sixty_fourths(-128, 256, 2, 5, 20), None, fast(), SURROGATES[0], Triangular())


def test_uniform_numbers_are_those_of_the_noise():
    key = cuda._signed(NOISE.seed | NOISE.stream << 32)
    found = operators.uniform(NOISE.samples, 5, 2, 300, NOISE.draw, key)
    assert torch.equal(found, NOISE.uniform(2, range(5, 7), 300))


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_gradients_for_weights_of_convolutions(case):
    assert_weight_gradient(*case)


def test_gradients_for_weights_of_some_samples_at_a_time(monkeypatch):
    monkeypatch.setattr(operators, "PROGRAMS", 1)
    monkeypatch.setattr(operators, "WEIGHTS_AT_ONCE", 2 * 16 * 21)
    assert_weight_gradient(*CONVOLUTIONS[1])


@pytest.mark.parametrize("name", ["dense", "convolution"])
def test_recurrent_input_is_added_in_the_order_of_neurons(name, monkeypatch):
    """Weights whose sum depends on the order: adding them to the input one by one gives the bits of the kernel."""
    inputs, recurrent = layer(name)
    recurrent = torch.randn(recurrent.shape, generator=torch.Generator().manual_seed(3)) * 0.5
    found = run(cuda.layer, inputs, recurrent, fast())
    shape = inputs.shape[2:]
    neurons = torch.arange(shape.numel()).view(shape).movedim(0, -1).flatten().tolist()  # channels count fastest
    alone = _reference.recurrent_input(torch.eye(len(neurons)).view(-1, *shape), recurrent)  # what each one gives

    class OneByOne:
        def __init__(self, spikes, order):
            self.spikes, self.order = spikes.flatten(1), order

        def __radd__(self, total):
            for k in self.order:
                total = total + self.spikes[:, k].view(-1, *[1] * len(shape)) * alone[k]
            return total

    def bits(order):
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(_reference, "recurrent_input", lambda spikes, weight: OneByOne(spikes, order))
            return _reference.layer(inputs, fast(), SURROGATES[0], SIGMOID, NOISE, recurrent)

    assert all(map(torch.equal, bits(neurons), found))
    assert not torch.equal(bits(neurons[::-1])[1], found[1])


def test_inputs_that_are_shared_strided_or_empty():
    inputs, recurrent = layer("convolution")
    parameters = fast()
    expected = run(_reference.layer, inputs, recurrent, parameters)
    strided = torch.empty(2, 6, 7, 8)[..., ::2].mT.copy_(inputs)
    assert_same(expected, run(cuda.layer, strided, recurrent.mT.contiguous().mT, parameters))

    expanded = inputs[:1].expand(2, -1, -1, -1)
    assert_like_reference(expanded, recurrent, parameters)

    spikes, potentials = cuda.layer(inputs[:0], parameters, SURROGATES[0], Step(), Noise(0), recurrent)
    assert spikes.shape == potentials.shape == (0, 6, 4, 7)


def test_layout_and_what_is_differentiable():
    inputs, recurrent = layer("convolution")
    arguments = fast(), SURROGATES[0], SIGMOID, NOISE, recurrent.requires_grad_()
    spikes, potentials = cuda.layer(inputs, *arguments)
    assert spikes.requires_grad
    assert potentials.requires_grad
    assert cuda.layer(inputs, *arguments, potential=False)[1] is None
    assert spikes.mT.is_contiguous()  # channels last
    assert potentials.mT.is_contiguous()
    with torch.no_grad(), torch.autocast("cpu"):
        again, _ = cuda.layer(inputs, *arguments)
    assert not again.requires_grad
    assert torch.equal(spikes, again)


@pytest.mark.parametrize("kind", number_cases.KINDS)
def test_broken_numbers_mean_the_same_and_stay_in_their_sample(kind):
    values = (("input", number_cases.NAN), ("input", number_cases.INFINITY), ("gradient", -number_cases.INFINITY))
    for i, (place, value) in enumerate(values):
        neuron, options = number_cases.NEURONS[2 - i], number_cases.OPTIONS[3 * i + 1]
        with np.errstate(all="ignore"):
            case = number_cases.layer(kind, place, value)
            number_cases.assert_the_same_is_made_of(case, cuda.layer, options, neuron)


@pytest.mark.parametrize(("shape", "kernel"), [((1, 1, 1), 0), ((1, 3, 1), 1), ((1, 3, 1, 1), 3), ((0, 3, 2), 1)])
def test_one_of_everything_and_none(shape, kernel):
    inputs = torch.full(shape, 3.0)
    recurrent = torch.ones(shape[2], shape[2], *[kernel] * (len(shape) - 3)) if kernel else None
    expected, found = (
        run(backend, inputs, recurrent, fast(threshold=-1.0), escape=Step(), noise=Noise(0))
        for backend in (_reference.layer, cuda.layer)
    )
    assert all(map(torch.equal, expected, found))


@pytest.mark.parametrize("delay", [0, 1])
def test_readout(delay):
    inputs = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(4))
    weights = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(5))
    results = []
    for backend in (_reference.readout, cuda.readout):
        leaf = inputs.clone().requires_grad_()
        potentials = backend(leaf, fast(delay=delay), -1e-3)
        results.append((potentials.detach(), *torch.autograd.grad((potentials * weights).sum(), leaf)))
    (expected, expected_gradient), (found, gradient) = results
    assert torch.equal(expected, found)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-6)


def test_units_that_differ_are_read_out_by_the_reference():
    inputs, parameters = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(4)), differing(40)
    assert torch.equal(cuda.readout(inputs, parameters, 0.1), _reference.readout(inputs, parameters, 0.1))


def test_where_nothing_comes_back_nothing_is_passed_on():
    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, spikes):
            return spikes.clone()

        @staticmethod
        def backward(ctx, gradient):
            return None

    inputs = torch.ones(1, 2, 3, requires_grad=True)
    spikes, _ = cuda.layer(inputs, fast(), SURROGATES[0], Step(), Noise(0), None)
    Nothing.apply(spikes).sum().backward()
    assert inputs.grad is None


@pytest.mark.parametrize("operator", ["lif_forward", "lif_backward", "weight_gradient", "leaky_filter", "uniform"])
def test_operators_are_well_formed(operator):
    inputs, gradient = sixty_fourths(-128, 256, 2, 2, 3, 4), torch.randn(2, 2, 3, 4)
    spikes, recurrent = (gradient > 0).float(), sixty_fourths(-80, 64, 4, 4, 3)
    constants, surrogate, samples = [0.7, 0.6, 0.3, 1.0, 0.9, 0.5], [0.0, 5.0, 1.0], torch.arange(2)
    leaf, weight = inputs.clone().requires_grad_(), recurrent.clone().requires_grad_()
    arguments = {
        "lif_forward": (
            leaf,
            weight,
            None,
            samples,
            torch.rand(2, 4, 3, 4),
            torch.rand(6, 12, requires_grad=True),
            constants,
            False,
            True,
            1,
            [0, 0, 0, 0],
            0.0,
            1.0,
            surrogate,
            True,
            True,
        ),
        "lif_backward": (
            gradient,
            inputs,
            recurrent,
            spikes,
            inputs,
            inputs,
            inputs,
            None,
            torch.rand(6, 12),
            True,
            constants,
            False,
            True,
            1,
            surrogate,
        ),
        "weight_gradient": (gradient, spikes, 3, 1, 1),
        "leaky_filter": (torch.randn(2, 3, 4, requires_grad=True), constants, 0.1, 1, False),
        "uniform": (samples, 3, 2, 70, 1, 2),
    }
    opcheck(getattr(operators, operator), arguments[operator])


def test_what_is_refused():
    def refused(inputs, recurrent, words):
        with pytest.raises(ParameterError, match=words):
            cuda.layer(inputs, LIFParameters(), SURROGATES[0], Step(), Noise(0), recurrent)

    refused(torch.zeros(1, 2, 3, dtype=torch.float64), None, "float32")
    refused(torch.zeros(1, 2, 1025), torch.zeros(1025, 1025), "1024 channels")
    refused(torch.zeros(1, 2, 64, 129), torch.zeros(64, 64, 3), "8192 neurons")
    refused(torch.empty(1, 2, 65535 * 256 + 1, device="meta"), None, "16776960 neurons")
    refused(torch.zeros(1, 2, 3, 4), torch.empty(3, 3, 2**27 + 1, device="meta"), "less than 1073741824 weights")
    with pytest.raises(ParameterError, match="float32"):
        cuda.readout(torch.zeros(1, 2, 3, dtype=torch.float64), LIFParameters(), 0.0)


def test_a_wrong_constant_of_philox_would_be_seen(monkeypatch):
    case = sixty_fourths(-128, 256, 2, 4, 300), None, fast()
    found = run(cuda.layer, *case)
    monkeypatch.setattr(_noise, "MULTIPLIERS", (0xD2511F53, 0xCD9E8D55))
    with pytest.raises(AssertionError):
        assert_same(run(_reference.layer, *case), found)


def test_a_fused_multiply_add_would_be_seen():
    """Potentials of silent neurons with and without contraction of a_m U + (1 - a_m) I."""
    inputs = torch.randn(2, 20, 30, generator=torch.Generator().manual_seed(6))
    parameters = LIFParameters(threshold=1e6)
    _, found = cuda.layer(inputs, parameters, SURROGATES[0], Step(), Noise(0), None)
    a_m, a_s = np.float32(parameters.membrane_decay), np.float32(parameters.synaptic_decay)
    gain = np.float32(1 - parameters.membrane_decay)

    def potentials(fused):
        u = current = np.zeros((2, 30), np.float32)
        for x in inputs.numpy().swapaxes(0, 1):
            yield u
            if fused:
                u = (np.float64(a_m) * u + gain * current).astype(np.float32)  # one product without rounding
            else:
                u = a_m * u + gain * current
            current = a_s * current + x

    assert np.array_equal(found, np.stack([*potentials(fused=False)], axis=1))
    assert not np.array_equal(found, np.stack([*potentials(fused=True)], axis=1))
