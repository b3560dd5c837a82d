"""Figures S2 and E3 from small runs: verdicts follow from records, lines from what was swept; mistakes are named."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sgtheory.claims import from_json
from sgtheory.errors import UserError
from sgtheory.figures import figE3, figS2, save_figure
from sgtheory.figures._statistics import all_below, no_difference, power_text
from sgtheory.training import Run

COLUMNS = ["run", "epoch", "metric", "layer", "value"]


def make_run(config, curves, rasters=None):
    """A finished run in memory; ``curves`` are lists over epochs by metric and layer, a single value is the last."""
    epochs = config["trainer"]["epochs"]
    rows = [
        ("run", epochs + 1 - len(values) + index, metric, layer, value)
        for (metric, layer), values in curves.items()
        for index, value in enumerate(values)
    ]
    return Run(Path(str(config)), config, pd.DataFrame(rows, columns=COLUMNS), rasters or {})


# -- figure S2 ---------------------------------------------------------------------------------------------------------

DETACHED = {"ScaledSigmoidDerivative": 0.85, "SuperSpike": 0.9, "SigmoidDerivative": 0.7, "ScaledSuperSpike": 0.6}
LOST = {"ScaledSigmoidDerivative": 0.0, "SuperSpike": 0.0, "SigmoidDerivative": 0.3, "ScaledSuperSpike": 0.5}


def reset_runs(seeds=(1, 2, 3), lost=LOST, detached=DETACHED, jitter=0.01, recurrent=5, diverge=(), **other):
    """Runs like the paper's: an attached reset costs ``lost``; seeds differ, attached ones the other way round.

    Of the surrogates in ``diverge`` all runs with the reset attached diverge in epoch 1.
    """
    runs = []
    for mode in ("deterministic", "escape_noise"):
        for name, accuracy in detached.items():
            for gradient, sign in (("detached", 1), ("attached", -1)):
                for seed in seeds:
                    final = accuracy - lost.get(name, 0) * (sign < 0) + sign * jitter * (seed - np.mean(seeds))
                    config = {
                        "seed": seed,
                        "neuron": {"mode": mode, "reset_gradient": gradient},
                        "surrogate": {"_target_": f"sgtheory.neurons.{name}", "beta": 10.0},
                        "trainer": {"epochs": 8},
                        "task": {"batch_size": 20, "recurrent_kernels": [recurrent]},
                    }
                    curve = [0.1] * 7 + [final, final]
                    curves = {("accuracy", "validation"): curve, ("accuracy", "training"): [accuracy] * 8}
                    counts = {"training_samples": 800, "validation_samples": 400, "test_samples": 500}
                    rasters = {"data_name": np.array("digits"), "class_names": np.arange(20), **counts, **other}
                    if name in diverge and gradient == "attached":
                        runs.append(replace(make_run(config, {("accuracy", "validation"): [0.05]}), diverged_in=1))
                    else:
                        runs.append(make_run(config, curves | {("accuracy", "test"): [final]}, rasters))
    return runs


def failing(claims):
    return {claim.id for claim in claims if not claim.holds}


def test_s2_the_claims_of_the_paper_hold_for_runs_like_the_papers():
    claims = figS2.claims(figS2.measure(reset_runs()))
    assert [claim.id for claim in claims] == [f"C9.{number}" for number in range(1, 7)]
    assert not failing(claims)
    assert "recurrent network; digits: 800 training, 400 validation, 500 test samples; 8 epochs" in claims[0].measured
    assert {claim.verdict for claim in claims} == {"reproduced"}


def test_s2_the_feed_forward_network_has_claims_of_its_own():
    claims = figS2.claims(figS2.measure(reset_runs(recurrent=0)))
    assert [claim.id for claim in claims] == [f"C9.ff{number}" for number in range(1, 7)]
    assert all("feed-forward network" in claim.statement for claim in claims)


def test_s2_a_run_that_diverges_is_a_result(tmp_path):
    """It counts with the accuracy of chance, 1/20, is named in words, and has no curve."""
    numbers = figS2.measure(reset_runs(diverge=("SigmoidDerivative",)))
    cell = numbers["final"]["deterministic"]["SigmoidDerivative"]
    assert np.isnan(cell["attached"]["validation"]).all()
    assert np.isfinite(cell["detached"]["validation"]).all()
    claims = {claim.id: claim for claim in figS2.claims(numbers)}
    assert (
        "sigmoid' attached 3 of 3 NaN in epoch 1, detached 0.7 (s.d. 0.01), difference -0.650"
        in claims["C9.3"].measured
    )
    assert not failing(claims.values())
    paths = save_figure("figS2", figS2.draw, numbers, tmp_path)
    again = figS2.claims(from_json(json.loads(paths[2].read_text())))
    assert [claim.measured for claim in again] == [claim.measured for claim in claims.values()]


def test_s2_divergence_of_an_unscaled_surrogate_says_nothing_of_scaled_ones():
    runs = reset_runs(diverge=("SigmoidDerivative",))
    first = next(run for run in runs if run.config["surrogate"]["_target_"].endswith("ScaledSuperSpike"))
    changed = [replace(run, diverged_in=4) if run is first else run for run in runs]
    for number in (0, 1):
        before, after = (figS2.claims(figS2.measure(each))[number] for each in (runs, changed))
        assert before == after


def diverged_both_ways(runs, *names):
    """The runs, those of the surrogates diverged with the reset attached and detached."""
    kinds = tuple(f".{name}" for name in names)
    return [replace(r, diverged_in=1) if r.config["surrogate"]["_target_"].endswith(kinds) else r for r in runs]


def test_s2_networks_that_diverge_either_way_are_not_compared():
    """One surrogate of two is left to judge by, and the spread is that of its pairs alone; with none nothing is."""
    one, none = (
        {claim.id: claim for claim in figS2.claims(figS2.measure(diverged_both_ways(reset_runs(), *names)))}
        for names in (("ScaledSuperSpike",), ("ScaledSuperSpike", "SigmoidDerivative"))
    )
    assert one["C9.3"].verdict == "reproduced, with a qualification"
    assert one["C9.3"].decides == "sigmoid' -0.300 ± 0.032"  # 2.776 * 0.02 / sqrt(3)
    assert "β SuperSpike diverges with the reset detached, too" in one["C9.3"].qualification
    assert "detached 3 of 3 NaN in epoch 1" in one["C9.3"].measured
    assert one["C9.5"].verdict == "reproduced, with a qualification"
    assert one["C9.5"].qualification == "3 of 6 networks without scaling diverge"
    assert "β SuperSpike -0.850 ± 0, 3 of 3 NaN in epoch 1" in one["C9.5"].measured
    assert {none[f"C9.{number}"].verdict for number in (3, 4)} == {"undecided at this scale"}
    assert {none[f"C9.{number}"].verdict for number in (1, 2)} == {"reproduced"}
    assert {none[f"C9.{number}"].qualification for number in (5, 6)} == {"6 of 6 networks without scaling diverge"}
    scaled = figS2.claims(figS2.measure(diverged_both_ways(reset_runs(), "ScaledSigmoidDerivative", "SuperSpike")))
    assert [(claim.verdict, claim.power) for claim in scaled[:2]] == [("undecided at this scale", "")] * 2


@pytest.mark.parametrize(("last", "verdict"), [(0.85, "contradicted"), (0.9, "undecided at this scale")])
def test_s2_a_difference_that_may_pass_with_more_epochs_is_undecided(last, verdict):
    runs = reset_runs(lost=LOST | {"SuperSpike": 0.1})
    training = [run.records.query("metric == 'accuracy' and layer == 'training'").index[-1] for run in runs]
    for run, row in zip(runs, training, strict=True):
        if run.config["surrogate"]["_target_"].endswith(".ScaledSigmoidDerivative"):
            run.records.loc[row, "value"] = last  # 0.85 in the epochs before
    found = {claim.id: claim.verdict for claim in figS2.claims(figS2.measure(runs))}
    assert {found["C9.1"], found["C9.2"]} == {verdict}


def test_s2_of_a_scaled_surrogate_divergence_is_a_difference():
    assert failing(figS2.claims(figS2.measure(reset_runs(diverge=("SuperSpike",))))) >= {"C9.1", "C9.2"}


def test_s2_needs_a_run_that_has_not_diverged():
    runs = [replace(run, diverged_in=1) for run in reset_runs()]
    with pytest.raises(UserError, match="figure S2 needs a run that has not diverged"):
        figS2.measure(runs)


def test_other_figures_refuse_a_run_that_diverged():
    runs = sweep()
    with pytest.raises(UserError, match="diverged in epoch 3: there is no trained network"):
        figE3.measure([replace(runs[0], diverged_in=3), *runs[1:]])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"lost": LOST | {"SuperSpike": 0.1}}, {"C9.1", "C9.2"}),
        ({"lost": LOST | {"SuperSpike": -0.1}}, {"C9.1", "C9.2"}),  # better is a difference, too
        ({"lost": LOST | {"SigmoidDerivative": 0.0}}, {"C9.3", "C9.4"}),
        ({"lost": LOST | {"SigmoidDerivative": 0.015}, "jitter": 0}, {"C9.3", "C9.4"}),  # too little to be a harm
        ({"lost": LOST | {"SigmoidDerivative": -0.2}}, {"C9.3", "C9.4"}),
        ({"detached": DETACHED | {"SigmoidDerivative": 0.88}}, {"C9.5", "C9.6"}),
    ],
)
def test_s2_a_verdict_turns_when_the_records_do(changed, expected):
    assert failing(figS2.claims(figS2.measure(reset_runs(**changed)))) == expected


def test_s2_the_error_is_pooled_over_the_pairs():
    """The three seeds differ by 0, -j and -2j: s.d. 2j/2 = 0.02 in all 4 scaled pairs; 8 degrees of freedom."""
    (pair, *_) = figS2._compare({"a": np.array([0.0, 0.2])}, {"a": np.zeros(2)}, 100, 0.05).values()
    assert pair[1] == pytest.approx(12.706 * 0.1, rel=1e-3)
    claim = figS2.claims(figS2.measure(reset_runs(jitter=0.01)))[0]
    assert f"difference +0.000 ± {2.306 * 0.02 / np.sqrt(3):.2g}" in claim.measured
    assert "95 %, 3 seeds, spread pooled" in claim.measured


def test_s2_seeds_that_disagree_are_no_evidence_of_equality():
    """Attached and detached differ by 0.06; over seeds that scatter so much, the interval would contain 0."""
    lost = LOST | {"SuperSpike": 0.06}
    assert failing(figS2.claims(figS2.measure(reset_runs(lost=lost, jitter=0.08)))) >= {"C9.1", "C9.2"}


@pytest.mark.parametrize(
    ("lost", "jitter", "verdict"),
    [
        (0.06, 0.08, "undecided at this scale"),  # ± 0.2: neither a difference nor none
        (0.06, 0.001, "contradicted"),
        (-0.3, 0.08, "contradicted"),  # beyond any doubt
        (0.01, 0.001, "reproduced"),
    ],
)
def test_s2_intervals_that_are_too_wide_decide_nothing(lost, jitter, verdict):
    claims = figS2.claims(figS2.measure(reset_runs(lost=LOST | {"SuperSpike": lost}, jitter=jitter)))
    assert claims[0].verdict == verdict


@pytest.mark.parametrize(
    ("pairs", "none", "open"),
    [
        ([(0.01, 0.03)], True, False),
        ([(0.03, 0.015)], False, True),  # certainly a difference, perhaps one that matters
        ([(0.015, 0.001)], True, False),  # certainly one that does not matter
        ([(0.01, 0.045)], False, True),  # it may be 0.055
        ([(0.01, 0.03), (0.04, 0.03)], False, True),
        ([(0.01, 0.03), (-0.04, 0.01)], False, False),
        ([(0.0, math.inf)], False, True),
    ],
)
def test_no_difference_needs_an_interval_without_one_that_matters(pairs, none, open):
    found, what = no_difference(pairs, small=0.02, wide=0.05)
    assert (found, bool(what)) == (none, open)


def test_s2_networks_that_never_learn_are_not_slower_by_nothing_for_certain():
    both = ("SigmoidDerivative", "ScaledSigmoidDerivative")
    found = {claim.id: claim for claim in figS2.claims(figS2.measure(diverged_both_ways(reset_runs(), *both)))}
    for number in (5, 6):
        assert found[f"C9.{number}"].verdict == "undecided at this scale"
        assert "± 0," not in found[f"C9.{number}"].measured
        assert found[f"C9.{number}"].qualification.endswith("3 of 6 networks with scaling diverge")


@pytest.mark.parametrize(
    ("intervals", "holds", "undecided"),
    [
        ([(0.5, 0.4, 0.6), (0.9, 0.8, 0.99)], True, ""),
        ([(0.5, 0.4, 0.6), (0.9, 0.8, 1.1)], False, "more"),
        ([(0.9, 0.8, 1.1), (1.5, 1.2, 1.9)], False, ""),  # one is above for certain
    ],
)
def test_one_number_beyond_doubt_contradicts_all_of_them(intervals, holds, undecided):
    assert all_below(1, iter(intervals), "more") == {"holds": holds, "undecided": undecided}


def test_the_power_is_what_repetitions_find():
    """20,000 experiments of 4 pairs, s.d. 1; s.e. of the share 0.003."""
    critical = 3.182
    said = power_text(critical / math.sqrt(4), degrees=3)
    difference = float(re.fullmatch(r"a difference of (\S+) would be found in 80 % of repetitions", said)[1])
    draws = np.random.default_rng(0).normal(difference, 1, (20_000, 4))
    found = np.abs(draws.mean(1)) * 2 > critical * draws.std(1, ddof=1)
    assert found.mean() == pytest.approx(0.8, abs=0.015)  # the difference is printed with two digits
    assert power_text(math.inf, degrees=0) == ""


def test_e3_what_depends_on_one_seed_is_undecided():
    """Within 1.25 times the best on the mean of three seeds, but not on every one of them."""
    x = np.array([1.0, 2.0, 10.0])
    for spread, verdict in ((0.01, "reproduced"), (0.2, "undecided at this scale")):
        values = np.array([[1.2 - spread, 1.2, 1.2 + spread], [1.0, 1.0, 1.0], [1.1, 1.1, 1.1]])
        line = {"mode": "escape_noise", "settings": {}, "x": x, "values": {"distance": values}}
        numbers = {"measures": ["distance"], "axis": "beta", "less_is_better": True, "seeds": [1, 2, 3], "scale": ""}
        (claim,) = figE3.claims(numbers | {"lines": [line]})
        assert claim.verdict == verdict
        assert claim.decides.startswith("in a decade worse than the best by at most 0.20 ± ")


def test_s2_one_seed_has_a_binomial_error():
    """1.96 sqrt(2 * 0.9 * 0.1 / 400) = 0.042"""
    claim = figS2.claims(figS2.measure(reset_runs(seeds=(1,))))[0]
    assert "SuperSpike attached 0.9, detached 0.9, difference +0.000 ± 0.042" in claim.measured
    assert "binomial, 1 seed" in claim.measured


def test_s2_runs_that_cannot_be_compared_are_refused():
    good = reset_runs()
    with pytest.raises(UserError, match="figure S2"):
        figS2.measure([])
    for wrong, message in (
        (good[:-1], r"figure S2 \(ScaledSuperSpike, reset attached\) needs the same seeds in both neuron modes"),
        ([r for r in good if r.config["neuron"]["reset_gradient"] == "detached"], "reset attached"),
        ([r for r in good if "SigmoidD" not in r.config["surrogate"]["_target_"]], "Sigmoid"),
        (good + good[:1], "needs one run for each seed"),
        (good + reset_runs(seeds=(4,), recurrent=0), "some with and some without recurrent connections"),
        (good + reset_runs(seeds=(4,), test_samples=7), "test_samples is 500 and 7"),
        (good + reset_runs(seeds=(4,), detached={"SuperSpike": 0.9}), "the same seeds for every surrogate"),
    ):
        with pytest.raises(UserError, match=message):
            figS2.claims(figS2.measure(wrong))


def test_s2_is_drawn_with_surrogates_in_the_order_of_their_peaks_and_others_after_them(tmp_path):
    numbers = figS2.measure(reset_runs(detached={"RectifiedLinear": 0.8} | DETACHED))
    assert list(numbers["beta"]) == [*DETACHED, "RectifiedLinear"]
    paths = save_figure("figS2", figS2.draw, numbers, tmp_path)
    written = json.loads(paths[2].read_text())
    np.testing.assert_allclose(written["final"]["escape_noise"]["SuperSpike"]["attached"]["test"], [0.91, 0.9, 0.89])
    assert written["curves"]["deterministic"]["SigmoidDerivative"]["attached"]["validation"]["mean"][
        -1
    ] == pytest.approx(0.4)


# -- figure E3 ---------------------------------------------------------------------------------------------------------

NOISES = {
    "SigmoidEscape": {"beta": 10.0},
    "ErfEscape": {"sigma": 0.16},
    "ExponentialEscape": {"p0": 0.5, "delta_u": 0.2},
}


def sweep(distance=lambda beta, escape: 0.1, betas=(1, 10, 100), seeds=(1, 2), escapes=NOISES, task="spike_matching"):
    """Runs of both modes over ``betas`` and ``escapes`` with the given final van Rossum distance or accuracy."""
    runs = []
    for mode in ("deterministic", "escape_noise"):
        for escape in escapes:
            for beta in betas:
                for seed in seeds:
                    hidden = {"_target_": f"sgtheory.neurons.{escape}", **NOISES[escape]}
                    config = {
                        "seed": seed,
                        "task": {"name": task, "split_seed": seed, "escape": {"hidden": hidden}, "kernels": [1, 2]},
                        "neuron": {"mode": mode},
                        "surrogate": {"_target_": "sgtheory.neurons.SuperSpike", "beta": beta},
                        "trainer": {"epochs": 20},
                    }
                    value = distance(beta, escape if mode == "escape_noise" else None) * (1 + 0.001 * seed)
                    end = [9.0] * 18 + [value] * 3
                    layers = ("output",) if task == "spike_matching" else ("validation", "training")
                    metrics = ("van_rossum", "l2") if task == "spike_matching" else ("accuracy",)
                    runs.append(make_run(config, {(m, layer): end for m in metrics for layer in layers}))
    return runs


def test_e3_lines_follow_from_what_was_swept():
    """Seeds are averaged, with what follows from them; noise that a deterministic network has not makes no line."""
    numbers = figE3.measure(sweep(lambda beta, escape: beta))
    assert [(line["mode"], figE3._name(line["settings"])) for line in numbers["lines"]] == [
        ("deterministic", ""),
        ("escape_noise", "Erf"),
        ("escape_noise", "Exponential"),
        ("escape_noise", "Sigmoid"),
    ]
    for line in numbers["lines"]:
        np.testing.assert_array_equal(line["x"], [1, 10, 100])
        expected = np.outer([1, 10, 100], [1.001, 1.002])
        np.testing.assert_allclose(line["values"]["van Rossum distance"], expected)


def test_e3_any_setting_can_be_the_axis_or_a_line():
    runs = sweep(escapes=("SigmoidEscape",))
    by_beta = figE3.measure(runs, axis="surrogate.beta")["lines"]
    assert [line["settings"] for line in by_beta] == [{}, {}]
    for run in runs:
        run.config["task"]["eps0"] = run.config["surrogate"]["beta"] / 100  # follows from beta: one line as before
    assert [line["settings"] for line in figE3.measure(runs)["lines"]] == [{}, {}]
    np.testing.assert_allclose(figE3.measure(runs, axis="task.eps0")["lines"][0]["x"], [0.01, 0.1, 1])
    other = sweep(escapes=("SigmoidEscape",))
    for run in other:
        run.config["surrogate"]["_target_"] = "sgtheory.neurons.SigmoidDerivative"
    lines = figE3.measure(runs + other)["lines"]
    names = [(line["mode"], figE3._name(line["settings"])) for line in lines]
    surrogates = ("SigmoidDerivative", "SuperSpike")
    assert names == [(mode, name) for mode in ("deterministic", "escape_noise") for name in surrogates]


def claims_of(*args, **kwargs):
    return figE3.claims(figE3.measure(sweep(*args, **kwargs)))


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (lambda beta, escape: 0.1, set()),
        (lambda beta, escape: 0.1 if beta > 5 else 0.2, set()),  # a decade is left
        (lambda beta, escape: 0.1 if beta == 10 else 0.13, {"E3.1", "E3.2"}),
        (lambda beta, escape: 0.1 if beta == 10 or not escape else 0.13, {"E3.2"}),
        (lambda beta, escape: 0.11 if escape == "ErfEscape" else 0.1, {"E3.4"}),
        (lambda beta, escape: 0.104 if escape == "ErfEscape" else 0.1, set()),
    ],
)
def test_e3_a_verdict_turns_when_the_records_do(distance, expected):
    claims = claims_of(distance)
    assert [claim.id for claim in claims] == ["E3.1", "E3.2", "E3.4"]
    assert failing(claims) == expected


def test_e3_accuracy_is_better_when_it_is_more():
    claims = claims_of(lambda beta, escape: 0.9 if beta < 50 else 0.2, task="classification")
    assert not failing(claims)
    assert "1 to 10 (all: 0.2 to 0.901)" in claims[0].measured
    peak = claims_of(lambda beta, escape: 0.9 if beta == 10 else 0.8, task="classification")
    assert failing(peak) == {"E3.1", "E3.2"}


def test_e3_a_narrow_axis_says_nothing_of_a_decade():
    assert [claim.statement[:2] for claim in claims_of(betas=(5, 10))] == ["It"]


def test_e3_at_one_steepness_compares_escape_functions_alone():
    """Two widths of the same function are two lines, named by their parameters; ids do not depend on what was run."""
    runs = sweep(lambda beta, escape: 0.2 if escape == "ErfEscape" else 0.1, betas=(10,))
    (claim,) = figE3.claims(figE3.measure(runs))
    assert (claim.id, claim.verdict) == ("E3.3", "contradicted")
    assert "Erf +1.000" in claim.measured
    other = sweep(betas=(10,), escapes=["ErfEscape"])
    for run in other:
        run.config["task"]["escape"]["hidden"]["sigma"] = 0.2
    stochastic = [run for run in other if run.config["neuron"]["mode"] == "escape_noise"]
    (claim,) = figE3.claims(figE3.measure(runs + stochastic))
    assert "Erf, σ = 0.16 " in claim.measured
    assert "Erf, σ = 0.2 " in claim.measured


def test_e3_at_one_steepness_differences_are_drawn(tmp_path):
    """For each escape function but the sigmoid a dot for each seed, in two panels."""
    numbers = figE3.measure(sweep(lambda beta, escape: 0.2 if escape == "ErfEscape" else 0.1, betas=(10,)))
    figure = figE3.draw(numbers)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Erf", "Exponential"]
    for axes in figure.axes:
        first, second = (line for line in axes.lines if line.get_color() == "0.6")
        np.testing.assert_allclose(first.get_xdata(), 1.0)
        np.testing.assert_allclose(second.get_xdata(), 0.0, atol=1e-12)
    assert len(save_figure("figE3_escape", figE3.draw, numbers, tmp_path)) == 3


def test_e3_intervals_that_are_too_wide_decide_nothing():
    runs = sweep(lambda beta, escape: 0.1, betas=(10,), seeds=(1, 2, 3))
    for run in runs:
        if run.config["task"]["escape"]["hidden"]["_target_"].endswith("ErfEscape"):
            run.records.loc[run.records.metric == "van_rossum", "value"] *= (0.8, 1.0, 1.3)[run.config["seed"] - 1]
    (claim,) = figE3.claims(figE3.measure(runs))
    assert claim.verdict == "undecided at this scale"


def test_e3_runs_that_cannot_be_drawn_are_refused():
    runs = sweep()
    for wrong, axis, message in (
        ([], "surrogate.beta", "runs of one task"),
        (runs + sweep(task="classification"), "surrogate.beta", "runs of one task"),
        (sweep(betas=(10,), escapes=["ErfEscape"]), "surrogate.beta", "several values of surrogate.beta"),
        (runs, "surrogate.bta", "figure.axis = surrogate.bta: must be a setting that is a number"),
        (runs, "surrogate._target_", "must be a setting that is a number"),
        (runs, "task.escape.hidden.beta", "must be a setting that is a number in every run"),
        (runs[:-1], "surrogate.beta", "the same seeds"),
    ):
        with pytest.raises(UserError, match=message):
            figE3.measure(wrong, axis)


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_e3_is_drawn_with_any_number_of_values(seeds, tmp_path):
    numbers = figE3.measure(sweep(betas=(1, 2, 5, 10, 20, 50, 100, 200), seeds=seeds))
    paths = save_figure("figE3", figE3.draw, numbers, tmp_path)
    written = json.loads(paths[2].read_text())
    assert written["lines"][0]["x"] == [1, 2, 5, 10, 20, 50, 100, 200]


# -- from a sweep to the figure ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_e3_from_training_to_figure(script, tmp_path):
    """As `make figE3` does, small, with other values than those of the experiment."""
    overrides = ("experiment=figE3", "trainer.epochs=10", "surrogate.beta=1,20", "seed=1,2", "escape=sigmoid,erf")
    overrides = (*overrides, "task.target.rows=20", "task.target.steps=30", f"runs={tmp_path / 'runs'}")
    trained = script("train.py", "-m", *overrides)
    assert trained.returncode == 0, trained.stderr
    drawn = script("figure.py", *overrides, f"output={tmp_path}")
    assert drawn.returncode == 0, drawn.stderr
    lines = json.loads((tmp_path / "figE3.json").read_text())["lines"]
    assert [(line["mode"], line["x"]) for line in lines] == [
        ("deterministic", [1.0, 20.0]),
        ("escape_noise", [1.0, 20.0]),
        ("escape_noise", [1.0, 20.0]),
    ]


@pytest.mark.slow
def test_s2_from_training_to_figure(script, tmp_path):
    data = ("data=randman", "data.classes=3", "data.train=30", "data.test=9", "task.training_samples=null")
    small = ("task.test_samples=null", "trainer.epochs=1", "task.fano_trials=4", "seed=1", "task.channels=[4,4,4]")
    overrides = ("experiment=figS2", *data, *small, f"runs={tmp_path / 'runs'}")
    trained = script("train.py", "-m", *overrides)
    assert trained.returncode == 0, trained.stderr
    drawn = script("figure.py", *overrides, f"output={tmp_path}")
    assert drawn.returncode == 0, drawn.stderr
    assert list(json.loads((tmp_path / "figS2.json").read_text())["beta"].values()) == [10.0] * 4
