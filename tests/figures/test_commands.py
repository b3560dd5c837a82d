"""The figures that need no training, as commands: scripts/figure.py and the targets of the Makefile."""

import json
import subprocess

import pytest

from sgtheory.claims import QUALIFIED, UNDECIDED
from sgtheory.training import CONF

SMALL = {
    "fig1": ("figure.points=41", "figure.samples=500", "figure.trials=10"),
    "fig2": ("figure.points=11", "figure.samples=500"),
    "fig3": ("figure.samples=500", "figure.passes=64", "figure.repeats=20"),
    "fig4": ("figure.line_points=201", "figure.map_points=21", "figure.random_nets=1000"),
    "fig5": ("figure.table_nets=['perceptron, β = 25']", "figure.map_points=21", "figure.betas=5", "figure.beta_sg=5"),
    "figS1": ("figure.nets=4",),
    "figS3": ("figure.points=21", "figure.samples=50"),
    "figE1": ("figure.nets=2", "figure.samples=100", "figure.depths=[0,1]", "figure.betas=[1,10]"),
    "figE2": ("figure.nets=6", "figure.dts=[2e-3,1e-3]", "figure.betas=[1,50]", "figure.creation_paths=4"),
    "figE4": (
        "figure.nets=2",
        "figure.batches=6",
        "figure.steps=20",
        "figure.long=25",
        "figure.betas=[5,20]",
        "figure.depths=[2]",
    ),
    "figE5": (
        "figure.nets=2",
        "figure.class_nets=2",
        "figure.betas=[10]",
        "figure.gradient_budgets=[6,24]",
        "figure.budgets=[6]",
        "figure.class_budgets=[6]",
        "figure.updates=2",
        "figure.estimates=4",
        "figure.paths=8",
        "figure.reference_paths=20",
        "figure.evaluation_paths=100",
        "figure.steps=15",
    ),
    "figE6": (
        "figure.nets=3",
        "figure.tasks=1",
        "figure.betas=[5]",
        "figure.attached=[]",
        "figure.beta=5",
        "figure.depths=[2]",
        "figure.durations=[20]",
        "figure.updates=4",
        "figure.further=2",
        "figure.checkpoints=2",
        "figure.batches=4",
        "figure.reference_paths=100",
        "figure.evaluation_paths=1000",
    ),
    "figE7": (
        "figure.nets=2",
        "figure.betas=[10]",
        "figure.ratios=[1]",
        "figure.updates=2",
        "figure.paths=128",
        "figure.directions=2",
        "figure.points=4",
        "figure.steps=15",
        "figure.networks=1",
        "figure.network_updates=1",
        "figure.network_trials=1",
        "figure.network_points=4",
        "figure.network_batches=2",
    ),
}
MINUTES = ("figE4", "figE5", "figE6", "figE7")  # not part of `make theory`
DRAWN_ELSEWHERE = ("fig1", "fig2", "fig3", "figS1", "figS3", "figE1")  # by test_theory_figures.py, from measure()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in DRAWN_ELSEWHERE else n for n in SMALL]
)
def test_every_figure_is_a_command(name, draw_command, tmp_path, capsys):
    draw_command(f"experiment={name}", f"output={tmp_path}", *SMALL[name])
    printed = capsys.readouterr().out
    for claim in json.loads((tmp_path / f"{name}.json").read_text())["claims"]:
        assert claim["id"] in printed
        short = {QUALIFIED: "qualified", UNDECIDED: "undecided"}
        assert short.get(claim["verdict"], claim["verdict"]) in printed
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{suffix}" for suffix in ("png", "pdf", "json")}
    assert json.loads((tmp_path / f"{name}.json").read_text())["claims"]
    if name == "fig5":
        circulations = json.loads((tmp_path / "fig5.json").read_text())["circulations"]
        assert [c["beta_sg"] for c in circulations] == [5.0]  # one number where several are taken


