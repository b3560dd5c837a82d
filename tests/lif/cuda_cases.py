"""Layers, options and the comparison with the reference that the tests of the CUDA backend share.

Inputs and weights are multiples of 1/64, so that sums over neurons are exact in any order and bits can be compared.
"""

import itertools
from dataclasses import replace

import torch

from sgtheory.lif import Noise, _reference
from sgtheory.lif.cuda import backend as cuda
from sgtheory.neurons import (
    ErfEscape,
    EscapeDerivative,
    EscapeFunction,
    ExponentialEscape,
    LIFParameters,
    MultilayerSpiker,
    RectifiedLinear,
    ScaledSigmoidDerivative,
    ScaledSuperSpike,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    StraightThrough,
    SuperSpike,
)


class Triangular(EscapeFunction):
    """An escape function of a user's own."""

    def value(self, x):
        return torch.clamp(0.5 + x, 0, 1)


NOISE = Noise(seed=2**32 - 2, stream=2**31 + 5, draw=2**32 - 1, samples=torch.tensor([7, 2**32 - 1]))
SIGMOID = SigmoidEscape(beta=3.0)
ESCAPES = [Step(), SIGMOID, ExponentialEscape(delta_u=0.4), ErfEscape(sigma=0.5), Triangular()]
SURROGATES = [
    SuperSpike(beta=5.0),
    ScaledSuperSpike(beta=5.0),
    SigmoidDerivative(beta=5.0),
    ScaledSigmoidDerivative(beta=5.0),
    RectifiedLinear(beta=0.7),
    StraightThrough(),
    EscapeDerivative(SIGMOID),
    MultilayerSpiker(),
]
OPTIONS = [*itertools.product(("next", "same"), ("attached", "detached"), (0, 1))]  # reset, reset_gradient, delay
# ([time, neuron] or [time, channel, position], kernel or 0 for none): several groups of 64 and blocks; channels that
# fit into a word and others; several chunks of channels, several samples per program, a kernel wider than the layer
LAYERS = {
    "feedforward": ((6, 300), 0),
    "dense": ((6, 21), 1),
    "convolution": ((6, 4, 7), 3),
    "many channels": ((5, 18, 5), 5),
    "few positions": ((5, 3, 2), 5),
    "channels without recurrence": ((5, 3, 7), 0),
    "16x68": ((3, 16, 68), 5),
    "32x21": ((3, 32, 21), 5),
    "64x5": ((3, 64, 5), 5),
    "1088": ((3, 1088), 0),
    "wide": ((3, 200), 1),
}


def sixty_fourths(low, high, *shape, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)) / 64


def layer(name, batch=2, steps=None):
    """Inputs that make 10 to 30 % of the neurons spike, and recurrent weights; ``steps`` replaces the table."""
    shape, kernel = LAYERS[name]
    shape = (steps or shape[0], *shape[1:])
    inputs = sixty_fourths(-128, 256, batch, *shape)
    if not kernel:
        return inputs, None
    return inputs, sixty_fourths(-80, 64, shape[1], shape[1], *[kernel] * (len(shape) - 2), seed=1)


def fast(**options):
    """Parameters of a neuron that responds within the few steps of a test."""
    return LIFParameters(**{"tau_mem": 3e-3, "tau_syn": 2e-3, **options})


def differing(neurons, **options):
    """Parameters of so many neurons or channels that differ, and respond within a few steps."""
    generator = torch.Generator().manual_seed(7)
    tau_mem, tau_syn = (2e-3 + 3e-3 * torch.rand(2, neurons, generator=generator)).unbind()
    return fast(tau_mem=tau_mem, tau_syn=tau_syn, threshold=sixty_fourths(40, 90, neurons, seed=8), **options)


def use_precision(name):
    """Of the products in the backward pass of recurrent layers, from now on."""
    from sgtheory.lif.cuda import operators  # needs triton

    operators.PRECISION = name


def run(backend, inputs, recurrent, parameters, surrogate=SURROGATES[0], escape=SIGMOID, noise=NOISE):
    """Spikes, potentials, and gradients of a loss that both are part of."""
    leaves = [t.detach().requires_grad_() for t in (inputs, recurrent) if t is not None]
    tensors = {name: value.detach().requires_grad_() for name, value in parameters.tensors.items()}
    parameters = replace(parameters, **tensors)
    spikes, potentials = backend(leaves[0], parameters, surrogate, escape, noise, (*leaves, None)[1])
    generator = torch.Generator().manual_seed(2)
    loss = sum((out * torch.randn(out.shape, generator=generator)).sum() for out in (spikes, potentials))
    return spikes.detach(), potentials.detach(), *torch.autograd.grad(loss, [*leaves, *tensors.values()])


def assert_same(expected, found, rounding=2e-6):
    """Spikes and potentials bit for bit, gradients to ``rounding`` of the largest; returns how far these are off."""
    assert expected[0].mean() > 0.02
    for what, e, f in zip(("spikes", "potentials"), expected[:2], found[:2], strict=True):
        assert torch.equal(e, f), f"{int((e != f).sum())} of {e.numel()} {what} are not those of the reference"
    off = [float((e - f).abs().max() / e.abs().max()) for e, f in zip(expected[2:], found[2:], strict=True)]
    assert all(o <= rounding for o in off), f"gradients differ from those of the reference by {off} of the largest"
    return max(off)


# batch, steps, positions, channels post and pre, kernel, stride, padding
CONVOLUTIONS = [(2, 5, 5, 18, 18, 5, 1, 2), (3, 3, 30, 16, 1, 21, 10, 0), (2, 3, 20, 5, 16, 7, 3, 1)]
CONVOLUTIONS += [(2, 2, 9, 70, 3, 3, 2, 0), (1, 2, 9, 5, 70, 3, 2, 1)]


def assert_weight_gradient(batch, steps, positions, post, pre, kernel, stride, padding):
    """That of the kernel against float64, to rounding of the largest."""
    from sgtheory.lif.cuda import operators  # needs triton

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, steps, positions, pre, generator=generator)
    weight = torch.zeros(post, pre, kernel, dtype=torch.float64, requires_grad=True)
    rows = inputs.double().flatten(0, 1).mT
    out = torch.nn.functional.conv1d(rows, weight, stride=stride, padding=padding).mT.unflatten(0, (batch, steps))
    gradient = torch.randn(out.shape, generator=generator)
    (expected,) = torch.autograd.grad(out, weight, gradient.double())
    found = operators.weight_gradient(gradient, inputs, kernel, stride, padding)
    assert float((found - expected).abs().max()) <= 5e-7 * float(expected.abs().max())


def assert_like_reference(*case):
    assert_same(run(_reference.layer, *case), run(cuda.layer, *case))
