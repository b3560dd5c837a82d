"""The loop: epochs, records, checkpoints, interrupts; the same for every task."""

import contextlib
import json
import logging
import math
import signal
import time
from pathlib import Path

import filelock
import numpy as np

from sgtheory.command import Interrupted
from sgtheory.environment import SOFTWARE, unlike_the_lock, versions
from sgtheory.errors import UserError
from sgtheory.files import atomic_path, remove_temporaries
from sgtheory.reading import read_json
from sgtheory.training._checkpoint import restore_checkpoint, save_checkpoint
from sgtheory.training._loggers import NoLogger
from sgtheory.training._progress import EpochProgress, duration
from sgtheory.training._records import CHECKPOINT, CONFIG, FINISHED, RASTERS, RECORDS, Records, diverged_in

log = logging.getLogger("sgtheory")
BEFORE_TIME_LIMIT = getattr(signal, "SIGUSR2", None)  # sent by batch systems; Windows does not have it
STOP_SIGNALS = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, BEFORE_TIME_LIMIT)))


class Diverged(UserError):
    """Something that is measured in an epoch is no longer a finite number."""

    def __init__(self, epoch: int, metrics: list[str]):
        super().__init__(f"{', '.join(metrics)} is not a finite number in epoch {epoch}")
        self.found = {"epoch": epoch, "metrics": metrics}


