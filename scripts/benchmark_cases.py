"""What scripts/benchmark.py times: each function prepares one piece of work and returns it as a callable.

Nothing of the package is imported before it is needed, so that the time of a first call holds everything.
"""

import itertools
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
MODES = ("deterministic", "escape_noise")


@dataclass(frozen=True)
class Case:
    """``prepare(**arguments)`` returns the work; ``naive`` is the case that ratios refer to; ``package`` it needs.

    With ``once`` a call needs no warm-up and takes long: three are enough. ``first`` is imported before anything else,
    and with ``busy`` the machine has as many other processes to run as it has processors.
    """

    prepare: Callable
    arguments: dict = field(default_factory=dict)
    naive: str | None = None
    package: str | None = None
    once: bool = False
    first: str | None = None
    busy: bool = False


def spike_matching_epoch(mode: str, backend: str = "auto") -> Callable:
    """One epoch at the scale of the paper, metrics included: 200-200-200 neurons, 198 steps, 10 trials or 1."""
    from sgtheory.training import expand, prepare

    (config,) = expand([f"neuron={mode}", f"trainer.backend={backend}", "task.measure_every=1000000"])
    task, _ = prepare(config)
    task.epoch(0)
    epochs = itertools.count(1)
    return lambda: task.epoch(next(epochs))


def first_epoch(mode: str) -> Callable:
    """From the shell to the end of the first epoch, compiled code cached."""

    def run():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, SCRIPTS / "train.py", f"neuron={mode}", "trainer.epochs=1", "logger=none"]
            subprocess.run([*command, f"hydra.run.dir={folder}/run"], check=True, capture_output=True)

    return run


def joblib_sweep(runs: int = 4, epochs: int = 100) -> Callable:
    """A sweep of short runs, one for each core at a time, from the shell."""

    def run():
        with tempfile.TemporaryDirectory() as folder:
            seeds = ",".join(map(str, range(runs)))
            command = [
                sys.executable,
                SCRIPTS / "train.py",
                "-m",
                "neuron=escape_noise",
                f"seed={seeds}",
                "logger=none",
            ]
            options = [f"trainer.epochs={epochs}", "hydra/launcher=joblib", f"runs={folder}"]
            subprocess.run([*command, *options], check=True, capture_output=True)

    return run


def layer_data(samples: int, steps: int, neurons: int, device: str = "cpu", time_first: bool = False) -> tuple:
    """Input current, which wants a gradient, and a gradient for the spikes."""
    import torch

    shape = (steps, samples, neurons) if time_first else (samples, steps, neurons)
    generator = torch.Generator().manual_seed(0)
    inputs = (8 * (torch.rand(shape, generator=generator) < 0.02)).float().to(device).requires_grad_()
    return inputs, torch.randn(shape, generator=generator).to(device)


def lif_layer(
    mode: str = "deterministic",
    backend: str = "auto",
    device: str = "cpu",
    samples: int = 400,
    steps: int = 350,
    neurons: int = 1088,
) -> Callable:
    """One feed-forward layer, forward and backward pass for the input current."""
    from sgtheory.lif import Noise, lif
    from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike

    inputs, gradient = layer_data(samples, steps, neurons, device)
    layer = {
        "parameters": LIFParameters(20e-3, 10e-3, 2e-3),
        "surrogate": SuperSpike(10.0),
        "escape": SigmoidEscape(10.0) if mode == "escape_noise" else Step(),
        "noise": Noise(1),
        "backend": backend,
        "potential": False,
    }

    def work():
        inputs.grad = None
        lif(inputs, **layer)[0].backward(gradient)

    return work


