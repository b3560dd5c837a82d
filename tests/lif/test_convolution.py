"""Convolutions of a GPU, computed on the CPU: values, gradients, and the settings of cuDNN that they leave behind."""

import pytest
import torch

from sgtheory.lif._convolution import _Convolution, convolve, exact_convolutions

CUDNN = torch.backends.cudnn


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (3, 0), (2, 2)])
def test_the_same_as_along_positions(stride, padding):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 5, 11, 3, generator=generator, dtype=torch.float64).mT
    weight = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    results = []
    for function in (convolve, _Convolution.apply):
        leaves = [inputs.clone().requires_grad_(), weight.clone().requires_grad_()]
        found = function(*leaves, stride, padding)
        results.append((found, *torch.autograd.grad(found.sin().sum(), leaves)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    assert results[1][0].mT.is_contiguous()


@pytest.mark.parametrize("chosen", ["nothing", "allow_tf32=False", "conv.fp32_precision"])
def test_settings_of_the_user_come_back(chosen):
    new = hasattr(CUDNN, "conv")
    if chosen.startswith("conv") and not new:
        pytest.skip("this PyTorch has no fp32_precision")
    before = CUDNN.allow_tf32
    try:
        if chosen == "allow_tf32=False":
            CUDNN.allow_tf32 = False
        elif chosen.startswith("conv"):
            CUDNN.conv.fp32_precision = "tf32"

        def settings():
            return CUDNN.allow_tf32, CUDNN.conv.fp32_precision if new else None, CUDNN.deterministic, CUDNN.benchmark

        there = settings()
        with exact_convolutions():
            assert CUDNN.deterministic
            assert CUDNN.conv.fp32_precision == "ieee" if new else not CUDNN.allow_tf32
        assert settings() == there
    finally:
        CUDNN.allow_tf32 = before
