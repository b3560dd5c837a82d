"""From a Hydra configuration to checked objects, and from its content to the name of the run."""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import math
import os
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sgtheory import __version__
from sgtheory.command import one_sentence
from sgtheory.data import identify_dataset
from sgtheory.errors import (
    ParameterError,
    UserError,
    first_line,
    require_choice,
    require_count,
    require_positive,
    require_word,
    under,
)
from sgtheory.files import user_path
from sgtheory.lif import BACKENDS, cuda_available
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative

NEURON_MODES = ("deterministic", "escape_noise")
# what a result depends on; where and how fast it is computed does not belong to it
IDENTITY = ("seed", "task", "neuron", "surrogate", "data")
KNOWN_BY_VERSION = {"sgtheory", "torch", *sys.stdlib_module_names}
FILES = {"image": "task.target.image", "replay": "task.replay"}
TRAINER_IDENTITY = ("epochs", "backend", "device")


@dataclass
class NeuronSettings:
    """The ``neuron`` section: the mode, and the parameters of :class:`LIFParameters`."""

    mode: str
    tau_mem: float
    tau_syn: float
    dt: float
    threshold: float
    reset: str
    reset_gradient: str
    delay: int
    adaptation: float = LIFParameters.adaptation  # runs of before there was any do not say it
    tau_adaptation: float = LIFParameters.tau_adaptation
    parameters: Any = field(init=False)

    def __post_init__(self):
        require_choice(NEURON_MODES, mode=self.mode)
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(LIFParameters)}
        self.parameters = LIFParameters(**values)


@dataclass
class TrainerSettings:
    """The ``trainer`` section: how long and on what to run, and when to save."""

    epochs: int
    backend: str
    device: str
    threads: int | None = None  # from here on not part of what a run is
    checkpoint_every: float = 20.0
    divergence: str = "error"

    def __post_init__(self):
        require_count(0, epochs=self.epochs)
        require_choice(BACKENDS, backend=self.backend)
        require_choice(("cpu", "cuda"), device=self.device)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ParameterError("device", self.device, "needs a GPU that PyTorch can use, and there is none here")
        if self.backend in ("cpu", "cuda") and self.backend != self.device:
            raise ParameterError("backend", self.backend, f"runs on trainer.device={self.backend}, not {self.device}")
        if self.threads is not None:
            require_count(threads=self.threads)
        require_positive(checkpoint_every=self.checkpoint_every)
        require_choice(("error", "record"), divergence=self.divergence)


@dataclass
class TaskContext:
    """All that a task is given: ``Task(context)``."""

    settings: Any
    seed: int
    neuron: NeuronSettings
    surrogate: SurrogateDerivative
    trainer: TrainerSettings
    data: dict
    progress: Callable[[int, int], None] | None = None  # of making a data set: samples that are ready, and all


def _settings(cls: type, config: DictConfig, key: str):
    """A settings dataclass from its section of the configuration, types checked, ``_target_`` entries built."""
    plain = OmegaConf.create({k: v for k, v in config.items() if k != "_target_"})
    try:
        with under(key):
            return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), plain))
    except OmegaConfBaseException as error:
        raise UserError(f"{key}: {one_sentence(error)}") from None


