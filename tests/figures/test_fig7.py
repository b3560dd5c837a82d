"""Figure 7 from small runs: verdicts follow from the records, what it was made from is said, mistakes are named."""

import json

import figure
import numpy as np
import pandas as pd
import pytest

from sgtheory.claims import CONTRADICTED, REPRODUCED, UNDECIDED
from sgtheory.errors import UserError
from sgtheory.figures import fig7, save_figure
from sgtheory.training import load_run

NAMES = ("one", "zwei", "three", "vier")
NEURONS = {"input": 12, "hidden1": 9, "hidden2": 6, "hidden3": 4}
STEPS = 30


def noisy_trials(seed=0):
    return (np.random.default_rng(seed).random((30, STEPS, 3)) < 0.1).astype(np.uint8)


def write_run(
    directory,
    mode,
    seed,
    *,
    validation,
    own,
    other,
    fano=(0.9, 0.9),
    trials=None,
    layers=3,
    largest=(1, 2),
    data_name="SHD (regenerated)",
    epochs=20,
    by_speakers=True,
):
    """A finished run as the classification task leaves it; validation accuracy is reached in the last tenth only."""
    directory = directory / f"{mode}-{seed}-{len(list(directory.iterdir()))}"
    directory.mkdir()
    rng = np.random.default_rng(seed)
    hidden = [f"hidden{k}" for k in range(1, layers + 1)]
    rows = [(e, "accuracy", "training", 0.9) for e in range(1, epochs + 1)]
    rows += [(e, "accuracy", "validation", validation if e > 0.9 * epochs else 0.25) for e in range(epochs + 1)]
    rows += [(e, "rate", layer, 10.0) for e in range(epochs + 1) for layer in hidden]
    if mode == "escape_noise":
        rows += [(e, "fano", layer, f) for layer in hidden for e, f in zip((0, epochs), fano, strict=True)]
    rows += [(epochs, "accuracy", "test", own), (epochs, "accuracy_other_mode", "test", other)]
    rows += [(e, "accuracy_other_mode", "validation", validation + other - own) for e in (epochs // 2, epochs)]
    for speakers, better in (("known", 0.05), ("new", -0.05)) if by_speakers else ():
        for metric, value in (("accuracy", own), ("accuracy_other_mode", other)):
            rows.append((epochs, metric, f"test_{speakers}_speakers", value + better))
    frame = pd.DataFrame([("run", *row) for row in rows], columns=["run", "epoch", "metric", "layer", "value"])
    frame.to_csv(directory / "records.csv", index=False)
    config = {"neuron": {"mode": mode, "dt": 2e-3}, "seed": seed, "trainer": {"epochs": epochs}}
    task = {"name": "classification", "batch_size": 50, "fano_window": 20e-3}
    (directory / "config.json").write_text(json.dumps(config | {"task": task}))
    (directory / "finished.json").write_text("{}")
    readout = np.zeros((2, STEPS, 4), np.float32)
    readout[[0, 1], STEPS // 2, largest] = 1.0
    np.savez(
        directory / "rasters.npz",
        labels=[1, 2],
        class_names=np.array(NAMES),
        readout=readout,
        trials=noisy_trials(seed) if trials is None else trials,
        trials_layers=[1, 2, 3],
        trials_neurons=[8, 5, 3],
        confusion=np.array([[8, 2, 0, 0], [0, 5, 0, 5], [0, 0, 10, 0], [0, 0, 0, 0]]),
        confusion_other_mode=np.full((4, 4), 5),
        data_name=data_name,
        training_samples=2250,
        validation_samples=250,
        test_samples=500,
        **{k: (rng.random((2, STEPS, NEURONS[k])) < 0.2).astype(np.uint8) for k in ("input", *hidden)},
    )
    return load_run(directory)


def make_runs(directory, seeds=(1, 2, 3), deterministic=(), stochastic=()):
    """Runs like the paper's, except for what ``deterministic`` and ``stochastic`` say; accuracy differs by seed."""
    directory.mkdir(exist_ok=True)

    def runs(mode, values):
        numbers = {key: values.pop(key) for key in ("validation", "own", "other")}
        jitter = {"validation": 1e-3, "own": -1e-3, "other": 2e-3}
        return [
            write_run(directory, mode, s, **{k: v + s * jitter[k] for k, v in numbers.items()}, **values) for s in seeds
        ]

    return runs("deterministic", {"validation": 0.93, "own": 0.80, "other": 0.30, **dict(deterministic)}) + runs(
        "escape_noise", {"validation": 0.95, "own": 0.85, "other": 0.85, **dict(stochastic)}
    )


def claims(*args, **kwargs):
    return {claim.id: claim for claim in fig7.claims(fig7.measure(make_runs(*args, **kwargs)))}


def failing(*args, **kwargs):
    return {name for name, claim in claims(*args, **kwargs).items() if not claim.holds}


def test_the_claims_of_the_paper_hold_for_runs_like_the_papers(tmp_path):
    found = claims(tmp_path)
    assert list(found) == ["C11.1", "C11.2", "C11.better", *(f"C11.{number}" for number in range(3, 9))]
    assert all(claim.holds for claim in found.values())
    assert "SHD (regenerated): 2250 training, 250 validation, 500 test samples" in found["C11.1"].measured


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"deterministic": {"validation": 0.6}}, {"C11.1"}),
        ({"deterministic": {"validation": 0.95}}, {"C11.better"}),
        ({"stochastic": {"validation": 0.60}}, {"C11.1", "C11.2", "C11.better"}),
        ({"stochastic": {"validation": 0.925}}, {"C11.2", "C11.better"}),
        ({"stochastic": {"other": 0.815}}, {"C11.3"}),
        ({"stochastic": {"other": 0.90}}, {"C11.3"}),  # better is not "equally well" either
        ({"deterministic": {"other": 0.75}}, {"C11.4"}),
        ({"deterministic": {"other": 0.90}}, {"C11.4"}),
        ({"stochastic": {"fano": (0.9, 0.6)}}, {"C11.5", "C11.6", "C11.7"}),
        ({"stochastic": {"fano": (1.6, 0.8)}}, set()),  # half of what was above a Poisson process, and still like one
        ({"stochastic": {"fano": (1.6, 0.7)}}, {"C11.5", "C11.6", "C11.7"}),
        ({"stochastic": {"trials": np.repeat(noisy_trials()[:1], 30, axis=0)}}, {"C11.8"}),
        ({"stochastic": {"trials": np.zeros((30, STEPS, 3), np.uint8)}}, {"C11.8"}),
    ],
)
def test_a_verdict_turns_when_the_records_do(tmp_path, changed, expected):
    assert failing(tmp_path, **changed) == expected


