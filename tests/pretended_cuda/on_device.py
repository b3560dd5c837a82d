"""What runs on a GPU machine, on the pretended device: tasks, checkpoints, replay, doctor, benchmark, limits.

test_pretended_cuda.py runs this file in a process of its own: Triton's interpreter has to be chosen before Triton is
imported, and the pretended device stays until the process ends.
"""

import json
import math
import os
import signal
import sys
import warnings
from pathlib import Path

import pretended  # before torch
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import benchmark
import cuda_check_steps
import doctor
import numpy as np

from sgtheory.command import Interrupted
from sgtheory.errors import ParameterError
from sgtheory.lif import Layer, Noise, Readout, leaky_readout, lif, network_activity, spiking_network
from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike
from sgtheory.tasks import classification
from sgtheory.training import evaluate, expand, identity, prepare, run_task

pretended.pretend()
classification.TRIALS_SHOWN = 2  # thirty, as a figure shows, take long in the interpreter

CLASSIFICATION = (
    *("task=classification", "data=randman", "data.train=6", "data.test=2", "data.classes=2", "task.batch_size=3"),
    *("task.steps=3", "task.duration=0.01", "task.channels=[4,4]", "task.kernels=[5,3]", "task.strides=[2,2]"),
    *("task.paddings=[0,1]", "task.recurrent_kernels=[3,1]", "task.fano_trials=2", "task.fano_window=4e-3"),
    *("task.measure_every=1", "task.sigma_u=6"),
)
SPIKE_MATCHING = (
    *("task=spike_matching", "task.target.rows=12", "task.target.steps=10", "task.inputs=12", "task.hidden=12"),
    *("task.trials=2", "task.measure_trials=2", "task.measure_every=1", "task.sigma_u=3", "task.fano_trials=2"),
    *("task.last_epochs=1", "task.last_trials=2"),
)
SURROGATE = (*SPIKE_MATCHING, "task.output_rule=surrogate", "task.loss=van_rossum")


DETERMINISTIC = (
    *(*CLASSIFICATION, "neuron=deterministic", "task.measure_every=9", "task.channels=[4]", "task.kernels=[5]"),
    *("task.strides=[2]", "task.paddings=[0]", "task.recurrent_kernels=[3]"),
)


def configuration(overrides, device):
    (config,) = expand([*overrides, "logger=none", "trainer.epochs=1", f"trainer.device={device}"])
    return config


def made(overrides, device):
    """The task that a configuration describes, and where it runs."""
    task, trainer = prepare(configuration(overrides, device))
    return task, trainer.device


def assert_same_rows(expected, found):
    for (metric, layer, value), (*same, other) in zip(expected, found, strict=True):
        assert [metric, layer] == same
        assert math.isclose(value, other, rel_tol=1e-5) or (math.isnan(value) and math.isnan(other)), (metric, layer)


@pytest.mark.parametrize(
    ("overrides", "mode", "device"),
    [
        (CLASSIFICATION, "escape_noise", "auto"),
        (SPIKE_MATCHING, "escape_noise", "cuda"),
        (SURROGATE, "deterministic", "cuda"),
    ],
    ids=["classification", "likelihood", "surrogate"],
)
def test_a_task_records_on_the_device_what_it_records_on_the_cpu(overrides, mode, device):
    def measured(device):
        task, chosen = made((*overrides, f"neuron={mode}"), device)
        started = task.start() if hasattr(task, "start") else []
        return [*started, *task.epoch(0), *task.finish(1)[0]], chosen

    expected, _ = measured("cpu")
    found, chosen = measured(device)
    assert chosen == "cuda"
    assert_same_rows(expected, found)
    assert any(value > 0 for metric, _, value in found if metric == "rate")


