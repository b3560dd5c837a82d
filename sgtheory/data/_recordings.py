"""Recordings of spoken words as spike trains in the format of SHD."""

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from sgtheory.data._inner_ear import InnerEar
from sgtheory.data._shd import SHD_KEYS, SpikeDataset
from sgtheory.data._spoken_digits import Progress
from sgtheory.errors import ParameterError, UserError, first_line, require_word
from sgtheory.files import user_path
from sgtheory.threads import map_threads

MAX_SECONDS, MAX_CHANNELS = 20, 8  # of a recording
MIN_RATE, MAX_RATE = 4000, 384_000  # Hz
SUFFIXES = (".wav", ".flac", ".ogg", ".aif", ".aiff")
HEIDELBERG_DIGITS = re.compile(r"lang-(english|german)_speaker-(\d+)_trial-\d+_digit-(\d)")


def recordings_to_spikes(
    directory: str | os.PathLike,
    name: str | None = None,
    files: Collection[str] | None = None,
    seed: int = 0,
    ear: InnerEar | None = None,
    progress: Progress | None = None,
) -> SpikeDataset:
    """Hear the recordings (wav, flac, ogg, aiff) in a folder and the folders in it.

    If all have the names of the Heidelberg Digits, such as ``lang-german_speaker-03_trial-7_digit-4.flac``, classes and
    speakers are those of SHD. Otherwise the class of a recording is the name of the folder that it is in.

    Args:
        directory: with the recordings.
        name: of the data set; by default that of the directory.
        files: the recordings to use, by name or by path from ``directory``; by default all.
        seed: of the spikes of the fibres; recording i, in the order of the paths, draws from a stream of its own.
        ear: the model; several channels of a recording are averaged.
        progress: called with the number of recordings that are ready and of all.

    Raises:
        ParameterError: for a seed or a list of files that is none.
        UserError: naming what is missing, a recording that cannot be read or one that has no class.
    """
    require_word(seed=seed)
    if isinstance(files, str):
        raise ParameterError("files", files, "must be a list of names")
    directory, ear = user_path(directory), ear or InnerEar()
    paths = _find(directory, files)
    if all(HEIDELBERG_DIGITS.match(path.name) for path in paths):
        fields = [HEIDELBERG_DIGITS.match(path.name).groups() for path in paths]
        labels = [10 * (language == "german") + int(digit) for language, _, digit in fields]
        speakers, keys = [int(speaker) for _, speaker, _ in fields], SHD_KEYS
    else:
        for path in paths:
            if path.parent == directory:
                raise UserError(f"{path} has no class: put it into a folder with the name of its class")
        keys = sorted({path.parent.name for path in paths})
        labels, speakers = [keys.index(path.parent.name) for path in paths], None

    def hear(i: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return ear.spikes(*_listen(paths[i]), np.random.default_rng((seed, i)))
        except UserError as error:
            raise UserError(f"{paths[i]} cannot be used: {error}") from None

    times, units = [], []
    with contextlib.closing(map_threads(hear, range(len(paths)))) as hearing:
        for t, u in hearing:
            times.append(t)
            units.append(u)
            if progress:
                progress(len(times), len(paths))
    name = name or directory.absolute().name
    return SpikeDataset.from_samples(times, units, labels, keys, name, speakers, ear.channels)


def _listen(path: Path) -> tuple[np.ndarray, int]:
    """Sound of a recording, the mean of its channels, and its sample rate (Hz)."""
    import soundfile  # loads a library of the system, which nothing else needs

    try:
        with soundfile.SoundFile(path) as recording:
            rate, channels, seconds = recording.samplerate, recording.channels, recording.frames / recording.samplerate
            if not (MIN_RATE <= rate <= MAX_RATE and channels <= MAX_CHANNELS and seconds <= MAX_SECONDS):
                raise UserError(
                    f"it has {channels} channels of {seconds:.3g} s at {rate} Hz, and at most {MAX_CHANNELS} channels "
                    f"of {MAX_SECONDS} s at {MIN_RATE} to {MAX_RATE} Hz are heard"
                )
            return recording.read(always_2d=True).mean(axis=1), rate
    except UserError:
        raise
    except Exception as error:  # what the library raises for a damaged file differs from format to format
        raise UserError(first_line(error)) from None


def _find(directory: Path, files: Collection[str] | None) -> list[Path]:
    if not directory.is_dir():
        raise UserError(f"{directory} is not a folder")
    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if files is not None:
        wanted = set(files)
        paths = [path for path in paths if {path.name, path.relative_to(directory).as_posix()} & wanted]
        if missing := wanted - {n for path in paths for n in (path.name, path.relative_to(directory).as_posix())}:
            raise UserError(f"{directory} does not contain {sorted(missing)[0]}, which the list names")
    if not paths:
        raise UserError(f"{directory} contains no recordings ({', '.join(SUFFIXES)})")
    return paths
