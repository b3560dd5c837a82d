"""The ledger says of every claim what the figures say, and ends with the right exit code."""

import importlib
import json

import pytest
from conftest import ROOT
from omegaconf import OmegaConf
from report_cases import claim

from sgtheory.claims import Claim, from_json, to_json
from sgtheory.errors import UserError
from sgtheory.report import find_figures, make_ledger, measure_quickly, provenance, show_claims
from sgtheory.report._ledger import Drawn, scale
from sgtheory.report._provenance import command
from sgtheory.report._quick import PROFILED, REDUCED, TRAINED, _run
from sgtheory.report._registry import KNOWN, TOPICS
from sgtheory.report._setup import setup_claims
from sgtheory.training import CONF, Run

pytest_plugins = ("report_fixtures",)

PUBLISHED = ROOT / "figures" / "published"
SETUP = {"C10.network", "C11.network"}


def test_every_claim_of_the_figures_is_in_the_ledger_as_it_is():
    figures = find_figures(PUBLISHED)
    entries = {entry.id: entry for entry in make_ledger(figures)}
    written = [c for path in PUBLISHED.glob("*.json") for c in json.loads(path.read_text())["claims"]]
    assert len({c["id"] for c in written}) > 20
    for c in written:
        entry = entries[c["id"]]
        assert (entry.statement, entry.expected) == (c["statement"], c["expected"])
    missing = {topic for topic in TOPICS if not any(id.partition(".")[0] == topic for id in entries)}
    assert not missing
    assert set(entries) >= SETUP


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.json")), ids=lambda path: path.stem)
def test_published_verdicts_follow_from_the_published_numbers(path):
    numbers = json.loads(path.read_text())
    module = importlib.import_module(f"sgtheory.figures.{path.stem.partition('_')[0]}")
    found = module.claims(from_json({key: value for key, value in numbers.items() if key != "claims"}))
    assert [to_json(claim) for claim in found] == numbers["claims"]


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.json")), ids=lambda path: path.stem)
def test_a_published_claim_says_what_an_error_is(path):
    """On a line of its own ± is a 95 % interval, unless that line says otherwise."""
    other = ("s.e.", "error of the integration")
    for each in json.loads(path.read_text())["claims"]:
        assert "±" not in each["expected"], each["id"]
        if "±" in each["measured"]:
            assert any(kind in each["measured"] for kind in ("95 %", *other)), each["id"]
        if "±" in each.get("decides", ""):
            assert "95 %" in each["measured"] or any(kind in each["decides"] for kind in other), each["id"]


def test_what_is_rendered_comes_before_what_is_published(write_figure):
    folder = write_figure("fig1", [claim("C1")])
    (folder / "published").mkdir()
    for name in ("fig1", "fig2"):
        (folder / "published" / f"{name}.json").write_text((folder / "fig1.json").read_text())
    assert {source: figure.folder.name for source, figure in find_figures(folder).items()} == {
        "fig1": "figures",
        "fig2": "published",
    }


def test_what_is_known_not_to_hold_is_in_the_document_that_it_names():
    for name, known in KNOWN.items():
        assert (ROOT / known.document).is_file(), name
    figures = find_figures(PUBLISHED)
    unknown = [e.id for e in make_ledger(figures) if e.verdict == "contradicted" and not e.known]
    assert not unknown, "say in docs/ what is known, then add it to KNOWN in sgtheory/report/_registry.py"


def test_of_several_profiles_the_largest_counts(write_figure):
    for name in ("fig6_quick", "fig6", "fig7", "fig7_paper"):
        folder = write_figure(name, [claim("C10" if name.startswith("fig6") else "C11")])
    assert {source: figure.name for source, figure in find_figures(folder).items()} == {
        "fig6": "fig6",
        "fig7": "fig7_paper",
    }


def test_topics_without_numbers_are_not_run_and_say_how(write_figure):
    entries = make_ledger(find_figures(write_figure("fig1", [claim("C1")])))
    by_id = {entry.id: entry for entry in entries}
    assert by_id["C1"].verdict == "reproduced"
    assert (by_id["C7"].verdict, by_id["C7"].command) == ("not run", "make fig5")
    assert (by_id["C8"].verdict, by_id["C8"].command) == ("not run", "make figE2")
    assert [entry.topic.id for entry in entries] == sorted(
        (entry.topic.id for entry in entries), key=list(TOPICS).index
    )


def test_the_networks_are_those_of_the_tables():
    claims = {c.id: c for c in setup_claims()}
    assert set(claims) == SETUP
    assert all(c.holds for c in claims.values()), claims
    assert "51536 weights" in claims["C11.network"].measured
    assert "200-200-200" in claims["C10.network"].measured


