"""The steps of cuda_check.py, each in a process of its own.

    python scripts/cuda_check_steps.py STEP FILE SECONDS [--quick]

A step returns what it found in one sentence, writes numbers to FILE as it goes, and raises if something is wrong. It
begins no new part after SECONDS.
"""

import argparse
import importlib.util
import io
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lif")]  # the package need not be installed

SPIKES_THAT_MAY_DIFFER = 1e-3  # of all spikes, where sums over neurons are not exact; TF32 makes it 0.4 and more
GRADIENTS_MAY_DIFFER = 1e-4  # relative to the largest
MODES = ("deterministic", "escape_noise")
# channels, spikes and steps of SHD, but four classes of smooth functions: made in seconds, and learnt in three epochs
DATA = (
    *("data=randman", "data.units=700", "data.classes=4", "data.spikes=11", "data.duration=0.6", "data.alpha=2"),
    *("data.train=2000", "data.test=200", "+data.cutoff=10", "task.duration=0.7", "task.batch_size=100"),
    *("task.channels=[16,32,64]", "task.kernels=[21,7,7]", "task.strides=[10,3,3]", "task.recurrent_kernels=[5,5,5]"),
)
SMALL_DATA = (
    *("data=randman", "data.train=8", "data.test=2", "data.classes=2", "task.steps=3", "task.duration=0.01"),
    *("task.channels=[4,4]", "task.kernels=[5,3]", "task.strides=[2,2]", "task.paddings=[0,0]", "task.sigma_u=6"),
    *("task.recurrent_kernels=[3,3]", "task.fano_trials=2", "task.fano_window=4e-3", "task.batch_size=4"),
)


# the compiled backend needs two packages more than the kernels for GPUs; without them the loop over steps is compared
ON_CPU = "cpu" if all(map(importlib.util.find_spec, ("scipy", "threadpoolctl"))) else "reference"


class Skipped(Exception):
    """Why a step cannot be done here, which is no fault."""


class NoGPU(Exception):
    """Why there is nothing to check."""


@dataclass
class Report:
    """What is known so far, in a file that is whole at any time; and what a step has to keep to."""

    path: Path
    ends: float
    quick: bool
    numbers: dict = field(default_factory=dict)

    def note(self, **numbers: object) -> None:
        self.numbers |= numbers
        self.write()

    def write(self, **verdict: str) -> None:
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps({**verdict, "numbers": self.numbers}, default=str))
        temporary.replace(self.path)

    @property
    def has_time(self) -> bool:
        return time.monotonic() < self.ends

    def size(self, **small: int) -> dict:
        """Arguments of shd_network: those of the paper, or small ones."""
        return small if self.quick else {"samples": 400, "steps": 349, "channels": 700}


def machine(report: Report) -> str:
    """Software, GPU and driver."""
    try:
        import torch

        from sgtheory.environment import versions
        from sgtheory.lif import cuda_available
    except ImportError as error:
        raise NoGPU(f"what the core needs cannot be imported ({error})") from None
    there, why = cuda_available()
    if not there:
        raise NoGPU(why)
    properties = torch.cuda.get_device_properties(0)
    report.note(
        **versions(),
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        capability=f"{properties.major}.{properties.minor}",
        multiprocessors=properties.multi_processor_count,
        memory_gb=properties.total_memory / 1e9,
        system=platform.platform(),
    )
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem", "--format=csv,noheader"]
        report.note(driver=subprocess.run(command, capture_output=True, text=True).stdout.strip())
    return f"{properties.name}, torch {torch.__version__}, triton {report.numbers.get('triton')}"


