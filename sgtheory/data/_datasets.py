"""The labelled data sets by name."""

import dataclasses
import functools
import inspect
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgtheory.data._randman import randman
from sgtheory.data._shd import SHD_FILES, SpikeDataset, load_shd, md5
from sgtheory.data._spoken_digits import NAME as SPOKEN_DIGITS
from sgtheory.data._spoken_digits import VERSION as SPOKEN_DIGITS_VERSION
from sgtheory.data._spoken_digits import Progress, spoken_digits
from sgtheory.errors import ParameterError, UserError, require_choice
from sgtheory.files import user_path

DATASETS = ("auto", *SHD_FILES, "spoken_digits", "randman")


@dataclass(frozen=True)
class OpenedDataset:
    """A training and a test set, a sentence for the user if they are not those that were asked for, and a validation
    set if its authors have put one aside."""

    train: SpikeDataset
    test: SpikeDataset
    note: str | None = None
    validation: SpikeDataset | None = None

    @property
    def name(self) -> str:
        """Of the data set, as it is to appear in figures."""
        return self.train.name


def open_dataset(
    name: str = "auto", dir: str | os.PathLike = "data", progress: Progress | None = None, **settings
) -> OpenedDataset:
    """Load a data set, or make it.

    Args:
        name: ``"shd"``, ``"ssc"``: the files in ``dir`` or its folder of that name; ``"spoken_digits"``: made, once, in
            the folder ``spoken_digits`` of ``dir``; ``"randman"``: made, not stored; ``"auto"``: SHD if it is there,
            else spoken digits and a note that says so.
        dir: where data sets are kept.
        progress: of :func:`spoken_digits`.
        settings: of :func:`spoken_digits` or :func:`randman`; the others, and SHD if ``"auto"`` finds it, have none.

    Raises:
        UserError: if the name is unknown, the files are not there, or a file cannot be used.
    """
    _check(name, dir, settings)
    directory = user_path(dir)
    if name == "randman":
        return OpenedDataset(*randman(**settings))
    if not os.path.isdir(directory) and directory != Path("data"):
        raise UserError(f"data.dir = {directory}: there is no such folder")
    if files := _stored(name, directory, settings):
        train = load_shd(files[0])
        *validation, test = (_with_classes_of(train, load_shd(path), path) for path in files[1:])
        return OpenedDataset(train, test, None, *validation)
    instead = f"using {SPOKEN_DIGITS} instead; `python scripts/fetch_data.py shd` downloads SHD (155 MB)"
    note = f"{_missing('shd', directory)}: {instead}" if name == "auto" else None
    made = spoken_digits(directory / "spoken_digits", progress=progress, **settings)
    return OpenedDataset(*made, note)


def _stored(name: str, directory: Path, settings: dict) -> list[Path] | None:
    """The files of SHD or SSC that ``name`` stands for; None if it is to be made.

    Raises:
        UserError: if they are not there, unless ``name`` is ``"auto"``.
    """
    wanted = "shd" if name == "auto" else name
    files = _find(wanted, directory, settings) if wanted in SHD_FILES else None
    if name in SHD_FILES and not files:
        mend = f"`python scripts/fetch_data.py {name}` downloads it, or name its folder (data.dir)"
        raise UserError(f"{_missing(name, directory)}: {mend}")
    return files


def _missing(name: str, directory: Path) -> str:
    return f"{name.upper()} is not in {directory} or {directory / name}"


def _with_classes_of(train: SpikeDataset, test: SpikeDataset, path: Path) -> SpikeDataset:
    """The test or validation set in ``path`` with the labels that classes of these names have in the training set."""
    if test.keys == train.keys:
        return test
    numbers = {name: number for number, name in enumerate(train.keys)}
    if len(numbers) < len(train.keys):
        raise UserError(f"{path} has other classes than the training set, in which two have the same name")
    for label in np.unique(test.labels):
        if test.keys[label] not in numbers:
            known = ", ".join(train.keys)
            raise UserError(f"{path}: class {test.keys[label]!r} is not one of the training set, which has {known}")
    labels = np.array([numbers.get(name, -1) for name in test.keys])[test.labels]
    return dataclasses.replace(test, labels=labels, keys=train.keys)


def identify_dataset(name: str = "auto", dir: str | os.PathLike = "data", **settings) -> dict:
    """What :func:`open_dataset` would give for these arguments, without opening it: equal if and only if the data are.

    Raises:
        UserError: for an unknown name or setting, or if the files are not there.
    """
    _check(name, dir, settings)
    if files := _stored(name, user_path(dir), settings):
        stored = "shd" if name == "auto" else name
        parts = (stem.removeprefix(f"{stored}_") for stem in SHD_FILES[stored])
        return {"name": stored, **{part: _md5(path) for part, path in zip(parts, files, strict=True)}}
    defaults = _defaults(name)
    version = {} if name == "randman" else {"version": SPOKEN_DIGITS_VERSION}
    return {"name": "spoken_digits" if name == "auto" else name, **defaults, **version, **settings}


def _defaults(name: str) -> dict[str, int | float]:
    """The settings of a data set that is made."""
    parameters = inspect.signature(randman if name == "randman" else spoken_digits).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, int | float)}


def _check(name: str, dir: str | os.PathLike, settings: dict) -> None:
    require_choice(DATASETS, name=name)
    if not isinstance(dir, str | os.PathLike):
        raise ParameterError("dir", dir, "must be a folder")
    known = [] if name in SHD_FILES else list(_defaults(name))
    for setting, value in settings.items():
        if setting not in known:
            raise ParameterError(setting, value, f"is not a setting of {name}, which has {', '.join(known) or 'none'}")


def _md5(path: Path) -> str:
    stat = path.stat()
    return _cached_md5(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache
def _cached_md5(path: Path, size: int, modified: int) -> str:
    return md5(path)


def _find(name: str, directory: Path, settings: dict) -> list[Path] | None:
    """The files of SHD or SSC, unpacked or not, if all are there; they have no settings."""
    for folder in (directory, directory / name):
        found = [
            next(filter(os.path.isfile, (folder / f"{stem}.h5{suffix}" for suffix in ("", ".gz", ".zip"))), None)
            for stem in SHD_FILES[name]
        ]
        if all(found):
            for setting, value in settings.items():
                allowed = f"is not a setting of {name.upper()}, which data=auto takes, as it is in {folder}"
                raise ParameterError(setting, value, allowed)
            return found
    return None
