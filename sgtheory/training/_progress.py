"""Progress of a long run: a bar on a terminal, plain lines in a log."""

import logging
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger("sgtheory")
FIRST_LINE, LOG_INTERVAL = 3.0, 10.0  # seconds until the first line, and between lines


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class EpochProgress:
    """Shows how far a run is; a context manager.

    On a terminal a bar with rate and remaining time; elsewhere (a log file, a worker of a sweep) a line every ten
    seconds, the first one, with an estimate of the whole time, after three.
    """

    def __init__(self, name: str, start: int, total: int):
        self.name, self.start, self.total, self.done = name, start, total, start
        self.began = self.last = time.monotonic()
        self.summary, self.said, self.ticking = "", False, False
        self.bar = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[at]}"),
            )
            self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), transient=True)
            self.task = self.bar.add_task(name, total=total, completed=start, at="")

    def __enter__(self):
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_):
        if self.bar:
            self.bar.stop()

    def within(self, fraction: float) -> None:
        """So much of the current epoch is done. The first call starts the clock: a run may go on within an epoch."""
        if not self.ticking:
            self.ticking, self.start, self.began = True, self.done + fraction, time.monotonic()
        else:
            self.show(self.done + fraction)

    def advance(self, summary: str) -> None:
        """One epoch is done; ``summary`` is a short text of where it stands."""
        self.done += 1
        self.summary = summary
        self.show(self.done)

    def show(self, done: float) -> None:
        """Draw the bar, or write a line if the last one is long ago; the first one as soon as there is a rate."""
        if done == self.start:
            return
        now = time.monotonic()
        rate = (done - self.start) / max(now - self.began, 1e-9)  # epochs per second
        speed = f"{rate:.1f}/s" if rate > 1 else f"{1 / rate:.1f} s each"
        if self.bar:
            if now - self.last > 0.1:
                self.last = now
                self.bar.update(self.task, completed=done, at=f"{speed} {self.summary}")
        elif now - self.last > (LOG_INTERVAL if self.said else FIRST_LINE):
            self.last, self.said = now, True
            left = duration((self.total - done) / rate)
            at = f"{done:.2f}" if rate < 1 else f"{done:.0f}"
            text = f"; {self.summary}" if self.summary else ""
            log.info("%s: epoch %s/%d, %s, %s left%s", self.name, at, self.total, speed, left, text)


class SampleProgress:
    """Plain lines while a data set is made: how many samples are ready, and the time that is left."""

    def __init__(self):
        self.began = self.last = time.monotonic()

    def __call__(self, ready: int, total: int) -> None:
        now = time.monotonic()
        if ready and now - self.last > LOG_INTERVAL / 2:
            self.last = now
            left = duration((now - self.began) * (total - ready) / ready)
            log.info("making the data set, once: %d of %d samples, %s left", ready, total, left)
