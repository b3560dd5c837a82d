"""Two sets of results are equal, or not, and what differs is named."""

import json

import numpy as np
import pandas as pd
import pytest
from report_cases import claim

from sgtheory.report import against_published, compare
from sgtheory.report._difference import relative_difference

pytest_plugins = ("report_fixtures",)

NUMBERS = {
    "beta": 10.0,
    "curve": {"mean": [1.0, 2.0, None], "name": "a"},
    "raster": ["0101", "1000"],
    "table": [{"value": 3.0}, {"value": 4.0}],
    "rounding": 1e-12,
}


def write_numbers(folder, name="fig1", verdict="reproduced", **changed):
    folder.mkdir(exist_ok=True)
    numbers = {**NUMBERS, **changed, "claims": [claim("C1", verdict)]}
    (folder / f"{name}.json").write_text(json.dumps(numbers))
    return folder


def write_run(folder, mode="deterministic", seed=1, version="0.1.0", scale=1.0, epochs=20):
    config = {
        "seed": seed,
        "version": version,
        "neuron": {"mode": mode},
        "trainer": {"backend": "cpu", "epochs": epochs},
    }
    config["task"] = {"name": "spike_matching", "split_seed": seed}
    directory = folder / f"{mode}-seed{seed}-{version}"
    directory.mkdir(parents=True)
    rows = [(directory.name, epoch, "l2", "output", scale * max(100 - epoch, 82)) for epoch in range(epochs)]
    rows.append((directory.name, 0, "fano", "hidden", 0.5))
    frame = pd.DataFrame(rows, columns=["run", "epoch", "metric", "layer", "value"])
    frame.to_csv(directory / "records.csv", index=False)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "finished.json").write_text("{}")


CHANGES = [
    ({}, None, 0.0),
    ({"rounding": 2e-12}, None, 0.0),
    ({"provenance": {"versions": {"torch": "another"}}}, None, 0.0),
    ({"beta": 10.5}, "beta", 0.5 / 10.5),
    ({"curve": {"mean": [1.0, 2.2, None], "name": "a"}}, "curve.mean", 0.2 / 2.2),
    ({"curve": {"mean": [1.0, 2.0, 3.0], "name": "a"}}, "curve.mean", np.inf),
    ({"curve": {"mean": [1.0, 2.0], "name": "a"}}, "curve.mean", np.inf),
    ({"curve": {"mean": [1.0, 2.0, None], "name": "b"}}, "curve.name", np.inf),
    ({"raster": ["0101", "1001"]}, "raster", 1.0),
    ({"table": [{"value": 3.0}, {"value": 5.0}]}, "table[1].value", 0.2),
    ({"more": 1}, "more", np.inf),
    ({"verdict": "contradicted"}, "verdict of C1", np.inf),
]


@pytest.mark.parametrize(("changed", "what", "relative"), CHANGES, ids=[str(c[1]) for c in CHANGES])
def test_a_number_that_differs_is_named(changed, what, relative, tmp_path):
    folders = write_numbers(tmp_path / "a"), write_numbers(tmp_path / "b", **changed)
    for first, second in (folders, folders[::-1]):
        beyond = [d for d in compare(first, second, absolute=1e-9) if d.relative > 0]
        assert [d.what for d in beyond] == ([what] if what else [])
        if what:
            assert beyond[0].relative == pytest.approx(relative)


def test_the_tolerance_decides(tmp_path, report_command):
    a, b = write_numbers(tmp_path / "a"), write_numbers(tmp_path / "b", beta=10.1)
    code, out, _ = report_command("--diff", a, b, columns=80)
    assert code == 1
    assert "beta" in out
    assert "0.0099" in out
    code, out, _ = report_command("--diff", a, b, "--tolerance", "0.01")
    assert code == 0
    assert "beta" not in out
    code, out, _ = report_command("--diff", a, b, "--absolute", "0.2")
    assert code == 0


