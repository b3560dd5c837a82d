"""Checkpoints: the state of a task before an epoch, written whole, and read without running code."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch

from sgtheory.errors import UserError, first_line
from sgtheory.files import atomic_path
from sgtheory.reading import unpacked_size
from sgtheory.training._records import CHECKPOINT

NOT_PLAIN = "it holds something else than tensors and plain values"


def save_checkpoint(directory: Path, epoch: int, state: dict) -> None:
    """Write the state before ``epoch``; tensors and plain values only, so that it loads without running code."""
    content = io.BytesIO()  # torch's own writer hides the reason when a disk is full
    torch.save({"epoch": epoch, "state": state}, content)
    with atomic_path(directory / CHECKPOINT) as path:
        path.write_bytes(content.getbuffer())


def load_checkpoint(directory: Path) -> tuple[int, dict] | None:
    """The epoch to go on with and the state before it, or None if there is no checkpoint.

    Needs no more memory than the file is large.

    Raises:
        UserError: naming the file, if it is damaged.
    """
    path = directory / CHECKPOINT
    if not path.is_file():
        return None
    try:
        if unpacked_size(path) > path.stat().st_size:  # it is written without compression
            raise ValueError("it unpacks to more than its size")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged file, which is refused
            saved = torch.load(path, weights_only=True, map_location="cpu")
        epoch, state = (saved["epoch"], saved["state"]) if isinstance(saved, dict) else (None, None)
        if type(epoch) is not int or epoch < 0 or not isinstance(state, dict):
            raise ValueError("it does not hold an epoch and a state")
        if any(tensor.numel() * tensor.element_size() > path.stat().st_size for tensor in _tensors(state)):
            raise ValueError("it has a tensor that is larger than the file")
    except Exception as error:
        # what torch says then is advice to run the code in the file
        reason = NOT_PLAIN if isinstance(error, UnpicklingError) else f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{path} is not a checkpoint of this package ({reason}); delete it to start again") from None
    return epoch, state


def _tensors(state: object) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for inner in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(inner)


def restore_checkpoint(task, epochs: int, directory: Path) -> int | None:
    """Give ``task`` the state of the checkpoint; returns the epoch to go on with, or None if there is no checkpoint.

    Raises:
        UserError: naming the file, if it is damaged, or of another task, network or length.
    """
    saved = load_checkpoint(directory)
    if saved is None:
        return None
    epoch, state = saved
    try:
        if epoch > epochs:
            raise ValueError(f"it is of epoch {epoch}, and the run has {epochs}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what does not belong into a state, which is refused
            expected = task.state()
            for key in getattr(task, "added_to_state", frozenset()) - state.keys():
                del expected[key]
            require_layout(state, expected)
            task.restore(state)
    except Exception as error:  # from here on it is a file from anywhere that is read
        reason = f"{directory / CHECKPOINT} is not a checkpoint of this run ({first_line(error)})"
        raise UserError(f"{reason}; delete it to start again") from None
    return epoch


def require_layout(found: object, expected: object, name: str = "state") -> None:
    """Check that ``found`` is made like ``expected``: keys, shapes and types of tensors, kinds of values.

    What is empty or None in ``expected`` may be filled: a task has to look into it itself.

    Raises:
        ValueError: naming the first part that is not.
    """
    if isinstance(expected, torch.Tensor):
        kind = (expected.dtype, expected.layout)
        if not isinstance(found, torch.Tensor) or (found.dtype, found.layout) != kind:
            raise ValueError(f"{name} must be a tensor of {expected.dtype}")
        if expected.numel() and found.shape != expected.shape:
            raise ValueError(f"{name} must have the shape {list(expected.shape)}, not {list(found.shape)}")
    elif isinstance(expected, Mapping):
        if not isinstance(found, Mapping) or (expected and found.keys() != expected.keys()):
            raise ValueError(f"{name} must have the keys {', '.join(map(str, expected)) or 'of a dictionary'}")
        for key, value in expected.items():
            require_layout(found[key], value, f"{name}.{key}")
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(found, Sequence) or isinstance(found, str) or (expected and len(found) != len(expected)):
            raise ValueError(f"{name} must be a list of {len(expected)}")
        for i, value in enumerate(expected):
            require_layout(found[i], value, f"{name}[{i}]")
    elif expected is not None:
        kinds = (int, float) if isinstance(expected, float) else (type(expected),)
        if not isinstance(found, kinds) or isinstance(found, bool) != isinstance(expected, bool):
            raise ValueError(f"{name} must be a {type(expected).__name__}")
