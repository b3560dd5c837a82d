"""Configurations: all compose and build; mistakes end with one sentence and exit code 2."""

import importlib
import inspect

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sgtheory.errors import UserError
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape, Step, SuperSpike, SurrogateDerivative
from sgtheory.theory import SPIKE_MATCHING_NEURON, LoopIntegralSettings
from sgtheory.training import CONF, expand, figure_settings, find_run, identity, load_run, prepare, read_config, start

SURROGATES = sorted(path.stem for path in (CONF / "surrogate").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))

# data that are made in no time, in place of those of the experiment
TINY = ("data=randman", "data.train=40", "data.test=10", "task.training_samples=null", "task.test_samples=null")


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


class UsersOwn(SurrogateDerivative):
    """A class outside of the package, named by its dotted path."""

    def __init__(self, width: float):
        self.width = width

    def derivative(self, x, spikes):
        return (x.abs() < self.width).to(x.dtype)


@pytest.mark.parametrize("neuron", ["deterministic", "escape_noise"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_every_surrogate_builds_in_every_mode(neuron, surrogate):
    task, _ = prepare(composed(f"neuron={neuron}", f"surrogate={surrogate}"))
    assert isinstance(task.surrogate, SurrogateDerivative)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment):
    for mode in ("deterministic", "escape_noise"):
        config = composed(f"experiment={experiment}", f"neuron={mode}")
        if config.task.name == "classification":
            config = composed(f"experiment={experiment}", f"neuron={mode}", *TINY)
        prepare(config)


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name != "none"])
def test_every_figure_finds_its_module_and_its_settings(experiment):
    """What conf/experiment lists is what measure() takes, with the same values: none forgotten, none of another age."""
    figure = composed(f"experiment={experiment}").figure
    measure = importlib.import_module(f"sgtheory.figures.{figure.module}").measure
    settings = figure_settings(figure, measure)
    parameters = [p for p in inspect.signature(measure).parameters.values() if p.name in settings]
    assert set(figure) == {"module", "trained", *settings}
    defaults = {p.name: list(p.default) if isinstance(p.default, tuple) else p.default for p in parameters}
    assert settings.keys() == defaults.keys()
    assert settings == defaults or experiment == f"{figure.module}_quick"


def test_a_closed_loop_is_a_task_of_one_epoch():
    task, trainer = prepare(composed("task=loop_integral", "seed=3"))
    assert trainer.epochs == 1
    assert task.surrogate == SigmoidDerivative(5.0)
    assert task.settings == LoopIntegralSettings(net_seed=3)
    assert task.neuron == SPIKE_MATCHING_NEURON


def test_the_values_of_the_paper():
    stochastic, trainer = prepare(composed("neuron=escape_noise"))
    deterministic, _ = prepare(composed())
    assert trainer.epochs == 5000
    assert (stochastic.settings.trials, deterministic.settings.trials) == (10, 1)
    assert stochastic.escape == {"hidden": SigmoidEscape(10.0), "output": SigmoidEscape(100.0)}
    assert deterministic.escape == {"hidden": Step(), "output": Step()}
    assert stochastic.other_escape == deterministic.escape
    assert deterministic.surrogate == SuperSpike(10.0)
    rate = deterministic.settings.learning_rate
    assert (rate.hidden, rate.output) == (1e-5, 1e-4)
    assert stochastic.settings.learning_rate.output == 1e-5
    p = deterministic.neuron.parameters
    assert (p.tau_mem, p.tau_syn, p.dt, p.threshold, p.reset, p.reset_gradient, p.delay) == (
        10e-3,
        5e-3,
        1e-3,
        1.0,
        "same",
        "detached",
        0,
    )
    assert deterministic.network.target.shape == (198, 200)
    assert 45 < deterministic.network.inputs.mean() / 1e-3 < 55
    assert 0.34 < deterministic.initial_weights[0].std() < 0.353