def layer_of_another_package(
    package: str, device: str = "cpu", samples: int = 50, steps: int = 350, neurons: int = 1088
) -> Callable:
    """The nearest that another package has to :func:`lif_layer`: deterministic, reset to zero, a synapse that decays
    exponentially, a surrogate with the shape of SuperSpike where there is one; time first, which is what they want.
    """
    import torch

    inputs, gradient = layer_data(samples, steps, neurons, device, time_first=True)
    membrane_decay, synaptic_decay = math.exp(-2 / 20), math.exp(-2 / 10)
    if package == "snntorch":
        from snntorch import Synaptic, surrogate

        layer = Synaptic(synaptic_decay, membrane_decay, spike_grad=surrogate.fast_sigmoid(10), reset_mechanism="zero")
        layer = layer.to(device)

        def forward():
            current, potential = layer.reset_mem()
            spikes = []
            for x in inputs.unbind():
                fired, current, potential = layer(x, current, potential)
                spikes.append(fired)
            return torch.stack(spikes)

    elif package == "norse":
        from norse.torch import LIF, LIFParameters

        rates = {"tau_syn_inv": torch.tensor(1 / 10e-3), "tau_mem_inv": torch.tensor(1 / 20e-3)}
        layer = LIF(LIFParameters(**rates, method="super", alpha=torch.tensor(10.0)), dt=2e-3).to(device)

        def forward():
            return layer(inputs)[0]

    else:
        from spikingjelly.activation_based import functional, neuron, surrogate
        from spikingjelly.activation_based.layer import SynapseFilter

        membrane = neuron.LIFNode(1 / (1 - membrane_decay), surrogate_function=surrogate.SoftSign(), step_mode="m")
        layer = torch.nn.Sequential(SynapseFilter(1 / (1 - synaptic_decay), step_mode="m"), membrane).to(device)

        def forward():
            functional.reset_net(layer)
            return layer(inputs)

    def work():
        inputs.grad = None
        forward().backward(gradient)

    return work


def shd_network(mode: str, device: str, samples: int, steps: int, channels: int) -> tuple:
    """The SHD network (Table 3) with the input rate of 8000 spikes a sample: what ``spiking_network`` takes.

    The weights are those of the deterministic initialisation in both modes.
    """
    import torch

    from sgtheory.lif import Layer, Readout
    from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike

    generator = torch.Generator().manual_seed(0)
    escape = SigmoidEscape(10.0) if mode == "escape_noise" else Step()
    layers = [Layer(LIFParameters(20e-3, 10e-3, 2e-3), SuperSpike(10.0), escape, stride) for stride in (10, 3, 3)]

    def normal(std, *shape):
        return (torch.randn(shape, generator=generator) * std).to(device).requires_grad_()

    weights = [normal(1.121, 16, 1, 21), normal(0.499, 32, 16, 7), normal(0.352, 64, 32, 7)]
    recurrent = [normal(0.201, 16, 16, 5), normal(0.140, 32, 32, 5), normal(0.098, 64, 64, 5)]
    positions = channels
    for layer, weight in zip(layers, weights, strict=True):
        positions = layer.positions(positions, weight.shape[-1])
    readout_weight = normal(0.056, 20, 64 * positions)
    readout = Readout(LIFParameters(0.7, 10e-3, 2e-3))
    rate = 8000 / (349 * 700)
    inputs = (torch.rand(samples, steps, channels, generator=generator) < rate).to(torch.uint8).to(device)
    return inputs, layers, weights, recurrent, readout, readout_weight


def conv_snn(
    mode: str = "deterministic",
    backend: str = "auto",
    device: str = "cpu",
    samples: int = 400,
    steps: int = 349,
    channels: int = 700,
    recompute: bool = False,
) -> Callable:
    """Forward, backward and update of the SHD network."""
    import torch

    from sgtheory.lif import Noise, spiking_network

    network = shd_network(mode, device, samples, steps, channels)
    _, _, weights, recurrent, _, readout_weight = network
    labels = torch.randint(20, (samples,), generator=torch.Generator().manual_seed(1)).to(device)
    optimiser = torch.optim.SGD([*weights, *recurrent, readout_weight], lr=0.0)

    def work():
        potentials, counts = spiking_network(*network, Noise(1), backend, recompute)
        loss = torch.nn.functional.cross_entropy(potentials.amax(dim=1), labels)
        loss = loss + 0.01 * sum(torch.relu(count - 7).square().mean() for count in counts)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return work


def first_call(what: str | None, cached: bool) -> Callable:
    """A new process in which torch is imported, then the package, and a small forward and backward pass is made.

    ``cached``: whether compiled code is found on disk. ``what`` None stops after torch.
    """
    code = "import torch, benchmark_cases as b" + (f"; b.{what}(samples=8, steps=20)()" if what else "")
    kept = tempfile.TemporaryDirectory()

    def run_with(folder):
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment, cwd=SCRIPTS)

    def run():
        if cached:
            return run_with(kept.name)
        with tempfile.TemporaryDirectory() as folder:
            return run_with(folder)

    if cached:
        run()
    return run


