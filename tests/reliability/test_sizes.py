"""Layers and networks that are empty, of any size and layout, silent or always firing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from number_cases import (
    OPTIONS,
    PARAMETERS,
    assert_close,
    leaves_of,
    network,
    outcome,
)

from sgtheory import metrics
from sgtheory.data import SpikeDataset
from sgtheory.lif import (
    LIF,
    Noise,
    leaky_readout,
    lif,
    network_activity,
)
from sgtheory.neurons import (
    LIFParameters,
    SigmoidEscape,
    Step,
    SuperSpike,
)

examples = settings(max_examples=settings.default.max_examples // 5)
LAYOUTS = ("sliced", "transposed", "of one sample", "as is")
sizes = st.tuples(  # batch, steps, channels, positions, kernel or 0 for none
    st.integers(0, 10), st.integers(1, 5), st.integers(1, 20), st.integers(1, 5), st.sampled_from((0, 1, 3, 7))
)


def awkward(values, layout):
    """The same values in memory that is not contiguous."""
    if layout == "sliced":
        return torch.empty(*values.shape[:-1], 2 * values.shape[-1])[..., ::2].copy_(values)
    if layout == "transposed":
        return values.mT.contiguous().mT
    if layout == "of one sample" and len(values):
        return values[:1].expand_as(values)
    return values


@pytest.mark.fuzz
@examples
@given(sizes, st.sampled_from(LAYOUTS), st.sampled_from(OPTIONS), st.booleans())
def test_layers_of_any_size_and_layout(size, layout, options, recurrent_gradient):
    batch, steps, channels, positions, kernel = size
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, steps, channels, positions) if kernel else (batch, steps, channels)
    inputs = torch.randint(-128, 400, shape, generator=generator) / 16
    recurrent = torch.randint(-80, 64, (channels, channels, kernel), generator=generator) / 64 if kernel else None
    gradient = torch.randint(-64, 64, shape, generator=generator) / 64
    reset, reset_gradient, delay = options
    parameters = LIFParameters(3e-3, 2e-3, reset=reset, reset_gradient=reset_gradient, delay=delay)
    results = []
    for backend in ("reference", "cpu"):
        x = awkward(inputs, layout).detach().requires_grad_(not (kernel and recurrent_gradient))
        v = None if recurrent is None else recurrent.clone().requires_grad_(recurrent_gradient or not x.requires_grad)
        spikes, potential = lif(x, parameters, SuperSpike(5.0), SigmoidEscape(3.0), Noise(batch), v, backend)
        leaves = [leaf for leaf in (x, v) if leaf is not None and leaf.requires_grad]
        loss = (spikes * gradient).sum() + sum(0 * leaf.sum() for leaf in leaves)  # in one step there is no recurrence
        results.append([spikes.detach(), potential, *torch.autograd.grad(loss, leaves)])
    expected, found = results
    assert torch.equal(expected[0], found[0])
    assert_close(found, expected)


@pytest.mark.fuzz
@examples
@given(st.integers(0, 17), st.integers(1, 4), st.integers(0, 31), st.booleans())
def test_networks_of_any_batch_and_subset_of_gradients(batch, steps, subset, transposed):
    arguments = network(batch, steps, scale=20.0)
    if transposed:
        arguments[0] = arguments[0].mT.contiguous().mT
        arguments[2] = [w.detach().transpose(0, 2).contiguous().transpose(0, 2).requires_grad_() for w in arguments[2]]
        arguments[5] = arguments[5].detach().T.contiguous().T.requires_grad_()
    leaves = leaves_of(arguments)
    for i, leaf in enumerate(leaves):
        leaf.requires_grad_(bool(subset >> i & 1) or not subset % (1 << len(leaves)))
    assert_close(outcome(arguments, "cpu"), outcome(arguments, "reference"))
    potentials, spikes = network_activity(*arguments)
    assert potentials.shape == (batch, steps, 4)
    assert [s.shape for s in spikes] == [(batch, steps, 12), (batch, steps, 10)]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_empty_batches_through_the_modules(backend):
    for options, shape in (
        ({}, (0, 7, 4)),
        ({"kernel": 3, "recurrent": 3}, (0, 7, 4, 6)),
        ({"recurrent": 1}, (0, 7, 4)),
    ):
        module = LIF(4, 5, PARAMETERS, SuperSpike(), SigmoidEscape(), backend=backend, **options)
        spikes = module(torch.zeros(shape), Noise(0))
        assert spikes.shape == (0, 7, 5, *([4] if "kernel" in options else []))
        spikes.sum().backward()
        assert not module.weight.grad.any()
    assert leaky_readout(torch.zeros(0, 7, 4), PARAMETERS).shape == (0, 7, 4)
    assert Noise(0).uniform(0, range(3), 5).shape == (0, 3, 5)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_networks_that_are_silent_or_fire_in_every_step(backend):
    """There is room for the spikes of all neurons in all steps."""
    for threshold, fired in ((1e30, 0), (-1e30, 25)):
        parameters = LIFParameters(20e-3, 10e-3, 2e-3, threshold=threshold, reset="same", reset_gradient="attached")
        arguments = network(escape=Step(), parameters=parameters)
        _, *rest = found = outcome(arguments, backend)
        assert all(bool((count == fired).all()) for count in rest[:2])
        assert all(bool(values.isfinite().all()) for values in found)
        _, spikes = network_activity(*arguments, backend=backend)
        for train in spikes:
            assert bool((train == bool(fired)).all())
            fano = metrics.fano_factor(train.numpy(), 5)
            assert fano == 0 if fired else math.isnan(fano)


def test_events_beyond_every_integer_are_left_out():
    data = SpikeDataset.from_samples([np.array([0.0, 0.5])], [np.array([1, 2])], [0], ["a"], "two events", channels=3)
    assert data.bin([0], 4, 1e-300).nonzero()[2].tolist() == [1]
