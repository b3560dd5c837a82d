"""Activity and weights of a finished run for a dashboard, read from the files of the run."""

from pathlib import Path

import numpy as np
import torch

from sgtheory.reading import read_arrays
from sgtheory.training._checkpoint import load_checkpoint
from sgtheory.training._records import RASTERS

WEIGHTS = "weights.npz"
WIDTH = 400  # pixels: short rasters are enlarged by whole numbers to about this


def spike_rasters(directory: Path) -> dict[str, np.ndarray]:
    """Spikes [time, row] of rasters.npz by name; a row is a neuron, or a trial of the same neuron.

    Of several samples the first one is taken. ``trials`` [trial, time, layer] becomes one raster for each layer.
    """
    arrays = read_arrays(directory / RASTERS)
    rasters = {}
    for name, spikes in arrays.items():
        if spikes.dtype != np.uint8 or spikes.ndim not in (2, 3):
            continue
        if name == "trials":
            layers = arrays["trials_layers"]
            rasters |= {f"hidden{n}_trials": spikes[:, :, i].T for i, n in enumerate(layers)}
        else:
            rasters[name] = spikes if spikes.ndim == 2 else spikes[0]
    return rasters


def picture(raster: np.ndarray) -> np.ndarray:
    """A raster [time, row] as pixels, uint8: black spikes on white, time to the right."""
    scale = max(1, round(WIDTH / max(raster.shape)))
    return np.kron(255 * (1 - raster.T), np.ones((scale, scale), np.uint8))


def firing_rates(rasters: dict[str, np.ndarray], dt: float) -> dict[str, np.ndarray]:
    """Rate (Hz) of every neuron in each raster of neurons; ``dt`` in seconds."""
    return {name: raster.mean(axis=0) / dt for name, raster in rasters.items() if not name.endswith("_trials")}


def final_weights(directory: Path) -> dict[str, np.ndarray]:
    """Weights by name: those that the task has saved, or those in the state of the last checkpoint, if there is one."""
    if (path := directory / WEIGHTS).is_file():
        weights = read_arrays(path)
    else:
        _, state = load_checkpoint(directory) or (0, {})
        weights = {k: v.numpy() for k, v in state.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
    return {name: values for name, values in weights.items() if values.size}
