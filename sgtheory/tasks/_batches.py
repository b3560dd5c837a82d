"""Batches of a data set on the device. A GPU is sent places of spikes, while it computes the batch before."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from sgtheory.data import SpikeDataset


@dataclass(frozen=True)
class Batch:
    """Some samples on the device.

    Args:
        samples: their indices, int64 [batch].
        inputs: their spikes, uint8 [batch, time, channel].
        labels: their classes, int64 [batch].
    """

    samples: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Loader:
    """How samples become spikes in time steps, and where.

    Args:
        steps: time steps of a sample.
        dt: time step (s).
        duration: events from this time (s) on are left out.
        device: where the batches are wanted.
    """

    steps: int
    dt: float
    duration: float
    device: torch.device

    def batches(self, data: SpikeDataset, parts: Sequence[np.ndarray]) -> Iterator[Batch]:
        """One batch for each array of indices. For a GPU, the next one is prepared by a thread meanwhile."""
        if self.device.type == "cpu":
            for indices in parts:
                binned = data.bin(indices, self.steps, self.dt, self.duration)
                yield Batch(*map(torch.from_numpy, (indices, binned, data.labels[indices])))
            return
        with ThreadPoolExecutor(1) as thread:
            ahead = None
            for indices in [*parts, None]:
                prepared, ahead = ahead, None if indices is None else thread.submit(self._prepare, data, indices)
                if prepared:
                    yield self._send(data, *prepared.result())

    def _prepare(self, data: SpikeDataset, indices: np.ndarray) -> list[torch.Tensor]:
        """Indices, places of the spikes and labels in memory from which a GPU copies by itself."""
        places = data.places(indices, self.steps, self.dt, self.duration)
        return [torch.from_numpy(array).pin_memory() for array in (indices, places, data.labels[indices])]

    def _send(self, data: SpikeDataset, *host: torch.Tensor) -> Batch:
        """A seventh of the bytes of the spikes on their grid is copied, and nobody waits."""
        samples, places, labels = (tensor.to(self.device, non_blocking=True) for tensor in host)
        shape = len(samples), self.steps, data.channels
        inputs = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        inputs.view(-1).index_fill_(0, places.long(), 1)
        return Batch(samples, inputs, labels)
