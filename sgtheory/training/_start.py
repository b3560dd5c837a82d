"""From a composed configuration to a run: what scripts/train.py does."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sgtheory.command import Interrupted, explain, fail
from sgtheory.errors import UserError, first_line
from sgtheory.threads import use_threads
from sgtheory.training._config import (
    check_sections,
    choose_device,
    describe,
    find_run,
    fingerprint,
    identity,
    prepare,
)
from sgtheory.training._loggers import NoLogger, make_logger
from sgtheory.training._progress import SampleProgress
from sgtheory.training._records import FINISHED
from sgtheory.training._runner import run_task
from sgtheory.training._sweep import compose_all, jobs_of

log = logging.getLogger("sgtheory")


def start(config: DictConfig, directory: Path) -> bool:
    """Build, check and run what ``config`` describes in ``directory``; see :func:`sgtheory.training.run_task`."""
    try:
        if config.figure and not config.figure.trained:
            name = config.experiment
            raise UserError(f"experiment={name} needs no training: run python scripts/figure.py experiment={name}")
        check_sections(config)
        config.trainer.device, reason = choose_device(config)  # "auto" is decided here, once
        parts = identity(config)
        task, trainer = prepare(config, SampleProgress())
        if replay := getattr(task, "replay", None):
            log.info("%s written", replay.run())
            with contextlib.suppress(OSError):
                directory.rmdir()  # it is not a run; stays if it holds something
            return True
    except BaseException:
        with contextlib.suppress(OSError):
            directory.rmdir()  # made before the configuration was checked; stays if it holds a run
        raise
    # a job of submitit has the CPUs that it asked for; otherwise the libraries know how many to use
    if threads := trainer.threads or launcher().get("cpus_per_task"):
        use_threads(threads)

    def logger(directory: Path, name: str) -> NoLogger:
        log.info("%s: computes on device %s (%s)", name, trainer.device, reason)
        return make_logger(config, fingerprint(parts), directory, name)

    try:
        settings = trainer.checkpoint_every, logger, trainer.divergence
        return run_task(task, trainer.epochs, directory, parts, *settings)
    except Interrupted as error:
        if launcher().get("_target_", "").endswith(".BasicLauncher"):  # would go on with the next run
            sys.exit(fail(str(error), error.exit_code))
        raise


def launcher() -> Mapping:
    """Settings of what runs the sweep that this run is part of; empty for a single run."""
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return HydraConfig.get().launcher if sweeping else {}


class RunFailed(UserError):
    """A run of a sweep failed, and has said why."""

    def __init__(self, name: str, exit_code: int):
        super().__init__(f"{name} failed")
        self.name, self.exit_code = name, exit_code

    def __reduce__(self):
        return type(self), (self.name, self.exit_code)


@contextlib.contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Say at once which run of a sweep failed, and why; the others go on.

    Raises:
        RunFailed: in place of any error but an interruption.
    """
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        explanation = explain(error)
        sentence, code = explanation or (f"{type(error).__name__}: {first_line(error)}", 1)
        if explanation is None:
            log.exception("%s: %s", name, sentence)  # a fault of the program, to be reported with the traceback
        fail(f"{name}: {sentence}", code)
        raise RunFailed(name, code) from None


def count_failures(first: RunFailed, arguments: Sequence[str]) -> UserError:
    """What is said at the end of a sweep of which a run failed: how many of how many, and which.

    Args:
        first: one of the failures.
        arguments: of the command line.
    """
    try:
        jobs = jobs_of(get_args_parser().parse_args(arguments).overrides)
        configs = compose_all(jobs)
    except Exception:  # a configuration of the user's own, by --config-dir
        return first
    failed = [job for job, config in zip(jobs, configs, strict=True) if not _is_finished(config)]
    if not failed:  # as jobs that are one run, of which another one has finished
        return first
    shared = set.intersection(*map(set, jobs))
    names = ", ".join(" ".join(word for word in job if word not in shared) for job in failed)
    error = UserError(f"{len(failed)} of {len(jobs)} runs failed: {names}; the same command tries them again")
    error.exit_code = first.exit_code
    return error


def _is_finished(config: DictConfig) -> bool:
    try:
        describe(config)  # settings that are not part of what a run is may be wrong as well
        return (find_run(config) / FINISHED).is_file()
    except UserError:  # its values are wrong
        return False
