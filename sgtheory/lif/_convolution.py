"""Convolutions along positions for all samples and steps at once on a GPU: full float32, deterministic.

cuDNN computes in TF32 unless it is told not to, which moves potentials by 1e-3 of their size and makes other spikes.
Gradients for weights in float32 are left to a kernel of our own, where triton is installed.
"""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def exact_convolutions() -> Iterator[None]:
    """cuDNN in full float32 with deterministic algorithms; what the user has set comes back.

    Works with either of PyTorch's interfaces to precision; it has ``fp32_precision`` since version 2.9.
    """
    cudnn = torch.backends.cudnn
    new = hasattr(cudnn, "conv")
    settings = [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    settings.append((cudnn.conv, "fp32_precision", "ieee") if new else (cudnn, "allow_tf32", False))
    before = [getattr(where, name) for where, name, _ in settings]
    try:
        for where, name, value in settings:
            setattr(where, name, value)
        yield
    finally:
        for (where, name, _), value in zip(settings, before, strict=True):
            setattr(where, name, value)


def rows(layer: torch.Tensor) -> torch.Tensor:
    """[batch, time, channel, position] as the image [batch, channel, time, position] that cuDNN takes."""
    return layer.transpose(1, 2)


class _Convolution(torch.autograd.Function):
    """Sets the precision in both passes: autograd runs the second one when the first one's setting is gone."""

    @staticmethod
    def forward(inputs: torch.Tensor, weight: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        with exact_convolutions():
            image = torch.nn.functional.conv2d(
                rows(inputs), weight.unsqueeze(2), stride=(1, stride), padding=(0, padding)
            )
        return rows(image)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.settings = inputs[2:]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        inputs, weight = ctx.saved_tensors
        stride, padding = ctx.settings
        to_inputs, to_weight = ctx.needs_input_grad[:2]
        for_inputs = for_weight = None
        if to_weight and weight.is_cuda and weight.dtype == torch.float32 and importlib.util.find_spec("triton"):
            from sgtheory.lif.cuda.operators import weight_gradient

            for_weight, to_weight = weight_gradient(gradient.mT, inputs.mT, weight.shape[2], stride, padding), False
        if to_inputs or to_weight:
            with exact_convolutions():
                image, kernel, _ = torch.ops.aten.convolution_backward(
                    rows(gradient), rows(inputs), weight.unsqueeze(2), None,
                    [1, stride], [0, padding], [1, 1], False, [0, 0], 1, [to_inputs, to_weight, False],
                )  # fmt: skip
            for_inputs = rows(image) if to_inputs else None
            for_weight = kernel.squeeze(2) if to_weight else for_weight
        return for_inputs, for_weight, None, None


def convolve(inputs: torch.Tensor, weight: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
    """Convolution along positions.

    Args:
        inputs: [batch, time, channel, position]; memory in the order [batch, time, position, channel] needs no copy on
            a GPU, and that is how the result is laid out there.
        weight: [post, pre, kernel].
        stride, padding: along positions.

    Returns:
        [batch, time, post, position].
    """
    if inputs.device.type == "cuda":
        return _Convolution.apply(inputs, weight, stride, padding)
    flat = torch.nn.functional.conv1d(inputs.flatten(0, 1), weight, stride=stride, padding=padding)
    return flat.unflatten(0, inputs.shape[:2])
