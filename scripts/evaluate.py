"""Test the trained weights of a classification run again, in both neuron modes.

    python scripts/evaluate.py data/reference/fig7_paper/escape_noise-seed1-d0332534 data.dir=FOLDER
    python scripts/evaluate.py runs/classification/NAME --update

Prints loss and accuracy beside what the run has recorded; they are equal on the machine that trained it, and to a few
samples elsewhere. --update writes what was measured into records.csv and rasters.npz of the run, for example where
records are older than a metric. The training data are needed as well: classes and speakers are compared with theirs.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sgtheory.command import report_errors
from sgtheory.errors import UserError
from sgtheory.training import evaluate, update_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a finished run, with weights.npz")
    parser.add_argument("data", nargs="*", metavar="data.dir=FOLDER", help="where the data are, if not in data")
    parser.add_argument("--update", action="store_true", help="write what was measured into the run")
    arguments = parser.parse_args()
    data = {}
    for argument in arguments.data:
        key, _, value = argument.partition("=")
        if not key.startswith("data.") or not value:
            raise UserError(f"{argument} is not a setting of the data, such as data.dir=FOLDER")
        data[key.removeprefix("data.")] = value
    table, arrays = evaluate(arguments.run, data)
    columns = Table("metric", "of", "measured", "recorded", box=None)
    for row in table.itertuples():
        recorded = "" if row.recorded != row.recorded else f"{row.recorded:.4f}"
        columns.add_row(row.metric, row.layer, f"{row.value:.4f}", recorded)
    Console().print(columns)
    if arguments.update:
        update_run(arguments.run, table, arrays)


if __name__ == "__main__":
    with report_errors():
        main()
