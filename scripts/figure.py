"""Draw a figure from the records of finished runs, and print what it says about the paper's claims.

    python scripts/figure.py experiment=fig6
    python scripts/figure.py experiment=fig6 surrogate.beta=5     # the runs that train.py made with the same overrides

Writes NAME.png, NAME.pdf and NAME.json (every number drawn) into the folder that output=FOLDER names (figures).
"""

import importlib
import sys

from rich.console import Console
from rich.table import Table

from sgtheory.errors import UserError
from sgtheory.figures import save_figure
from sgtheory.training import expand, find_run, load_run
from sgtheory.training.command import report_errors


def main(arguments: list[str]) -> None:
    output = "figures"
    overrides = []
    for argument in arguments:
        if argument.startswith("output="):
            output = argument.removeprefix("output=")
        else:
            overrides.append(argument)
    configs = expand(overrides)
    name = configs[0].experiment
    if not name:
        raise UserError("say which figure: python scripts/figure.py experiment=fig6")
    module = importlib.import_module(f"sgtheory.figures.{configs[0].figure}")
    missing = [run for config in configs if not ((run := find_run(config)) / "finished.json").is_file()]
    if missing:
        command = f"python scripts/train.py -m {' '.join(overrides)}"
        raise UserError(f"{len(missing)} of {len(configs)} runs are not finished ({missing[0]} ...): run {command}")
    numbers = module.compute([load_run(find_run(config)) for config in configs])
    paths = save_figure(name, module.draw, numbers, output)
    show_claims(numbers["claims"])
    print(*paths, sep="\n")


def show_claims(claims) -> None:
    table = Table(title=None, show_lines=True)
    for column in ("claim", "statement", "measured", "expected", "verdict"):
        table.add_column(column, overflow="fold")
    for claim in claims:
        colour = "green" if claim.holds else "red"
        table.add_row(claim.id, claim.statement, claim.measured, claim.expected, f"[{colour}]{claim.verdict}[/]")
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
    else:
        with report_errors():
            main(sys.argv[1:])
