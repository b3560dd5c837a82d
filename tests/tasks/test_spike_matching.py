"""Spike matching: the learning rules as written, replayed arrays, and what the task measures."""

import types

import numpy as np
import pytest
import torch

from sgtheory.errors import UserError
from sgtheory.lif import Noise
from sgtheory.metrics import PSPKernel
from sgtheory.neurons import (
    LIFParameters,
    MultilayerSpiker,
    RectifiedLinear,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    SuperSpike,
)
from sgtheory.tasks._updates import TwoLayers, back_propagation_update, likelihood_update

STEPS, INPUTS, HIDDEN, OUTPUTS = 40, 9, 11, 8
STOCHASTIC = {"hidden": SigmoidEscape(10.0), "output": SigmoidEscape(100.0)}
DETERMINISTIC = {"hidden": Step(), "output": Step()}


def network(backend="auto", **options):
    rng = np.random.default_rng(0)
    parameters = LIFParameters(**{"tau_mem": 10e-3, "tau_syn": 5e-3, "dt": 1e-3, "reset": "same", **options})
    inputs, target = ((rng.random((STEPS, n)) < rate).astype(np.uint8) for n, rate in ((INPUTS, 0.2), (OUTPUTS, 0.27)))
    kernel = PSPKernel.sampled(10e-3, 5e-3, 1e-3, STEPS, endpoint=True)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((INPUTS, HIDDEN), (HIDDEN, OUTPUTS))]
    return TwoLayers(inputs, target, parameters, kernel, backend), [2 * w for w in weights]


def update_as_written(net, activity, weights, surrogate):
    """The update with all sums over pairs of neurons and steps, in float64, trial by trial."""
    p = net.parameters
    a_m, a_s = p.membrane_decay, p.synaptic_decay

    def trace(spikes):
        u, i, out = np.zeros(spikes.shape[1]), np.zeros(spikes.shape[1]), []
        arriving = np.concatenate([np.zeros((p.delay, spikes.shape[1])), spikes])
        for n in range(len(spikes)):
            out.append(u)
            u, i = a_m * u + (1 - a_m) * i, a_s * i + arriving[n]
        return np.array(out)

    t = np.linspace(0, STEPS * p.dt, STEPS)
    eps = 0.2 * (np.exp(-t / p.tau_mem) - np.exp(-t / p.tau_syn))
    dw0, dw1 = np.zeros(weights[0].shape), np.zeros(weights[1].shape)
    for u, s_h, s_o in zip(activity.hidden_potential, activity.hidden, activity.output, strict=True):
        delta = (net.target.astype(float) - s_o) / 0.013
        dw1 += trace(s_h).T @ delta
        x = torch.from_numpy(u.astype(float) - p.threshold)
        derivative = surrogate.derivative(x, torch.from_numpy(s_h)).numpy()
        pairs = trace(net.inputs)[:, :, None] * derivative[:, None, :]
        filtered = np.apply_along_axis(lambda signal: np.convolve(signal, eps)[:STEPS], 0, pairs)
        dw0 += np.einsum("tih,th->ih", filtered, delta @ weights[1].T.astype(float))
    trials = len(activity.hidden)
    return dw0 / trials, dw1 / trials


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("options", [{}, {"reset": "next"}, {"delay": 1}], ids=str)
@pytest.mark.parametrize(
    ("escape", "surrogate", "trials"),
    [
        (DETERMINISTIC, SuperSpike(10.0), 1),
        (STOCHASTIC, SigmoidDerivative(10.0), 5),
        (STOCHASTIC, RectifiedLinear(2.0), 2),
        (STOCHASTIC, MultilayerSpiker(), 2),
    ],
)
def test_likelihood_update_as_written(backend, options, escape, surrogate, trials):
    net, weights = network(backend, **options)
    activity = net.run(weights, escape, Noise(3), trials)
    assert activity.hidden.mean() > 0.02
    assert activity.output.mean() > 0.02
    for got, expected in zip(
        likelihood_update(net, activity, weights, surrogate),
        update_as_written(net, activity, weights, surrogate),
        strict=True,
    ):
        assert got.dtype == np.float32
        assert np.abs(got - expected).max() < 3e-6 * np.abs(expected).max()


def test_another_kernel_or_surrogate_is_another_update():
    """Negative control for the comparison above."""
    net, weights = network()
    activity = net.run(weights, DETERMINISTIC, Noise(3), 1)
    expected, _ = update_as_written(net, activity, weights, SuperSpike(10.0))
    other = TwoLayers(net.inputs, net.target, net.parameters, PSPKernel(10e-3, 5e-3, 1e-3))
    for wrong in (
        likelihood_update(other, activity, weights, SuperSpike(10.0))[0],
        likelihood_update(net, activity, weights, SuperSpike(10.1))[0],
    ):
        assert np.abs(wrong - expected).max() > 1e-4 * np.abs(expected).max()


def test_backends_draw_the_same_spikes():
    results = []
    for backend in ("cpu", "reference"):
        net, weights = network(backend)
        results.append(net.run(weights, STOCHASTIC, Noise(5, 10, 3), 4))
    assert np.array_equal(results[0].hidden, results[1].hidden)
    assert np.array_equal(results[0].output, results[1].output)
    assert (results[0].hidden[0] != results[0].hidden[1]).any()