@contextlib.contextmanager
def stop_requests():
    """Collect signals that ask the run to stop in a list instead of dying in the middle of something.

    The handler that SIGUSR2 had before is called after an interruption by it, with the checkpoint saved: it is that of
    submitit, which puts the job back into the queue.
    """
    received: list[int] = []
    try:
        old = {n: signal.signal(n, lambda number, _: received.append(number)) for n in STOP_SIGNALS}
    except ValueError:  # not in the main thread: whoever runs that thread handles signals
        yield received
        return
    try:
        yield received
    except Interrupted as stop:
        if stop.number == BEFORE_TIME_LIMIT and callable(old[stop.number]):
            with contextlib.suppress(Exception):  # it may not go back into the queue: remains interrupted
                old[stop.number](stop.number, None)
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def write_json(path: Path, value: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


@contextlib.contextmanager
def exclusive(directory: Path):
    """Only one process at a time trains in a directory; the others say that they wait."""
    lock = filelock.FileLock(directory / ".lock")
    try:
        held = lock.acquire(blocking=False)
    except filelock.Timeout:
        log.info("%s: another process is training this run, waiting for it", directory.name)
        held = lock.acquire()
    with held:
        yield


def run_task(
    task,
    epochs: int,
    directory: Path,
    config: dict,
    checkpoint_every: float,
    make_logger=None,
    divergence: str = "error",
) -> bool:
    """Train ``task`` for ``epochs`` in ``directory``, going on from a checkpoint if there is one.

    A task has ``state()`` and ``restore(state)`` (tensors by name), ``epoch(n)`` (one epoch of training; returns rows
    (metric, layer, value) measured before the update), ``finish(epochs)`` (rows measured after the last epoch, and
    arrays for figures by name) and ``save(directory)`` (other files of its own). It may have a ``description`` for the
    first line of the log. If it has ``start()`` (rows measured before any training), rows of ``epoch(n)`` are measured
    after that epoch, and recorded as epoch n + 1. If it has ``report``, that is replaced by a function that the task
    calls with the fraction of the epoch that is done; it raises :class:`Interrupted` if the run is to stop there, and
    the state between two calls must be one to go on from.

    Args:
        task: see above.
        epochs: number of epochs.
        directory: where everything is written; made if it is not there.
        config: identity of the run; a directory with another one is refused.
        checkpoint_every: seconds between checkpoints.
        make_logger: called with the directory and the name of the run once it is known that there is something to do.
        divergence: whether a number that is no longer finite is an ``error``, or ends the run as a result that
            finished.json has (``record``).

    Returns:
        False if the run was finished before and nothing was done.

    Raises:
        UserError: if the directory belongs to another run, or something is no longer a finite number.
        Interrupted: after SIGINT or SIGTERM, with a checkpoint saved, or the run finished.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with exclusive(directory):
        remove_temporaries(directory)
        config_path = directory / CONFIG
        if config_path.is_file():
            if read_json(config_path, "the configuration of a run") != json.loads(json.dumps(config)):
                raise UserError(f"{directory} holds a run with another configuration; give another hydra.run.dir")
            if (directory / FINISHED).is_file():
                epoch = diverged_in(directory)
                how = "finished before" if epoch is None else f"diverged in epoch {epoch} before"
                log.info("%s: %s, nothing to do", directory, how)
                return False
        else:
            write_json(config_path, config)
        if description := getattr(task, "description", ""):
            log.info("%s: %s", directory.name, description)
        with make_logger(directory, directory.name) if make_logger else NoLogger() as logger:
            _train(task, epochs, directory, checkpoint_every, logger, divergence)
    return True


def _train(task, epochs: int, directory: Path, checkpoint_every: float, logger: NoLogger, divergence: str) -> None:
    name = directory.name
    records = Records(name)
    saved = restore_checkpoint(task, epochs, directory)
    start, after = saved or 0, int(hasattr(task, "start"))
    if saved is not None:
        records.load(directory, before=start + after)
        last = max((epoch for epoch, _, _ in records.values), default=None)
        if start and last != start + after - 1:
            ends = "is not there" if last is None else f"ends with epoch {last}"
            mend = f"delete {CHECKPOINT} to start again"
            raise UserError(f"{directory / RECORDS} {ends}, and {CHECKPOINT} goes on with epoch {start}: {mend}")
        for epoch, rows in records.epochs():
            logger.log(epoch, rows)
        log.info("%s: going on from epoch %d", name, start)
    began = last_save = time.monotonic()

    def save(epoch: int) -> None:
        if not (directory / CONFIG).is_file():
            raise UserError(f"{directory} was removed while its run was in progress; the same command starts it again")
        # records first: rows beyond the checkpoint are dropped when it is loaded, missing ones not made up
        records.save(directory)
        save_checkpoint(directory, epoch, task.state())

    def record(epoch: int, rows) -> None:
        broken = [m for m, _, value in rows if not math.isfinite(value) and m not in task.may_be_nan]
        if broken:
            raise Diverged(epoch, broken)
        records.add(epoch, rows)
        logger.log(epoch, rows)

    with stop_requests() as stop, EpochProgress(name, start, epochs) as progress:

        def report(fraction: float) -> None:
            progress.within(fraction)
            if stop:
                raise Interrupted(stop[0])

        if hasattr(task, "report"):
            task.report = report
        epoch = start
        try:
            if after and saved is None:
                record(0, task.start())
            try:
                for epoch in range(start, epochs):
                    if stop:
                        raise Interrupted(stop[0])
                    rows = task.epoch(epoch)
                    record(epoch + after, rows)
                    progress.advance(task.summary(rows))
                    if time.monotonic() - last_save > checkpoint_every:
                        save(epoch + 1)
                        last_save = time.monotonic()
            except Interrupted:
                save(epoch)
                raise
            save(epochs)
            rows, arrays = task.finish(epochs)
            record(epochs, rows)
            records.save(directory)
            with atomic_path(directory / RASTERS) as path:
                np.savez_compressed(path, **arrays)
            task.save(directory)
            done, outcome, said = epochs, {}, task.summary(rows)
        except Diverged as error:
            if divergence == "error":
                if stop:
                    raise Interrupted(stop[0]) from None
                kept = f" (the last checkpoint is kept in {directory})" if (directory / CHECKPOINT).is_file() else ""
                raise UserError(f"{name}: {error}: try a smaller learning rate{kept}") from None
            records.save(directory)
            done, outcome, said = epoch, {"diverged": error.found}, f"diverged: {error}"
        seconds = time.monotonic() - began
        finished = {"versions": versions(), "seconds": seconds, "epochs": epochs, "from": start, **outcome}
        if others := unlike_the_lock(SOFTWARE):
            finished["unlike_the_lock"] = others
        write_json(directory / FINISHED, finished)
        log.info("%s: %d epochs in %s; %s", name, done - start, duration(seconds), said)
        if stop:  # of what comes after this run
            raise Interrupted(stop[0])
