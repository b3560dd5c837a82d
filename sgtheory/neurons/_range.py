"""Numbers that every backend can hold."""

import torch

from sgtheory.errors import ParameterError, convert, require_positive

LARGEST = 2.0**100  # 1.3e30: such a number, its inverse and their products with potentials are normal in float32


def require_normal(**parameters: float) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not a positive number, or that is too large or
    too small for arithmetic in float32."""
    require_positive(**parameters)
    for name, value in parameters.items():
        if not 1 / LARGEST <= float(value) <= LARGEST:
            raise ParameterError(name, value, f"must be from {1 / LARGEST:.1g} to {LARGEST:.1g}, for float32")


def require_normal_tensor(least: float, **parameters: torch.Tensor) -> None:
    """Raise :class:`ParameterError` for the first tensor that does not hold floating-point numbers from ``least`` to
    LARGEST along one axis at most.

    The numbers are looked at on the CPU alone, and where torch.func shows them.
    """
    for name, value in parameters.items():
        if not value.is_floating_point() or value.ndim > 1:
            given = f"{value.dtype} of shape {list(value.shape)}"
            raise ParameterError(name, given, "must be one number, or floating-point numbers of one axis")
        seen = value.device.type == "cpu" and not torch._C._are_functorch_transforms_active()
        if seen and not bool(((value >= least) & (value <= LARGEST)).all()):
            given = [float(value.min()), float(value.max())]
            raise ParameterError(name, given, f"must be from {least:.1g} to {LARGEST:.1g}, for float32")


def require_normal_fields(instance: object, *names: str) -> None:
    """:func:`require_normal` for fields of a frozen dataclass, which become Python's own floats."""
    require_normal(**{name: getattr(instance, name) for name in names})
    convert(instance, float, *names)
