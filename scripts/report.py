"""What of the paper holds.

    python scripts/report.py                      # every claim, with what the figures in figures/ measured for it
    python scripts/report.py --quick              # the same at a reduced scale, measured now (minutes)
    python scripts/report.py --html               # the page figures/report.html, which needs nothing but itself
    python scripts/report.py --diff A B           # two folders of figures or of runs, number by number

Exit code: 0 if every claim that was run holds, 1 if one does not, 2 after a mistake. With --accept-known, claims that
are known not to hold and explained in docs/ do not count. With --diff: 0 if all is equal within the tolerance, 1 if not.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from sgtheory.report import failing, find_figures, make_ledger, show_ledger
from sgtheory.training.command import report_errors


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=Path("figures"), help="folder of the figures' numbers")
    parser.add_argument("--accept-known", action="store_true", help="fail for claims only that docs/ does not explain")
    options = parser.parse_args(arguments)
    entries = make_ledger(find_figures(options.figures))
    show_ledger(entries, Console())
    return int(bool(failing(entries, options.accept_known)))


if __name__ == "__main__":
    with report_errors():
        sys.exit(main(sys.argv[1:]))
