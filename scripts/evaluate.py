"""Test the trained weights of a classification run again, in both neuron modes.

    python scripts/evaluate.py data/reference/fig7_paper/escape_noise-seed1-d0332534 data.dir=FOLDER
    python scripts/evaluate.py runs/classification/NAME --update

Prints loss and accuracy beside what the run has recorded; they are equal on the machine that trained it, and to a few
samples elsewhere. --update writes what was measured into records.csv and rasters.npz of the run, for example where
records are older than a metric. The training data are needed as well: classes and speakers are compared with theirs.
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sgtheory.command import parse, report_errors
from sgtheory.training import evaluate, update_run

POSITIONAL = {"RUN": "directory of a finished run, with weights.npz"}
SETTINGS = {"data.dir=data": "folder of the data set"}
FLAGS = {"--update": "write what was measured into the run"}


def main(arguments: list[str]) -> None:
    (run,), settings, update = parse(__doc__, POSITIONAL, SETTINGS, arguments, FLAGS)
    data = {key.removeprefix("data."): value for key, value in settings.items()}
    table, arrays = evaluate(Path(run), data)
    columns = Table("metric", "of", "measured", "recorded", box=None)
    for row in table.itertuples():
        recorded = "" if row.recorded != row.recorded else f"{row.recorded:.4f}"
        columns.add_row(row.metric, row.layer, f"{row.value:.4f}", recorded)
    Console().print(columns)
    if update:
        update_run(Path(run), table, arrays)


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
