"""Progress of a long run: a bar on a terminal, plain lines in a log."""

import logging
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger("sgtheory")
LOG_INTERVAL = 10.0  # seconds between lines


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class EpochProgress:
    """Shows how far a run is; a context manager.

    On a terminal a bar with rate and remaining time; elsewhere (a log file, a worker of a sweep) a line every ten
    seconds.
    """

    def __init__(self, name: str, start: int, total: int):
        self.name, self.start, self.total, self.done = name, start, total, start
        self.began = self.last = time.monotonic()
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

    def advance(self, summary: str) -> None:
        """One epoch is done; ``summary`` is a short text of where it stands."""
        self.done += 1
        now = time.monotonic()
        if self.bar:
            if now - self.last > 0.1:
                self.last = now
                self.bar.update(self.task, completed=self.done, at=f"{self.rate(now):.0f}/s {summary}")
        elif now - self.last > LOG_INTERVAL:
            self.last = now
            left = duration((self.total - self.done) / self.rate(now))
            log.info(
                "%s: epoch %d/%d, %.1f/s, %s left; %s", self.name, self.done, self.total, self.rate(now), left, summary
            )

    def rate(self, now: float) -> float:
        """Epochs per second so far."""
        return (self.done - self.start) / max(now - self.began, 1e-9)
