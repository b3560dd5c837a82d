"""Numbers that every backend can hold."""

from sgtheory.errors import ParameterError, require_positive

LARGEST = 2.0**100  # 1.3e30: such a number, its inverse and their products with potentials are normal in float32


def require_normal(**parameters: float) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not a positive number, or that is too large or
    too small for arithmetic in float32."""
    require_positive(**parameters)
    for name, value in parameters.items():
        if not 1 / LARGEST <= value <= LARGEST:
            raise ParameterError(name, value, f"must be from {1 / LARGEST:.1g} to {LARGEST:.1g}, for float32")