def test_a_small_difference_beyond_the_error_is_still_equally_well(tmp_path):
    claim = claims(tmp_path, stochastic={"other": 0.835})["C11.3"]
    assert claim.holds
    assert "difference -0.009 ± 0.0075 (95 %" in claim.measured


def test_seeds_that_disagree_are_no_evidence_of_equality(tmp_path):
    """Two seeds, differences of -0.10 and -0.16: their interval reaches 0, but is far too wide to say anything."""
    runs = [
        write_run(tmp_path, mode, seed, validation=value, own=value, other=value)
        for mode, values in (("deterministic", (0.9, 0.9)), ("escape_noise", (0.8, 0.74)))
        for seed, value in enumerate(values)
    ]
    claim = fig7.claims(fig7.measure(runs))[1]
    assert "-0.13 ± 0.38 (95 %, 2 paired seeds)" in claim.measured
    assert not claim.holds


def test_one_seed_has_a_binomial_error_and_says_so(tmp_path):
    """1.96 sqrt(0.93 * 0.07 / 250 + 0.9 * 0.1 / 250) = 0.0487."""
    one = {"seeds": (0,), "deterministic": {"validation": 0.93}}
    claim = claims(tmp_path / "near", **one, stochastic={"validation": 0.90})["C11.2"]
    assert "-0.03 ± 0.049 (95 %, binomial error of 250 samples, 1 seed)" in claim.measured
    assert not claim.holds, "it may be 0.079 worse"
    assert claims(tmp_path / "same", **one, stochastic={"validation": 0.93})["C11.2"].holds
    far = claims(tmp_path / "far", **one, stochastic={"validation": 0.87})
    assert {name for name, claim in far.items() if not claim.holds} == {"C11.2", "C11.better", "C11.3"}
    assert far["C11.3"].undecided  # an interval that reaches beyond 0.05 shows neither a loss nor that there is none