@pytest.mark.parametrize("loss", ["l2", "van_rossum"])
def test_back_propagation_descends_its_loss(loss):
    """Of the stated loss, averaged over trials: the backends agree, and a small step along the output weights of a
    net with escape noise lowers it in the mean of 200 trials."""
    directions = []
    for backend in ("cpu", "reference"):
        net, weights = network(backend)
        directions.append(back_propagation_update(net, weights, STOCHASTIC, SigmoidDerivative(10.0), Noise(1), 4, loss))
    for a, b in zip(*directions, strict=True):
        assert np.abs(a - b).max() < 1e-5 * np.abs(b).max()

    from sgtheory.metrics import l2_distance, van_rossum_distance

    def measured(w):
        output = net.run(w, STOCHASTIC, Noise(2), 200).output
        if loss == "l2":
            return l2_distance(output, net.target).mean()
        return van_rossum_distance(output, net.target, net.kernel).mean()

    net, weights = network()
    before = measured(weights)
    for update in range(60):
        direction = back_propagation_update(
            net, weights, STOCHASTIC, SigmoidDerivative(10.0), Noise(1, draw=update), 4, loss
        )
        weights = [w + np.float32(0.1) * d for w, d in zip(weights, direction, strict=True)]
    assert measured(weights) < 0.9 * before


def replay_file(tmp_path, batch_axis=False, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x": (rng.random((STEPS, INPUTS)) < 0.2).astype(np.float32),
        "z": (rng.random((STEPS, OUTPUTS)) < 0.3).astype(np.float32),
        "w0": 2 * rng.standard_normal((INPUTS, HIDDEN)).astype(np.float32),
        "w1": 2 * rng.standard_normal((HIDDEN, OUTPUTS)).astype(np.float32),
        **changes,
    }
    if batch_axis:
        arrays |= {name: arrays[name][None] for name in ("x", "z")}
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)
    return path, arrays


@pytest.mark.parametrize("batch_axis", [False, True])
def test_replayed_arrays_give_their_updates(script, tmp_path, batch_axis):
    path, arrays = replay_file(tmp_path, batch_axis)
    directory = tmp_path / "run"
    done = script(
        "train.py", f"task.replay={path}", "task.save_updates=3", "trainer.epochs=4", f"hydra.run.dir={directory}"
    )
    assert done.returncode == 0, done.stderr
    with np.load(directory / "updates.npz") as saved:
        updates = dict(saved)
    assert {k: v.shape for k, v in updates.items()} == {
        "dw0": (3, INPUTS, HIDDEN),
        "dw1": (3, HIDDEN, OUTPUTS),
        "l2": (3,),
        "van_rossum": (3,),
        "hidden_spikes": (1, STEPS, HIDDEN),
        "output_spikes": (1, STEPS, OUTPUTS),
    }
    parameters = LIFParameters(10e-3, 5e-3, 1e-3, reset="same")
    kernel = PSPKernel.sampled(10e-3, 5e-3, 1e-3, STEPS, endpoint=True)
    x, z = (arrays[name].reshape(STEPS, -1).astype(np.uint8) for name in ("x", "z"))
    net = TwoLayers(x, z, parameters, kernel)
    activity = net.run([arrays["w0"], arrays["w1"]], DETERMINISTIC, Noise(0), 1)
    dw0, dw1 = update_as_written(net, activity, [arrays["w0"], arrays["w1"]], SuperSpike(10.0))
    assert np.array_equal(updates["hidden_spikes"], activity.hidden)
    assert np.abs(updates["dw0"][0] - 1e-5 * dw0).max() < 1e-11 * np.abs(dw0).max()
    assert np.abs(updates["dw1"][0] - 1e-4 * dw1).max() < 1e-10 * np.abs(dw1).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": np.zeros((STEPS + 1, OUTPUTS))}, "shapes must be"),
        ({"w0": np.full((INPUTS, HIDDEN), np.nan)}, "finite"),
        ({"x": np.full((STEPS, INPUTS), 0.5)}, "0 or 1"),
        ({"w1": np.zeros(3)}, "shapes must be"),
    ],
)
def test_wrong_replay_files_are_refused(tmp_path, changes, message):
    from sgtheory.tasks.spike_matching import SpikeMatching

    path, _ = replay_file(tmp_path, **changes)
    task = types.SimpleNamespace(settings=types.SimpleNamespace(replay=str(path)))
    with pytest.raises(UserError, match=message) as error:
        SpikeMatching._replayed(task)
    assert str(path) in str(error.value)


def test_the_distance_of_the_mean_is_that_of_infinitely_many_trials():
    """(k d_k - d_1) / (k - 1) is the mean over pairs of different trials of the product of their errors, whose
    expectation is the squared error of the mean."""
    from sgtheory.tasks.spike_matching import LAST, SpikeMatching

    net, weights = network()
    k, noise = 5, Noise(3)
    settings = types.SimpleNamespace(last_trials=k)
    neuron = types.SimpleNamespace(mode="escape_noise")
    task = types.SimpleNamespace(
        settings=settings,
        neuron=neuron,
        network=net,
        weights=weights,
        noise=noise,
        escape=STOCHASTIC,
        other_escape=DETERMINISTIC,
        _van_rossum=lambda spikes: SpikeMatching._van_rossum(task, spikes),
    )
    found = {metric: value for metric, _, value in SpikeMatching._measure_forms(task, 7)}
    output = net.run(weights, STOCHASTIC, noise.at(stream=LAST, draw=7), k).output
    error = output.astype(float) - net.target
    kernel = net.kernel.samples(STEPS)
    filtered = np.apply_along_axis(lambda signal: np.convolve(signal, kernel)[:STEPS], 1, error)
    products = np.einsum("itj,ktj->ik", filtered, filtered) / 2 / OUTPUTS
    assert found["van_rossum_trials"] == pytest.approx(products.diagonal().mean())
    pairs = (products.sum() - products.trace()) / k / (k - 1)
    assert found["van_rossum_of_mean_corrected"] == pytest.approx(pairs)
    assert pairs != pytest.approx(products.diagonal().mean())  # the noise is seen
