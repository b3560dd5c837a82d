"""Time and memory of the parts that matter, side by side with plain PyTorch in one run.

    python scripts/benchmark.py spike_matching|lif|conv_snn [--json] [--threads N] [--device cuda]

Every case is timed in a process of its own after a warm-up; `naive` is the same work with the layers as loops over
steps in plain PyTorch (backend "reference"), and a ratio says how many times faster than that a case is.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.table import Table


def measure(function, at_least: float = 3.0, most: int = 500) -> dict:
    """Median and quartiles (s) of repeated calls after a warm-up; peak memory of the process (MB)."""
    for _ in range(3):
        function()
    times = []
    while len(times) < 5 or (sum(times) < at_least and len(times) < most):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    p25, median, p75 = np.percentile(times, (25, 50, 75))
    return {"median_s": median, "p25_s": p25, "p75_s": p75, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Largest resident memory of this process so far (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spike_matching_epoch(mode: str, backend: str) -> dict:
    """One epoch at the scale of the paper, metrics included: 200-200-200 neurons, 198 steps, 10 trials or 1."""
    import itertools

    from sgtheory.training import expand, prepare

    (config,) = expand([f"neuron={mode}", f"trainer.backend={backend}", "task.measure_every=1000000"])
    task, _ = prepare(config)
    task.epoch(0)
    epochs = itertools.count(1)
    return measure(lambda: task.epoch(next(epochs)))


def first_epoch(mode: str) -> dict:
    """From the shell to the end of the first epoch, compiled code cached."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train.py")

    def run():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, script, f"neuron={mode}", "trainer.epochs=1", f"hydra.run.dir={folder}/run"]
            subprocess.run(command, check=True, capture_output=True)

    result = measure(run, at_least=0)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return result


def lif_layer(mode: str, backend: str, device: str = "cpu", scale: tuple[int, int, int] = (400, 350, 1088)) -> dict:
    """One feed-forward layer, forward and backward pass for the input current: samples x steps x neurons."""
    import torch

    from sgtheory.lif import Noise, lif
    from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike

    generator = torch.Generator().manual_seed(0)
    inputs = (8 * (torch.rand(scale, generator=generator) < 0.02)).float().to(device).requires_grad_()
    gradient = torch.randn(scale, generator=generator).to(device)
    escape = SigmoidEscape(10.0) if mode == "escape_noise" else Step()

    def step():
        inputs.grad = None
        spikes, _ = lif(
            inputs,
            LIFParameters(20e-3, 10e-3, 2e-3),
            SuperSpike(10.0),
            escape,
            Noise(1),
            None,
            backend,
            potential=False,
        )
        spikes.backward(gradient)
        if device == "cuda":
            torch.cuda.synchronize()

    return measure(step, most=20)


def conv_snn(mode: str, backend: str, device: str = "cpu", batch: int = 400, recompute: bool = False) -> dict:
    """Forward, backward and update of the SHD network (Table 3) with 349 steps and 8000 input spikes for each sample.

    The weights are those of the deterministic initialisation in both modes.
    """
    import torch

    from sgtheory.lif import Layer, Noise, Readout, spiking_network
    from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike

    generator = torch.Generator().manual_seed(0)
    steps, channels = 349, 700
    escape = SigmoidEscape(10.0) if mode == "escape_noise" else Step()
    layers = [Layer(LIFParameters(20e-3, 10e-3, 2e-3), SuperSpike(10.0), escape, stride) for stride in (10, 3, 3)]

    def normal(std, *shape):
        return (torch.randn(shape, generator=generator) * std).to(device).requires_grad_()

    weights = [normal(1.121, 16, 1, 21), normal(0.499, 32, 16, 7), normal(0.352, 64, 32, 7)]
    recurrent = [normal(0.201, 16, 16, 5), normal(0.140, 32, 32, 5), normal(0.098, 64, 64, 5)]
    readout_weight = normal(0.056, 20, 320)
    readout = Readout(LIFParameters(0.7, 10e-3, 2e-3))
    rate = 8000 / (steps * channels)
    inputs = (torch.rand(batch, steps, channels, generator=generator) < rate).to(torch.uint8).to(device)
    labels = torch.randint(20, (batch,), generator=generator).to(device)
    optimiser = torch.optim.SGD([*weights, *recurrent, readout_weight], lr=0.0)

    def step():
        potentials, counts = spiking_network(
            inputs, layers, weights, recurrent, readout, readout_weight, Noise(1), backend, recompute
        )
        loss = torch.nn.functional.cross_entropy(potentials.amax(dim=1), labels)
        loss = loss + 0.01 * sum(torch.relu(count - 7).square().mean() for count in counts)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return measure(step, most=10)


