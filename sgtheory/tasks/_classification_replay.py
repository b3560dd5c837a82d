"""One forward and backward pass from given arrays, to compare implementations."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sgtheory.errors import ParameterError, UserError
from sgtheory.files import atomic_path
from sgtheory.lif import Noise
from sgtheory.neurons import EscapeFunction
from sgtheory.reading import read_numbers

CLASSES_AT_MOST = 2**16


@dataclass
class Replay:
    """``task.replay=FILE.npz``.

    The file has X [batch, time, input] (0 or 1), y [batch] and weights w0, w1, ... in the order of
    :meth:`sgtheory.networks.ConvSNN.weights`. FILE.out.npz receives ``out`` [batch, time, class] (readout potentials
    U[1] ...), ``loss`` and ``reg_loss``, ``counts`` [batch, neuron] (spikes of each neuron; layers in order, each
    flattened from [channel, position]) and the gradients g0, g1, ... of loss + reg_loss.

    Args:
        path: of FILE.npz.
        network: makes a network from the number of inputs and classes.
        escape, noise: how it spikes.
        objective: loss, penalty and accuracy of potentials, counts and labels.
    """

    path: Path
    network: Callable
    escape: EscapeFunction
    noise: Noise
    objective: Callable

    def run(self) -> Path:
        """Write FILE.out.npz and return its path.

        Raises:
            UserError: if the file is not there, or what is wrong with its arrays.
        """
        x, y, weights = self._read()
        try:
            net = self.network(x.shape[2], len(weights[-1]))
        except ParameterError as error:
            raise UserError(f"task.replay = {self.path} does not fit this network: task.{error}") from None
        named = net.weights()
        expected = {f"w{i}": list(w.shape) for i, (_, w) in enumerate(named)}
        given = {f"w{i}": list(w.shape) for i, w in enumerate(weights)}
        if given != expected:
            raise UserError(f"task.replay = {self.path} has weights {given}; this network has {expected}")
        if not 0 <= y.min() <= y.max() < len(weights[-1]):
            raise UserError(f"task.replay = {self.path}: y must be from 0 to {len(weights[-1]) - 1}")
        with torch.no_grad():
            for (_, w), value in zip(named, weights, strict=True):
                w.copy_(torch.from_numpy(value))
        device = net.readout_weight.device
        potentials, counts = net(torch.from_numpy(x).to(device), self.escape, self.noise)
        loss, penalty, _ = self.objective(potentials, counts, torch.from_numpy(y).to(device))
        (loss + penalty).backward()
        result = {"out": potentials, "loss": loss, "reg_loss": penalty}
        result["counts"] = torch.cat([c.flatten(1) for c in counts], dim=1)
        result |= {f"g{i}": w.grad for i, (_, w) in enumerate(named)}
        out = self.path.with_suffix(".out.npz")
        with atomic_path(out) as temporary:
            np.savez_compressed(temporary, **{name: value.detach().cpu().numpy() for name, value in result.items()})
        return out

    def _read(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        what = f"task.replay = {self.path}"
        arrays = read_numbers(self.path, "task.replay")
        if not {"X", "y"} <= arrays.keys():
            raise UserError(f"{what} must be an .npz file with X, y and w0, w1, ...; it has {', '.join(arrays)}")
        x, y = arrays["X"], arrays["y"].astype(np.float64)
        names = sorted((n for n in arrays if re.fullmatch(r"w\d{1,3}", n, re.ASCII)), key=lambda n: int(n[1:]))
        weights = [arrays[name].astype(np.float32) for name in names]
        if names != [f"w{i}" for i in range(len(names))] or len(names) < 2:
            raise UserError(f"{what} must have weights w0, w1, ... without a gap; it has {', '.join(names) or 'none'}")
        if x.ndim != 3 or not x.size or not np.isin(x, (0, 1)).all():
            raise UserError(
                f"{what}: X must hold spikes, 0 or 1, of shape [batch, time, input]; it has {list(x.shape)}"
            )
        if y.shape != x.shape[:1] or not (np.abs(y) < CLASSES_AT_MOST).all() or (y != np.floor(y)).any():
            raise UserError(f"{what}: y must hold one class for each of {len(x)} samples; it has shape {list(y.shape)}")
        if not all(w.ndim and w.size and np.isfinite(w).all() for w in weights):
            raise UserError(f"{what}: weights must be finite numbers in arrays that are not empty")
        return x.astype(np.uint8), y.astype(np.int64), weights
