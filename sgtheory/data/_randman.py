"""Randman: spike times on random smooth manifolds, a data set that is made in an instant.

F. Zenke and T. P. Vogels, "The Remarkable Robustness of Surrogate Gradient Learning for Instilling Complex Function in
Spiking Neural Networks", Neural Computation 33(4), 2021, Section "Synthetic data".
"""

import numpy as np

from sgtheory.data._shd import SpikeDataset
from sgtheory.errors import ParameterError, require_count, require_positive, require_word

NAME = "randman"


def randman(
    classes: int = 15,
    units: int = 20,
    duration: float = 0.1,
    dimension: int = 1,
    alpha: float = 0.5,
    spikes: int = 1,
    train: int = 12000,
    test: int = 3000,
    seed: int = 0,
    cutoff: int = 1000,
) -> tuple[SpikeDataset, SpikeDataset]:
    """Training and test set of a classification task in which only spike times carry information.

    Each class is a random smooth manifold. A sample is a point x of it, drawn uniformly from [0, 1]^D; each of its
    coordinates in the space in which the manifold lies is a spike time of one unit::

        f(x) = prod_{d=1..D} sum_{n=1..cutoff} n^(-alpha) a_dn sin(2 pi (n b_dn x_d + c_dn)),   a, b, c ~ U(0, 1)

    scaled to [0, 1] for each class and unit by the smallest and largest value among its samples, times ``duration``.

    Args:
        classes: number of manifolds.
        units: number of units.
        duration: spike times are in [0, duration) (s): the first half of the 100 steps of 2 ms that a trial takes.
        dimension: D of the manifolds.
        alpha: smoothness: the larger, the smoother.
        spikes: of each unit; each has a manifold of its own.
        train, test: number of samples; drawn together, the classes are equally frequent in the whole.
        seed: of everything.
        cutoff: number of Fourier terms.

    Raises:
        ParameterError: naming the parameter that is out of range.

    >>> train, test = randman(classes=2, units=3, train=6, test=2)
    >>> len(train), len(test), train[0][0].shape
    (6, 2, (3,))
    """
    require_positive(duration=duration, alpha=alpha)
    require_count(
        classes=classes, units=units, dimension=dimension, spikes=spikes, train=train, test=test, cutoff=cutoff
    )
    if units > 2**16:
        raise ParameterError("units", units, "must be at most 65536")
    require_word(seed=seed)
    if train + test < 2 * classes:
        raise ParameterError("train", train, f"must leave at least two samples for each of {classes} classes")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(train + test) % classes)
    times = np.empty((train + test, spikes * units))
    for label in range(classes):
        points = rng.random((np.count_nonzero(labels == label), dimension))
        times[labels == label] = np.stack([_coordinate(points, alpha, cutoff, rng) for _ in range(times.shape[1])], 1)
    times = np.minimum((duration * times).astype(np.float32), np.nextafter(np.float32(duration), np.float32(0)))

    events = np.tile(np.arange(units, dtype=np.uint16), spikes)
    keys = [f"manifold {label}" for label in range(classes)]
    return tuple(
        SpikeDataset.from_samples(times[part], [events] * len(times[part]), labels[part], keys, NAME, channels=units)
        for part in (slice(0, train), slice(train, None))
    )


def _coordinate(points: np.ndarray, alpha: float, cutoff: int, rng: np.random.Generator) -> np.ndarray:
    """A random smooth function of points [sample, dimension], scaled to [0, 1] over them: [sample]."""
    n = np.arange(1.0, cutoff + 1)
    value = np.ones(len(points))
    for x in points.T:
        a, b, c = rng.random((3, cutoff))
        turns = n * b * x[:, None] + c
        turns -= np.rint(turns)  # leaves small angles, of which single precision gives the sine quickly and precisely
        waves = np.sin(np.float32(2 * np.pi) * turns.astype(np.float32))
        waves *= (n**-alpha * a).astype(np.float32)
        value *= waves.sum(axis=1)
    return (value - value.min()) / (value.max() - value.min())