MODES = ("deterministic", "escape_noise")
CASES = {
    "lif": {
        f"{mode}{what}": (lif_layer, (mode, backend))
        for mode in MODES
        for what, backend in ((", naive", "reference"), ("", "auto"))
    }
    | {
        f"deterministic, {name}": (lif_layer, ("deterministic", "auto", "cpu", scale))
        for name, scale in {
            "half the samples": (200, 350, 1088),
            "half the steps": (400, 175, 1088),
            "half the neurons": (400, 350, 544),
        }.items()
    },
    "conv_snn": {
        f"{mode}, batch 50{what}": (conv_snn, (mode, backend, "cpu", 50))
        for mode in MODES
        for what, backend in ((", naive", "reference"), ("", "auto"))
    }
    | {f"{mode}, batch 400": (conv_snn, (mode, "auto")) for mode in MODES}
    | {"deterministic, batch 400, recompute": (conv_snn, ("deterministic", "auto", "cpu", 400, True))},
    "spike_matching": {
        f"{mode}, {what}": (function, arguments)
        for mode in MODES
        for what, function, arguments in (
            ("epoch, naive", spike_matching_epoch, (mode, "reference")),
            ("epoch", spike_matching_epoch, (mode, "auto")),
            ("start to first epoch", first_epoch, (mode,)),
        )
    },
}
CUDA_CASES = {
    "lif": {mode: (lif_layer, (mode, "cuda", "cuda")) for mode in MODES},
    "conv_snn": {f"{mode}, batch 400": (conv_snn, (mode, "cuda", "cuda")) for mode in MODES},
}


def run_case(suite: str, case: str, threads: int | None, device: str) -> dict:
    """One case in a fresh process, so that memory and compiled code are its own."""
    command = [sys.executable, os.path.abspath(__file__), suite, "--case", case, "--device", device]
    environment = dict(os.environ)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"error: {case}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=CASES)
    parser.add_argument("--json", action="store_true", help="print a list of results instead of a table")
    parser.add_argument("--threads", type=int, help="threads of each case (default: all cores)")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    cases = (CASES if options.device == "cpu" else CUDA_CASES).get(options.suite)
    if cases is None:
        parser.error(f"{options.suite} has no cases for {options.device}")
    if options.case:
        function, arguments = cases[options.case]
        print(json.dumps(function(*arguments)))
        return
    results = []
    for case in cases:
        result = {"case": case, **run_case(options.suite, case, options.threads, options.device)}
        naive = next((r["median_s"] for r in results if r["case"] == f"{case}, naive"), None)
        result["ratio_to_naive"] = naive / result["median_s"] if naive else None
        results.append(result)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    table = Table("case", "median (ms)", "quartiles (ms)", "peak (MB)", "times faster than naive")
    for r in results:
        milliseconds = [f"{1e3 * r[key]:.2f}" for key in ("median_s", "p25_s", "p75_s")]
        ratio = f"{r['ratio_to_naive']:.0f}" if r["ratio_to_naive"] else ""
        table.add_row(r["case"], milliseconds[0], " - ".join(milliseconds[1:]), f"{r['peak_mb']:.0f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
