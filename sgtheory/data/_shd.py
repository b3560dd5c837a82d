"""Labelled spike trains, and the HDF5 format of the Spiking Heidelberg Digits (SHD).

SHD: B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke, "The Heidelberg Spiking Data Sets for the Systematic
Evaluation of Spiking Neural Networks", IEEE TNNLS 33(7), 2022; CC BY 4.0. A file holds ``spikes/times`` (for each
sample an array of float16, in seconds), ``spikes/units`` (uint16), ``labels``, and in ``extra`` the ``speaker`` of each
sample and the names of the classes, ``keys``.
"""

import functools
import gzip
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import h5py
import numba
import numpy as np

from sgtheory.errors import ParameterError, UserError, require_positive
from sgtheory.files import atomic_path

SHD_CHANNELS = 700
SHD_KEYS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
)
SHD_MD5 = {
    "shd_train.h5": "8e9877c85f29a28dd353ea6a54402667",
    "shd_train.h5.gz": "d47c9825dee33347913e8ce0f2be08b0",
    "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
    "shd_test.h5": "207ad1295a0ab611e22d1734989c254e",
    "shd_test.h5.gz": "3062a80ec0c5719404d5b02e166543b1",
    "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
}
SAMPLES_AT_ONCE = 1024  # read together; bounds the memory that the reader needs beside its result


@dataclass(frozen=True, eq=False)
class SpikeDataset:
    """Labelled spike trains, stored as events and not changeable.

    Args:
        times: of all events, sample after sample, seconds, float32 [events].
        units: channel of each event, uint16 [events].
        offsets: the events of sample i are ``offsets[i]`` to ``offsets[i + 1]``, int64 [samples + 1].
        labels: class of each sample, int64 [samples].
        speakers: who spoke, int64 [samples]; -1 where it is not known.
        keys: name of each class.
        name: of the data set, as it is to appear in figures.
        channels: number of channels.
    """

    times: np.ndarray
    units: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    keys: tuple[str, ...]
    name: str
    channels: int = SHD_CHANNELS

    def __post_init__(self):
        for field in ("times", "units", "offsets", "labels", "speakers"):
            getattr(self, field).setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and units of sample ``i``."""
        events = slice(self.offsets[i], self.offsets[i + 1])
        return self.times[events], self.units[events]

    @classmethod
    def from_samples(cls, times: list, units: list, labels, keys, name, speakers=None, channels=SHD_CHANNELS):
        """From one array of times and one of units for each sample."""
        empty = [np.empty(0)]
        return cls(
            np.concatenate([*times, *empty], dtype=np.float32, casting="same_kind"),
            np.concatenate([*units, np.empty(0, np.uint16)]).astype(np.uint16),
            np.concatenate(([0], np.cumsum([len(t) for t in times], dtype=np.int64))),
            np.asarray(labels, np.int64),
            np.full(len(times), -1) if speakers is None else np.asarray(speakers, np.int64),
            tuple(keys),
            name,
            channels,
        )

    def bin(self, indices, steps: int, dt: float, duration: float | None = None) -> np.ndarray:
        """Spikes of some samples on a grid of time steps: 1 if the channel has any event in [n dt, (n + 1) dt).

        Args:
            indices: of the samples [batch].
            steps: number of time steps; later events are left out. 0.7 s in steps of 2 ms are 350 steps
                (``int(0.7 / 0.002)`` is 349).
            dt: time step (s).
            duration: events from this time (s) on are left out as well.

        Returns:
            uint8 [batch, steps, channels].
        """
        require_positive(steps=steps, dt=dt)
        if duration is not None:
            require_positive(duration=duration)
        indices = np.atleast_1d(np.asarray(indices, np.int64))
        if len(indices) and not (0 <= indices.min() and indices.max() < len(self)):
            raise IndexError(f"sample {indices.min()} to {indices.max()} of {len(self)}")
        binned = np.zeros((len(indices), steps, self.channels), np.uint8)
        limit = np.inf if duration is None else duration
        _bin(self.times, self.units, self.offsets, indices, float(dt), float(limit), binned)
        return binned

    def split(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of a random subset to train on and of the rest, to validate on, both ascending.

        Args:
            fraction: of the samples that is put aside for validation, rounded up.
            seed: of the random choice.

        >>> data = SpikeDataset.from_samples([np.empty(0)] * 8, [np.empty(0)] * 8, [0] * 8, ["a"], "empty")
        >>> [len(part) for part in data.split(0.1, seed=1)]
        [7, 1]
        """
        if not 0 <= fraction < 1:
            raise ParameterError("fraction", fraction, "must be at least 0 and below 1")
        order = np.random.default_rng(seed).permutation(len(self))
        kept = int((1 - fraction) * len(self))
        return np.sort(order[:kept]), np.sort(order[kept:])


@numba.njit(nogil=True, cache=True)
def _bin(times, units, offsets, indices, dt, limit, binned):
    for k in range(len(indices)):
        for event in range(offsets[indices[k]], offsets[indices[k] + 1]):
            t = times[event]
            step = int(t / dt)
            if t < limit and step < binned.shape[1]:
                binned[k, step, units[event]] = 1


