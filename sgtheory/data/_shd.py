"""Labelled spike trains, and the HDF5 format of the Spiking Heidelberg Digits (SHD) and Spiking Speech Commands (SSC).

SHD, SSC: B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke, "The Heidelberg Spiking Data Sets for the Systematic
Evaluation of Spiking Neural Networks", IEEE TNNLS 33(7), 2022; CC BY 4.0. A file holds ``spikes/times`` (for each
sample an array of float16, in seconds), ``spikes/units`` (uint16), ``labels``, and in ``extra`` the ``speaker`` of each
sample and the names of the classes, ``keys``.
"""

import functools
import hashlib
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numba
import numpy as np

from sgtheory.data._hdf5 import column, open_hdf5
from sgtheory.errors import ParameterError, UserError, is_number, require_count, require_positive, require_word
from sgtheory.files import atomic_path

SHD_CHANNELS = 700
SHD_KEYS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
)
SHD_FILES = {"shd": ("shd_train", "shd_test"), "ssc": ("ssc_train", "ssc_valid", "ssc_test")}  # the training set first
SHD_MD5 = {
    "shd_train.h5": "8e9877c85f29a28dd353ea6a54402667",
    "shd_train.h5.gz": "d47c9825dee33347913e8ce0f2be08b0",
    "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
    "shd_test.h5": "207ad1295a0ab611e22d1734989c254e",
    "shd_test.h5.gz": "3062a80ec0c5719404d5b02e166543b1",
    "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
    "ssc_train.h5.zip": "d102be95e7144fcc0553d1f45ba94170",
    "ssc_valid.h5.zip": "b4eee3516a4a90dd0c71a6ac23a8ae43",
    "ssc_test.h5.zip": "a35ff1e9cffdd02a20eb850c17c37748",
}
EVENT_ARRAYS = {"times": "f", "units": "iu", "offsets": "iu", "labels": "iu", "speakers": "iu"}  # kinds of dtypes
SAMPLES_AT_ONCE = 16  # read together; bounds the memory that a file needs which is refused
NAME_AT_MOST = 200  # characters
COLUMNS = {  # of a file: where, kinds of numpy dtypes, whether there is an array for each sample
    "times": ("spikes/times", "f", True),
    "units": ("spikes/units", "iu", True),
    "labels": ("labels", "iu"),
    "speakers": ("extra/speaker", "iu"),
    "keys": ("extra/keys", "S"),
}


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

    Raises:
        UserError: naming sample and value, if a time is negative or not finite, a unit or a label is out of range, or
            arrays do not belong together.
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
        require_count(channels=self.channels)
        if self.channels > 2**16:
            raise ParameterError("channels", self.channels, "must be at most 65536")
        for field, kinds in EVENT_ARRAYS.items():
            array = getattr(self, field)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
                given = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else array
                raise ParameterError(field, given, f"must be a vector of {'numbers' if 'f' in kinds else 'integers'}")
        self._check_sizes()
        for what, values, wrong, allowed in (
            ("time", self.times, ~((self.times >= 0) & np.isfinite(self.times)), "a finite number of at least 0"),
            ("unit", self.units, (self.units < 0) | (self.units >= self.channels), f"from 0 to {self.channels - 1}"),
        ):
            if wrong.any():
                event = wrong.argmax()
                sample = np.searchsorted(self.offsets, event, side="right") - 1
                raise UserError(f"{what} {values[event]} in sample {sample} is not {allowed}")
        wrong = (self.labels < 0) | (self.labels >= len(self.keys))
        if wrong.any():
            sample = wrong.argmax()
            raise UserError(f"label {self.labels[sample]} of sample {sample} is not from 0 to {len(self.keys) - 1}")
        for field, dtype in zip(EVENT_ARRAYS, (np.float32, np.uint16, np.int64, np.int64, np.int64), strict=True):
            array = np.ascontiguousarray(getattr(self, field), dtype).view()
            array.setflags(write=False)
            object.__setattr__(self, field, array)

    def _check_sizes(self) -> None:
        """Check that the arrays have the lengths that they need to belong together."""
        offsets, events = self.offsets, len(self.times)
        if len(self.units) != events:
            raise ParameterError("units", len(self.units), f"must be as many as times, which are {events}")
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != events or (np.diff(offsets) < 0).any():
            raise ParameterError("offsets", offsets.tolist()[:3], f"must rise from 0 to the {events} events")
        for field in ("labels", "speakers"):
            if len(getattr(self, field)) != len(offsets) - 1:
                given = len(getattr(self, field))
                raise ParameterError(field, given, f"must be one for each of {len(offsets) - 1} samples")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and units of sample ``i``; from the end if it is negative.

        Raises:
            IndexError: if there is no such sample.
        """
        i = range(len(self))[i]
        events = slice(self.offsets[i], self.offsets[i + 1])
        return self.times[events], self.units[events]

    @classmethod
    def from_samples(cls, times: list, units: list, labels, keys, name, speakers=None, channels=SHD_CHANNELS):
        """From one array of times (s) and one of units for each sample.

        Raises:
            UserError: naming sample and value, if something is out of range or does not belong together.
        """
        times, units = ([np.asarray(array) for array in column] for column in (times, units))
        if len(units) != len(times):
            raise ParameterError("units", len(units), f"must be of as many samples as times, which are {len(times)}")
        for i, (t, u) in enumerate(zip(times, units, strict=True)):
            if t.ndim != 1 or t.shape != u.shape:
                given = [list(t.shape), list(u.shape)]
                raise ParameterError(f"times and units of sample {i}", given, "must be vectors of the same length")
            if t.size and (t.dtype.kind not in "fiu" or u.dtype.kind not in "iu"):
                given = [str(t.dtype), str(u.dtype)]
                raise ParameterError(f"times and units of sample {i}", given, "must be numbers and integers")
        with np.errstate(over="ignore"):  # infinity is refused
            times = [t.astype(np.float32) for t in times]
        return cls(
            np.concatenate([*times, np.empty(0, np.float32)]),
            np.concatenate([*(u.astype(np.int64) for u in units), np.empty(0, np.int64)]),
            np.concatenate(([0], np.cumsum([len(t) for t in times], dtype=np.int64))),
            np.asarray(labels).astype(np.int64) if not len(labels) else np.asarray(labels),
            np.full(len(times), -1) if speakers is None else np.asarray(speakers),
            tuple(keys),
            name,
            channels,
        )

    @classmethod
    def from_tonic(cls, dataset, name: str):
        """From a data set of tonic whose sensor has one row, such as ``tonic.datasets.SHD``.

        Args:
            dataset: of pairs (events, label), events with fields ``t`` (microseconds) and ``x`` (channel).
            name: of the data set, as it is to appear in figures.

        Raises:
            UserError: naming what does not fit.
        """
        sensor = getattr(dataset, "sensor_size", None)
        if not isinstance(sensor, tuple) or sensor[1:] != (1, 1):
            raise ParameterError("dataset.sensor_size", sensor, "must be (channels, 1, 1)")
        samples = [dataset[i] for i in range(len(dataset))]
        labels = np.array([label for _, label in samples], np.int64)
        keys = getattr(dataset, "classes", range(labels.max(initial=0) + 1))
        return cls.from_samples(
            [1e-6 * events["t"] for events, _ in samples],
            [events["x"] for events, _ in samples],
            labels,
            [key.decode() if isinstance(key, bytes) else str(key) for key in keys],
            name,
            getattr(dataset, "speaker", None),
            sensor[0],
        )

    def bin(self, indices, steps: int, dt: float, duration: float | None = None) -> np.ndarray:
        """Spikes of some samples on a grid of time steps: 1 if the channel has any event in [n dt, (n + 1) dt).

        An event at n dt belongs to step n, also where rounding to float32 has moved its time below n dt.

        Args:
            indices: of the samples, integers [batch].
            steps: number of time steps; later events are left out. 0.7 s in steps of 2 ms are 350 steps
                (``int(0.7 / 0.002)`` is 349).
            dt: time step (s).
            duration: events from this time (s) on are left out as well.

        Returns:
            uint8 [batch, steps, channels].

        Raises:
            ParameterError: if an index is not one of a sample, or a number is out of range.
        """
        indices, limit = self._checked(indices, steps, dt, duration)
        binned = np.zeros((len(indices), steps, self.channels), np.uint8)
        _bin(self.times, self.units, self.offsets, indices, float(dt), limit, binned)
        return binned

    def places(self, indices, steps: int, dt: float, duration: float | None = None) -> np.ndarray:
        """Where :meth:`bin` has ones: indices into its flattened result, one for each event, int32 or int64 [events].

        Several events in one step and channel have the same place. Arguments and errors are those of :meth:`bin`.
        """
        indices, limit = self._checked(indices, steps, dt, duration)
        events = int((self.offsets[indices + 1] - self.offsets[indices]).sum())
        small = len(indices) * steps * self.channels < 2**31
        places = np.empty(events, np.int32 if small else np.int64)
        arguments = self.times, self.units, self.offsets, indices, float(dt), limit
        return places[: _locate(*arguments, steps, self.channels, places)]

    def _checked(self, indices, steps, dt, duration) -> tuple[np.ndarray, float]:
        """Indices of samples, int64, and the time from which on events are left out."""
        require_count(steps=steps)
        require_positive(dt=dt)
        if duration is not None:
            require_positive(duration=duration)
        indices = np.atleast_1d(np.asarray(indices))
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise ParameterError("indices", f"{indices.dtype} {list(indices.shape)}", "must be a vector of integers")
        if indices.size and not (0 <= indices.min() and indices.max() < len(self)):
            given = [int(indices.min()), int(indices.max())]
            raise ParameterError("indices", given, f"must be from 0 to {len(self) - 1}")
        return indices.astype(np.int64), float(np.inf if duration is None else duration)

    def split(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of a random subset to train on and of the rest, to validate on, both ascending.

        Args:
            fraction: of the samples that is put aside for validation, rounded up.
            seed: of the random choice.

        Raises:
            ParameterError: naming what is out of range.

        >>> data = SpikeDataset.from_samples([np.empty(0)] * 8, [np.empty(0)] * 8, [0] * 8, ["a"], "empty")
        >>> [len(part) for part in data.split(0.1, seed=1)]
        [7, 1]
        >>> [len(part) for part in data.split(0.75, seed=1)]
        [2, 6]
        """
        if not is_number(fraction) or not 0 <= fraction < 1:
            raise ParameterError("fraction", fraction, "must be at least 0 and below 1")
        require_word(seed=seed)
        order = np.random.default_rng(seed).permutation(len(self))
        kept = len(self) - math.ceil(round(fraction * len(self), 9))  # 0.1 * 30 is above 3
        return np.sort(order[:kept]), np.sort(order[kept:])