def layers(report: Report) -> str:
    """Every layer with every option against the reference and the CPU backend; new tensors are filled with NaN."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what PyTorch wants for deterministic products
    import torch
    from cuda_cases import (
        ESCAPES,
        LAYERS,
        NOISE,
        OPTIONS,
        SURROGATES,
        assert_same,
        differing,
        fast,
        layer,
        run,
        use_precision,
    )

    from sgtheory.lif import lif

    torch.use_deterministic_algorithms(True)  # fills new tensors, and refuses what is not deterministic
    torch.utils.deterministic.fill_uninitialized_memory = True

    def computed_by(backend: str, device: str) -> Callable:
        def layer(inputs, parameters, surrogate, escape, noise, recurrent):
            parameters = replace(parameters, **{name: one.to(device) for name, one in parameters.tensors.items()})
            recurrent = recurrent if recurrent is None else recurrent.to(device)
            found = lif(inputs.to(device), parameters, surrogate, escape, noise, recurrent, backend)
            return [tensor.cpu() for tensor in found]

        return layer

    reference, cpu, cuda = computed_by("reference", "cpu"), computed_by(ON_CPU, "cpu"), computed_by("cuda", "cuda")
    names, options, steps = tuple(LAYERS), OPTIONS, 24
    if report.quick:
        names, options, steps = ("feedforward", "dense", "convolution"), OPTIONS[1:2], 6
    cases = []
    for i, (reset, reset_gradient, delay) in enumerate(options):
        parameters = fast(threshold=0.8, reset=reset, reset_gradient=reset_gradient, delay=delay)
        for j, name in enumerate(names):
            cases.append((name, parameters, SURROGATES[(i + j) % len(SURROGATES)], ESCAPES[(i + j) % len(ESCAPES)]))
    for name in names:
        cases.append((name, differing(LAYERS[name][0][1], reset_gradient="attached"), SURROGATES[0], ESCAPES[1]))
        cases.append((name, fast(threshold=0.8, adaptation=0.25, tau_adaptation=20e-3), SURROGATES[0], ESCAPES[1]))
    done, largest = 0, 0.0
    for name, *case in cases:
        if not report.has_time:
            break
        report.note(under_way=", ".join(map(str, (name, *case))))
        given = *layer(name, steps=steps), *case
        expected = run(reference, *given)
        assert_same(expected, run(cpu, *given), rounding=1e-5)
        largest = max(largest, assert_same(expected, run(cuda, *given), rounding=1e-5))
        done += 1
        report.note(cases=done, largest_gradient_error=largest)
    report.note(compared_with=f"backends reference and {ON_CPU}")
    for name in names if ON_CPU == "cpu" else ():
        inputs, recurrent = layer(name, steps=steps)
        if recurrent is None or not report.has_time:
            continue
        report.note(under_way=f"{name}: weights whose sum depends on the order of spikes")
        recurrent = torch.randn(recurrent.shape, generator=torch.Generator().manual_seed(3)) * 0.5
        arguments = fast(threshold=1.5), SURROGATES[0], ESCAPES[1], NOISE, recurrent
        for expected, found in zip(cpu(inputs, *arguments), cuda(inputs, *arguments), strict=True):
            assert torch.equal(expected, found), "a layer has other bits than on the CPU"
    report.note(under_way="products of the backward pass on tensor cores")
    use_precision("tf32x3")
    case = *layer("convolution", steps=steps), fast(reset_gradient="attached")
    report.note(gradient_error_tf32x3=assert_same(run(reference, *case), run(cuda, *case), rounding=1e-4))
    use_precision("ieee")
    inputs, recurrent = (tensor.double() for tensor in layer("dense"))
    report.note(under_way="float64")
    arguments = inputs, fast(), SURROGATES[0], ESCAPES[1], NOISE, recurrent
    assert torch.equal(computed_by("auto", "cuda")(*arguments)[0], reference(*arguments)[0]), "float64 differs"
    del report.numbers["under_way"]
    some = "" if done == len(cases) else f" of {len(cases)}, then the time was over"
    return f"{done} layers{some}: spikes and potentials bit for bit, gradients to {largest:.1g} of the largest"


def network(report: Report) -> str:
    """The SHD net against the CPU: weights of which all sums are exact, and random ones."""
    import torch
    from benchmark_cases import shd_network

    from sgtheory.lif import Noise, network_activity, spiking_network

    size, said = report.size(samples=1, steps=5, channels=280), []
    for mode, rounded in itertools.product(MODES, (True, False)):
        if not report.has_time:
            said.append("then the time was over")
            break
        kind = f"{mode}, {'weights of 10 bits' if rounded else 'random weights'}"
        results = []
        for device in ("cpu", "cuda"):
            inputs, layers, weights, recurrent, readout, readout_weight = shd_network(mode, device, **size)
            with torch.no_grad():
                for weight in (*weights, *recurrent, readout_weight) if rounded else ():
                    weight.copy_((weight * 1024).round() / 1024)
            backend = ON_CPU if device == "cpu" else "cuda"
            arguments = inputs, layers, weights, recurrent, readout, readout_weight, Noise(1), backend
            _, spikes = network_activity(*arguments)
            potentials, counts = spiking_network(*arguments)
            loss = potentials.amax(dim=1).square().mean() + sum(count.square().mean() for count in counts)
            gradients = torch.autograd.grad(loss, [*weights, *recurrent, readout_weight])
            results.append([[tensor.detach().cpu() for tensor in group] for group in (spikes, gradients)])
        (expected, expected_gradients), (found, gradients) = results
        fired = sum(int(spikes.sum()) for spikes in expected)
        differ = sum(int((a != b).sum()) for a, b in zip(expected, found, strict=True))
        apart = max(
            float((a - b).abs().max() / a.abs().max().clamp(min=1e-30))
            for a, b in zip(expected_gradients, gradients, strict=True)
        )
        report.note(**{kind: {"spikes": fired, "differ": differ, "gradients_differ": apart}})
        assert fired, "nothing spikes"
        allowed = 0 if rounded else SPIKES_THAT_MAY_DIFFER * fired
        assert differ <= allowed, f"{differ} of {fired} spikes are not those of the CPU ({kind})"
        assert differ or apart <= GRADIENTS_MAY_DIFFER, f"gradients differ by {apart:.1g} of the largest ({kind})"
        said.append(f"{differ} of {fired} spikes and gradients by {apart:.1g}")
    return f"what differs from the CPU: {'; '.join(said)}"


def determinism(report: Report) -> str:
    """Three updates twice, and with everything saved and loaded before the last one."""
    import torch
    from benchmark_cases import shd_network

    from sgtheory.lif import Noise, spiking_network

    size = report.size(samples=1, steps=3, channels=280)

    def trained(mode: str, save_before: int | None = None) -> list:
        def made():
            inputs, layers, weights, recurrent, readout, readout_weight = shd_network(mode, "cuda", **size)
            leaves = [*weights, *recurrent, readout_weight]
            return (inputs, layers, weights, recurrent, readout, readout_weight), leaves, torch.optim.Adam(leaves)

        arguments, leaves, optimiser = made()
        for update in range(3):
            if update == save_before:
                saved = io.BytesIO()
                torch.save([[leaf.detach() for leaf in leaves], optimiser.state_dict()], saved)
                arguments, leaves, optimiser = made()
                saved.seek(0)
                values, state = torch.load(saved, weights_only=True)
                with torch.no_grad():
                    for leaf, value in zip(leaves, values, strict=True):
                        leaf.copy_(value)
                optimiser.load_state_dict(state)
            potentials, counts = spiking_network(*arguments, Noise(1, draw=update))
            loss = potentials.amax(dim=1).square().mean() + sum(count.square().mean() for count in counts)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return [leaf.detach().cpu() for leaf in leaves]

    for mode in MODES:
        first = trained(mode)
        assert all(leaf.isfinite().all() for leaf in first), f"weights are not finite ({mode})"
        assert all(map(torch.equal, first, trained(mode))), f"the same updates give other weights ({mode})"
        assert all(map(torch.equal, first, trained(mode, 2))), f"saved and loaded, it goes on otherwise ({mode})"
        report.note(**{mode: "same bits"})
    return "three updates twice, and saved and loaded before the third: the same bits in both modes"


def training(report: Report) -> str:
    """Three epochs of Figure 7 in both modes: loss, time, and a run that goes on from a checkpoint."""
    if importlib.util.find_spec("hydra") is None:
        raise Skipped("hydra is not installed")
    import torch

    from sgtheory.training import expand, load_checkpoint, prepare, save_checkpoint

    def made(mode: str, device: str):
        data = SMALL_DATA if report.quick else DATA
        common = ("experiment=fig7_paper", f"neuron={mode}", "seed=1", "logger=none", "task.measure_every=3")
        (config, *_) = expand([*common, *data, f"trainer.device={device}", "trainer.epochs=3"])
        return prepare(config)[0]

    said = []
    for mode in MODES:
        task = made(mode, "cuda")
        on_device, on_cpu = task.start(), made(mode, "cpu").start()
        losses = [{row[:2]: row[2] for row in rows}["loss", "validation"] for rows in (on_device, on_cpu)]
        epochs, seconds = [], []
        for epoch in range(3):
            if epoch == 2:
                save_checkpoint(report.path.parent, epoch, task.state())
            began = time.perf_counter()
            rows = task.epoch(epoch)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
            epochs.append({f"{metric} {layer}": value for metric, layer, value in rows})
        report.note(**{mode: {"validation_loss_before": losses, "epochs": epochs, "seconds": seconds}})
        assert abs(losses[0] - losses[1]) <= 1e-2 * abs(losses[1]), f"before training the loss is {losses}, GPU and CPU"
        again = made(mode, "cuda")
        again.restore(load_checkpoint(report.path.parent)[1])
        assert task_rows(again.epoch(2)) == task_rows(rows), f"an epoch after a checkpoint is not the same ({mode})"
        trained = [epoch["loss training"] for epoch in epochs]
        assert report.quick or trained[-1] < trained[0], f"the loss does not fall: {trained} ({mode})"
        said.append(f"{mode}: loss {trained[0]:.2f} to {trained[-1]:.2f}, last epoch {seconds[-1]:.2f} s")
        if not report.quick:  # a fourth epoch, with what reads and sends the data
            found = profiled(lambda task=task: task.epoch(3))
            report.note(**{f"{mode}, fourth epoch": {name: found[name] for name in ("idle", "copies", "waits")}})
            said.append(f"in a fourth one the GPU does nothing in {found['idle']:.0%} of the time")
    return f"{'; '.join(said)}; from a checkpoint the same numbers"


def task_rows(rows: list) -> list:
    """Rows that can be compared, NaN with NaN."""
    return [[metric, layer, repr(value)] for metric, layer, value in rows]


def idle(report: Report) -> str:
    """Launches, copies, waits and every kernel of an update, and the share of time in which the GPU does nothing."""
    import torch
    from benchmark_cases import conv_snn

    said, calls = [], 1 if report.quick else 3
    for mode in MODES:
        work = conv_snn(mode, "cuda", "cuda", **report.size(samples=1, steps=3, channels=280))
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        found = profiled(lambda work=work: [work() for _ in range(calls)])
        if not found["kernels"]:
            raise Skipped("the profiler sees nothing on the GPU")
        report.note(**{mode: found})
        said.append(f"{mode}: {found['idle']:.0%} of the time, {len(found['kernels']) / calls:.0f} kernels an update")
    return f"the GPU does nothing in {'; '.join(said)}"


def profiled(work: Callable) -> dict:
    """What :func:`timeline` says of some work."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    return timeline(seen.events())