def load_shd(path: str | os.PathLike, name: str | None = None, channels: int = SHD_CHANNELS) -> SpikeDataset:
    """Read a file in the format of SHD: ``.h5``, ``.h5.gz`` or ``.h5.zip``.

    Args:
        path: of the file; a compressed one is unpacked in memory.
        name: of the data set; by default that of :func:`dataset_name`.
        channels: units must be below this number.

    Raises:
        UserError: if the file is not there, truncated or not in the format; if times and units of a sample differ in
            number; if a time is negative or not finite, a unit or a label out of range. Names file and sample.
    """
    path = Path(path)
    try:
        with h5py.File(_hdf5(path), "r") as file:
            return _read(file, path, name or dataset_name(path, file.attrs), channels)
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except KeyError as error:
        raise UserError(f"{path} is not in the format of SHD: {error.args[0]}") from None
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read, it may be truncated: {error}") from None


def dataset_name(path: Path, attributes: Mapping = {}) -> str:
    """What the data in ``path`` are to be called.

    "SHD" only if the MD5 sum is that of the official file. Otherwise the attribute ``name`` of the file, else the first
    heading of a README.md beside it, else "SHD format, " and the name of its directory.
    """
    if path.name in SHD_MD5 and md5(path) == SHD_MD5[path.name]:
        return "SHD"
    if "name" in attributes:
        return str(attributes["name"])
    readme = path.parent / "README.md"
    if readme.is_file():
        for line in readme.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("# ") and line[2:].strip():
                return line[2:].strip()
    return f"SHD format, {path.absolute().parent.name}"


def md5(path: Path) -> str:
    """MD5 sum of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def write_shd(path: str | os.PathLike, data: SpikeDataset, provenance: Mapping[str, object] = {}) -> None:
    """Write ``data`` in the format of SHD, whole or not at all.

    Args:
        path: of an ``.h5`` file.
        data: times are stored as float16, as in SHD: 0.49 ms resolution above 0.5 s.
        provenance: stored as attributes of the file, beside the ``name`` of the data set.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"name": data.name, **provenance})
        samples = [data[i] for i in range(len(data))]
        for key, dtype, column in (("times", np.float16, 0), ("units", np.uint16, 1)):
            stored = file.create_dataset(f"spikes/{key}", (len(data),), h5py.vlen_dtype(dtype))
            for i, sample in enumerate(samples):
                stored[i] = sample[column].astype(dtype)
        file["labels"] = data.labels.astype(np.uint16)
        file["extra/speaker"] = data.speakers.astype(np.int16)
        file["extra/keys"] = np.array([key.encode() for key in data.keys])


def _hdf5(path: Path) -> Path | io.BytesIO:
    """The HDF5 file in ``path``: itself, or unpacked in memory."""
    if path.suffix == ".gz":
        with gzip.open(path) as packed:
            return io.BytesIO(packed.read())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            outside = [name for name in names if name.startswith(("/", "\\")) or ".." in PurePosixPath(name).parts]
            if outside:
                raise UserError(f"{path} is refused: it contains a path outside of its folder, {outside[0]!r}")
            members = [name for name in names if PurePosixPath(name).name == path.stem]
            if len(members) != 1:
                raise UserError(f"{path} does not contain {path.stem}")
            return io.BytesIO(archive.read(members[0]))
    return path


def _read(file: h5py.File, path: Path, name: str, channels: int) -> SpikeDataset:
    all_times, all_units = file["spikes/times"], file["spikes/units"]
    labels = file["labels"][:]
    if len(labels) == 0:
        raise UserError(f"{path} contains no samples")
    keys = tuple(key.decode() for key in file["extra/keys"][:]) if "extra/keys" in file else ()
    keys = keys or tuple(str(label) for label in range(len(SHD_KEYS)))  # their order is not known
    speakers = file["extra/speaker"][:] if "extra/speaker" in file else np.full(len(labels), -1)
    for what, column in (("units", all_units), ("labels", labels), ("extra/speaker", speakers)):
        if len(column) != len(all_times):
            raise UserError(f"{path}: {len(all_times)} samples in spikes/times, but {len(column)} in {what}")
    bad = np.flatnonzero((labels < 0) | (labels >= len(keys)))
    if len(bad):
        raise UserError(f"{path}: label {labels[bad[0]]} of sample {bad[0]} is not from 0 to {len(keys) - 1}")

    times, units, lengths = [], [], []
    for start in range(0, len(labels), SAMPLES_AT_ONCE):
        block = slice(start, start + SAMPLES_AT_ONCE)
        block_times, block_units = all_times[block], all_units[block]
        for i, (t, u) in enumerate(zip(block_times, block_units, strict=True), start):
            if len(t) != len(u):
                raise UserError(f"{path}: sample {i} has {len(t)} times, but {len(u)} units")
            lengths.append(len(t))
        t, u = np.concatenate(block_times).astype(np.float32), np.concatenate(block_units)
        for what, values, wrong, allowed in (
            ("time", t, ~((t >= 0) & np.isfinite(t)), "a finite number of at least 0"),
            ("unit", u, (u < 0) | (u >= channels), f"from 0 to {channels - 1}"),
        ):
            if wrong.any():
                event = wrong.argmax()
                sample = start + np.searchsorted(np.cumsum(lengths[start:]), event, side="right")
                raise UserError(f"{path}: {what} {values[event]} in sample {sample} is not {allowed}")
        times.append(t)
        units.append(u.astype(np.uint16))
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    arrays = np.concatenate(times), np.concatenate(units), offsets, labels.astype(np.int64), speakers.astype(np.int64)
    return SpikeDataset(*arrays, keys, name, channels)
