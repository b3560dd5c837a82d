"""The metrics store: a plain long-form table in every run directory, and reading finished runs back."""

import contextlib
import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sgtheory.errors import UserError, first_line
from sgtheory.files import atomic_path
from sgtheory.reading import read_arrays, read_json, read_text, require_kinds

COLUMNS = {"run": str, "epoch": np.int64, "metric": str, "layer": str, "value": np.float64}
RECORDS, RASTERS, CONFIG, CHECKPOINT, FINISHED = (
    "records.csv",
    "rasters.npz",
    "config.json",
    "checkpoint.pt",
    "finished.json",
)


class Records:
    """Rows (run, epoch, metric, layer, value), kept in memory and written as a whole.

    Args:
        run: name of the run, the first column.
    """

    def __init__(self, run: str):
        self.run = run
        self.values: dict[tuple[int, str, str], float] = {}

    def add(self, epoch: int, rows: Iterable[tuple[str, str, float]]) -> None:
        """Append (metric, layer, value) rows of one epoch; what is measured again replaces what was there."""
        self.values |= {(epoch, metric, layer): float(value) for metric, layer, value in rows}

    def epochs(self) -> Iterator[tuple[int, list[tuple[str, str, float]]]]:
        """Each epoch with its (metric, layer, value) rows."""
        for epoch, items in itertools.groupby(self.values.items(), key=lambda item: item[0][0]):
            yield epoch, [(metric, layer, value) for (_, metric, layer), value in items]

    def save(self, directory: Path) -> None:
        """Write records.csv; numbers keep all their digits."""
        with atomic_path(directory / RECORDS) as path:
            rows = [(self.run, *key, value) for key, value in self.values.items()]
            pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(path, index=False)

    def load(self, directory: Path, before: int) -> None:
        """Read back the rows of the epochs before ``before``; later ones are measured again."""
        path = directory / RECORDS
        if path.is_file():
            frame = read_records(path)
            frame = frame[frame.epoch < before]
            keys = zip(frame.epoch.tolist(), frame.metric, frame.layer, strict=True)
            self.values = dict(zip(keys, frame.value.tolist(), strict=True))


@contextlib.contextmanager
def _trained_again(directory: Path) -> Iterator[None]:
    """Say what to do about a file of a run that cannot be read."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; delete {directory} to train this run again") from None


def read_records(path: Path) -> pd.DataFrame:
    """The table of one run.

    Raises:
        UserError: naming the file, if it is not such a table.
    """
    what = "a table of records"
    with _trained_again(path.parent):
        text = read_text(path, what)
        header = text.partition("\n")[0].rstrip("\r").split(",")
        if header != list(COLUMNS):
            raise UserError(f"{path} has columns {header!s:.200}, and should have {list(COLUMNS)}")
        try:
            if any(len(row) != len(COLUMNS) for row in csv.reader(io.StringIO(text))) or not text.endswith("\n"):
                raise ValueError("a row is not whole")
            with np.errstate(invalid="ignore"):  # of an epoch that is not a number
                frame = pd.read_csv(
                    io.StringIO(text),
                    dtype=COLUMNS,
                    keep_default_na=False,
                    na_values={"value": ""},  # of a variability that is not defined; a layer may have no name
                )
            if (frame.epoch < 0).any():
                raise ValueError("an epoch is below 0")
        except (ValueError, OverflowError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as {what}: {first_line(error)}") from None
    return frame


def read_config(directory: Path) -> dict:
    """The configuration of the run in a directory: see :func:`sgtheory.training._config.identity`.

    Raises:
        UserError: naming the file, if it is not one.
    """
    path = directory / CONFIG
    with _trained_again(directory):
        config = read_json(path, "the configuration of a run")
        require_kinds(path, config, {"seed": int, "task.name": str, "neuron.mode": str, "trainer.epochs": int})
    return config


@dataclass(frozen=True)
class Run:
    """A finished run: what figures are made of.

    ``diverged_in`` is the epoch that gave something else than finite numbers, after which the run was not continued
    (``trainer.divergence=record``); None if it went well.
    """

    directory: Path
    config: dict
    records: pd.DataFrame
    rasters: dict[str, np.ndarray]
    diverged_in: int | None = None

    def require_trained(self) -> None:
        """Refuse a run that diverged by a :class:`UserError`: it has no weights, and no values at the end."""
        if self.diverged_in is not None:
            raise UserError(f"{self.directory} diverged in epoch {self.diverged_in}: there is no trained network in it")

    def series(self, metric: str, layer: str) -> pd.Series:
        """Values of one metric over epochs.

        Raises:
            UserError: if the run diverged.
        """
        self.require_trained()
        chosen = self.records[(self.records.metric == metric) & (self.records.layer == layer)]
        return chosen.set_index("epoch")["value"]


def load_run(directory: Path) -> Run:
    """Read a finished run.

    Raises:
        UserError: if it is not there, not finished, or its files cannot be read.
    """
    directory = Path(directory)
    if not (directory / FINISHED).is_file():
        raise UserError(f"{directory} holds no finished run")
    rasters = read_arrays(path) if (path := directory / RASTERS).is_file() else {}
    config, records = read_config(directory), read_records(directory / RECORDS)
    return Run(directory, config, records, rasters, diverged_in(directory))


def diverged_in(directory: Path) -> int | None:
    """The epoch in which a finished run diverged, None if it did not.

    Raises:
        UserError: naming the file, if it cannot be read.
    """
    path = directory / FINISHED
    with _trained_again(directory):
        finished = read_json(path, "what a finished run has written")
        require_kinds(path, finished, {"diverged": dict, "diverged.epoch": int}, needed=False)
    return finished["diverged"]["epoch"] if "diverged" in finished else None
