"""Files from anywhere, read within limits: what cannot be used ends in one sentence that names the file."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sgtheory.errors import UserError, first_line

TEXT_AT_MOST = 2**28  # bytes of a text file
ARRAYS_AT_MOST = 2**31  # bytes of arrays in an .npz file, unpacked
NESTED_AT_MOST = 50  # levels of dictionaries and lists in a .json file
KINDS = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a dictionary"}
ARRAY_KINDS = "biufU"  # truth values, numbers, texts


def read_text(path: str | os.PathLike, what: str) -> str:
    """The content of a text file in UTF-8.

    Args:
        path: of the file.
        what: it is to be, for the message.

    Raises:
        UserError: naming the file, if it is not there, is no file or not such a text, or larger than 256 MiB.
    """
    path = Path(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would wait for its other end
            raise UserError(f"{path} cannot be read as {what}: it is not a file")
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_size > TEXT_AT_MOST:
                raise UserError(f"{path} cannot be read as {what}: it is larger than {TEXT_AT_MOST >> 20} MiB")
            return file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read as {what}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read as {what}: {first_line(error)}") from None


def read_json(path: str | os.PathLike, what: str) -> dict:
    """The dictionary in a .json file.

    Raises:
        UserError: as :func:`read_text`; if the text is no JSON, no dictionary, or nested deeper than 50 levels.
    """
    text = read_text(path, what)
    try:
        value = json.loads(text, parse_int=_whole)
        if not isinstance(value, dict):
            raise ValueError(f"it holds {text.strip():.20} and not a dictionary")
        if _deeper(value, NESTED_AT_MOST):
            raise RecursionError
        json.dumps(value, ensure_ascii=False).encode()  # halves of a surrogate pair cannot be printed
    except RecursionError:
        raise UserError(f"{path} cannot be read as {what}: it is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read as {what}: {first_line(error)}") from None
    return value


def _whole(digits: str) -> int | float:
    """A whole number; as a float if it is one that nothing is counted with, and that cannot be computed with."""
    return int(digits) if len(digits) < 20 else float(digits)


def _deeper(value, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return not levels or any(_deeper(v, levels - 1) for v in inner if isinstance(v, dict | list))


def require_kinds(path: str | os.PathLike, values: dict, kinds: Mapping[str, type], needed: bool = True) -> None:
    """Check what a file holds under some keys; a dot leads into a dictionary, and a whole number is a number.

    Raises:
        UserError: naming the file, the first key that has another kind of value, and the right kind.
    """
    for key, kind in kinds.items():
        value = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None and not needed:
            continue
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise UserError(f"{path}: {key} must be {KINDS[kind]}, not {json.dumps(value):.40}")


def unpacked_size(path: str | os.PathLike) -> int:
    """Bytes of all members of a zip archive, as its directory declares them; a reader gives no more than that."""
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def read_numbers(path: str | os.PathLike, key: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz file that a setting names; they hold numbers, and what is not whole is float32.

    Args:
        path: of the file.
        key: of the setting, for messages.

    Raises:
        UserError: naming key and file; as :func:`read_arrays`, or if an array holds texts.
    """
    try:
        arrays = read_arrays(path)
    except UserError as error:
        raise UserError(f"{key} = {error}") from None
    for name, array in arrays.items():
        if array.dtype.kind == "U":
            raise UserError(f"{key} = {path}: {name} must hold numbers")
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):  # becomes infinite, which its reader does not take
                arrays[name] = array.astype(np.float32)
    return arrays


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an .npz file.

    Raises:
        UserError: naming the file, if it is not there or damaged, holds objects, or is larger than 2 GiB unpacked.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file")
    try:
        if unpacked_size(path) > ARRAYS_AT_MOST:
            raise ValueError(f"its arrays are larger than {ARRAYS_AT_MOST >> 30} GiB")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        for name, array in found.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind not in ARRAY_KINDS:
                raise ValueError(f"{name} is not an array of numbers or texts")
    except Exception as error:  # numpy and zipfile raise almost anything for a damaged file
        raise UserError(f"{path} cannot be read as an .npz file of arrays: {first_line(error)}") from None
    return found
