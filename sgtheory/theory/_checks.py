"""What the theory is given, checked where it enters."""

import torch

from sgtheory.errors import ParameterError, is_whole


def require_tensor(*shape: object, **tensors: object) -> None:
    """Raise :class:`ParameterError` for the first that is no float64 tensor of this shape, where None stands for an
    axis of any size, and ``...`` at the beginning for any axes."""
    sizes = shape[1:] if shape[:1] == (...,) else shape
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ParameterError(name, type(tensor), "must be a float64 tensor")
        last = tensor.shape[max(tensor.ndim - len(sizes), 0) :] if sizes is not shape else tensor.shape
        fits = len(last) == len(sizes) and all(s in (None, n) for s, n in zip(sizes, last, strict=True))
        if not fits or tensor.dtype != torch.float64:
            words = {None: "any size", ...: "..."}
            allowed = f"must be float64 of the shape [{', '.join(words.get(s, str(s)) for s in shape)}]"
            raise ParameterError(name, f"{tensor.dtype}{list(tensor.shape)}", allowed)


def require_within(least: float, most: float, **tensors: torch.Tensor) -> None:
    """Raise :class:`ParameterError` for the first tensor with numbers outside of [``least``, ``most``], or NaN."""
    for name, tensor in tensors.items():
        if tensor.numel():
            lowest, highest = map(float, torch.aminmax(tensor.detach()))
            if not (lowest >= least and highest <= most):
                raise ParameterError(name, [lowest, highest], f"must be in [{least:g}, {most:g}]")


def require_sizes(**sizes: object) -> None:
    """Raise :class:`ParameterError` for the first that is not two or more positive whole numbers."""
    for name, value in sizes.items():
        if (
            not isinstance(value, tuple | list)
            or len(value) < 2
            or not all(is_whole(size) and size > 0 for size in value)
        ):
            raise ParameterError(name, value, "must be two or more positive whole numbers")
