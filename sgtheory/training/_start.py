"""From a composed configuration to a run: what scripts/train.py does."""

import contextlib
import functools
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sgtheory.command import Interrupted, fail
from sgtheory.errors import UserError
from sgtheory.threads import use_threads
from sgtheory.training._config import fingerprint, identity, prepare
from sgtheory.training._loggers import make_logger
from sgtheory.training._progress import SampleProgress
from sgtheory.training._runner import run_task

log = logging.getLogger("sgtheory")


def start(config: DictConfig, directory: Path) -> bool:
    """Build, check and run what ``config`` describes in ``directory``; see :func:`sgtheory.training.run_task`."""
    try:
        if config.figure and not config.figure.trained:
            name = config.experiment
            raise UserError(f"experiment={name} needs no training: run python scripts/figure.py experiment={name}")
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
    logger = functools.partial(make_logger, config, fingerprint(parts))
    try:
        return run_task(task, trainer.epochs, directory, parts, trainer.checkpoint_every, logger)
    except Interrupted as error:
        if launcher().get("_target_", "").endswith(".BasicLauncher"):  # would go on with the next run
            sys.exit(fail(str(error), error.exit_code))
        raise


def launcher() -> Mapping:
    """Settings of what runs the sweep that this run is part of; empty for a single run."""
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return HydraConfig.get().launcher if sweeping else {}
