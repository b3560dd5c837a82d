"""Configurations with values of any kind: a task, or one sentence; and nothing that they name is called before."""

import contextlib
import copy
import io

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from mutations import JSON_VALUES
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from sgtheory.command import report_errors
from sgtheory.errors import UserError
from sgtheory.neurons import EscapeFunction, SurrogateDerivative
from sgtheory.training import build, expand, find_run, prepare, run_name

pytestmark = pytest.mark.fuzz

DANGEROUS = (
    *("os.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "subprocess.call", "shutil.rmtree"),
    *("pathlib.Path.unlink", "hydra.utils.call", "hydra.utils.instantiate", "functools.partial", "sgtheory"),
    *("sgtheory.neurons", "sgtheory.data.write_shd", "sgtheory.neurons.LIFParameters", "sys.exit", "os._exit"),
    *("", ".", "..", "os.", ".os", "no.such.Class", "sgtheory.neurons.SurrogateDerivative.derivative", "1", "ä.b"),
)
CALLED = []


class Bystander:
    """A class that is no part of a network, and notes when it is called."""

    def __init__(self, *args, **kwargs):
        CALLED.append((args, kwargs))


@pytest.mark.parametrize("target", [*DANGEROUS, f"{__name__}.Bystander", 5, None, ["os.system"], {"a": 1}])
@pytest.mark.parametrize("nested", [False, True])
def test_nothing_but_the_right_classes_is_called(target, nested, tmp_path):
    there = tmp_path / "there"
    there.touch()
    node = {"_target_": target, "_args_": [f"rm {there}"], "cmd": f"rm {there}", "args": ["rm", str(there)]}
    if nested:
        node = {"_target_": "sgtheory.neurons.EscapeDerivative", "escape": node}
    for kind in (SurrogateDerivative, EscapeFunction):
        with pytest.raises(UserError) as error:
            build(OmegaConf.create(node), "surrogate", kind)
        assert len(str(error.value).splitlines()) == 1
    assert there.exists()
    assert not CALLED


@pytest.mark.parametrize(
    "extra", [{"_args_": [3.0]}, {"_partial_": True}, {"_recursive_": False}, {"_convert_": "all"}]
)
def test_what_hydra_would_do_on_request_is_not_done(extra):
    with pytest.raises(UserError, match="unexpected keyword"):
        build({"_target_": "sgtheory.neurons.SuperSpike", **extra}, "surrogate", SurrogateDerivative)


SMALL = ["task.target.rows=8", "task.target.steps=6", "task.inputs=5", "task.hidden=4", "neuron=escape_noise"]


@pytest.fixture(scope="module")
def composed():
    return expand([*SMALL, "surrogate=escape", "logger=none"])[0]


def keys(config, prefix=""):
    for key in config:
        yield f"{prefix}{key}"
        if OmegaConf.is_dict(config._get_node(key)):
            yield from keys(config[key], f"{prefix}{key}.")


SECTIONS = ("task", "neuron", "surrogate", "trainer", "data", "seed")
# numbers up to a few hundred, and such as no machine has the memory for: what lies between takes time, but no sentence
VALUES = (
    JSON_VALUES
    | st.integers(-300, 300)
    | st.floats()
    | st.sampled_from(
        ["???", "${seed}", "${task}", "${nothing}", "${oc.env:HOME}", "auto", "cuda", "x" * 5000, "/", "\0"]
    )
    | st.sampled_from(DANGEROUS).map(lambda target: {"_target_": target})
)


@given(data=st.data())
def test_any_value_for_any_key(composed, data):
    config = copy.deepcopy(composed)
    places = [key for key in keys(composed) if key.startswith(SECTIONS)]
    for _ in range(data.draw(st.integers(1, 3))):
        key, value = data.draw(st.sampled_from(places)), data.draw(VALUES)
        if data.draw(st.booleans()) and "." in key:
            key += data.draw(st.sampled_from(["x", ".x", ""]))
        try:
            OmegaConf.update(config, key, value, force_add=True)
        except (OmegaConfBaseException, ValueError, AttributeError):  # no configuration, as Hydra would say
            event("no configuration")
    for use in (run_name, prepare):
        code, said = 0, io.StringIO()
        try:
            with contextlib.redirect_stderr(said), report_errors():
                use(config)
        except SystemExit as end:
            code = end.code
        event(f"{use.__name__}: {'refused' if code else 'taken'}")
        lines = said.getvalue().splitlines()
        assert (code, len(lines)) in ((0, 0), (2, 1))
        assert all(line.startswith("error: ") for line in lines)


def test_another_source_of_a_class_is_another_run(composed, tmp_path, monkeypatch):
    """That of the class itself, of one that it inherits from, and of one inside of another; not that of the package."""
    monkeypatch.syspath_prepend(tmp_path)
    base = "from sgtheory.neurons import SurrogateDerivative\nclass Base(SurrogateDerivative):\n    width = {}\n"
    box = (
        "from base_of_box import Base\nclass Box(Base):\n    def derivative(self, x, spikes):\n        return x * {}\n"
    )
    config = copy.deepcopy(composed)
    OmegaConf.update(config, "surrogate", {"_target_": "my_box.Box"}, merge=False)
    wrapped = copy.deepcopy(composed)
    OmegaConf.update(
        wrapped, "surrogate", {"_target_": "sgtheory.neurons.EscapeDerivative", "escape": config.surrogate}, merge=False
    )
    (tmp_path / "base_of_box.py").write_text(base.format(1))
    (tmp_path / "my_box.py").write_text(box.format(1))
    first = run_name(config), run_name(wrapped), run_name(composed)
    assert run_name(config) == first[0]
    (tmp_path / "my_box.py").write_text(box.format(2))
    second = run_name(config), run_name(wrapped), run_name(composed)
    (tmp_path / "base_of_box.py").write_text(base.format(2))
    third = run_name(config), run_name(wrapped), run_name(composed)
    assert all(len({a, b, c}) == 3 for a, b, c in list(zip(first, second, third, strict=True))[:2])
    assert first[2] == second[2] == third[2]


def test_a_path_means_the_same_for_reading_and_for_the_name_of_the_run(composed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 2, (9, 9), np.uint8) * 255
    names = []
    for change in (0, 1):
        Image.fromarray(picture ^ change).save(tmp_path / "picture.png")
        for path in ("~/picture.png", str(tmp_path / "picture.png")):
            config = copy.deepcopy(composed)
            config.task.target.image, config.runs = path, "~/runs"
            prepare(config)
            names.append(find_run(config))
    assert all(name.is_relative_to(tmp_path / "runs") for name in names)
    assert names[0] == names[1] != names[2] == names[3]