def test_an_update_copies_little_and_waits_once():
    task, _ = made((*CLASSIFICATION, "neuron=escape_noise"), "cuda")
    batches = task.loader.batches(task.data.train, task._batches(0))
    task._update(next(batches), 0)
    pretended.to_device.clear()
    pretended.to_host.clear()
    pretended.launched.clear()
    assert task._update(next(batches), 1)
    assert sum(pretended.launched.values()) <= 110  # 102 with two layers
    assert sum(pretended.to_device.values()) == 3  # samples, places of their spikes, labels
    assert sum(pretended.to_host.values()) == 1  # the loss, with all that is recorded and whether weights are finite
    pretended.launched.clear()
    task.optimiser.step()
    assert sum(pretended.launched.values()) == 18  # however many weights there are
    with torch.no_grad():
        task.network.readout_weight[0, 0] = math.nan
    assert not task._is_finite()


def test_a_batch_is_the_same_on_the_device():
    """Several events in one step and channel, and events that are left out, are among them."""
    (cpu, _), (cuda, _) = (made((*CLASSIFICATION, "task.duration=0.03", "task.steps=3"), d) for d in ("cpu", "cuda"))
    parts = [np.array([3, 0]), np.array([], int), np.array([5])]
    expected, found = (list(task.loader.batches(task.data.train, parts)) for task in (cpu, cuda))
    assert len(expected) == len(found) == 3
    assert expected[0].inputs.any()
    for on_cpu, on_device in zip(expected, found, strict=True):
        for name in ("samples", "inputs", "labels"):
            assert getattr(on_device, name).device.type == "cuda"
            assert torch.equal(getattr(on_cpu, name), getattr(on_device, name).cpu())


