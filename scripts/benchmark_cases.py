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


def layer_data(samples: int, steps: int, neurons: int, device: str = "cpu") -> tuple:
    """Input current, which wants a gradient, and a gradient for the spikes."""
    import torch

    shape = (samples, steps, neurons)
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
    learnt: bool | None = None,
    adaptation: float = 0.0,
) -> Callable:
    """One feed-forward layer, forward and backward pass for the input current.

    ``learnt``: each neuron has time constants of its own, with gradients or without; None: all have the same.
    ``adaptation``: of the thresholds.
    """
    import torch

    from sgtheory.lif import Noise, lif
    from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike

    inputs, gradient = layer_data(samples, steps, neurons, device)
    times = 20e-3, 10e-3
    if learnt is not None:
        times = (torch.full((neurons,), time, device=device, requires_grad=learnt) for time in times)
    layer = {
        "parameters": LIFParameters(*times, 2e-3, adaptation=adaptation),
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


def peer_layer(
    package: str,
    recurrent: bool = False,
    learn: bool = True,
    device: str = "cpu",
    samples: int = 32,
    steps: int = 200,
    neurons: int = 256,
) -> Callable:
    """A dense layer, recurrent or not, on spikes: the forward pass, and with ``learn`` the gradient of all weights.

    It is the nearest that each package has: deterministic, reset to zero, a synapse that decays exponentially, a
    surrogate with the shape of SuperSpike where there is one. Inputs have the order of axes that the package wants.
    """
    import torch

    torch.manual_seed(0)
    make = {"sgtheory": _our_layer, "snntorch": _snntorch, "norse": _norse, "spikingjelly": _spikingjelly}[package]
    model, forward = make(neurons, recurrent)
    model.to(device)
    shape = (samples, steps) if package == "sgtheory" else (steps, samples)
    inputs = (torch.rand(*shape, neurons) < 0.02).float().to(device)

    def work():
        with torch.set_grad_enabled(learn):
            spikes = forward(inputs)
        if learn:
            model.zero_grad()
            spikes.mean().backward()

    return work


DECAYS = math.exp(-2 / 10), math.exp(-2 / 20)  # of synapse and membrane: 10 and 20 ms in steps of 2 ms


def _input_weights(neurons, gain=1.0):
    """With which neurons fire at about 20 Hz; ``gain`` is that of the membrane in units of 1 - its decay."""
    import torch

    return torch.randn(neurons, neurons) * 12 / neurons**0.5 / gain


def _linear(neurons, gain=1.0):
    import torch

    layer = torch.nn.Linear(neurons, neurons, bias=False)
    layer.weight.data = _input_weights(neurons, gain)
    return layer


def _our_layer(neurons, recurrent):
    from sgtheory.lif import LIF
    from sgtheory.neurons import LIFParameters, SuperSpike

    parameters = LIFParameters(20e-3, 10e-3, 2e-3)
    layer = LIF(neurons, neurons, parameters, SuperSpike(10.0), recurrent=1 if recurrent else None)
    layer.weight.data = _input_weights(neurons)
    return layer, layer


def _snntorch(neurons, recurrent):
    import torch
    from snntorch import RSynaptic, Synaptic, surrogate

    settings = {"spike_grad": surrogate.fast_sigmoid(10), "reset_mechanism": "zero"}
    cell = RSynaptic(*DECAYS, linear_features=neurons, **settings) if recurrent else Synaptic(*DECAYS, **settings)
    model = torch.nn.ModuleList([_linear(neurons, 1 / (1 - DECAYS[1])), cell])

    def forward(inputs):
        state = cell.reset_mem()
        spikes = []
        for x in model[0](inputs).unbind():
            fired, *state = cell(x, *state)
            spikes.append(fired)
            state = [fired, *state] if recurrent else state
        return torch.stack(spikes)

    return model, forward


def _norse(neurons, recurrent):
    import torch
    from norse.torch import LIF, LIFParameters, LIFRecurrent

    rates = {"tau_syn_inv": torch.tensor(1 / 10e-3), "tau_mem_inv": torch.tensor(1 / 20e-3)}
    parameters = LIFParameters(**rates, method="super", alpha=torch.tensor(10.0))
    if recurrent:
        weights = {"input_weights": _input_weights(neurons), "autapses": True}
        model = LIFRecurrent(neurons, neurons, parameters, dt=2e-3, **weights)
        return model, lambda inputs: model(inputs)[0]
    model = torch.nn.ModuleList([_linear(neurons), LIF(parameters, dt=2e-3)])
    return model, lambda inputs: model[1](model[0](inputs))[0]


def _spikingjelly(neurons, recurrent):
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate
    from spikingjelly.activation_based.layer import LinearRecurrentContainer, SynapseFilter

    mode = "s" if recurrent else "m"
    synapse, membrane = (1 / (1 - decay) for decay in DECAYS)
    cell = torch.nn.Sequential(
        SynapseFilter(synapse, step_mode=mode),
        neuron.LIFNode(membrane, surrogate_function=surrogate.SoftSign(), step_mode=mode),
    )
    if recurrent:
        cell = LinearRecurrentContainer(cell, neurons, neurons, bias=False, step_mode="m")
    model = torch.nn.Sequential(_linear(neurons), cell)

    def forward(inputs):
        functional.reset_net(model)
        return model(inputs)

    return model, forward


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


PEERS = ("sgtheory", "snntorch", "norse", "spikingjelly")
PEER_LAYERS = {
    "feed-forward": {},
    "feed-forward, forward pass alone": {"learn": False},
    "feed-forward, 4 x steps, samples / 4": {"samples": 8, "steps": 800},
    "recurrent": {"recurrent": True},
}
CASES = {
    "load": load_cases(),
    "lif": {f"{mode}, naive": Case(lif_layer, {"mode": mode, "backend": "reference"}) for mode in MODES}
    | {mode: Case(lif_layer, {"mode": mode}, naive=f"{mode}, naive") for mode in MODES}
    | halves(lif_layer, {"samples": 400, "steps": 350, "neurons": 1088})
    | {
        f"deterministic, {name}": Case(lif_layer, settings, naive="deterministic, naive")
        for name, settings in (
            ("time constants of each neuron", {"learnt": False}),
            ("learnt time constants", {"learnt": True}),
            ("adaptation", {"adaptation": 0.5}),
        )
    }
    | first_calls("lif_layer"),
    "peers": {
        f"{name}, {package}": Case(
            peer_layer,
            {"package": package, **settings},
            naive=f"{name}, sgtheory" if package != "sgtheory" else None,
            package=package,
        )
        for name, settings in PEER_LAYERS.items()
        for package in PEERS
    },
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
