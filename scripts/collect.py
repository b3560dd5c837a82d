"""Gather the runs in a folder into one table: mean, s.d. and 95 % confidence interval of every configuration.

    python scripts/collect.py runs                                          # every metric after the last epoch
    python scripts/collect.py runs --metric l2 van_rossum --layer output    # one row for each configuration
    python scripts/collect.py runs --metric l2 --by surrogate.beta          # averaged over everything else
    python scripts/collect.py runs --metric accuracy --at best --csv table.csv

Settings that differ between runs become columns; runs that differ in the seed alone are averaged. Runs that are
unfinished or have diverged are counted and named, never averaged.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sgtheory.command import report_errors
from sgtheory.errors import UserError
from sgtheory.files import atomic_path
from sgtheory.training import Collection, collect, companions, widen


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, help="where the runs are")
    options.add_argument("--metric", nargs="+", default=[], help="which metrics (all)")
    options.add_argument("--layer", nargs="+", default=[], help="of which layers (all)")
    options.add_argument("--at", default="last", help="last | best | mean:K for the mean of the last K epochs (last)")
    options.add_argument("--by", nargs="+", metavar="KEY", help="settings that make a configuration (all that differ)")
    options.add_argument("--long", action="store_true", help="one row for each configuration, metric and layer")
    options.add_argument("--csv", type=Path, metavar="OUT", help="write the table to this file, with all digits")
    return options


def main(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    found = collect(options.folder, options.metric, options.layer, options.at)
    known = sorted({key for collection in found for key in collection.settings})
    if unknown := [key for key in options.by or [] if key not in known]:
        raise UserError(f"--by {unknown[0]}: these runs differ in {', '.join(known) or 'nothing but the seed'}")
    summaries = [collection.summary(options.by) for collection in found]
    long = options.long or not options.metric  # a column for every metric there is would be too many
    console = Console(width=None if sys.stdout.isatty() else 1000)  # in a file no line is folded
    for collection, summary in zip(found, summaries, strict=True):
        meaning = "" if long else ": mean (s.d., n) [95 % confidence interval of the mean]"
        console.print(f"{collection.task}{meaning}", highlight=False, markup=False, soft_wrap=True)
        console.print(rich_table(collection, summary, long, options.by))
        for line in notes(collection, options.by):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if options.csv:
        with atomic_path(options.csv) as path:
            pd.concat([s if long else widen(s) for s in summaries]).to_csv(path, index=False)
        print(options.csv)


def rich_table(collection: Collection, summary: pd.DataFrame, long: bool, by: list[str] | None) -> Table:
    """Mean, s.d. and interval, to four digits; of settings that vary together the first one."""
    keys = [key for key in by or companions(collection.settings) if key in collection.settings]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    measured = list(summary[["metric", "layer"]].dropna().drop_duplicates().itertuples(index=False, name=None))
    columns = ["metric", "layer", "n", "mean", "s.d.", "95 % CI"] if long else [" ".join(pair) for pair in measured]
    for column in [*keys, "runs", *columns]:
        table.add_column(column, overflow="fold")
    configurations = summary.groupby([c for c in summary if c in collection.settings] or ["finished"], dropna=False)
    for _, rows in configurations:
        first = rows.iloc[0]
        runs = str(first.finished) + (f" of {first.finished + first.unfinished}" if first.unfinished else "")
        head = [*(text(first[key]) for key in keys), runs]
        cells = {(row.metric, row.layer): statistics(row) for row in rows.itertuples() if row.n > 0}
        if long:
            for pair in cells or [()]:
                table.add_row(*head, *pair, *cells.get(pair, ()))
                head = [""] * len(head)
        else:
            side = {
                pair: f"{mean} ({sd and sd + ', '}{n}) {interval}" for pair, (n, mean, sd, interval) in cells.items()
            }
            table.add_row(*head, *(side.get(pair, "") for pair in measured))
    return table


def text(value) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def statistics(row) -> tuple[str, str, str, str]:
    """n, mean, s.d. and interval; of a single value there are only the first two."""
    if row.n == 1:
        return "1", f"{row.mean:.4g}", "", ""
    return str(row.n), f"{row.mean:.4g}", f"{row.sd:.2g}", f"[{row.ci95_low:.4g}, {row.ci95_high:.4g}]"


def notes(collection: Collection, by: list[str] | None) -> list[str]:
    """What the table does not show: settings left out, runs that do not count."""
    if by:
        lines = (
            [f"averaged over {', '.join(rest)}"] if (rest := [k for k in collection.settings if k not in by]) else []
        )
    else:
        together = companions(collection.settings).items()
        lines = [f"with {key} also differ: {', '.join(others)}" for key, others in together if others]
    lines += [f"unfinished or diverged: {run}" for run in collection.unfinished]
    return lines + [f"not counted, the same as another run: {run}" for run in collection.copies]


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