def run(directory, device="cuda", stop_at=None):
    """A run with its files; ends after ``stop_at`` updates as if it had been asked to."""
    task, _ = made(DETERMINISTIC, device)
    updates, update = [], task._update

    def counted(batch, draw):
        finite = update(batch, draw)
        updates.append(draw)
        if len(updates) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return finite

    task._update = counted
    run_task(task, 1, directory, identity(configuration(DETERMINISTIC, device)), 1e9)
    return directory


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run on the device."""
    return run(tmp_path_factory.mktemp("trained") / "run")


def test_a_run_that_is_stopped_within_an_epoch_goes_on_to_the_same_bits(trained, tmp_path):
    stopped = tmp_path / "run"
    with pytest.raises(Interrupted):
        run(stopped, stop_at=1)
    run(stopped)
    for name in ("records.csv", "weights.npz"):
        assert (stopped / name).read_bytes() == (trained / name).read_bytes()
    saved = torch.load(trained / "checkpoint.pt", weights_only=True, map_location="cpu")
    assert saved["epoch"] == 1


def test_trained_weights_are_tested_again_where_there_is_no_gpu_and_those_of_a_cpu_where_there_is_one(
    trained, tmp_path, monkeypatch
):
    on_device, _ = evaluate(trained, {})
    assert (on_device.value == on_device.recorded).all()
    on_cpu, _ = evaluate(run(tmp_path / "run", "cpu"), {})
    assert (on_cpu.value == on_cpu.recorded).all()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    elsewhere, _ = evaluate(trained, {})
    np.testing.assert_allclose(elsewhere.value, elsewhere.recorded, rtol=1e-5)


def test_replay(tmp_path):
    """Forward and backward pass from given arrays: the same readout, counts and gradients as on the CPU."""
    task, _ = made((*CLASSIFICATION, "neuron=deterministic"), "cpu")
    batch = task._batch(task.data.test, np.arange(2))
    weights = {f"w{i}": w.detach().numpy() for i, (_, w) in enumerate(task.network.weights())}
    np.savez(tmp_path / "given.npz", X=batch.inputs, y=batch.labels, **weights)
    results = []
    for device in ("cpu", "cuda"):
        overrides = (*CLASSIFICATION, "neuron=deterministic", f"task.replay={tmp_path}/given.npz")
        task, _ = made(overrides, device)
        with np.load(task.replay.run()) as arrays:
            results.append(dict(arrays))
    expected, found = results
    assert np.array_equal(expected["counts"], found["counts"])
    assert expected["counts"].any()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * max(np.abs(array).max(), 1e-6))


def test_doctor_finds_the_backend(tmp_path, capsys):
    findings = {finding.what: finding for finding in doctor.backends()}
    assert findings["backend cuda"].found == "works, same spikes"
    assert not any(finding.fatal for finding in findings.values())


def test_benchmark(monkeypatch):
    monkeypatch.setattr(benchmark, "LEAST_SECONDS", 0)
    case = benchmark.GPU_CASES["lif"]["escape_noise"]
    smaller = {"samples": 2, "steps": 3, "neurons": 20}
    result = benchmark.measure(benchmark.Case(case.prepare, case.arguments | smaller), "cuda")
    assert result["median_s"] > 0


def report(tmp_path):
    return cuda_check_steps.Report(tmp_path / "step.json", math.inf, quick=True)


@pytest.mark.parametrize("step", ["machine", "layers", "network"])
def test_check(step, tmp_path):
    """A step of scripts/cuda_check.py finds nothing wrong; test_pretended_cuda.py runs all of them."""
    try:
        said = cuda_check_steps.STEPS[step](report(tmp_path))
    finally:
        torch.use_deterministic_algorithms(False)
    assert json.loads((tmp_path / "step.json").read_text())["numbers"]
    print(said)


NEURON = LIFParameters(tau_mem=3e-3, tau_syn=2e-3)
ARGUMENTS = NEURON, SuperSpike(10.0), SigmoidEscape(3.0), Noise(1)


def test_auto_takes_the_reference_for_a_layer_beyond_the_kernels_and_says_so():
    inputs, recurrent = torch.full((1, 3, 1025), 3.0), torch.zeros(1025, 1025)
    expected, _ = lif(inputs, *ARGUMENTS, recurrent, backend="reference")
    with pytest.warns(UserWarning, match=r"1024 channels.*'auto' takes 'reference'"):
        found, _ = lif(inputs.cuda(), *ARGUMENTS, recurrent.cuda())
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), expected)
    with pytest.raises(ParameterError, match="1024 channels"):
        lif(inputs.cuda(), *ARGUMENTS, recurrent.cuda(), backend="cuda")


def network(dtype, channels=4):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return (torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    layers = [Layer(NEURON, SuperSpike(10.0), Step(), 2, 1), Layer(NEURON, SuperSpike(10.0), Step())]
    weights = [2 * random(channels, 1, 3), random(4, channels, 3)]
    recurrent = [random(channels, channels, 3) / channels, None]
    inputs = (torch.rand(2, 8, 12, generator=generator) < 0.5).to(torch.uint8)
    return inputs, layers, weights, recurrent, Readout(NEURON), random(3, 4 * 4)


def moved(value, device):
    if isinstance(value, list):
        return [moved(one, device) for one in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def test_a_network_of_float64_is_computed_by_the_reference_without_a_word():
    arguments = network(torch.float64)
    expected, _ = spiking_network(*arguments, backend="reference")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, counts = spiking_network(*moved(list(arguments), "cuda"))
        readout = leaky_readout(torch.ones(1, 3, 2, dtype=torch.float64, device="cuda"), NEURON)
    assert found.dtype == readout.dtype == torch.float64
    assert sum(int(count.sum()) for count in counts) > 0
    torch.testing.assert_close(found.cpu(), expected)
    with pytest.raises(ParameterError, match="must be float32"):
        spiking_network(*moved(list(arguments), "cuda"), backend="cuda")


def test_a_network_with_a_layer_beyond_the_kernels_is_computed_by_the_reference():
    arguments = network(torch.float32, channels=1025)
    with pytest.warns(UserWarning, match=r"1024 channels.*'auto' takes 'reference'"):
        _, spikes = network_activity(*moved(list(arguments), "cuda"))
    _, expected = network_activity(*arguments, backend="reference")
    for found, same in zip(spikes, expected, strict=True):
        assert torch.equal(found.cpu(), same)