def timeline(events: list) -> dict:
    """What profiled events (with name, device_type, and time_range in microseconds) say of the device."""
    on_device = sorted(
        ((e.time_range.start, e.time_range.end, e.name) for e in events if "CUDA" in str(e.device_type)),
        key=lambda event: event[:2],
    )
    copies = [event for event in on_device if event[2].startswith(("Memcpy", "Memset"))]
    busy, until = 0.0, -1.0
    for start, end, _ in on_device:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    whole = until - on_device[0][0] if on_device else 0.0
    return {
        "idle": 1 - busy / whole if whole else 1.0,
        "milliseconds": whole / 1e3,
        "kernels": [[name, start - on_device[0][0], end - start] for start, end, name in on_device],
        "copies": len(copies),
        "waits": sum(e.name.startswith("cuda") and e.name.endswith("Synchronize") for e in events),
    }


def timing(report: Report) -> str:
    """Layers and the SHD net, beside loops over steps on the same GPU, the CPU, and other packages."""
    import benchmark
    from benchmark_cases import GPU_CASES, Case, conv_snn, lif_layer, peer_layer
    from cuda_cases import use_precision

    cases = {f"lif, {name}": case for name, case in GPU_CASES["lif"].items()}
    cases |= {f"conv_snn, {name}": case for name, case in GPU_CASES["conv_snn"].items()}
    for name, prepare in (("lif", lif_layer), ("conv_snn", conv_snn)):
        cases[f"{name}, batch 50"] = Case(prepare, {"samples": 50, "backend": "cuda"})
        cases[f"{name}, batch 50, loop over steps"] = Case(prepare, {"samples": 50, "backend": "reference"}, once=True)
    for package in ("sgtheory", "snntorch", "spikingjelly"):
        size = {"samples": 50, "steps": 350, "neurons": 1088}
        cases[f"dense layer, batch 50, {package}"] = Case(peer_layer, {"package": package, **size}, package=package)
    tensor_cores = "conv_snn, deterministic, batch 400, tf32x3"
    cases[tensor_cores] = GPU_CASES["conv_snn"]["deterministic, batch 400"]
    small = {"samples": 1, "steps": 3}
    benchmark.LEAST_SECONDS = 0 if report.quick else 1.0
    for name, case in cases.items():
        if case.package and importlib.util.find_spec(case.package) is None:
            report.note(**{name: "not installed"})
        elif not report.has_time:
            report.note(**{name: "the time was over"})
        else:
            less = small | ({"channels": 280} if case.prepare is conv_snn else {"neurons": 20}) if report.quick else {}
            case = Case(case.prepare, case.arguments | less, once=case.once or report.quick)
            use_precision("tf32x3" if name == tensor_cores else "ieee")
            report.note(**{name: benchmark.measure(case, "cuda")})
    found = {name: value["median_s"] for name, value in report.numbers.items() if isinstance(value, dict)}
    updates = {mode: f"conv_snn, {mode}, batch 400" for mode in MODES}
    said = [f"{mode} {1e3 * found[name]:.1f} ms" for mode, name in updates.items() if name in found]
    if not said:
        raise Skipped("the time was over")
    loop = "conv_snn, batch 50, loop over steps"
    if loop in found:
        said.append(f"{found[loop] / found['conv_snn, batch 50']:.0f} times faster than a loop over steps (batch 50)")
    return f"an update of the SHD net: {', '.join(said)}"


