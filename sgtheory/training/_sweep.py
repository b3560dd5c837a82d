"""Sweeps: what runs them, and their runs, listed without running them."""

import contextlib
import importlib.util
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from sgtheory.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"


def expand(overrides: list[str]) -> list[DictConfig]:
    """The configurations that ``scripts/train.py -m`` would run for these overrides, in its order."""
    return compose_all(jobs_of(overrides))


def jobs_of(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run of a sweep.

    The parameters of the experiment's sweeper count, and a value on the command line goes first, as in Hydra.
    """
    parser = OverridesParser.create()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        single = [text for text in overrides if not parser.parse_override(text).is_sweep_override()]
        base = compose("config", overrides=single, return_hydra_config=True)
        given = {parser.parse_override(text).key_or_group for text in overrides}
        sweep = OmegaConf.select(base, "hydra.sweeper.params") or {}
        swept = [f"{key}={value}" for key, value in sweep.items() if key not in given]
        batches = BasicSweeper.split_arguments(parser.parse_overrides([*overrides, *swept]), max_batch_size=None)
        return [list(job) for batch in batches for job in batch]


def compose_all(jobs: list[list[str]]) -> list[DictConfig]:
    """The configuration of each run of a sweep."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [compose("config", overrides=job) for job in jobs]


def plugin(name: str, program: str | None = None) -> str:
    """The full name of a class in a plugin of Hydra, which needs a program.

    Raises:
        UserError: saying how to install the plugin, or which program is not there.
    """
    module = name.partition(".")[0]
    if importlib.util.find_spec(f"hydra_plugins.{module}") is None:
        package = module.replace("_", "-")
        raise UserError(f"this hydra/launcher needs {package}, which is not installed: pip install {package}")
    if program and not shutil.which(program):
        raise UserError(f"this hydra/launcher needs {program}, which is not there: start it on a machine that has it")
    return f"hydra_plugins.{name}"


class _Submitted(Exception):
    """The jobs of a sweep are in the queue."""


@contextlib.contextmanager
def not_waiting(arguments: list[str]) -> Iterator[None]:
    """Within it, a sweep of submitit ends when its jobs are submitted.

    The launcher asks each job for its results when all are submitted, and has no setting for not asking.

    Args:
        arguments: of the command line; ``--no-wait`` is taken out of them.

    Raises:
        UserError: if they do not start such a sweep.
    """
    arguments.remove("--no-wait")
    submits = any(argument.startswith("hydra/launcher=submitit_") for argument in arguments)
    if not submits or not {"-m", "--multirun"} & set(arguments):
        raise UserError("--no-wait needs -m and hydra/launcher=submitit_slurm: other sweeps run in this process")
    plugin("hydra_submitit_launcher.submitit_launcher")
    from submitit import Job

    def results(job: Job) -> None:
        raise _Submitted(job.job_id.partition("_")[0])

    Job.results = results
    try:
        yield
    except _Submitted as job:
        print(f"submitted, first job {job}: the same command without --no-wait waits, and continues what was cut")


# the files in conf/hydra/launcher are whole without the plugins' schemas of the same names, which only check types
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
OmegaConf.register_new_resolver("plugin", plugin, replace=True)