@pytest.mark.parametrize(
    ("override", "id"),
    [
        ("task.hidden=100", "C10"),
        ("task.sigma_u=1.05", "C10"),
        ("task.kernels=[21,7,5]", "C11"),
        ("task.alpha=0.8", "C11"),
    ],
)
def test_another_network_does_not_hold(override, id, monkeypatch):
    import sgtheory.report._setup as module

    original = module.expand
    changed = {"C10": "task=spike_matching", "C11": "task=classification"}[id]
    monkeypatch.setattr(module, "expand", lambda o: original([*o, override] if changed in o else o))
    assert [c.id for c in setup_claims.__wrapped__() if not c.holds] == [f"{id}.network"]


EXIT = [
    ([claim("C1")], (), 0),
    ([claim("C1"), claim("C1.other", "contradicted")], (), 1),
    ([claim("C1"), claim("C1.other", "undecided at this scale")], ("--strict",), 0),
    ([claim("C5.small", "contradicted")], (), 0),
    ([claim("C5.small", "contradicted")], ("--strict",), 1),
]


@pytest.mark.parametrize(("claims", "options", "code"), EXIT)
def test_the_exit_code_says_whether_something_does_not_hold(claims, options, code, write_figure, report_command):
    assert report_command("--figures", write_figure("fig1", claims), *options)[0] == code


@pytest.mark.parametrize("columns", [80, 200])
def test_the_terminal_has_a_line_for_each_claim(columns, write_figure, report_command):
    claims = [claim("C5", decides="gap 0.3 ± 0.1"), claim("C5.small", "contradicted", measured="[red]0.1[/] " * 60)]
    folder = write_figure("figS1", claims)
    code, out, _ = report_command("--figures", folder, columns=columns)
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= columns
    (line,) = (line for line in lines if line.startswith("C5 "))
    assert line.split() == ["C5", "reproduced", "gap", "0.3", "±", "0.1"]
    (line, _) = (line for line in lines if line.startswith("C5.small"))  # and why it is contradicted
    assert "contradicted  [red]0.1[/]" in line
    assert any(line.split() == ["C7", "not", "run", "make", "fig5"] for line in lines)


@pytest.mark.parametrize("columns", [80, 200])
def test_the_terminal_shows_everything_in_its_width_if_asked(columns, write_figure, report_command):
    folder = write_figure(
        "figS1",
        [claim("C5"), claim("C5.small", "contradicted", statement="a [bold]path[/]", measured="[red]0.1[/]")],
    )
    code, out, _ = report_command("--figures", folder, "--long", columns=columns)
    assert code == 0
    assert max(map(len, out.splitlines())) <= columns
    flat = " ".join(out.replace("│", " ").split())
    for text in (
        "C5.small",
        "[bold]path[/]",
        "[red]0.1[/]",
        "0.25 ± 0.01",
        "a < b & b > 0",
        "make figS1",
        "not run",
        "make figS2",
    ):
        assert text in flat
    assert "C5.small contradicted: the distance from the mean over paths is not small" in flat
    assert "docs/theory.md" in flat
    assert "22 claims: 3 reproduced, 1 contradicted, 18 not run (1 contradicted as documented)" in flat