def test_sweeps_expand_as_hydra_runs_them():
    configs = expand(["experiment=fig6"])
    assert [(c.neuron.mode, c.seed) for c in configs] == [
        (mode, seed) for mode in ("deterministic", "escape_noise") for seed in (1, 2, 3, 4, 5)
    ]
    assert len({find_run(c) for c in configs}) == 10
    assert [c.seed for c in expand(["experiment=fig6", "neuron=deterministic", "seed=7,8"])] == [7, 8]
    assert configs[0].surrogate._target_ != configs[-1].surrogate._target_


def test_what_does_not_change_the_result_does_not_change_the_run():
    run = find_run(composed("seed=3"))
    assert run == find_run(composed("seed=3", "trainer.threads=2", "logger=wandb", "experiment=fig6"))
    assert run == find_run(composed("seed=3", "experiment=fig1", "figure.beta=3"))
    assert run != find_run(composed("seed=4"))
    assert run != find_run(composed("seed=3", "neuron.tau_mem=0.011"))


@pytest.mark.parametrize("mode", ["deterministic", "escape_noise"])
def test_neurons_that_do_not_adapt_have_the_names_of_before_there_was_adaptation(mode):
    (record, *_) = sorted((ROOT / "data" / "reference" / "fig7_paper").glob(f"{mode}-seed1-*"))
    config = composed("task=classification", "data=none", f"neuron={mode}", "surrogate=superspike")
    assert config.neuron.adaptation == 0
    assert identity(config)["neuron"] == read_config(record)["neuron"]
    assert find_run(composed()) == find_run(composed("neuron.tau_adaptation=1.0"))
    adapting = ("neuron.adaptation=0.5", "neuron.tau_adaptation=1.0")
    assert len({find_run(composed(*adapting[:n])) for n in range(3)}) == 3


def test_neurons_adapt_if_they_are_told_to(tmp_path):
    """Two epochs of a small network whose neurons fire less for it; the run says so, and is found by it."""
    small = (
        "trainer.backend=reference",
        "task.output_rule=surrogate",
        "task.hidden=20",
        "task.target.steps=60",
        "task.measure_every=9",
    )
    rates = {}
    for adaptation in (0.0, 2.0):
        config = composed(*small, "trainer.epochs=2", "logger=none", f"neuron.adaptation={adaptation}")
        start(config, tmp_path / str(adaptation))
        run = load_run(tmp_path / str(adaptation))
        assert run.config["neuron"].get("adaptation", 0.0) == adaptation
        rates[adaptation] = run.series("rate", "hidden").iloc[-1]
    assert 0 < rates[2.0] < 0.9 * rates[0.0]


def test_a_changed_picture_is_another_run(tmp_path):
    picture = tmp_path / "picture.png"
    runs = []
    for content in (b"a", b"b"):
        picture.write_bytes(content)
        runs.append(find_run(composed(f"task.target.image={picture}")))
    assert runs[0] != runs[1]


def test_a_class_of_the_user_works_by_its_path():
    config = composed()
    config.surrogate = OmegaConf.create({"_target_": f"{__name__}.UsersOwn", "width": 0.5})
    task, _ = prepare(config)
    assert type(task.surrogate).__name__ == "UsersOwn"
    assert len(task.epoch(0)) > 4