def test_the_script_writes_where_it_is_told(script, tmp_path):
    done = script("figure.py", "experiment=figS3", "output=elsewhere", *SMALL["figS3"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2] == "elsewhere/figS3.json"
    assert "published figS3.json: same verdicts (1); largest deviation" in done.stdout.splitlines()[-1]
    (claim,) = [line for line in done.stdout.splitlines() if line.startswith("C12")]
    assert "reproduced" in claim
    assert "measured" not in done.stdout
    assert (tmp_path / "elsewhere" / "figS3.json").is_file()


def test_every_experiment_without_training_is_tested_and_has_a_target():
    untrained = {path.stem for path in CONF.glob("experiment/*.yaml") if "trained: false" in path.read_text()}
    assert untrained == set(SMALL)
    makefile = CONF.parent / "Makefile"
    for name in [*SMALL, "theory"]:
        command = ["make", "-n", "-f", str(makefile), name, "OVERRIDES=figure.seed=1"]
        planned = subprocess.run(command, capture_output=True, text=True, cwd=CONF.parent, check=True).stdout
        drawn = [line for line in planned.splitlines() if "scripts/" in line]
        expected = [each for each in SMALL if each not in MINUTES] if name == "theory" else [name]
        assert [line.split("experiment=")[1] for line in drawn] == [f"{each} figure.seed=1" for each in expected]
    listed = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=CONF.parent, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} >= {*SMALL, "theory", "fig6", "test"}


@pytest.mark.parametrize(
    ("target", "profile", "said"),
    [
        ("fig7", "quick", "PROFILE=quick: fig7 has PROFILE=paper PROFILE=authors."),
        ("fig1", "quick", "PROFILE=quick: fig1 has no profiles."),
    ],
)
def test_a_profile_that_is_not_there_is_named_before_anything_runs(target, profile, said):
    done = subprocess.run(["make", target, f"PROFILE={profile}"], capture_output=True, text=True, cwd=CONF.parent)
    assert done.returncode != 0
    assert said in done.stderr
    assert "scripts/" not in done.stdout


MISTAKES = [
    (("figure.bta=5",), "figure.bta"),
    (("+figure.bta=5",), "'bta'"),
    (("figure.beta=steep",), "'steep'"),
    (("figure.beta=-1",), "beta = -1.0: must be a finite number above 0"),
    (("figure.beta=nan",), "figure.beta = nan"),
    (("figure.points=0",), "figure.points = 0: must be 1 or more"),
    (("figure.seed=-1",), "figure.seed = -1"),
    (("figure.step=0",), "step = 0.0: must be a finite number above 0"),
    (("figure.weights=[1]", "experiment=fig4"), "fig4: weights = [1.0]: must be five numbers"),
    (("figure.beta=1,2",), "one value"),
    (("figure.module=fig99",), "figure.module = fig99"),
    (("figure=fig2",), "which figure"),
    (("surrogate.beta=5",), "surrogate.beta=5 changes nothing"),
    (("records=reference",), "records=reference changes nothing: fig1 follows from figure.*"),
    (("seed=9", "experiment=fig7", "records=reference"), "seed=9 changes nothing: the runs in records=reference"),
    (("trainer.epochs=9", "experiment=fig7", "records=runs"), "trainer.epochs=9 changes nothing: the runs in"),
    (("experiment=fig1,fig2",), "a figure needs one experiment (fig1)"),
    (("figure.axis=surrogate.beta,seed", "experiment=figE3"), "one experiment (figE3), and one value for every"),
    (("experiment=fig99",), "fig99"),
    (("experiment=none",), "which figure"),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES, ids=[m[0][0] for m in MISTAKES])
def test_a_mistake_gets_one_sentence(overrides, message, draw_command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        draw_command("experiment=fig1", *overrides)
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert not list(tmp_path.iterdir())


@pytest.fixture
def draw_command():
    """scripts/figure.py in this process, to be quick."""
    import runpy

    from sgtheory.command import report_errors

    main = runpy.run_path(str(CONF.parent / "scripts" / "figure.py"))["main"]

    def run(*arguments):
        with report_errors():
            main(list(arguments))

    return run