def sanitizer(report: Report) -> str:
    """compute-sanitizer over some layers: accesses to memory, races, barriers."""
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if not found:
        raise Skipped("compute-sanitizer is not there")
    said = []
    for tool in ("memcheck", "racecheck", "synccheck"):
        if not report.has_time:
            report.note(**{tool: "the time was over"})
            continue
        path = report.path.with_name(f"{tool}.json")
        left = str(report.ends - time.monotonic())
        command = [found, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "layers", str(path), left]
        # without its cache of memory, each tensor ends where PyTorch says that it does
        environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        done = subprocess.run([*command, "--quick"], capture_output=True, text=True, env=environment)
        inner = json.loads(path.read_text()) if path.is_file() else {}
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["it said nothing"]
        report.note(**{tool: last[0], f"{tool}_layers": inner.get("what")})
        assert done.returncode == 0, f"{tool}: {last[0]}"
        assert inner.get("verdict") == "passed", f"{tool}: {inner.get('what')}"
        said.append(tool)
    if not said:
        raise Skipped("the time was over")
    return f"{', '.join(said)}: no errors in {inner['numbers']['cases']} layers"


STEPS = {step.__name__: step for step in (machine, layers, network, determinism, training, idle, timing, sanitizer)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("file", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    report = Report(options.file, time.monotonic() + options.seconds, options.quick)
    try:
        verdict, what = "passed", STEPS[options.step](report)
    except NoGPU as error:
        verdict, what = "no gpu", str(error)
    except Skipped as error:
        verdict, what = "skipped", str(error)
    except Exception as error:  # whatever it is: it is what the step found
        report.numbers["traceback"] = traceback.format_exc()
        under_way = f" ({report.numbers['under_way']})" if "under_way" in report.numbers else ""
        said = (str(error).strip() or "a condition does not hold").splitlines()[0]
        verdict, what = "failed", f"{type(error).__name__}: {said}{under_way}"
    report.write(verdict=verdict, what=what)


if __name__ == "__main__":
    main()