@pytest.mark.parametrize(("gap", "spread", "verdict"), [(0.016, 0.003, REPRODUCED), (0.016, 0.02, UNDECIDED)])
def test_better_is_better_whether_or_not_by_as_much_as_the_authors(gap, spread, verdict, tmp_path):
    """Intervals, ± 2.5 times the spread of three seeds, that have 0.02 within: without 0 and with it."""
    runs = [
        write_run(tmp_path, mode, seed, validation=0.9 + better * (gap + spread * (seed - 1)), own=0.9, other=0.9)
        for mode, better in (("deterministic", 0), ("escape_noise", 1))
        for seed in range(3)
    ]
    numbers = fig7.measure(runs) | {"epochs": fig7.PAPER_EPOCHS, "training_samples": fig7.PAPER_SAMPLES}
    assert {claim.id: claim.verdict for claim in fig7.claims(numbers)}["C11.better"] == verdict


@pytest.mark.parametrize(("seeds", "verdict"), [((0,), UNDECIDED), ((0, 1, 2), CONTRADICTED)])
def test_one_seed_decides_nothing_at_the_scale_of_the_paper(seeds, verdict, tmp_path):
    runs = [
        write_run(tmp_path, mode, seed, validation=0.9, own=0.9, other=0.7 + 0.001 * seed)
        for mode in ("deterministic", "escape_noise")
        for seed in seeds
    ]
    numbers = fig7.measure(runs) | {"epochs": fig7.PAPER_EPOCHS, "training_samples": fig7.PAPER_SAMPLES}
    assert {claim.id: claim.verdict for claim in fig7.claims(numbers)}["C11.3"] == verdict


def test_repeated_spikes():
    """A spike counts as repeated if the other trial has one at the same step or the next to it."""
    spikes = np.zeros((2, 10, 1), np.uint8)
    spikes[0, [0, 4, 8]] = spikes[1, [1, 4, 6, 9]] = 1
    assert fig7._repeated(spikes) == pytest.approx(6 / 7)
    assert np.isnan(fig7._repeated(np.zeros_like(spikes)))


def test_accuracy_of_each_class(tmp_path):
    accuracy = fig7.measure(make_runs(tmp_path))["class_accuracy"]["deterministic"]
    np.testing.assert_allclose(accuracy["own"], [0.8, 0.5, 1.0, np.nan])
    np.testing.assert_allclose(accuracy["other"], 0.25)


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    good = make_runs(tmp_path)
    with pytest.raises(UserError, match="figure 7 needs the same seeds in both neuron modes"):
        fig7.measure(good[2:4])
    for wrong in (good[:3], []):
        with pytest.raises(UserError, match="figure 7 needs a run with escape noise"):
            fig7.measure(wrong)
    for several in (good + good, good + good[:1], good + good[3:4]):
        with pytest.raises(UserError, match="figure 7 needs one run for each seed"):
            fig7.measure(several)
    other = make_runs(tmp_path / "other", (4,), stochastic={"data_name": "SHD", "epochs": 30})
    with pytest.raises(UserError, match=r"data is SHD \(regenerated\) and SHD, epochs is 20 and 30"):
        fig7.measure(good + other)


