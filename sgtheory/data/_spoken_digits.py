"""Spoken digits (synthetic): a stand-in for SHD that is made on the spot, without network.

The digits 0 to 9 in English and German, said by twelve synthetic speakers of espeak-ng with varying rate, pitch, size
of the vocal tract, loudness of the background and so on, and turned into spikes by the model of the inner ear. Classes,
channels and the parting of speakers are those of SHD: speakers 4 and 5 are heard in the test set only.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import scipy  # which loads its parts when they are used
from filelock import FileLock

from sgtheory.data._espeak import ESPEAK_SAMPLE_RATE, Utterance, synthesise
from sgtheory.data._hdf5 import open_hdf5
from sgtheory.data._inner_ear import InnerEar
from sgtheory.data._shd import SHD_KEYS, SpikeDataset, load_shd, write_shd
from sgtheory.errors import ParameterError, UserError, is_whole, require_count
from sgtheory.threads import map_threads

NAME = "spoken digits (synthetic)"
VERSION = 1  # of what is made from a seed; files of another version are made anew
WORDS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "de": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
}
ONLY_TEST = (4, 5)
ONLY_TEST_FRACTION = 0.81  # of the test set, as in SHD

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Speaker:
    """A voice of espeak-ng with its pitch (0 to 99), range of pitch (0 to 99) and speed (relative)."""

    variant: str
    pitch: int
    pitch_range: int
    speed: float


SPEAKERS = (
    Speaker("m3", 60, 40, 1.05),
    Speaker("f2", 40, 60, 1.00),
    Speaker("Hugo", 50, 45, 1.00),
    Speaker("Annie", 40, 45, 0.95),
    Speaker("adam", 45, 50, 0.95),
    Speaker("shelby", 50, 50, 1.05),
    Speaker("Reed", 50, 55, 1.10),
    Speaker("linda", 35, 40, 1.00),
    Speaker("Lee", 50, 45, 0.90),
    Speaker("steph", 55, 55, 1.00),
    Speaker("gustave", 40, 50, 1.00),
    Speaker("f5", 50, 40, 0.90),
)


def spoken_digits(
    directory: str | os.PathLike,
    seed: int = 0,
    train: int = 2000,
    test: int = 500,
    progress: Progress | None = None,
) -> tuple[SpikeDataset, SpikeDataset]:
    """Training and test set of spoken digits; made and stored in ``directory`` if they are not there yet.

    Args:
        directory: for the two files, in the format of SHD, with provenance in their attributes. Processes that ask for
            the same files at the same time wait for the first one.
        seed: of everything that is random.
        train, test: number of samples.
        progress: called with the number of samples that are ready and of all samples, while they are made.

    Raises:
        UserError: if espeak-ng cannot be used, or a number is out of range.
    """
    require_count(train=train, test=test)
    if not is_whole(seed) or not 0 <= seed < 2**31:
        raise ParameterError("seed", seed, "must be an integer from 0 to 2147483647")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [
        directory / f"spoken_digits_{split}_{samples}_seed{seed}.h5"
        for split, samples in (("train", train), ("test", test))
    ]
    with FileLock(directory / ".spoken_digits.lock"):
        stored = [_stored(path) for path in paths]
        missing = [split for split in (0, 1) if stored[split] is None]
        ready, total = 0, sum((train, test)[split] for split in missing)
        for split in missing:
            samples = []
            with contextlib.closing(_make(seed, split, (train, test)[split])) as making:
                for sample in making:
                    samples.append(sample)
                    if progress:
                        progress(ready := ready + 1, total)
            labels, speakers, times, units = zip(*samples, strict=True)
            data = SpikeDataset.from_samples(times, units, labels, SHD_KEYS, NAME, speakers)
            write_shd(paths[split], data, _provenance(seed, split))
            stored[split] = load_shd(paths[split])
    return tuple(stored)


def _stored(path: Path) -> SpikeDataset | None:
    """The data in a file, if it is there, whole and of this version."""
    try:
        with open_hdf5(path) as file:
            current = bool(file.attrs["version"] == VERSION)
        return load_shd(path) if current else None
    except UserError:
        return None


def _provenance(seed: int, split: int) -> dict[str, object]:
    return {
        "version": VERSION,
        "seed": seed,
        "split": ("train", "test")[split],
        "source": "speech of espeak-ng, turned into spikes by the inner-ear model of Cramer et al. 2022",
        "speakers": [f"{i}: {speaker.variant}" for i, speaker in enumerate(SPEAKERS)],
    }


def _make(seed: int, split: int, samples: int) -> Iterator[tuple]:
    """Label, speaker, times and units of each sample, in order."""
    rng = np.random.default_rng((seed, split))
    labels = rng.permutation(np.arange(samples) % len(SHD_KEYS))
    known = [i for i in range(len(SPEAKERS)) if i not in ONLY_TEST]
    speakers = np.array(known)[rng.permutation(samples) % len(known)]
    if split == 1:
        unknown = rng.permutation(samples)[: round(ONLY_TEST_FRACTION * samples)]
        speakers[unknown] = np.array(ONLY_TEST)[np.arange(len(unknown)) % len(ONLY_TEST)]
    utterances = [_utterance(label, SPEAKERS[speaker], rng) for label, speaker in zip(labels, speakers, strict=True)]
    ear = InnerEar(sample_rate=2 * ESPEAK_SAMPLE_RATE)

    def hear(i, sound):
        rng = np.random.default_rng((seed, split, i))
        return int(labels[i]), int(speakers[i]), *ear.spikes(_recording(sound, rng), ESPEAK_SAMPLE_RATE, rng)

    yield from map_threads(hear, range(samples), synthesise(utterances, seed=2 * seed + split))


def _utterance(label: int, speaker: Speaker, rng: np.random.Generator) -> Utterance:
    language = ("en", "de")[label // 10]
    return Utterance(
        text=WORDS[language][label % 10],
        voice=f"{language}+{speaker.variant}",
        rate=round(130 * speaker.speed * rng.uniform(0.84, 1.16)),
        pitch=int(np.clip(speaker.pitch + rng.normal(0, 8), 0, 99)),
        pitch_range=int(np.clip(speaker.pitch_range + rng.normal(0, 15), 0, 99)),
    )


def _recording(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sound as a microphone in a quiet room would record it, [samples] at the rate of espeak-ng."""
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    sound = sound[loud[0] : loud[-1] + 1].astype(float)
    size = Fraction(rng.uniform(0.96, 1.04)).limit_denominator(50)  # of the vocal tract: shifts pitch and formants
    sound = scipy.signal.resample_poly(sound, size.numerator, size.denominator)
    sound = _tilted(sound, rng.uniform(-3, 3))
    before, after = (rng.uniform((0.02, 0.05), (0.12, 0.2)) * ESPEAK_SAMPLE_RATE).astype(int)
    noise = _tilted(rng.standard_normal(before + len(sound) + after), -3)
    noise *= np.sqrt(np.mean(sound**2) / np.mean(noise**2)) * 10 ** (-rng.uniform(25, 45) / 20)
    noise[before : before + len(sound)] += sound
    return noise


def _tilted(sound: np.ndarray, slope: float) -> np.ndarray:
    """``sound`` with its spectrum changed by ``slope`` dB per octave, unchanged at 1 kHz, above 50 Hz."""
    spectrum = np.fft.rfft(sound)
    frequency = np.maximum(np.fft.rfftfreq(len(sound), 1 / ESPEAK_SAMPLE_RATE), 50)
    return np.fft.irfft(spectrum * (frequency / 1000) ** (slope / (20 * np.log10(2))), len(sound))