def first_calls(what: str) -> dict[str, Case]:
    return {
        f"first call, {name}": Case(first_call, {"what": what, "cached": cached}, once=True)
        for name, cached in (("compiling", False), ("compiled code cached", True))
    } | {"import of torch alone": Case(first_call, {"what": None, "cached": True}, once=True)}


def halves(prepare: Callable, whole: dict) -> dict[str, Case]:
    """Half the samples, steps, neurons: the cost should be half."""
    return {f"deterministic, half the {name}": Case(prepare, whole | {name: n // 2}) for name, n in whole.items()}


def idle_and_busy(name: str, **case) -> dict[str, Case]:
    """The same on an idle machine, and beside as many busy processes as there are processors."""
    return {f"{name}, idle": Case(**case), f"{name}, busy": Case(**case, naive=f"{name}, idle", busy=True)}


def load_cases() -> dict[str, Case]:
    """Whatever is imported first; None: this package."""
    layer = {"prepare": lif_layer, "arguments": {"samples": 16, "steps": 100, "neurons": 200}}
    epoch = {"prepare": spike_matching_epoch, "arguments": {"mode": "escape_noise"}}
    cases = {}
    for first in (None, "torch", "numba"):
        label = f"{first or 'sgtheory'} first"
        cases |= idle_and_busy(f"layer, {label}", first=first, **layer)
        cases |= idle_and_busy(f"epoch, {label}", first=first, **epoch)
    return cases | idle_and_busy("sweep by joblib", prepare=joblib_sweep, once=True)


CASES = {
    "load": load_cases(),
    "lif": {f"{mode}, naive": Case(lif_layer, {"mode": mode, "backend": "reference"}) for mode in MODES}
    | {mode: Case(lif_layer, {"mode": mode}, naive=f"{mode}, naive") for mode in MODES}
    | halves(lif_layer, {"samples": 400, "steps": 350, "neurons": 1088})
    | {
        "50 samples, naive": Case(lif_layer, {"backend": "reference", "samples": 50}),
        "50 samples": Case(lif_layer, {"samples": 50}, naive="50 samples, naive"),
    }
    | {
        f"50 samples, {package}": Case(
            layer_of_another_package, {"package": package}, naive="50 samples, naive", package=package
        )
        for package in ("snntorch", "norse", "spikingjelly")
    }
    | first_calls("lif_layer"),
    "conv_snn": {
        f"{mode}, batch 50, naive": Case(conv_snn, {"mode": mode, "backend": "reference", "samples": 50})
        for mode in MODES
    }
    | {
        f"{mode}, batch 50": Case(conv_snn, {"mode": mode, "samples": 50}, naive=f"{mode}, batch 50, naive")
        for mode in MODES
    }
    | {f"{mode}, batch 400": Case(conv_snn, {"mode": mode}) for mode in MODES}
    | {
        "deterministic, batch 400, recompute": Case(conv_snn, {"recompute": True}),
        "deterministic, batch 64": Case(conv_snn, {"samples": 64}),
        "deterministic, batch 64, half the samples": Case(conv_snn, {"samples": 32}),
        "deterministic, batch 64, half the steps": Case(conv_snn, {"samples": 64, "steps": 175}),
        "deterministic, batch 64, half the channels": Case(conv_snn, {"samples": 64, "channels": 350}),
    }
    | first_calls("conv_snn"),
    "spike_matching": {
        f"{mode}, epoch, naive": Case(spike_matching_epoch, {"mode": mode, "backend": "reference"}) for mode in MODES
    }
    | {f"{mode}, epoch": Case(spike_matching_epoch, {"mode": mode}, naive=f"{mode}, epoch, naive") for mode in MODES}
    | {f"{mode}, start to first epoch": Case(first_epoch, {"mode": mode}, once=True) for mode in MODES},
}
GPU_CASES = {
    "lif": {mode: Case(lif_layer, {"mode": mode, "backend": "cuda"}) for mode in MODES},
    "conv_snn": {f"{mode}, batch 400": Case(conv_snn, {"mode": mode, "backend": "cuda"}) for mode in MODES},
}
