"""A valid file of every kind that is read, and its reader."""

import gzip
import importlib.util
import json
import types
import zipfile

import fetch_data
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sgtheory.data import SpikeDataset, load_shd, load_target, recordings_to_spikes, write_shd
from sgtheory.reading import read_arrays
from sgtheory.report import Drawn, make_ledger, read_figure, write_page
from sgtheory.tasks.classification import Replay
from sgtheory.tasks.spike_matching import SpikeMatching
from sgtheory.training import COLUMNS, load_checkpoint, read_config, read_records, save_checkpoint

CONFIG = {
    "seed": 3,
    "version": "0.1.0",
    "task": {"name": "spike_matching", "hidden": 20, "learning_rate": {"hidden": 1e-5, "output": None}},
    "neuron": {"mode": "deterministic", "dt": 1e-3},
    "surrogate": {"_target_": "sgtheory.neurons.SuperSpike", "beta": 10.0},
    "trainer": {"epochs": 4, "backend": "auto", "device": "cpu"},
    "data": None,
}
FINISHED = {"versions": {"python": "3.11", "torch": "2.6"}, "seconds": 1.5, "epochs": 4, "from": 0}
CLAIM = {"id": "C9.1", "statement": "a", "measured": "b", "expected": "c", "verdict": "reproduced"}
FIGURE = {
    "curve": {"mean": [1.0, 2.0, None]},
    "seeds": [1, 2],
    "epochs": 100,
    "claims": [CLAIM, CLAIM | {"id": "C9.2", "verdict": "contradicted"}],
    "provenance": {
        "arguments": ["experiment=fig6", "records=here"],
        "settings": {"points": 30, "smooth": 0.5},
        "versions": {"python": "3.11"},
        "runs": [{"name": "a-seed1", "seed": 1, **FINISHED}],
        "configs": {"deterministic": CONFIG},
    },
}


def write_spikes(path):
    rng = np.random.default_rng(1)
    times = [np.sort(rng.random(n)) for n in (5, 0, 3, 40)]
    units = [rng.integers(0, 700, len(t)) for t in times]
    plain = path.with_name("plain.h5")
    write_shd(plain, SpikeDataset.from_samples(times, units, [2, 0, 1, 1], ["a", "b", "c"], "mine", [4, 5, 6, 6]))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README", "what this is")
            archive.write(plain, path.stem)
    else:
        plain.rename(path)


def write_picture(path):
    grey = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(grey).quantize(8).convert("RGB").save(path)


def write_sound(path):
    import soundfile

    soundfile.write(path, 0.3 * np.random.default_rng(3).standard_normal((800, 2)), 8000)


def hear(path):
    """What recordings_to_spikes makes of a sound, but for the ear."""
    ear = types.SimpleNamespace(
        channels=700, spikes=lambda sound, rate, rng: (abs(sound[:3]), np.arange(len(sound[:3])))
    )
    return recordings_to_spikes(path.parents[1], files=[path.name], ear=ear)


def write_records(path):
    rows = [("r", n, metric, "output", 0.1 * n) for n in range(4) for metric in ("l2", "van_rossum")]
    rows += [("r", n, "fano", "hidden", np.nan) for n in (0, 3)]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(path, index=False)


def write_rasters(path):
    rng = np.random.default_rng(4)
    np.savez_compressed(path, after=rng.integers(0, 2, (6, 5), np.uint8), data_name=np.array("mine"), w=rng.random(3))


def write_checkpoint(path):
    state = {"w0": torch.arange(12.0).reshape(3, 4), "updates": {"l2": torch.ones(2)}, "done": {"loss": 0.5, "n": 1}}
    save_checkpoint(path.parent, 7, state)


def write_classification_replay(path):
    rng = np.random.default_rng(5)
    weights = {"w0": rng.random((6, 1, 5)), "w1": rng.random((6, 6, 3)), "w2": rng.random((3, 24))}
    np.savez(path, X=rng.integers(0, 2, (2, 5, 12), np.uint8), y=np.array([0, 2]), **weights)


def write_matching_replay(path):
    rng = np.random.default_rng(6)
    spikes = {"x": rng.integers(0, 2, (8, 3), np.uint8), "z": rng.integers(0, 2, (8, 2)).astype(float)}
    np.savez_compressed(path, **spikes, w0=rng.random((3, 4)), w1=rng.random((4, 2)).astype(np.float32))


def replay(path):
    return Replay(path, None, None, None, None)._read()


def replayed(path):
    return SpikeMatching._replayed(types.SimpleNamespace(settings=types.SimpleNamespace(replay=str(path))))


def write_json(values):
    return lambda path: path.write_text(json.dumps(values, indent=1))


def shown(path):
    """All that the ledger and the page take from the numbers of a figure."""
    figures = {"fig6": Drawn("fig6", path.parent, read_figure(path))}
    page = path.with_name("page.html")
    write_page(make_ledger(figures), figures, page)
    return page.read_text()


SOUNDS = [f"word/sound.{suffix}" for suffix in ("wav", "flac", "ogg", "aiff")]
NEEDS_SOUNDFILE = pytest.mark.skipif(not importlib.util.find_spec("soundfile"), reason="soundfile is not installed")
FILES = {
    **dict.fromkeys(("spikes.h5", "spikes.h5.gz", "spikes.h5.zip"), (write_spikes, load_shd, SpikeDataset)),
    **dict.fromkeys(
        (f"picture.{suffix}" for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm")),
        (write_picture, lambda path: load_target(path, rows=9, steps=7), np.ndarray),
    ),
    **dict.fromkeys(SOUNDS, (write_sound, hear, SpikeDataset)),
    "records.csv": (write_records, read_records, pd.DataFrame),
    "rasters.npz": (write_rasters, read_arrays, dict),
    "config.json": (write_json(CONFIG), lambda path: read_config(path.parent), dict),
    "fig6.json": (write_json(FIGURE), shown, str),
    "checkpoint.pt": (write_checkpoint, lambda path: load_checkpoint(path.parent), tuple),
    "classification.npz": (write_classification_replay, replay, tuple),
    "matching.npz": (write_matching_replay, replayed, tuple),
    "sums.txt": (
        lambda path: path.write_text(f"{'0' * 32}  shd_train.h5.gz\n{'a' * 32} *shd_test.h5.gz\n"),
        fetch_data.read_sums,
        dict,
    ),
}
NAMES = [pytest.param(name, marks=NEEDS_SOUNDFILE) if name in SOUNDS else name for name in FILES]
