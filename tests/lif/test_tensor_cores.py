"""How exact the products of the backward pass are on tensor cores: PRECISION of sgtheory.lif.cuda.operators, emulated.

Tensor cores multiply numbers of 11 bits and add in float32. "tf32x3" adds three such products of the upper and the
lower bits of both factors.
"""

import pytest
import torch
from cuda_cases import SIGMOID, SURROGATES, layer

from sgtheory.lif import Noise, _reference
from sgtheory.lif._convolution import convolve
from sgtheory.neurons import LIFParameters


def upper(x):
    """Rounded to 11 bits, as tensor cores take it."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def factors(precision, a, b):
    """Pairs of factors whose products are added."""
    if precision == "exact":
        return [(a.double(), b.double())]
    if precision == "ieee":
        return [(a, b)]
    first = [(upper(a), upper(b))]
    if precision == "tf32":
        return first
    return [(upper(a - upper(a)), upper(b)), (upper(a), upper(b - upper(b))), *first]


def gradient(precision, name, steps):
    """That for the input of a layer through many steps."""

    class Recurrent(torch.autograd.Function):
        @staticmethod
        def forward(ctx, spikes, weight):
            ctx.save_for_backward(weight)
            return convolve(spikes.unsqueeze(1), weight, padding=weight.shape[-1] // 2).squeeze(1)

        @staticmethod
        def backward(ctx, gradient):
            (weight,) = ctx.saved_tensors
            padding = weight.shape[-1] // 2
            products = [
                torch.nn.functional.conv_transpose1d(g, w, padding=padding)
                for g, w in factors(precision, gradient, weight)
            ]
            return sum(products).float(), None

    inputs, _ = layer(name, steps=steps)
    generator = torch.Generator().manual_seed(3)
    channels, kernel = inputs.shape[2], 5
    weight = torch.randn(channels, channels, kernel, generator=generator) * 0.45 / (channels * kernel) ** 0.5
    leaf = (inputs / 4).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_reference, "recurrent_input", Recurrent.apply)
        parameters = LIFParameters(tau_mem=20e-3, tau_syn=10e-3, dt=2e-3)
        spikes, _ = _reference.layer(leaf, parameters, SURROGATES[0], SIGMOID, Noise(1), weight)
        spikes.backward(torch.randn(spikes.shape, generator=generator))
    return leaf.grad


SHORT = [(name, 60) for name in ("32x21", "64x5")]
LONG = [pytest.param(name, 349, marks=pytest.mark.slow) for name in ("16x68", "32x21", "64x5")]


@pytest.mark.parametrize(("name", "steps"), SHORT + LONG)
def test_three_products_are_as_exact_as_float32(name, steps):
    exact = gradient("exact", name, steps)
    errors = {p: float((gradient(p, name, steps) - exact).norm() / exact.norm()) for p in ("ieee", "tf32x3", "tf32")}
    print(name, errors)
    assert errors["tf32x3"] < 4 * errors["ieee"]
    assert errors["tf32"] > 100 * errors["ieee"]
