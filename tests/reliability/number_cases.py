"""A layer with one number that is NaN, infinite or nearly so, and what every backend must make of it; a network."""

import itertools

import torch

from sgtheory.lif import Layer, Noise, Readout, lif, spiking_network
from sgtheory.neurons import (
    ErfEscape,
    ExponentialEscape,
    LIFParameters,
    RectifiedLinear,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    SuperSpike,
)

NAN, INFINITY = float("nan"), float("inf")
BROKEN = (NAN, INFINITY, -INFINITY)
EXTREME = (3e38, -3e38, 1e4, -1e4, 1e-40)
KINDS = {"feedforward": ((12, 21), 0), "dense": ((12, 5), 1), "convolution": ((12, 3, 4), 3)}
NEURONS = (
    (Step(), SuperSpike(10.0)),
    (SigmoidEscape(10.0), SigmoidDerivative(7.0)),
    (ExponentialEscape(), RectifiedLinear(2.0)),
    (ErfEscape(), SuperSpike(5.0)),
)
OPTIONS = tuple(itertools.product(("next", "same"), ("attached", "detached"), (0, 1)))
PARAMETERS = LIFParameters(20e-3, 10e-3, 2e-3)
HURT = 1  # the sample of three that has the number


def layer(kind, place, value):
    """Inputs, recurrent weights, and the gradient for the spikes; multiples of 1/64, so that sums have no order."""
    shape, kernel = KINDS[kind]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(-128, 256, (3, *shape), generator=generator) / 32
    recurrent = None
    if kernel:
        size = (shape[1], shape[1], *[kernel] * (len(shape) - 2))
        recurrent = torch.randint(-80, 64, size, generator=generator) / 64
    gradient = torch.randn(inputs.shape, generator=generator)
    {"input": inputs, "gradient": gradient}[place][(HURT, 4, 2, 1)[: inputs.ndim]] = value
    return inputs, recurrent, gradient


def run(backend, inputs, recurrent, gradient, options, neuron):
    """Spikes, potentials and gradients; ``backend`` is a name or a function."""
    escape, surrogate = neuron
    reset, reset_gradient, delay = options
    parameters = LIFParameters(3e-3, 2e-3, reset=reset, reset_gradient=reset_gradient, delay=delay)
    leaves = [t.clone().requires_grad_() for t in (inputs, recurrent) if t is not None]
    weight = leaves[1] if recurrent is not None else None
    if callable(backend):
        spikes, potentials = backend(leaves[0], parameters, surrogate, escape, Noise(3), weight)
    else:
        spikes, potentials = lif(leaves[0], parameters, surrogate, escape, Noise(3), weight, backend)
    return spikes.detach(), potentials.detach(), *torch.autograd.grad(spikes, leaves, gradient)


def assert_the_same_is_made_of(case, backend, options, neuron):
    """Spikes and potentials to the bit, the gradient of every other sample to rounding. That of the one with the number
    is finite for both or for none; where it is not is the same if the number came with the gradient of a dense layer.
    """
    expected, found = (run(b, *case, options, neuron) for b in ("reference", backend))
    assert torch.equal(expected[0], found[0])
    assert torch.equal(expected[1].nan_to_num(nan=12345.0), found[1].nan_to_num(nan=12345.0))
    finite = [g.isfinite().flatten(1).all(dim=1) for g in (expected[2], found[2])]
    assert torch.equal(*finite), finite
    others = torch.arange(len(finite[0])) != HURT
    assert bool(finite[0][others].all())
    if case[0].isfinite().all() and case[0].ndim == 3:  # what convolutions are made of covers whole vectors
        assert torch.equal(expected[2].isfinite(), found[2].isfinite())
    expected, found = (g[others] for g in (expected[2], found[2]))
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-5 * float(expected.abs().max()))


def network(batch=3, steps=25, dtype=torch.float32, escape=NEURONS[1][0], parameters=PARAMETERS, scale=3.0):
    """Arguments of :func:`spiking_network`: sizes that divide no vector, a layer with recurrence and one without."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()

    layers = [Layer(parameters, SuperSpike(10.0), escape, 2, 1), Layer(parameters, SuperSpike(10.0), escape)]
    weights, recurrent = [normal(3, 2, 4), normal(5, 3, 3)], [(0.1 * normal(3, 3, 3)).detach().requires_grad_(), None]
    inputs = (torch.rand(batch, steps, 2, 9, generator=generator) < 0.3).to(torch.uint8)
    readout = Readout(LIFParameters(0.1, 10e-3, 2e-3))
    return [inputs, layers, weights, recurrent, readout, normal(4, 10), Noise(3)]


def leaves_of(arguments):
    return [*arguments[2], *(v for v in arguments[3] if v is not None), arguments[5]]


def outcome(arguments, backend):
    """Potentials, counts and gradients of a network."""
    potentials, counts = spiking_network(*arguments, backend=backend)
    wanted = [leaf for leaf in leaves_of(arguments) if leaf.requires_grad]
    loss = potentials.square().sum() + sum(c.square().sum() for c in counts)
    loss = loss + sum(0 * leaf.sum() for leaf in wanted)  # in one step there is no recurrence
    return [potentials.detach(), *(c.detach() for c in counts), *torch.autograd.grad(loss, wanted)]


@torch.no_grad()
def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.numel() == 0 or float((a - b).abs().max()) <= 3e-5 * max(float(b.abs().max()), 1e-30)