def test_a_verdict_that_changed_comes_first(tmp_path, report_command):
    a = write_numbers(tmp_path / "a")
    b = write_numbers(tmp_path / "b", verdict="contradicted", beta=None, raster=["0"])
    lines = [line for line in report_command("--diff", a, b)[1].splitlines() if "fig1.json" in line]
    assert "verdict of C1" in lines[0]
    assert "contradicted" in lines[0]


def test_equal_runs_are_compared_one_to_one_whoever_ran_them(tmp_path):
    for version, scale, seeds in (("0.1.0", 1.0, (1, 2)), ("0.2.0", 1.1, (2, 1))):
        for seed in seeds:
            write_run(tmp_path / version, seed=seed, version=version, scale=scale if seed == 2 else 1.0)
    found = {d.where: d for d in compare(tmp_path / "0.1.0", tmp_path / "0.2.0", 1e-9) if d.what == "l2, output"}
    assert len(found) == 2
    assert found["deterministic-seed1-0.1.0"].relative == 0
    assert found["deterministic-seed2-0.1.0"].relative == pytest.approx(0.1 / 1.1)
    assert found["deterministic-seed1-0.1.0"].first == "82"  # mean over epochs 18 and 19


def test_other_seeds_are_compared_by_their_means(tmp_path):
    for folder, seeds in (("a", (1, 2)), ("b", (3,))):
        for seed in seeds:
            write_run(tmp_path / folder, seed=seed, scale=seed)
    (d,) = [d for d in compare(tmp_path / "a", tmp_path / "b", 1e-9) if d.what == "l2, output"]
    assert d.where == "deterministic-seed1-0.1.0 (seeds 1, 2 | 3)"
    assert d.relative == pytest.approx((3 - 1.5) / 3)


def test_what_is_in_one_folder_only_is_a_difference(tmp_path, report_command):
    for folder in ("a", "b"):
        write_run(tmp_path / folder)
        write_numbers(tmp_path / folder)
    assert report_command("--diff", tmp_path / "a", tmp_path / "b")[0] == 0
    write_run(tmp_path / "b", mode="escape_noise")
    write_numbers(tmp_path / "a", name="fig2")
    code, out, _ = report_command("--diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert "fig2.json" in out
    assert "escape_noise-seed1-0.1.0" in out
    assert out.count("not there") == 2


MISTAKES = [
    (lambda a, b: b.rmdir(), "is not a folder"),
    (lambda a, b: None, "in common"),
    (lambda a, b: (b / "fig1.json").write_text("{"), "fig1.json cannot be read"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_a_mistake_gets_one_sentence(mistake, message, tmp_path, report_command):
    a, b = write_numbers(tmp_path / "a"), tmp_path / "b"
    b.mkdir()
    mistake(a, b)
    code, _, errors = report_command("--diff", a, b)
    assert code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors


def test_relative_difference_of_nothing_and_of_zeros():
    assert relative_difference(np.array([]), np.array([])) == 0
    assert relative_difference(np.zeros(3), np.zeros(3)) == 0
    assert relative_difference(np.array([np.nan]), np.array([np.nan])) == 0
    assert relative_difference("a", np.zeros(1)) == np.inf


def test_a_figure_is_compared_with_the_published_one_in_one_line(tmp_path):
    published = tmp_path / "fig6.json"
    theirs = {"seeds": [1, 2, 3], "final": {"l2": [1.0, 2.0, 3.0], "rate": [5.0, 5.0, 5.0]}, "claims": [claim("C10")]}
    published.write_text(json.dumps(theirs))
    line = against_published(theirs | {"final": {"l2": [4.0, 5.0], "rate": [6.0]}}, published)
    assert line == f"published {published.name}: same verdicts (1); largest deviation 2.5 s.d. over seeds (l2)"
    line = against_published(theirs | {"claims": [claim("C10", "contradicted")]}, published)
    differ = "other verdicts: C10 contradicted (published: reproduced)"
    assert line == f"published {published.name}: {differ}; largest deviation 0 s.d. over seeds"
    theory = {"gap": 2.0, "claims": [claim("C1")]}
    published.write_text(json.dumps(theory))
    assert against_published(theory | {"gap": 1.5}, published).endswith("0.25 of the largest value (gap)")