def test_stochastic_networks_alone_have_the_claims_that_need_no_other(tmp_path):
    """What they say is what they say beside deterministic ones; with the authors' settings under ids of their own."""
    runs = make_runs(tmp_path)
    beside = {claim.id: claim for claim in fig7.claims(fig7.measure(runs))}
    numbers = fig7.measure(runs[3:])
    alone = {claim.id: claim for claim in fig7.claims(numbers)}
    assert list(alone) == ["C11.1", *(f"C11.{number}" for number in (3, 5, 6, 7, 8))]
    assert alone["C11.1"].statement == "The stochastic network learns the task"
    assert "deterministic" not in alone["C11.1"].measured
    assert all(claim == beside[id] for id, claim in alone.items() if id != "C11.1")
    save_figure("fig7", fig7.draw, numbers, tmp_path)
    for run in runs[3:]:
        run.config["neuron"]["delay"] = 1
        run.config["task"] |= {"steps": 349, "upper_strength": 0.1}
    authors = {claim.id: claim for claim in fig7.claims(fig7.measure(runs[3:]))}
    assert list(authors) == ["C11.authors1", *(f"C11.authors{number}" for number in (3, 5, 6, 7, 8))]
    assert "3 seeds (1, 2, 3); as in the authors' code: delay of 1 step" in authors["C11.authors1"].measured
    assert authors["C11.authors3"].measured == alone["C11.3"].measured


def test_a_run_without_the_other_mode_is_left_out_and_named(tmp_path):
    numbers = fig7.measure(make_runs(tmp_path)[:5])
    assert numbers["seeds"] == [1, 2]
    assert numbers["scale"].endswith("2 seeds (1, 2); without the other mode, left out: deterministic seed 3")


def test_the_slope_of_the_gap():
    """Per 10 epochs, from a quarter of the epochs on; over seeds 0.01 and 0.03, 95 % of one degree of freedom."""
    epoch = np.arange(0, 41, 10)
    start = np.where(epoch < 10, 9.0, 0.0)
    values = np.stack([start + 0.001 * epoch, start + 0.003 * epoch])
    slope, error = fig7._slope({"epoch": epoch, "values": values})
    assert (slope, error) == (pytest.approx(0.02), pytest.approx(12.706 * 0.01, rel=1e-4))
    slope, error = fig7._slope({"epoch": epoch, "values": values[:1]})
    assert (slope, error) == (pytest.approx(0.01), pytest.approx(0, abs=1e-9))
    assert np.isnan(fig7._slope({"epoch": epoch[:2], "values": values[:, :2]})).all()


def test_the_test_by_speakers_is_told_where_it_was_measured(tmp_path):
    told = claims(tmp_path / "one")["C11.1"].measured
    assert "speakers also in training deterministic 0.848 (s.d. 0.001), stochastic 0.898 (s.d. 0.001)" in told
    without = {"by_speakers": False}
    assert "speakers" not in claims(tmp_path / "two", deterministic=without, stochastic=without)["C11.1"].measured


def test_accuracies_at_the_best_epoch_are_told_of_the_runs_that_have_them(tmp_path):
    runs = make_runs(tmp_path)
    for run, value in zip(runs[1:4], (0.81, 0.83, 0.88), strict=True):  # deterministic 2 and 3, stochastic 1
        run.records.loc[len(run.records)] = ["run", 20, "accuracy_best_validation", "test", value]
    (told,) = (claim.measured for claim in fig7.claims(fig7.measure(runs)) if claim.id == "C11.1")
    assert "best in validation deterministic 0.82 (s.d. 0.014) in 2 of 3 runs, stochastic 0.88 in 1 of 3 runs" in told


