"""Prints a checksum of what each computation gives: python determinism_cases.py small|large [CASE ...]

Run with another number of threads (OMP_NUM_THREADS, not more than NUMBA_NUM_THREADS), or a second time, it has to print
the same.
"""

import hashlib
import importlib
import json
import os
import sys
import tempfile
from dataclasses import asdict, is_dataclass

import numba
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from small_tasks import small_task

from sgtheory.data import open_dataset
from sgtheory.lif import Layer, Noise, Readout, leaky_readout, lif, spiking_network
from sgtheory.neurons import LIFParameters, SigmoidDerivative, SigmoidEscape, SuperSpike
from sgtheory.training import CONF, figure_settings

LAST_SEED = 2**32 - 1
THEORY = ("fig1", "fig2", "fig3", "fig4", "fig5", "figS1", "figS3", "figE1", "figE2", "figE4_quick", "figE6_quick")
PARAMETERS = LIFParameters(20e-3, 10e-3, 2e-3, reset_gradient="attached")
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def checksum(value, digest=None) -> str:
    """Of all bits of arrays, tensors, numbers and texts in lists, dictionaries and dataclasses."""
    digest = digest or hashlib.sha256()
    if torch.is_tensor(value):
        value = value.detach().numpy()
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        value = sorted(value.items(), key=lambda item: str(item[0]))
    if isinstance(value, list | tuple):
        digest.update(f"{len(value)}".encode())
        for item in value:
            checksum(item, digest)
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    else:
        digest.update(repr(value).encode())
    return digest.hexdigest()[:16]


def random(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@case
def layers(large):
    """Every kind of layer: spikes, potentials, gradients. The reference only without recurrence, whose sums are then
    PyTorch's: its products and convolutions depend on threads and processor."""
    factor = 4 if large else 1
    for backend in ("reference", "cpu"):
        for dtype in (torch.float32, torch.float64):
            for shape, kernel in (((9, 20, 67 * factor), None), ((9, 20, 31 * factor), 1), ((9, 20, 7, 5 * factor), 3)):
                if backend == "reference" and kernel:
                    continue
                inputs = (2 * random(*shape, dtype=dtype)).requires_grad_()
                size = (shape[2], shape[2], *[kernel] * (len(shape) - 3)) if kernel else ()
                recurrent = (0.3 * random(*size, dtype=dtype)).requires_grad_() if kernel else None
                noise = Noise(LAST_SEED, LAST_SEED, LAST_SEED)
                spikes, potential = lif(
                    inputs, PARAMETERS, SuperSpike(10.0), SigmoidEscape(10.0), noise, recurrent, backend
                )
                spikes.backward(random(*shape, dtype=dtype))
                yield spikes, potential, inputs.grad, None if recurrent is None else recurrent.grad
    yield leaky_readout(random(5, 20, 11), PARAMETERS)


@case
def network(large):
    """A network and its gradients, stored and computed again."""
    batch, channels = (65, 16) if large else (19, 5)
    layers = [Layer(PARAMETERS, SigmoidDerivative(10.0), SigmoidEscape(10.0), stride, 1) for stride in (3, 2)]
    weights = [3 * random(channels, 1, 7), random(channels, channels, 5)]
    recurrent = [0.3 * random(channels, channels, 5), None]
    inputs = (random(batch, 60, 100) > 1.3).to(torch.uint8)
    readout = random(9, channels * 15)
    leaves = [leaf.requires_grad_() for leaf in (*weights, recurrent[0], readout)]
    for recompute in (False, True):
        potentials, counts = spiking_network(
            inputs, layers, weights, recurrent, Readout(PARAMETERS), readout, Noise(0), "cpu", recompute
        )
        loss = potentials.amax(dim=1).logsumexp(dim=1).mean() + sum(c.square().mean() for c in counts)
        yield potentials, counts, loss, torch.autograd.grad(loss, leaves)


def trained(name, epochs, *overrides):
    task = small_task(name, *overrides)
    rows = task.start() if hasattr(task, "start") else []
    for epoch in range(epochs):
        rows += task.epoch(epoch)
    more, arrays = task.finish(epochs)
    return rows, more, arrays, task.state()


@case
def classification(large):
    """Weights, optimiser and records after several updates with escape noise, data included."""
    size = ("data.units=200", "data.train=300", "task.channels=[16,32]", "task.batch_size=64") if large else ()
    for mode, seed in (("escape_noise", LAST_SEED), ("deterministic", 0)):
        yield trained("classification", 2, f"neuron={mode}", f"seed={seed}", *size)


@case
def spike_matching(large):
    """Weights and records after several updates by both rules."""
    size = ("task.hidden=200", "task.inputs=200", "task.target.rows=200", "task.target.steps=198", "task.trials=30")
    for mode, rule, loss in (
        ("escape_noise", "likelihood", "l2"),
        ("deterministic", "surrogate", "l2"),
        ("escape_noise", "surrogate", "van_rossum"),
    ):
        options = (f"neuron={mode}", f"task.output_rule={rule}", f"task.loss={loss}")
        yield trained("spike_matching", 2, *options, "seed=0", *(size if large else ("task.trials=5",)))


@case
def data(large):
    """Made data: manifolds, and with ``large`` spoken digits."""
    yield open_dataset("randman", classes=4, units=30, train=50, test=20, seed=LAST_SEED)
    if large:
        with tempfile.TemporaryDirectory() as folder:
            yield open_dataset("spoken_digits", folder, train=30, test=20, seed=0)


@case
def theory(large):
    """The numbers behind the figures that need no training; scripts/figure.py computes them with one thread, too."""
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    for name in THEORY if large else ("fig1",):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            figure = compose("config", overrides=[f"experiment={name}"]).figure
        module = importlib.import_module(f"sgtheory.figures.{figure.module}")
        yield name, module.measure(**figure_settings(figure, module.measure))


def main(size, names):
    threads, found = int(os.environ["OMP_NUM_THREADS"]), {}
    for name in names or CASES:
        torch.set_num_threads(threads)
        for i, result in enumerate(CASES[name](size == "large")):
            found[f"{name} {i}"] = checksum(result)
            assert torch.get_num_threads() in (1, threads)  # numba sets that of OpenMP when it starts its threads
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
