"""What of the paper holds.

    python scripts/report.py                # a line for every claim, with what the figures in figures/ measured for it
    python scripts/report.py --long         # all of it: measured, expected, our choices, scale, command
    python scripts/report.py --quick        # the same at a reduced scale, measured now (minutes)
    python scripts/report.py --html         # the page figures/report.html, which needs nothing but itself
    python scripts/report.py --tables       # renew the tables in README.md and docs/claims.md from figures/published/
    python scripts/report.py --diff A B     # two folders of figures or of runs, number by number

Exit code: 0 unless a claim is contradicted of which docs/ does not know; 1 if one is, 2 after a mistake.
With --strict, every contradicted claim counts. With --diff: 0 if everything is equal within the tolerance, 1
if not. With --html: 0 if the page was written.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from sgtheory.command import report_errors
from sgtheory.errors import UserError
from sgtheory.report import (
    compare,
    failing,
    find_figures,
    make_ledger,
    measure_quickly,
    show_differences,
    show_ledger,
    summary,
    write_page,
    write_tables,
)

ROOT = Path(__file__).parents[1]
QUICK = Path("runs") / "claims-quick"


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    console = Console()
    if options.diff:
        differences = compare(*options.diff, options.absolute)
        return int(not show_differences(differences, options.tolerance, console))
    if options.tables:
        for path in write_tables(find_figures(ROOT / "figures" / "published"), ROOT):
            console.print(f"{path} renewed")
        return 0
    if options.quick:
        measure_quickly(QUICK, report=console.print)
    elif not options.html and not options.figures.is_dir():
        raise UserError(f"--figures {options.figures}: there is no such folder")
    figures = find_figures(QUICK if options.quick else options.figures)
    entries = make_ledger(figures)
    if options.html:
        path = options.figures / "report.html"
        write_page(entries, figures, path)
        console.print(str(path), summary(entries), sep="\n")
        return 0
    show_ledger(entries, console, options.long)
    if options.quick:
        console.print("Reduced scale: see the settings of each claim; without --quick (make claims) the full one.")
    return int(bool(failing(entries, accept_known=not options.strict)))


def tolerance(text: str) -> float:
    """A difference that is still none."""
    if not 0 <= (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a finite number of at least 0")
    return value


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help=f"measure at a reduced scale, in {QUICK}")
    what.add_argument("--html", action="store_true", help="write the page report.html into the folder of the figures")
    what.add_argument(
        "--tables", action="store_true", help="renew the tables of results in README.md and docs/claims.md"
    )
    what.add_argument("--diff", type=Path, nargs=2, metavar=("A", "B"), help="compare two folders of figures or runs")
    parser.add_argument("--long", action="store_true", help="all that is known of each claim, not a line")
    parser.add_argument(
        "--tolerance", type=tolerance, default=1e-6, help="relative difference that counts as equal (1e-6)"
    )
    parser.add_argument(
        "--absolute", type=tolerance, default=1e-9, help="absolute difference that counts as equal (1e-9)"
    )
    parser.add_argument("--figures", type=Path, default=Path("figures"), help="folder of the figures' numbers")
    parser.add_argument("--strict", action="store_true", help="fail for every claim that is contradicted, known or not")
    return parser


if __name__ == "__main__":
    with report_errors():
        sys.exit(main(sys.argv[1:]))
