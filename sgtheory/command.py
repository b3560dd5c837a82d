"""What the scripts do with a composed configuration, and how their errors end."""

import contextlib
import functools
import logging
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sgtheory.errors import UserError, disk_sentence, first_line, is_out_of_memory
from sgtheory.threads import use_threads
from sgtheory.training._config import fingerprint, identity, one_sentence, prepare
from sgtheory.training._loggers import make_logger
from sgtheory.training._progress import SampleProgress
from sgtheory.training._runner import Interrupted, run_task

log = logging.getLogger("sgtheory")
CONFIGURATION = ("hydra", "omegaconf", "antlr4")  # whose errors are about what the user has written


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
            sys.exit(fail(str(error), 128 + error.number))
        raise


def launcher() -> Mapping:
    """Settings of what runs the sweep that this run is part of; empty for a single run."""
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return HydraConfig.get().launcher if sweeping else {}


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """End the program with one sentence on stderr.

    The exit code is 2 after a user's mistake, 128 + n after signal n, 1 if the disk failed, memory was
    not enough, or a job could not be submitted or was lost.
    """
    logging.captureWarnings(True)
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(fail(one_sentence(error)))
    except UserError as error:
        sys.exit(fail(str(error)))
    except Interrupted as error:
        sys.exit(fail(str(error), 128 + error.number))
    except KeyboardInterrupt:
        sys.exit(fail("interrupted", 128 + signal.SIGINT))
    except OSError as error:
        sys.exit(fail(disk_sentence(error), 1))
    except Exception as error:
        if is_out_of_memory(error):
            sys.exit(fail(f"there is not enough memory for this: {first_line(error)}", 1))
        if _raised_in(error) in CONFIGURATION:
            sys.exit(fail(one_sentence(error)))
        if type(error).__module__.partition(".")[0] != "submitit":
            raise
        where = "logs: .submitit in the folder of the runs; the same command goes on from there"
        sys.exit(fail(f"{first_line(error)} ({where})", 1))


def _raised_in(error: Exception) -> str:
    """The package whose code raised an error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").partition(".")[0]


def fail(sentence: str, code: int = 2) -> int:
    """Print ``error: ...`` on stderr; returns the exit code, by default that of a user's mistake."""
    print(f"error: {' '.join(sentence.splitlines())}", file=sys.stderr)  # names of files may have several lines
    return code