def test_the_sample_shown_is_one_that_is_answered_rightly(tmp_path):
    runs = make_runs(tmp_path)
    runs[3].rasters["readout"][0] = 0
    runs[3].rasters["readout"][0, 3, 0] = 1  # an answer of seed 1 is wrong
    assert fig7.measure(runs)["example"] == 2


def test_reference_records_are_those_of_the_papers_scale_where_there_are_some(tmp_path, monkeypatch):
    monkeypatch.setattr(figure, "REFERENCE", tmp_path)
    assert figure.reference_records("fig7") == tmp_path / "fig7"
    (tmp_path / "fig7_paper").mkdir()
    assert figure.reference_records("fig7") == figure.reference_records("fig7_paper") == tmp_path / "fig7_paper"
    assert figure.reference_records("figS2_feedforward") == tmp_path / "figS2_feedforward"  # never those of figS2


def test_the_figure_is_written_with_its_numbers(tmp_path):
    runs = make_runs(tmp_path / "runs", stochastic={"largest": (1, 0)})
    paths = save_figure("fig7", fig7.draw, fig7.measure(runs), tmp_path)
    assert [p.name for p in paths] == ["fig7.png", "fig7.pdf", "fig7.json"]
    numbers = json.loads(paths[2].read_text())
    assert numbers["scale"] == (
        "SHD (regenerated): 2250 training, 250 validation, 500 test samples; "
        "20 epochs, batches of 50; 3 seeds (1, 2, 3)"
    )
    assert numbers["chance"] == 0.25
    assert [(s["label"], s["largest"]) for s in numbers["samples"]] == [(1, 1), (2, 0)]
    raster = np.zeros((STEPS, NEURONS["hidden2"]))
    spikes = numbers["samples"][1]["spikes"]["hidden2"]
    raster[spikes["step"], spikes["neuron"]] = 1
    np.testing.assert_array_equal(raster, runs[3].rasters["hidden2"][1])
    trials = np.zeros((30, STEPS))
    trials[numbers["trials"][2]["trial"], numbers["trials"][2]["step"]] = 1
    np.testing.assert_array_equal(trials, runs[3].rasters["trials"][:, :, 2])


@pytest.mark.parametrize("layers", [1, 2])
def test_the_number_of_hidden_layers_is_that_of_the_network(tmp_path, layers):
    network = {"layers": layers}
    numbers = fig7.measure(make_runs(tmp_path, (1,), network, network))
    assert list(numbers["fano"]) == [f"hidden{k}" for k in range(1, layers + 1)]
    assert [claim.id for claim in fig7.claims(numbers)][-1] == f"C11.{5 + layers}"
    assert len(fig7.draw(numbers).axes) == 2 * (layers + 2) + 4 + 3


def test_from_training_to_figure(script, tmp_path, capsys):
    """As `make fig7` does, small: a sweep, the figure of its runs, and the figure of their records alone."""
    data = ("data=randman", "data.classes=4", "data.train=60", "data.test=20", "task.training_samples=null")
    small = ("task.test_samples=null", "trainer.epochs=2", "task.fano_trials=10", "task.batch_size=20")
    overrides = ("experiment=fig7", *data, *small, f"runs={tmp_path / 'runs'}")
    trained = script("train.py", "-m", *overrides, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert trained.returncode == 0, trained.stderr
    figure.main([*overrides, f"output={tmp_path / 'one'}"])
    assert "verdict" in capsys.readouterr().out
    for directory in (tmp_path / "runs" / "classification").iterdir():
        (directory / "checkpoint.pt").unlink()
    figure.main(["experiment=fig7", f"records={tmp_path / 'runs'}", f"output={tmp_path / 'two'}"])
    one, two = (json.loads((tmp_path / folder / "fig7.json").read_text()) for folder in ("one", "two"))
    assert one.pop("provenance")["runs"] == two.pop("provenance")["runs"]
    assert one == two
    with pytest.raises(UserError, match="there are no finished runs of fig7"):
        figure.main(["experiment=fig7", f"records={tmp_path / 'one'}"])
