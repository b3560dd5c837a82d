"""The errors that a user can cause, each one sentence long, and the checks of numbers that raise them.

Numbers of any kind are taken, those of numpy as well: numbers.Real and numbers.Integral, but not truth values.
"""

import contextlib
from collections.abc import Iterator
from numbers import Integral, Real
from typing import TypeGuard

import numpy as np

FLOATS, BYTES = {np.dtype("f4"), np.dtype("f8")}, {np.dtype("u1"), np.dtype("?")}  # what compiled code takes
INTEGERS = {np.dtype(f"{sign}{size}") for sign in "iu" for size in (1, 2, 4, 8)}
KINDS = {
    "f": ("float32 or float64", FLOATS),
    "bu": ("uint8 or truth values", BYTES),
    "biuf": ("whole numbers, truth values, float32 or float64", FLOATS | BYTES | INTEGERS),
}


class UserError(Exception):
    """Something that the user gave cannot be used; the message is one sentence that says what would be right."""

    exit_code = 2  # of a program that it ends


class ParameterError(UserError, ValueError):
    """A parameter is outside of its allowed values.

    Keeps the name, so that a configuration layer can put the full key in front of it.
    """

    def __init__(self, name: str, value: object, allowed: str):
        self.name, self.value, self.allowed = name, value, allowed
        super().__init__(f"{name} = {value!r}: {allowed}")

    def __reduce__(
        self,
    ):  # the default would call __init__ with the message alone when a worker sends it back
        return type(self), (self.name, self.value, self.allowed)


@contextlib.contextmanager
def under(section: str) -> Iterator[None]:
    """Put the ``section`` of a configuration in front of the name in a :class:`ParameterError`."""
    try:
        yield
    except ParameterError as error:
        raise ParameterError(f"{section}.{error.name}", error.value, error.allowed) from None


def is_number(value: object) -> TypeGuard[Real]:
    """Whether ``value`` is a real number of any kind."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[Integral]:
    """Whether ``value`` is an integer of any kind."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def require_positive(**parameters: float) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not a finite number above zero."""
    for name, value in parameters.items():
        if not is_number(value) or not 0 < float(value) < float("inf"):
            raise ParameterError(name, value, "must be a finite number above 0")


def require_word(**parameters: object) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not an integer of 32 bits without a sign."""
    for name, value in parameters.items():
        if not is_whole(value) or not 0 <= int(value) < 2**32:
            raise ParameterError(name, value, "must be an integer in [0, 2**32)")


def require_count(least: int = 1, /, **parameters: object) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not an integer of at least ``least``."""
    for name, value in parameters.items():
        if not is_whole(value) or int(value) < least:
            raise ParameterError(name, value, f"must be a whole number of at least {least}")


def require_number(**parameters: object) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not a number."""
    for name, value in parameters.items():
        if not is_number(value):
            raise ParameterError(name, value, "must be a number")


def require_kind(kind: type, **parameters: object) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not an object of class ``kind``."""
    for name, value in parameters.items():
        if not isinstance(value, kind):
            given = value if value is None or isinstance(value, type) else type(value)
            raise ParameterError(name, given, f"must be an object of class {kind.__name__}")


def require_array(axes: int, kinds: str, **arrays: object) -> None:
    """Raise :class:`ParameterError` for the first that is no numpy array of so many axes and of one of these kinds."""
    for name, array in arrays.items():
        what, dtypes = KINDS[kinds]
        if not isinstance(array, np.ndarray) or array.ndim != axes or array.dtype not in dtypes:
            given = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array)
            raise ParameterError(name, given, f"must be a numpy array with {axes} axes of {what}")


def convert(instance: object, kind: type, *names: str) -> None:
    """Make fields of a frozen dataclass plain Python numbers, so that numpy's do not reach kernels and files."""
    for name in names:
        object.__setattr__(instance, name, kind(getattr(instance, name)))


def require_choice(allowed: tuple, **parameters: object) -> None:
    """Raise :class:`ParameterError` for the first parameter that is not one of ``allowed``."""
    for name, value in parameters.items():
        if value not in allowed:
            raise ParameterError(name, value, f"must be one of {', '.join(map(str, allowed))}")


def first_line(error: BaseException) -> str:
    """What an error says, without the rest of a long message; its type if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory could not be had; PyTorch says so in words alone."""
    words = ("allocate", "out of memory", "size calculation overflowed")
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return said or isinstance(error, MemoryError)


def disk_sentence(error: OSError) -> str:
    """Which file could not be used, and why."""
    reason = error.strerror or first_line(error)
    return f"{error.filename}: {reason}" if error.filename else reason
