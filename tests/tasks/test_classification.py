"""Classification: the pass as written, what is measured, and runs that are cut anywhere."""

import json
import math
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir

from sgtheory.command import Interrupted
from sgtheory.data import OpenedDataset, SpikeDataset, identify_dataset, load_shd, write_shd
from sgtheory.errors import UserError
from sgtheory.tasks._classification_losses import max_over_time, regulariser, sum_of_softmax
from sgtheory.training import CONF, evaluate, export, identity, load_run, prepare, run_task, start, update_run

SMALL = (
    *("task=classification", "data=randman", "data.classes=3", "data.units=12", "data.train=60", "data.test=20"),
    *("task.channels=[6,5]", "task.kernels=[5,3]", "task.strides=[2,1]", "task.paddings=[1,0]"),
    *("task.recurrent_kernels=[3,0]", "task.duration=0.12", "task.batch_size=20", "task.fano_trials=12"),
    *("trainer.epochs=3", "task.measure_every=2", "task.sigma_u=4"),
)


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=[*SMALL, *overrides])


def task(*overrides):
    return prepare(composed(*overrides))[0]


class StepByStep(torch.autograd.Function):
    """A spike, and SuperSpike in the backward pass."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient / (10 * x.abs() + 1) ** 2


def as_written(x, y, weights, strides, delay, dtype=torch.float64):
    """The network of Eqs 18-20, 26-29 step by step: two layers, the first one recurrent, and the readout."""
    w0, v0, w1, readout = (torch.tensor(w, dtype=dtype, requires_grad=True) for w in weights)
    a_m, a_s, a_r = (math.exp(-2e-3 / tau) for tau in (20e-3, 10e-3, 0.7))
    x = torch.tensor(x, dtype=dtype)
    batch, steps, _ = x.shape
    conv = torch.nn.functional.conv1d
    s0 = torch.zeros_like(conv(x[:, :1], w0, stride=strides[0], padding=1))
    s1 = torch.zeros_like(conv(s0, w1, stride=strides[1]))
    u0, i0, u1, i1 = (torch.zeros_like(s) for s in (s0, s0, s1, s1))
    u2, i2 = (torch.full((batch, len(readout)), u, dtype=dtype) for u in (-1e-3, 0.0))
    late = [(torch.zeros_like(x[:, :1]), s0, s1)]
    counts, out = [0, 0], []
    for n in range(steps):
        s0, s1 = StepByStep.apply(u0 - 1), StepByStep.apply(u1 - 1)
        late.append((x[:, n : n + 1], s0, s1))
        counts = [counts[0] + s0, counts[1] + s1]
        below, t0, t1 = late[-2] if delay else late[-1]
        u0 = (a_m * u0 + (1 - a_m) * i0) * (1 - s0.detach())
        u1 = (a_m * u1 + (1 - a_m) * i1) * (1 - s1.detach())
        u2 = a_r * u2 + (1 - a_r) * i2
        i0 = a_s * i0 + conv(below, w0, stride=strides[0], padding=1) + conv(t0, v0, padding=v0.shape[2] // 2)
        i1 = a_s * i1 + conv(t0, w1, stride=strides[1])
        i2 = a_s * i2 + t1.flatten(1) @ readout.T
        out.append(u2)
    out = torch.stack(out, dim=1)
    loss = torch.nn.functional.cross_entropy(out.amax(dim=1), torch.tensor(y))
    penalty = sum(0.01 * torch.relu(c.mean(dim=(1, 2)) - 0.3).square().mean() for c in counts)
    gradients = torch.autograd.grad(loss + penalty, (w0, v0, w1, readout))
    return out, loss, penalty, torch.cat([c.flatten(1) for c in counts], dim=1), gradients


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("delay", [0, 1])
def test_replay_is_the_pass_as_written(delay, recompute, tmp_path):
    rng = np.random.default_rng(delay)
    x = (rng.random((21, 40, 12)) < 0.15).astype(np.float32)
    y = rng.integers(3, size=21)
    shapes = {"w0": (6, 1, 5), "w1": (6, 6, 3), "w2": (5, 6, 3), "w3": (3, 15)}
    scales = (4.0, 0.7, 1.6, 0.5)
    weights = {
        name: (rng.standard_normal(s) * c).astype(np.float32)
        for (name, s), c in zip(shapes.items(), scales, strict=True)
    }
    np.savez(tmp_path / "pass.npz", X=x, y=y, **weights)
    config = composed(
        f"task.replay={tmp_path / 'pass.npz'}", f"neuron.delay={delay}", "task.upper_count=0.3",
        f"task.recompute={str(recompute).lower()}",
    )  # fmt: skip
    directory = tmp_path / "run"
    directory.mkdir()
    assert start(config, directory)
    assert not directory.exists()
    out, loss, penalty, counts, gradients = as_written(x, y, weights.values(), (2, 1), delay)
    assert (counts.sum(dim=0) > 0).float().mean() > 0.5  # something happens in most neurons
    with np.load(tmp_path / "pass.out.npz") as result:
        assert np.array_equal(result["counts"], counts.detach().numpy())
        np.testing.assert_allclose(result["out"], out.detach().numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result["loss"], loss.item(), rtol=1e-5)
        np.testing.assert_allclose(result["reg_loss"], penalty.item(), rtol=1e-5)
        assert penalty > 0
        for i, g in enumerate(gradients):
            assert result[f"g{i}"].shape == tuple(g.shape)
            np.testing.assert_allclose(result[f"g{i}"], g.numpy(), rtol=1e-3, atol=1e-5 * float(g.abs().max()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.full((2, 5, 12), 0.5)}, "X must hold spikes, 0 or 1"),
        ({"y": np.array([0, 3])}, "y must be from 0 to 2"),
        ({"y": np.array([0])}, "y must hold one class for each of 2 samples"),
        ({"w1": np.zeros((6, 6, 5))}, "this network has"),
        ({"w2": np.full((5, 6, 3), np.nan)}, "weights must be finite"),
        ({"w3": None}, "this network has"),
        ({"X": None}, "must be an .npz file with X, y and w0"),
        ({"w1": None}, "without a gap"),
    ],
    ids=str,
)
def test_replay_refuses(change, message, tmp_path):
    arrays = {"X": np.zeros((2, 5, 12)), "y": np.array([0, 1]), "w0": np.zeros((6, 1, 5)), "w1": np.zeros((6, 6, 3))}
    arrays |= {"w2": np.zeros((5, 6, 3)), "w3": np.zeros((3, 15))} | change
    np.savez(tmp_path / "pass.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        task(f"task.replay={tmp_path / 'pass.npz'}").replay.run()
    assert not (tmp_path / "pass.out.npz").exists()


def test_losses_and_penalty_as_written():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(3, 7, 4, generator=generator)
    assert torch.equal(max_over_time(u), u.amax(dim=1))
    p = torch.exp(u) / torch.exp(u).sum(dim=2, keepdim=True)
    torch.testing.assert_close(sum_of_softmax(u), p.sum(dim=1))
    counts = [torch.randint(0, 20, (3, c, n), generator=generator).float() for c, n in ((4, 5), (2, 3))]
    expected = {"layer": 0.0, "channel": 0.0, "neuron": 0.0}
    for count in counts:
        for sample in count:
            for per, means in (("layer", [sample.mean()]), ("channel", sample.mean(dim=1)), ("neuron", sample.ravel())):
                over = sum(0.1 * max(float(m) - 7, 0) ** 2 + 0.2 * max(12 - float(m), 0) ** 2 for m in means)
                expected[per] += over / len(means) / 3
    for per, value in expected.items():
        assert float(regulariser(counts, per, (0.1, 7.0), (0.2, 12.0))) == pytest.approx(value, rel=1e-5)
    assert float(regulariser(counts, "layer", (0.0, 7.0), (0.0, 12.0))) == 0


def run(directory, *overrides, stop=None):
    """Train; with ``stop`` an interrupt arrives after so many batches."""
    config = composed(*overrides)
    made, trainer = prepare(config)
    if stop is not None:
        batches = iter(range(stop))

        def stop_in_time(*_):
            if next(batches, None) is None:
                os.kill(os.getpid(), signal.SIGTERM)

        made.network.register_forward_pre_hook(stop_in_time)
    return run_task(made, trainer.epochs, directory, identity(config), 1e9)


@pytest.mark.parametrize("mode", ["deterministic", "escape_noise"])
def test_a_run_that_is_cut_anywhere_ends_in_the_same_records_and_weights(mode, tmp_path):
    whole, cut = tmp_path / "a" / "run", tmp_path / "b" / "run"
    run(whole, f"neuron={mode}")
    for stop in (2, 1, 6):  # batches of each attempt; validation loads batches, too
        with pytest.raises(Interrupted):
            run(cut, f"neuron={mode}", stop=stop)
    run(cut, f"neuron={mode}")
    assert (whole / "records.csv").read_text() == (cut / "records.csv").read_text()
    for name in ("weights.npz", "rasters.npz"):
        with np.load(whole / name) as a, np.load(cut / name) as b:
            assert a.files == b.files
            assert all(np.array_equal(a[key], b[key]) for key in a.files)


def test_what_is_measured(tmp_path):
    run(tmp_path / "run", "neuron=escape_noise")
    records = pd.read_csv(tmp_path / "run" / "records.csv")
    found = records.groupby(["metric", "layer"]).epoch.apply(list).to_dict()
    each, later, measured = [0, 1, 2, 3], [1, 2, 3], [0, 2, 3]
    layers = ("hidden1", "hidden2")
    assert found == (
        {(m, "training"): later for m in ("loss", "accuracy", "regulariser")}
        | {(m, "validation"): each for m in ("loss", "accuracy")}
        | {("rate", layer): each for layer in layers}
        | {(estimator, layer): measured for estimator in ("fano", "fano_step") for layer in layers}
        | {(f"{m}_other_mode", "validation"): measured for m in ("loss", "accuracy")}
        | {(f"{m}{suffix}", "test"): [3] for m in ("loss", "accuracy") for suffix in ("", "_other_mode")}
        | {(f"accuracy{suffix}_best_validation", "test"): [3] for suffix in ("", "_other_mode")}
        | {("epoch_best_validation", "validation"): [3]}
    )
    rasters = load_run(tmp_path / "run").rasters
    assert rasters["input"].shape == (2, 60, 12)
    assert rasters["hidden1"].shape == (2, 60, 6 * 5)
    assert rasters["readout"].shape == (2, 60, 3)
    assert rasters["trials"].shape == (30, 60, 2)
    assert rasters["labels"][0] != rasters["labels"][1]
    assert list(rasters["class_names"]) == ["manifold 0", "manifold 1", "manifold 2"]
    accuracy = records[(records.metric == "accuracy") & (records.layer == "test")].value.item()
    assert np.trace(rasters["confusion"]) / 20 == pytest.approx(accuracy)
    assert rasters["confusion"].sum() == rasters["confusion_other_mode"].sum() == 20
    assert len(np.unique(rasters["trials"], axis=0)) > 1


def test_the_best_weights_in_validation_are_tested_as_well(tmp_path):
    run(tmp_path / "run", "neuron=escape_noise")
    records = load_run(tmp_path / "run")
    validation = records.series("accuracy", "validation").iloc[1:]
    best = int(validation.idxmax())  # the first of equal ones
    assert records.series("epoch_best_validation", "validation").item() == best < 3
    run(tmp_path / "short", "neuron=escape_noise", f"trainer.epochs={best}")
    with np.load(tmp_path / "short" / "weights.npz") as weights:
        again = task("neuron=escape_noise")
        again.load_weights(dict(weights))
    rows = {row[:2]: row[2] for row in again.finish(3)[0]}  # with the noise of the test after 3 epochs
    for metric in ("accuracy", "accuracy_other_mode"):
        assert records.series(f"{metric}_best_validation", "test").item() == rows[metric, "test"]


def test_a_checkpoint_that_knows_no_best_weights_goes_on_without_them(tmp_path):
    whole, old = tmp_path / "whole", tmp_path / "old"
    run(whole)
    with pytest.raises(Interrupted):
        run(old, stop=4)
    saved = torch.load(old / "checkpoint.pt", weights_only=True)
    del saved["state"]["best"]
    torch.save(saved, old / "checkpoint.pt")
    run(old)
    a, b = (load_run(folder).records.drop(columns="run") for folder in (whole, old))
    pd.testing.assert_frame_equal(a[~a.metric.str.contains("best")].reset_index(drop=True), b)


@pytest.mark.parametrize(
    "other", [("task=loop_integral", "task.tolerance=1"), ("task=spike_matching", "task.target.steps=30")]
)
def test_a_run_without_a_network_to_classify_is_not_tested_again(other, tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        start(compose("config", overrides=[*other, "trainer.epochs=1"]), tmp_path / "run")
    name = other[0].removeprefix("task=")
    with pytest.raises(UserError, match=f"run: weights of {name} cannot be tested again, only those of networks"):
        evaluate(tmp_path / "run", {})


def test_a_run_is_not_tested_where_its_data_are_not(tmp_path):
    (directory,) = (CONF.parent / "data" / "reference" / "fig7_paper").glob("escape_noise-seed1-*")
    with pytest.raises(UserError, match=r"^SHD is not in .*: `python scripts/fetch_data.py shd` downloads it"):
        evaluate(directory, {"dir": str(tmp_path)})


def test_trained_weights_are_tested_again_to_the_same_bits(tmp_path):
    run(tmp_path / "run", "neuron=escape_noise")
    before = load_run(tmp_path / "run")
    table, arrays = evaluate(tmp_path / "run", {})
    assert (table.value == table.recorded).all()
    assert set(before.records[before.records.epoch == 3].metric) > set(table.metric) > {"accuracy_other_mode"}
    assert all(np.array_equal(before.rasters[name], arrays[name]) for name in before.rasters)
    update_run(tmp_path / "run", table.assign(value=table.value + 1), arrays)
    after = load_run(tmp_path / "run").records
    changed = after.value - before.records.value
    assert set(changed[changed > 0]) == {1.0}
    assert (changed > 0).sum() == len(table)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["seed"] = 5
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"task": config["task"] | {"channels": [7, 5]}}))
    with pytest.raises(UserError, match=r"weights.npz: it has weights \{'w0': \[6, 1, 5\]"):
        evaluate(tmp_path / "run", {})


@pytest.mark.parametrize("use", [lambda run: evaluate(run, {}), lambda run: export(run, run / "network.nir")])
def test_a_run_that_diverged_has_no_network_to_use(use, tmp_path):
    run(tmp_path, "neuron=escape_noise", "trainer.epochs=1")
    finished = json.loads((tmp_path / "finished.json").read_text())
    (tmp_path / "finished.json").write_text(json.dumps(finished | {"diverged": {"epoch": 1, "metrics": ["weights"]}}))
    (tmp_path / "rasters.npz").unlink()
    (tmp_path / "weights.npz").unlink()
    with pytest.raises(UserError, match="diverged in epoch 1: there is no trained network in it"):
        use(tmp_path)


def test_accuracy_for_speakers_who_are_heard_in_training_and_for_others():
    made = task()
    assert made._speaker_groups() == []  # of nobody's voice
    training = np.arange(len(made.data.train)) % 4
    test = np.arange(len(made.data.test)) % 6
    made.data = OpenedDataset(replace(made.data.train, speakers=training), replace(made.data.test, speakers=test))
    rows = {row[:2]: row[2] for row in made._test(1)[0]}
    known = (test < 4).mean()
    for metric in ("accuracy", "accuracy_other_mode"):
        groups = [rows[metric, f"test_{name}_speakers"] for name in ("known", "new")]
        assert known * groups[0] + (1 - known) * groups[1] == pytest.approx(rows[metric, "test"])
    made.data = OpenedDataset(replace(made.data.train, speakers=training), replace(made.data.test, speakers=test % 4))
    assert made._speaker_groups() == []  # all are heard


def test_the_samples_shown_are_answered_rightly_if_any_is():
    made = task()
    labels = made.data.test.labels
    correct = np.zeros(20, bool)
    correct[[7, 9, 12]] = True
    second = next(i for i in (9, 12, *range(20)) if labels[i] != labels[7])
    assert list(made._rasters(correct)["samples"]) == [7, second]
    assert len(set(labels[made._rasters(np.zeros(20, bool))["samples"]])) == 2


def test_means_weigh_samples_not_batches():
    made = task("task.batch_size=53")  # 54 training samples: the second batch has one
    noise = made.noise.at(stream=3)
    together, *_ = made._evaluate(made.data.train, made.training, made.escape, noise)
    apart = [made._evaluate(made.data.train, made.training[i : i + 1], made.escape, noise)[0] for i in range(54)]
    assert together.samples == 54
    assert together.batches == 2
    for name, mean in together.means().items():
        assert mean == pytest.approx(np.mean([sums.means()[name] for sums in apart]), rel=1e-5)


def test_it_learns(tmp_path):
    """Three manifolds of spike times, 40 passes over 108 samples: far above the chance of 1/3 in both modes."""
    for mode in ("deterministic", "escape_noise"):
        data = ("data.train=120", "data.spikes=3", "data.alpha=2")
        network = ("task.sigma_u=2", "task.readout_tau_mem=0.05", "task.learning_rate=0.03")
        run(tmp_path / mode, f"neuron={mode}", *data, *network, "trainer.epochs=40", "task.measure_every=100")
        accuracy = load_run(tmp_path / mode).series("accuracy", "training")
        assert accuracy.iloc[-3:].mean() > 0.6 > 0.45 > accuracy.iloc[0]


def test_an_exploding_loss_ends_the_run_and_keeps_the_last_checkpoint(tmp_path):
    directory = tmp_path / "run"
    run_task(task(), 1, directory, {}, 0)
    (directory / "finished.json").unlink()
    made = task()
    made.settings.upper_strength = math.inf
    made.settings.upper_count = 0.0
    with pytest.raises(UserError, match="regulariser is not a finite number in epoch 2: try a smaller learning rate"):
        run_task(made, 3, directory, {}, 0)
    assert torch.load(directory / "checkpoint.pt", weights_only=True)["epoch"] == 1


def test_subsets_and_splits_follow_from_their_seed():
    made, again, other = task(), task("seed=5", "task.split_seed=17"), task("seed=5")
    assert np.array_equal(made.validation, again.validation)
    assert not np.array_equal(made.validation, other.validation)
    assert not set(made.training) & set(made.validation)
    assert (len(made.training), len(made.validation), len(made.test)) == (54, 6, 20)
    some = task("task.training_samples=10", "task.test_samples=5")
    assert (len(some.training), len(some.test)) == (10, 5)
    assert set(some.training) < set(made.training)
    assert np.array_equal(some.validation, made.validation)


def test_speech_commands_are_validated_on_their_own_validation_set(tmp_path):
    rng = np.random.default_rng(3)
    for part, samples in (("train", 40), ("valid", 7), ("test", 9)):
        times, units = ([values] * samples for values in (np.sort(rng.random(30)) / 10, rng.integers(0, 12, 30)))
        data = SpikeDataset.from_samples(times, units, np.arange(samples) % 3, ["a", "b", "c"], "words", channels=12)
        write_shd(tmp_path / f"ssc_{part}.h5", data)
    others = [override for override in SMALL if not override.startswith("data")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*others, "data=ssc", f"data.dir={tmp_path}", "trainer.epochs=1"])
    made, _ = prepare(config)
    assert (len(made.training), len(made.validation), len(made.test)) == (40, 7, 9)
    sums, *_ = made._evaluate(made.data.validation, np.arange(7), made.escape, made.noise.at(stream=300, draw=0))
    rows = {row[:2]: row[2] for row in made.start()}
    assert rows["loss", "validation"] == sums.means()["loss"]
    run_task(made, 1, tmp_path / "run", identity(config), 1e9)
    table, _ = evaluate(tmp_path / "run", {"dir": str(tmp_path)})
    assert (table.value == table.recorded).all()


def test_350_steps_or_349():
    def steps(*overrides):
        return task("task.duration=0.7", *overrides).steps

    assert (steps(), steps("task.steps=349"), steps("neuron.dt=1e-3")) == (350, 349, 700)


@pytest.mark.parametrize("options", [("task.optimiser=adam",), ("task.optimiser=sgd", "task.loss=sum_of_softmax")])
def test_other_optimisers_and_losses_train(options):
    made = task(*options, "task.lower_strength=0.1", "task.lower_count=5", "task.regularise=channel")
    before = made.network.readout_weight.detach().clone()
    made.epoch(0)
    assert not torch.equal(before, made.network.readout_weight.detach())


def test_a_run_is_named_by_the_content_of_its_data(tmp_path):
    data = SpikeDataset.from_samples([np.array([0.1])] * 4, [np.array([3])] * 4, [0, 1, 0, 1], ["a", "b"], "mine")
    for folder in ("one", "two", "other"):
        (tmp_path / folder).mkdir()
        for part in ("train", "test"):
            write_shd(tmp_path / folder / f"shd_{part}.h5", data, {"note": "x" if folder == "other" else "y"})
    one, two, other = (identify_dataset("shd", tmp_path / folder) for folder in ("one", "two", "other"))
    assert one == two != other
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["task=classification", "data=shd", f"data.dir={tmp_path / 'one'}"])
    parts = identity(config)
    assert parts["data"] == one
    assert str(tmp_path) not in json.dumps(parts)
    assert identify_dataset("auto", tmp_path) == identify_dataset("spoken_digits", tmp_path)
    assert load_shd(tmp_path / "one" / "shd_test.h5").name == "mine"