MISTAKES = [
    ("surrogate.beta=-1", "surrogate.beta = -1: must be a finite number above 0"),
    ("surrogate.beta=steep", "surrogate.beta = 'steep'"),
    ("surrogate=foo", "surrogate/foo"),
    ("surrogate.bta=3", "bta"),
    ("neuron=foo", "neuron/foo"),
    ("neuron.tau_mem=0", "neuron.tau_mem = 0"),
    ("neuron.reset=soon", "neuron.reset = 'soon': must be one of next, same"),
    ("neuron.delay=3", "neuron.delay = 3: must be one of 0, 1"),
    ("neuron.adaptation=-1", "neuron.adaptation = -1"),
    ("neuron.adaptation=0.5", "task.output_rule = 'likelihood': must be surrogate for neurons that adapt"),
    ("neuron.reset_gradient=attached", "task.output_rule = 'likelihood': must be surrogate for neuron.reset_gradient"),
    ("task.loss=van_rossum", "task.output_rule = 'likelihood': must be surrogate for task.loss=van_rossum"),
    ("task.hidden=many", "hidden"),
    ("task.hidden=0", "task.hidden = 0: must be a whole number of at least 1"),
    ("task.trials=-2", "task.trials = -2"),
    ("task.loss=l3", "task.loss = 'l3': must be one of l2, van_rossum"),
    ("task.target.image=missing.png", "missing.png"),
    ("task.target.method=magic", "method = 'magic'"),
    ("task.escape.hidden.beta=0", "task.escape.hidden.beta = 0"),
    ("task.replay=missing.npz", "missing.npz"),
    ("task.input_rate=2000", "task.input_rate = 2000"),
    ("surrogate._target_=sgtheory.neurons.SigmoidEscape", "is not a SurrogateDerivative"),
    ("surrogate._target_=no.such.Class", "surrogate"),
    ("task._target_=no.such.Task", "no.such.Task"),
    ("trainer.epochs=-1", "trainer.epochs = -1"),
    ("trainer.threads=0", "trainer.threads = 0: must be a whole number of at least 1"),
    ("trainer.device=cuda", "trainer.device = 'cuda'"),
    ("trainer.backend=cuda", "trainer.backend = 'cuda': runs on trainer.device=cuda, not cpu"),
    ("trainer.backend=gpu", "trainer.backend = 'gpu'"),
    ("seed=-1", "seed = -1"),
    ("logger=wandb logger.mode=sometimes", "logger.mode"),
    ("experiment=fig1", "python scripts/figure.py experiment=fig1"),
    ("task=loop_integral task.net=hopfield", "task.net = 'hopfield': must be one of sigmoid, perceptron"),
    ("task=loop_integral task.radius=0", "task.radius = 0"),
    ("task=loop_integral task.radius=wide", "radius"),
    ("task=loop_integral task.centre=[1,2]", "task.centre = [1, 2]"),
    ("task=loop_integral task.layers=[3,20,1] task.net=stochastic_perceptron", "at most 10 units"),
    ("task=loop_integral task.max_points=10", "task.max_points = 10: must be a whole number of at least 1536"),
    ("task=loop_integral neuron=escape_noise", "task.net=stochastic_perceptron"),
    ("task=loop_integral trainer.epochs=2", "trainer.epochs = 2: must be 1"),
    ("task=classification data=foo", "data/foo"),
    ("task=classification data.name=foo", "name = 'foo': must be one of auto, shd"),
    ("task=classification data.dir=nowhere", "data.dir = nowhere: there is no such folder"),
    ("task=classification data=shd", "`python scripts/fetch_data.py shd` downloads it"),
    ("task=classification data=randman data.train=few", "data.train = 'few'"),
    ("task=classification data=randman data.alpha=steep", "data.alpha = 'steep'"),
    ("task=classification data=randman data.train=1", "of 1 samples of randman none is left to train on"),
    ("task=classification data=none", "data is empty: say which data set, for example data=auto"),
    ("task=classification data=randman task.duration=1e-4", "task.duration = 0.0001: must be at least one time step"),
    ("task=classification data=randman task.kernels=[5,0,3]", "task.kernels[1] = 0: must be a whole number"),
    ("task=classification data=randman task.channels=[5,5,0]", "task.channels[2] = 0: must be a whole number"),
    ("task=classification data=randman task.strides=[0,1,1]", "task.strides[0] = 0: must be a whole number"),
    ("task=classification data=randman task.paddings=[0,0,-1]", "task.paddings[2] = -1: must be a whole number"),
    ("task=classification data=randman neuron.tau_syn=1e20", "neuron.dt = 0.002: must be at least 2e+13 s for a time"),
    ("neuron.tau_syn=0.01", "neuron.tau_syn = 0.01: must differ from tau_mem"),
    ("task=classification data=randman task.kernels=[9]", "task.kernels = [9]: must have 3 entries"),
    ("task=classification data=randman task.kernels=[90,3,3]", "task.kernels[0] = 90: must fit the 20 positions"),
    ("task=classification data=randman task.recurrent_kernels=[2,0,0]", "task.recurrent_kernels[0] = 2: must be odd"),
    ("task=classification data=randman task.optimiser=lion", "task.optimiser = 'lion': must be one of smorms3"),
    ("task=classification data=randman task.batch_size=0", "task.batch_size = 0"),
    ("task=classification data=randman task.validation_fraction=0", "task.validation_fraction = 0"),
    ("task=classification data=randman task.training_samples=99999", "task.training_samples = 99999: must be at most"),
    ("task=classification data=randman task.fano_sample=3000", "task.fano_sample = 3000: must be from 0 to 2999"),
    ("task=classification data=randman task.upper_strength=-1", "task.upper_strength = -1"),
    ("task=classification data=randman task.loss=hinge", "task.loss = 'hinge'"),
    ("task=classification task.replay=missing.npz", "task.replay = missing.npz: there is no such file"),
    ("data=randman", "task: Key 'duration'"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_gets_one_sentence(override, message, tmp_path, monkeypatch, capsys):
    """In this process, through the same functions as the script, to be quick."""
    import torch

    from sgtheory.command import report_errors

    if override == "trainer.device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end, report_errors():
        start(composed("trainer.epochs=1", *override.split()), tmp_path / "run")
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert not (tmp_path / "run" / "records.csv").exists()


def numbers_in(section, prefix):
    """Full key and value of every number, word and list in a section."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from numbers_in(value, f"{prefix}.{key}")
        elif key not in ("_target_", "name", "image", "dir", "replay"):
            yield f"{prefix}.{key}", value


@pytest.mark.parametrize("task", [("task=spike_matching",), ("task=classification", *TINY), ("task=loop_integral",)])
def test_what_is_out_of_range_is_named_by_a_full_key(task):
    """For every setting: -1, 0, NaN or something huge is taken, or the message begins with a key that there is."""
    config = composed(*task, "trainer.epochs=1")
    given = OmegaConf.to_container(config, resolve=True)
    settings = dict(item for section in ("task", "neuron", "data") for item in numbers_in(given[section], section))
    refused = {}
    for key, value in settings.items():
        wrong = [[bad] * len(value) for bad in (-1, 0, 1000)] if isinstance(value, list) else [-1, 0, "nan", 1e20]
        for bad in wrong:
            try:
                prepare(OmegaConf.merge(config, OmegaConf.from_dotlist([f"{key}={bad}"])))
            except UserError as error:
                refused[key, str(bad)] = str(error)
    assert len(refused) > 10
    for (key, bad), said in refused.items():
        section, _, name = key.partition(".")
        of_another_type = said.startswith(f"{section}: Value") and f", key {name}" in said
        assert said.partition(" = ")[0].partition("[")[0] in settings or of_another_type, (key, bad, said)


def test_a_mistake_on_the_command_line(script, tmp_path):
    for arguments in (("surrogate=foo",), ("surrogate.beta=-1",), ("-m", "surrogate.beta=-1,-3")):
        done = script("train.py", *arguments, f"runs={tmp_path / 'runs'}", cwd=tmp_path)
        assert done.returncode == 2, done
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert "surrogate" in done.stderr
        # a sweep says which run it was, for each, and how many; one line is Hydra's
        assert len(done.stderr.splitlines()) == (4 if "-m" in arguments else 1)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "multirun.yaml"]


def test_the_log_says_what_is_learnt():
    task, _ = prepare(composed("task.target.steps=99"))
    assert task.description == "target the Radcliffe Camera: 200 neurons x 99 steps of 1 ms, " + (
        f"{task.network.target.mean() / 1e-3:.0f} Hz"
    )
