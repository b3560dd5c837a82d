"""The metrics store: a plain long-form table in every run directory, and reading finished runs back."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sgtheory.errors import UserError, first_line
from sgtheory.files import atomic_path

COLUMNS = ("run", "epoch", "metric", "layer", "value")
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

    def save(self, directory: Path) -> None:
        """Write records.csv; numbers keep all their digits."""
        with atomic_path(directory / RECORDS) as path:
            rows = [(self.run, *key, value) for key, value in self.values.items()]
            pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)

    def load(self, directory: Path, before: int) -> None:
        """Read back the rows of the epochs before ``before``; later ones are measured again."""
        path = directory / RECORDS
        if path.is_file():
            frame = read_records(path)
            frame = frame[frame.epoch < before]
            keys = zip(frame.epoch.tolist(), frame.metric, frame.layer, strict=True)
            self.values = dict(zip(keys, frame.value.tolist(), strict=True))


def read_records(path: Path) -> pd.DataFrame:
    """The table of one run.

    Raises:
        UserError: naming the file, if it is not such a table.
    """
    try:
        frame = pd.read_csv(path, dtype={"run": str, "metric": str, "layer": str}, keep_default_na=False, na_values="")
        frame = frame.astype({"epoch": np.int64, "value": np.float64})
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} cannot be read as a table of records: {first_line(error)}") from None
    if tuple(frame.columns) != COLUMNS:
        raise UserError(f"{path} has columns {list(frame.columns)}, and should have {list(COLUMNS)}")
    return frame


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, none if it is not there."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@dataclass(frozen=True)
class Run:
    """A finished run: what figures are made of."""

    directory: Path
    config: dict
    records: pd.DataFrame
    rasters: dict[str, np.ndarray]

    def series(self, metric: str, layer: str) -> pd.Series:
        """Values of one metric over epochs."""
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
    try:
        config = json.loads((directory / CONFIG).read_text())
        rasters = read_arrays(directory / RASTERS)
    except Exception as error:
        raise UserError(f"{directory} cannot be read ({type(error).__name__}: {error})") from None
    return Run(directory, config, read_records(directory / RECORDS), rasters)