BROKEN = [
    ("{", "cannot be read as the numbers of a figure"),
    ("[1]", "not a dictionary"),
    ('{"claims": 1}', "has no list of claims"),
    ('{"claims": [{"id": "C1"}]}', "must have the texts"),
    (json.dumps({"claims": [claim("C1", "perhaps")]}), "must have the verdict"),
    (json.dumps({"claims": [claim("C99")]}), "of no topic"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
@pytest.mark.parametrize("options", [(), ("--html",)])
def test_a_broken_file_gets_one_sentence(text, message, options, write_figure, report_command):
    folder = write_figure("fig1", [])
    (folder / "fig1.json").write_text(text)
    code, _, errors = report_command("--figures", folder, *options)
    assert code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert "fig1.json" in errors
    assert message in errors
    assert not (folder / "report.html").exists()


def test_scales(tmp_path):
    def of(name, **numbers):
        return scale(Drawn(name, tmp_path, numbers))

    assert of("fig6", scale="2 seeds, 5000 epochs", epochs=5000) == "2 seeds, 5000 epochs (the paper's scale)"
    assert of("fig6_quick", scale="1 seed", epochs=300) == "1 seed (reduced)"
    assert of("fig7", scale="SHD: all", epochs=200, training_samples=1800) == "SHD: all (reduced)"
    assert of("fig1") == "not recorded"
    made = {"arguments": ["experiment=fig1", "figure.samples=500"]}
    assert of("fig1", scale="500 spikes", provenance=made) == "500 spikes; not the default: figure.samples=500"


def test_provenance_names_what_was_made_and_how_to_make_it_again(tmp_path):
    import pandas as pd

    made = provenance(["experiment=fig1", "figure.beta=5", "output=/tmp/x", "runs=elsewhere"], {"beta": 5.0}, [])
    assert made["arguments"] == ["experiment=fig1", "figure.beta=5"]
    assert made["settings"] == {"beta": 5.0}
    assert {"python", "torch", "processor", "cores"} <= set(made["versions"])
    assert "runs" not in made
    runs = []
    for mode in ("deterministic", "escape_noise"):
        directory = tmp_path / f"{mode}-seed1"
        directory.mkdir()
        (directory / "finished.json").write_text('{"seconds": 2.5, "epochs": 3, "from": 0, "versions": {}}')
        runs.append(Run(directory, {"seed": 1, "neuron": {"mode": mode}}, pd.DataFrame(), {}))
    made = provenance(["experiment=fig6_quick"], {}, runs)
    assert [(run["name"], run["seconds"]) for run in made["runs"]] == [
        ("deterministic-seed1", 2.5),
        ("escape_noise-seed1", 2.5),
    ]
    assert set(made["configs"]) == {"deterministic", "escape_noise"}
    assert command("fig6_quick", made) == "make fig6 PROFILE=quick"
    made["arguments"] = ["experiment=fig6", "seed=1"]
    again = "experiment=fig6 seed=1"
    assert command("fig6", made) == f"python scripts/train.py -m {again} && python scripts/figure.py {again}"
    made["arguments"] = ["experiment=fig7", "records=reference"]
    assert command("fig7", made) == "make fig7 RECORDS=reference"


def test_the_reduced_scale_covers_every_figure_without_training():
    untrained = {path.stem for path in CONF.glob("experiment/*.yaml") if "trained: false" in path.read_text()}
    assert {*REDUCED, *(name.removesuffix("_quick") for name in PROFILED)} == untrained
    for name, overrides in REDUCED.items():
        settings = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").figure
        for override in overrides:
            key, _, value = override.removeprefix("figure.").partition("=")
            assert key in settings, override
            assert value != str(settings[key])
    assert {name.partition("_")[0] for name in TRAINED} <= {topic.source for topic in TOPICS.values()}


def test_the_reduced_scale_is_measured_from_nothing(monkeypatch, tmp_path):
    calls, said = [], []
    folder = tmp_path / "quick"
    (folder / "old").mkdir(parents=True)
    monkeypatch.setattr("sgtheory.report._quick._run", lambda script, *arguments: calls.append((script, *arguments)))
    measure_quickly(folder, said.append, jobs=1)
    assert not folder.exists()
    assert [call[:3] for call in calls[:2]] == [
        ("train.py", "-m", "experiment=fig6_quick"),
        ("figure.py", "experiment=fig6_quick", f"runs={folder}"),
    ]
    assert {call[1] for call in calls[2:]} == {f"experiment={name}" for name in (*PROFILED, *REDUCED)}
    assert all(f"output={folder}" in call for call in calls[1:])
    assert len(said) == len(REDUCED) + len(PROFILED) + len(TRAINED)


def test_a_script_that_fails_says_why(tmp_path, monkeypatch):
    (tmp_path / "figure.py").write_text("import sys; sys.exit('a warning\\nerror: no such ' + sys.argv[1])")
    monkeypatch.setattr("sgtheory.report._quick.SCRIPTS", tmp_path)
    with pytest.raises(UserError, match=r"^figure.py fig99 failed and said: error: no such fig99$"):
        _run("figure.py", "fig99")


def test_every_line_of_a_terminal_begins_with_the_claim(capsys, monkeypatch):
    """Also where the number that decides takes several times the width."""
    monkeypatch.setenv("COLUMNS", "80")
    claims = [
        Claim(f"C10.{number}", "statement", f"{number} ± 1 " * 10 * number, "expected", True) for number in range(4)
    ]
    show_claims(claims, long=False)
    *lines, intervals = capsys.readouterr().out.splitlines()
    assert intervals == "± and [ ]: 95 % intervals, unless a line says otherwise"
    assert [line.split()[:2] for line in lines] == [[c.id, "reproduced"] for c in claims]
    assert all(len(line) <= 80 for line in lines)