def build(node: Mapping, key: str, *kinds: type):
    """The object that a configuration node describes by ``_target_``, a class of one of ``kinds``, and its arguments.

    An argument that has a ``_target_`` itself is built first, and must be an escape function or surrogate derivative.
    Nothing is called before it is known to be such a class.

    Raises:
        UserError: naming the key, and what is wrong with it.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{key} must name a class by _target_, for example sgtheory.neurons.SuperSpike")
    cls = find_class(node["_target_"], f"{key}._target_")
    if not issubclass(cls, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{key}._target_ = {node['_target_']} is not a {expected}")
    arguments = {name: _plain(value) for name, value in node.items() if name != "_target_"}
    for name, value in arguments.items():
        if isinstance(value, Mapping) and "_target_" in value:
            arguments[name] = build(value, f"{key}.{name}", EscapeFunction, SurrogateDerivative)
    try:
        with under(key):
            return cls(**arguments)
    except ParameterError:
        raise
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    except Exception as error:  # the class may be the user's own
        raise UserError(f"{key}: {first_line(error)}") from None


def find_class(target: object, key: str) -> type:
    """The class that a ``_target_`` names, not called.

    Raises:
        UserError: naming ``key``, if there is none.
    """
    try:
        found = pkgutil.resolve_name(target)
    except Exception:  # its module may be the user's own, and fail in any way when it is imported
        found = None
    if not isinstance(found, type):
        raise UserError(f"{key} = {target!r:.100} is not a class that can be imported")
    return found


def figure_settings(node: DictConfig, compute: Callable) -> dict:
    """Keyword arguments for ``compute`` from the ``figure`` section, types checked against its annotations.

    One number does where several are taken. Whole numbers count something and are 1 or more, but for seeds.

    Raises:
        UserError: naming the key that is unknown or has a value that cannot be used.
    """
    expected = [p for p in inspect.signature(compute).parameters.values() if p.annotation is not p.empty]
    fields = [(p.name, p.annotation, p.default) for p in expected if p.kind is not p.VAR_KEYWORD]
    given = {key: _plain(value) for key, value in node.items() if key not in ("module", "trained")}
    for name, annotation, _ in fields:
        if typing.get_origin(annotation) is tuple and name in given and not isinstance(given[name], list):
            given[name] = [given[name]]
    settings = vars(_settings(dataclasses.make_dataclass("FigureSettings", fields), OmegaConf.create(given), "figure"))
    for name, value in settings.items():
        if name.endswith("seed"):
            if not 0 <= value < 2**32:
                raise ParameterError(f"figure.{name}", value, "must be in [0, 2**32)")
        elif isinstance(value, int) and value < 1:
            raise ParameterError(f"figure.{name}", value, "must be 1 or more")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"figure.{name}", value, "must be a finite number")
    return settings


def check_sections(config: DictConfig) -> None:
    """Check that the parts of a configuration are there, and what the name of a run is made of.

    Raises:
        UserError: naming the key that is wrong.
    """
    for key in ("task", "neuron", "surrogate", "trainer"):
        if not OmegaConf.is_dict(config.get(key)):
            raise UserError(f"{key} = {str(config.get(key))!r:.80} is not a section of settings")
    data = config.get("data")
    if data is not None and not (OmegaConf.is_dict(data) and all(isinstance(key, str) for key in data)):
        raise UserError(f"data = {str(data)!r:.80} is not a section of settings")
    name = config.task.get("name", "task")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,80}", name):
        raise UserError(f"task.name = {name!r:.80} must be a word, since the folder of its runs has that name")
    require_choice(NEURON_MODES, **{"neuron.mode": config.neuron.get("mode")})
    require_word(seed=config.seed)


def _task_class(config: DictConfig) -> type:
    target = config.task.get("_target_", "")
    cls = find_class(target, "task._target_")
    if not dataclasses.is_dataclass(getattr(cls, "Settings", None)):
        raise UserError(f"task._target_ = {target} is not a task: it has no Settings")
    return cls


def prepare(config: DictConfig, progress: Callable[[int, int], None] | None = None):
    """The task that a configuration describes, built and checked, and the trainer settings.

    Args:
        config: composed by Hydra.
        progress: called with the number of samples that are ready and of all samples while a data set is made.

    Raises:
        UserError: in one sentence, naming the key that is wrong and what is allowed.
    """
    cls, context = describe(config, progress)
    return cls(context), context.trainer


def describe(config: DictConfig, progress: Callable[[int, int], None] | None = None) -> tuple[type, TaskContext]:
    """The class of a task and all that it is given, checked; arguments and errors are those of :func:`prepare`."""
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise UserError(one_sentence(error)) from None
    for missing in sorted(OmegaConf.missing_keys(config)):
        raise UserError(f"{missing} has no value: give one, for example on the command line as {missing}=...")
    check_sections(config)
    cls = _task_class(config)
    settings = _settings(cls.Settings, config.task, "task")
    escapes = getattr(settings, "escape", None)
    if escapes is not None:
        if not isinstance(escapes, Mapping):
            raise UserError(f"task.escape = {str(escapes)!r:.80} is not a section of settings")
        settings.escape = {k: build(v, f"task.escape.{k}", EscapeFunction) for k, v in escapes.items()}
    chosen = {**config.trainer, "device": choose_device(config)[0]}
    trainer = _settings(TrainerSettings, OmegaConf.create(chosen), "trainer")
    context = TaskContext(
        settings=settings,
        seed=config.seed,
        neuron=_settings(NeuronSettings, config.neuron, "neuron"),
        surrogate=build(config.surrogate, "surrogate", SurrogateDerivative),
        trainer=trainer,
        data=_plain(config.data),
        progress=progress,
    )
    return cls, context


def choose_device(config: DictConfig) -> tuple[str, str]:
    """Where a run computes, and why: what ``trainer.device`` says, or for ``auto`` the faster one for its task."""
    device, backend = config.trainer.get("device", "cpu"), config.trainer.get("backend")
    if device != "auto":
        return device, f"trainer.device={device}"
    available, reason = cuda_available()
    if not available:
        return "cpu", f"there is no GPU to use: {reason}"
    if backend in ("cpu", "cuda"):
        return backend, f"trainer.backend={backend}"
    device = getattr(_task_class(config), "fastest_device", "cpu")
    return device, f"trainer.device=auto takes the faster one for task={config.task.get('name')}"


def _plain(node):
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def identity(config: DictConfig) -> dict:
    """What a run is: the parts of the resolved configuration that its result depends on.

    Files that it names are represented by their content, too, so that another picture under the same name is another
    run, and so are classes from outside of the package; a data set by its content alone. Neurons that do not adapt are
    named as before there was adaptation.
    """
    check_sections(config)
    parts = {key: _plain(config.get(key)) for key in IDENTITY}
    if not parts["neuron"].get("adaptation"):
        parts["neuron"] = {k: v for k, v in parts["neuron"].items() if k not in ("adaptation", "tau_adaptation")}
    parts["trainer"] = {key: _plain(config.trainer.get(key)) for key in TRAINER_IDENTITY}
    parts["trainer"]["device"] = choose_device(config)[0]
    parts["version"] = __version__
    if parts["data"]:
        with under("data"):
            parts["data"] = identify_dataset(**parts["data"])
    files = {}
    for section, name in ((parts["task"].get("target"), "image"), (parts["task"], "replay")):
        if isinstance(section, dict) and isinstance(section.get(name), str):
            files[FILES[name]] = section[name] = str(user_path(section[name]))
    contents = {}
    for key, path in (files | _sources(parts)).items():
        if os.path.isfile(path):  # false for what cannot be a path
            with open(path, "rb") as file:
                contents[key] = hashlib.file_digest(file, "sha256").hexdigest()
    if contents:
        parts["contents"] = contents
    return parts


def _sources(node: object) -> dict[str, str]:
    """The files in which the classes that ``_target_`` names, and those that they inherit from, are written.

    Those of this package are known by its version, and those of PyTorch and Python by theirs.
    """
    if isinstance(node, list):
        return {k: v for value in node for k, v in _sources(value).items()}
    if not isinstance(node, Mapping):
        return {}
    found = {k: v for value in node.values() for k, v in _sources(value).items()}
    with contextlib.suppress(UserError):
        for cls in find_class(node["_target_"], "_target_").__mro__ if "_target_" in node else ():
            package = cls.__module__.partition(".")[0]
            if package not in KNOWN_BY_VERSION and (path := getattr(sys.modules[cls.__module__], "__file__", None)):
                found[f"source of {cls.__module__}"] = path
    return found


def _canonical(value):
    """10 and 10.0 are the same setting."""
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    exact = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return float(value) if exact else value


def fingerprint(parts: dict) -> str:
    """Eight hexadecimal digits that stand for an :func:`identity`."""
    return hashlib.sha256(json.dumps(_canonical(parts), sort_keys=True).encode()).hexdigest()[:8]


def run_name(config: DictConfig) -> str:
    """Task, neuron mode, seed and fingerprint of the run that a configuration describes."""
    parts = identity(config)
    task, mode = parts["task"].get("name", "task"), parts["neuron"].get("mode", "neuron")
    return f"{task}/{mode}-seed{config.seed}-{fingerprint(parts)}"


def find_run(config: DictConfig) -> Path:
    """The directory of that run, whether it exists or not."""
    return user_path(config.runs) / run_name(config)


def _run_name_or_none(*, _root_: DictConfig) -> str:
    """For Hydra, which makes the folder: what is wrong is said when the run starts, and ends only this run."""
    try:
        return run_name(_root_)
    except UserError:
        return ".refused"


def _runs_folder(runs: object) -> str:
    if not isinstance(runs, str) or not runs:
        raise UserError(f"runs = {runs!r:.80} must be a folder")
    return str(user_path(runs))


def runs_at_once(config: DictConfig) -> int:
    """Runs of a sweep that this machine computes at the same time: one on a GPU, else one for each core (-1)."""
    check_sections(config)
    return 1 if choose_device(config)[0] == "cuda" else -1


OmegaConf.register_new_resolver("runs_at_once", lambda *, _root_: runs_at_once(_root_), replace=True)
OmegaConf.register_new_resolver("runs_folder", _runs_folder, replace=True)
OmegaConf.register_new_resolver("run_name", _run_name_or_none, replace=True)