UP_TO_THE_GRID = 1 + 2.0**-23  # twice the relative error of rounding a time to float32


@numba.njit(nogil=True, cache=True)
def _step(time, dt, limit, steps):
    """The step that an event at ``time`` belongs to, or -1 if it is left out."""
    t = time * UP_TO_THE_GRID
    step = t / dt  # may exceed every integer
    return int(step) if t < limit and step < steps else -1


@numba.njit(nogil=True, cache=True)
def _bin(times, units, offsets, indices, dt, limit, binned):
    for k in range(len(indices)):
        for event in range(offsets[indices[k]], offsets[indices[k] + 1]):
            step = _step(times[event], dt, limit, binned.shape[1])
            if step >= 0:
                binned[k, step, units[event]] = 1


@numba.njit(nogil=True, cache=True)
def _locate(times, units, offsets, indices, dt, limit, steps, channels, places):
    """Fill ``places``; returns how many there are."""
    found = 0
    for k in range(len(indices)):
        for event in range(offsets[indices[k]], offsets[indices[k] + 1]):
            step = _step(times[event], dt, limit, steps)
            if step >= 0:
                places[found] = (k * steps + step) * channels + units[event]
                found += 1
    return found


def load_shd(path: str | os.PathLike, name: str | None = None, channels: int | None = None) -> SpikeDataset:
    """Read a file in the format of SHD: ``.h5``, ``.h5.gz`` or ``.h5.zip``.

    Args:
        path: of the file; a compressed one is unpacked in memory.
        name: of the data set; by default that of :func:`dataset_name`.
        channels: units must be below this number; by default the one that :func:`write_shd` has stored, or 700.

    Raises:
        UserError: if the file is not there, truncated or not in the format; if times and units of a sample differ in
            number; if a time is negative or not finite, a unit or a label out of range. Names file and sample.
    """
    path = Path(path)
    stored_name, stored_channels, columns = _read(path)
    labels, speakers = columns["labels"], columns["speakers"]
    keys = columns["keys"] or tuple(str(label) for label in range(len(SHD_KEYS)))  # their order is not known
    lengths, other = ([len(array) for array in columns[what]] for what in ("times", "units"))
    for i, (a, b) in enumerate(zip(lengths, other, strict=True)):
        if a != b:
            raise UserError(f"{path}: sample {i} has {a} times, but {b} units")
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    with np.errstate(over="ignore"):  # infinity is refused below
        times = np.concatenate(columns.pop("times")).astype(np.float32)
    units = np.concatenate(columns.pop("units"))
    try:
        return SpikeDataset(
            times,
            units,
            offsets,
            labels,
            speakers,
            keys,
            name or dataset_name(path, stored_name),
            channels or stored_channels,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def dataset_name(path: Path, stored: str | None = None) -> str:
    """What the data in ``path`` are to be called.

    "SHD" or "SSC" only if the MD5 sum is that of the official file. Otherwise the name ``stored`` in the file, else the
    first heading of a README.md beside it, else "SHD format, " and the name of its directory.
    """
    if path.name in SHD_MD5 and md5(path) == SHD_MD5[path.name]:
        return path.name[:3].upper()
    if stored:
        return stored
    readme = path.parent / "README.md"
    if readme.is_file():
        with readme.open(encoding="utf-8", errors="replace") as file:
            for line in file.read(2**16).splitlines():
                if line.startswith("# ") and line[2:].strip():
                    return line[2 : NAME_AT_MOST + 2].strip()
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
        provenance: texts, numbers and lists of these: attributes of the file, beside ``name`` and ``channels``.

    Raises:
        UserError: naming what a file cannot hold so that it can be read again.
    """
    _check_storable(Path(path), data, provenance)
    content = io.BytesIO()  # HDF5 cannot close a file when the disk is full
    with h5py.File(content, "w") as file:
        file.attrs.update({**provenance, "name": data.name, "channels": data.channels})
        samples = [data[i] for i in range(len(data))]
        for key, dtype, column in (("times", np.float16, 0), ("units", np.uint16, 1)):
            stored = file.create_dataset(f"spikes/{key}", (len(data),), h5py.vlen_dtype(dtype))
            for i, sample in enumerate(samples):
                stored[i] = sample[column].astype(dtype)
        file["labels"] = data.labels.astype(np.uint16)
        file["extra/speaker"] = data.speakers.astype(np.int16)
        file["extra/keys"] = np.array([key.encode() for key in data.keys])
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _check_storable(path: Path, data: SpikeDataset, provenance: Mapping[str, object]) -> None:
    """Check that :func:`load_shd` can read what is about to be written."""
    if path.suffix != ".h5":
        raise UserError(f"{path} must end with .h5: that is how the format is known when it is read")
    if not len(data):
        raise UserError(f"{path}: there is no sample to write")
    for what, name in (("name", data.name), *(("key", key) for key in data.keys)):
        if not isinstance(name, str) or not 0 < len(name) <= NAME_AT_MOST or not name.isprintable():
            raise ParameterError(what, name, f"must be 1 to {NAME_AT_MOST} characters that can be printed")
    for field, values, kind in (("times", data.times, np.float16), ("labels", data.labels, np.uint16)):
        if values.size and values.max() > (largest := (np.finfo if kind == np.float16 else np.iinfo)(kind).max):
            raise ParameterError(field, values.max(), f"must be at most {largest}, as it is stored as {kind.__name__}")
    if data.speakers.size and not (-(2**15) <= data.speakers.min() and data.speakers.max() < 2**15):
        raise ParameterError("speakers", data.speakers.tolist()[:3], "must fit into 16 bits")
    for key, value in provenance.items():
        values = value if isinstance(value, list | tuple) else [value]
        if not isinstance(key, str) or not all(isinstance(each, str) or is_number(each) for each in values):
            raise ParameterError(f"provenance {key!r}", value, "must be a text, a number or a list of these")


def _read(path: Path) -> tuple[str | None, int, dict[str, list | tuple | np.ndarray]]:
    """Name, number of channels and columns of a file as they are stored, all of the same length but for the keys."""
    with open_hdf5(path) as file:
        stored = {name: column(file, path, *how) for name, how in COLUMNS.items()}
        for name in ("times", "units", "labels"):
            if stored[name] is None:
                raise UserError(f"{path} is not in the format of SHD: it has no {COLUMNS[name][0]}")
        samples = len(stored["times"])
        if not samples:
            raise UserError(f"{path} contains no samples")
        for name in ("units", "labels", "speakers"):
            if stored[name] is not None and len(stored[name]) != samples:
                where = COLUMNS[name][0]
                raise UserError(f"{path}: {samples} samples in spikes/times, but {len(stored[name])} in {where}")
        columns = {name: _ragged(stored[name], path) for name in ("times", "units")}
        columns["labels"] = stored["labels"][:]
        columns["speakers"] = np.full(samples, -1) if stored["speakers"] is None else stored["speakers"][:]
        columns["keys"] = () if stored["keys"] is None else tuple(map(_class_name, stored["keys"]))
        return _stored_name(file), _stored_channels(file), columns


def _ragged(stored: h5py.Dataset, path: Path) -> list[np.ndarray]:
    """The arrays of a dataset, which together are smaller than the file unless many samples share one array."""
    arrays, left = [], stored.file.id.get_filesize()
    for start in range(0, len(stored), SAMPLES_AT_ONCE):
        block = stored[start : start + SAMPLES_AT_ONCE]
        left -= sum(array.nbytes for array in block)
        if left < 0:
            raise UserError(f"{path} is refused: {stored.name} is larger than the file")
        arrays.extend(block)
    return arrays


def _class_name(stored: bytes) -> str:
    return _printable(stored.decode())


def _stored_name(file: h5py.File) -> str | None:
    if "name" not in file.attrs.keys():  # noqa: SIM118
        return None
    attribute = file.attrs.get_id("name")
    if attribute.shape != () or not h5py.check_string_dtype(attribute.dtype):
        raise ValueError("its name is not a text")
    name = file.attrs["name"]
    return _printable(name.decode() if isinstance(name, bytes) else name)


def _stored_channels(file: h5py.File) -> int:
    if "channels" not in file.attrs.keys():  # noqa: SIM118
        return SHD_CHANNELS
    attribute = file.attrs.get_id("channels")
    if attribute.shape != () or attribute.dtype.kind not in "iu":
        raise ValueError("its number of channels is not a number")
    return int(file.attrs["channels"])


def _printable(name: str) -> str:
    """A name that can be shown in a line of text and in a figure."""
    if not 0 < len(name) <= NAME_AT_MOST or not name.isprintable():
        raise ValueError(f"{name[:20]!a} is not a name")
    return name
