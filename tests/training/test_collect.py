"""One table from many runs: what counts, how it is averaged, and what is said about the rest."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from collect import main
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.errors import UserError
from sgtheory.training import collect, widen

CURVE = {"l2": {0: 9.0, 10: 4.0, 20: 6.0}}


def make_run(folder, name, records, finished=True, seed=1, task="spike_matching", **settings):
    """A run directory as the runner leaves it; ``records`` are values by metric and epoch."""
    directory = folder / name
    directory.mkdir(parents=True)
    config = {"neuron": {"mode": "deterministic"}, "trainer": {"epochs": 20}, "seed": seed, **settings}
    config["task"] = {"name": task, "split_seed": seed, "hidden": 5}
    (directory / "config.json").write_text(json.dumps(config))
    rows = [(name, epoch, m, "output", value) for m, values in records.items() for epoch, value in values.items()]
    pd.DataFrame(rows, columns=["run", "epoch", "metric", "layer", "value"]).to_csv(
        directory / "records.csv", index=False
    )
    if finished:
        (directory / "finished.json").write_text("{}")
    return directory


def last(*values):
    return [{"l2": {0: 0.0, 5: value}} for value in values]


@pytest.fixture
def sweep(tmp_path):
    """Two steepnesses with three seeds each; the last run of the second one is not finished."""
    for beta, values in ((5, (1.0, 2.0, 6.0)), (20, (3.0, 4.0, 100.0))):
        for seed, records in enumerate(last(*values), start=1):
            finished = (beta, seed) != (20, 3)
            make_run(tmp_path, f"b{beta}-{seed}", records, finished, seed, surrogate={"beta": beta})
    return tmp_path


def test_seeds_are_averaged_and_unfinished_runs_are_not(sweep):
    (collection,) = collect(sweep)
    assert collection.unfinished == ["b20-3"]
    assert list(collection.settings) == ["surrogate.beta"]  # task.split_seed follows the seed
    table = collection.summary().set_index("surrogate.beta")
    assert table.loc[5, ["finished", "unfinished", "n", "mean"]].tolist() == [3, 0, 3, 3.0]
    assert table.loc[20, ["finished", "unfinished", "n", "mean"]].tolist() == [2, 1, 2, 3.5]
    assert table.loc[5, "sd"] == pytest.approx(math.sqrt(7))
    half = 4.302652729911275 * math.sqrt(7 / 3)  # Student's t with 2 degrees of freedom, 97.5 %
    assert table.loc[5, ["ci95_low", "ci95_high"]].tolist() == pytest.approx([3 - half, 3 + half])


@settings(max_examples=20)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_statistics_are_those_of_numpy(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("runs")
    for seed, records in enumerate(last(*values)):
        make_run(folder, str(seed), records, seed=seed)
    row = collect(folder)[0].summary().iloc[0]
    assert row.n == len(values)
    assert row["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    if len(values) == 1:
        assert np.isnan([row.sd, row.ci95_low, row.ci95_high]).all()
    else:
        assert row.sd == pytest.approx(np.std(values, ddof=1), abs=1e-6)
        assert row.ci95_high + row.ci95_low == pytest.approx(2 * row["mean"], abs=1e-6)


@pytest.mark.parametrize(("at", "value"), [("last", 6.0), ("best", 4.0), ("mean:11", 5.0), ("mean:10", 6.0)])
def test_which_value_of_the_course(tmp_path, at, value):
    make_run(tmp_path, "run", CURVE)
    assert collect(tmp_path, at=at)[0].values.value.tolist() == [value]


def test_best_is_the_largest_accuracy_and_leaves_out_what_has_no_better(tmp_path):
    make_run(tmp_path, "run", {"rate": {0: 1.0}}, task="classification")
    frame = pd.DataFrame([("run", e, "accuracy", "test", v) for e, v in ((0, 0.2), (1, 0.8), (2, 0.7))])
    frame.to_csv(tmp_path / "run" / "records.csv", mode="a", header=False, index=False)
    assert collect(tmp_path, at="best")[0].values[["metric", "value"]].to_numpy().tolist() == [["accuracy", 0.8]]


def test_what_is_not_a_number_does_not_count(tmp_path):
    for seed, records in enumerate(last(1.0, float("nan"), 3.0)):
        make_run(tmp_path, str(seed), records, seed=seed)
    row = collect(tmp_path)[0].summary().iloc[0]
    assert (row.finished, row.n, row["mean"]) == (3, 2, 2.0)


def test_a_copy_of_a_run_is_not_another_seed(tmp_path):
    for name in ("a/run", "b/run"):
        make_run(tmp_path, name, CURVE, surrogate={"beta": 10 if name[0] == "a" else 10.0})
    (collection,) = collect(tmp_path)
    assert collection.copies == ["b/run"]
    assert collection.summary().n.tolist() == [1]


def test_by_pools_the_other_settings(sweep):
    make_run(sweep, "other", CURVE, surrogate={"beta": 5}, neuron={"mode": "escape_noise"})
    (collection,) = collect(sweep)
    assert list(collection.settings) == ["neuron.mode", "surrogate.beta"]
    assert len(collection.summary()) == 3
    assert collection.summary(["surrogate.beta"]).n.tolist() == [4, 2]


def test_lists_text_and_missing_settings_are_told_apart(tmp_path):
    for i, setting in enumerate(([1, 2], [1, 3], "x", None, True)):
        make_run(tmp_path, str(i), CURVE, data={"a": setting})
    make_run(tmp_path, "none", CURVE)
    assert len(collect(tmp_path)[0].summary()) == 6


def test_each_task_has_its_own_settings(tmp_path):
    make_run(tmp_path, "a", CURVE, surrogate={"beta": 5})
    make_run(tmp_path, "b", {"accuracy": {0: 0.5}}, task="classification", trainer={"epochs": 3})
    assert [(c.task, len(c.settings.columns)) for c in collect(tmp_path)] == [
        ("spike_matching", 0),
        ("classification", 0),
    ]
    assert [c.task for c in collect(tmp_path, metrics=["accuracy"])] == ["classification"]


def test_wide_and_long_hold_the_same_numbers(sweep):
    for seed in (1, 2):
        path = sweep / f"b5-{seed}" / "records.csv"
        path.write_text(f"{path.read_text()}b5-{seed},5,rate,output,{seed}\n")
    long = collect(sweep)[0].summary()
    wide = widen(long)
    assert wide["surrogate.beta"].tolist() == [5, 20]
    assert wide.rate_output_n.tolist() == [2, pd.NA]
    for row in long.itertuples():
        (cell,) = wide[wide["surrogate.beta"] == row[long.columns.get_loc("surrogate.beta") + 1]].itertuples()
        assert getattr(cell, f"{row.metric}_output_mean") == row.mean
        assert getattr(cell, f"{row.metric}_output_ci95_low") == row.ci95_low


def damage(name, content):
    return lambda folder: (folder / "b5-1" / name).write_text(content)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (damage("records.csv", "nonsense\n1,2"), {}, "records.csv"),
        (damage("records.csv", ""), {}, "records.csv has columns"),
        (damage("records.csv", "run,epoch,metric,layer,value\nr,x,l2,output,1\n"), {}, "records.csv"),
        (damage("config.json", "{"), {}, "config.json cannot be read as the configuration of a run"),
        (damage("config.json", "[]"), {}, "config.json cannot be read as the configuration of a run"),
        (damage("config.json", '{"seed": 1}'), {}, "config.json: task.name must be a text"),
        (damage("config.json", "{"), {}, "b5-1 to train this run again"),
        (damage("records.csv", ""), {}, "b5-1 to train this run again"),
        (damage("finished.json", "{"), {}, "b5-1 to train this run again"),
        (None, {"metrics": ["l3"]}, "--metric l3: the metrics of these runs are l2"),
        (None, {"layers": ["hidden"]}, "--layer hidden: the layers of these runs are output"),
        (None, {"at": "end"}, "--at = 'end': must be last, best or mean:K"),
        (None, {"at": "mean:0"}, "--at = 'mean:0'"),
        (None, {"at": "mean:12"}, "--at = 'mean:12': b20-1 has 6 epochs"),
    ],
)
def test_mistakes_are_named(sweep, change, arguments, message):
    if change:
        change(sweep)
    with pytest.raises(UserError) as error:
        collect(sweep, **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_without_runs_are_named(tmp_path):
    with pytest.raises(UserError, match="there are no runs in"):
        collect(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        collect(tmp_path / "wrong")


def test_the_command_prints_a_table_and_writes_csv(sweep, tmp_path, capsys):
    out = tmp_path / "out.csv"
    main([str(sweep), "--metric", "l2", "--csv", str(out)])
    printed = capsys.readouterr().out
    assert "3 (2.6, 3) [-3.572, 9.572]" in printed
    assert "2 of 3" in printed
    assert "unfinished or diverged: b20-3" in printed
    table = pd.read_csv(out)
    assert table.l2_output_mean.tolist() == [3.0, 3.5]
    main([str(sweep), "--csv", str(out)])
    assert pd.read_csv(out)[["metric", "n", "mean"]].to_numpy().tolist() == [["l2", 3, 3.0], ["l2", 2, 3.5]]
    assert "[-3.572, 9.572]" in capsys.readouterr().out


def test_the_command_names_a_setting_that_does_not_exist(sweep):
    with pytest.raises(UserError, match=r"--by beta: these runs differ in surrogate\.beta"):
        main([str(sweep), "--by", "beta"])


def test_the_command_shows_runs_that_are_all_unfinished(tmp_path, capsys):
    make_run(tmp_path, "run", CURVE, finished=False)
    main([str(tmp_path), "--metric", "l2"])
    assert "0 of 1" in capsys.readouterr().out


def test_settings_that_vary_together_are_one_column_in_print_and_all_in_csv(tmp_path, capsys):
    for seed, (beta, trials) in enumerate(((5, 1), (5, 1), (20, 10))):
        make_run(tmp_path, str(seed), CURVE, seed=seed, surrogate={"beta": beta}, trainer={"epochs": trials})
    main([str(tmp_path), "--metric", "l2", "--csv", str(tmp_path / "out.csv")])
    assert "with surrogate.beta also differ: trainer.epochs" in capsys.readouterr().out
    assert {"surrogate.beta", "trainer.epochs"} <= set(pd.read_csv(tmp_path / "out.csv").columns)


def test_pictures_have_names_and_digits_only_where_they_need_them(tmp_path):
    def settings(pictures):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for number, (path, content) in enumerate(pictures):
            extra = {"contents": {"task.target.image": content}} if path else {}
            run = make_run(folder, f"r{number}", CURVE, **extra)
            config = json.loads((run / "config.json").read_text())
            config["task"]["target"] = {"image": path}
            (run / "config.json").write_text(json.dumps(config))
        return collect(folder)[0].settings

    assert settings([("a/one.png", "1" * 64), ("b/two.png", "2" * 64), (None, None)]).to_dict("list") == {
        "task.target.image": ["one.png", "two.png", ""]
    }
    changed = settings([("a/one.png", "1" * 64), ("a/one.png", "2" * 64)])
    assert changed["task.target.image"].tolist() == ["one.png 11111111", "one.png 22222222"]
    moved = settings([("a/one.png", "1" * 64), ("b/one.png", "1" * 64)])
    assert moved["task.target.image"].tolist() == ["a/one.png 11111111", "b/one.png 11111111"]
