"""Write the trained network of a run as a graph of the Neuromorphic Intermediate Representation (NIR).

    python scripts/export.py runs/spike_matching/NAME network.nir
    python scripts/export.py runs/classification/NAME network.nir euler_step=1e-4

docs/nir.md says what the graph means, which program steps how, and what NIR cannot say.
"""

import sys
import warnings
from pathlib import Path

from sgtheory.command import parse, report_errors
from sgtheory.errors import UserError
from sgtheory.training import export

POSITIONAL = {"RUN": "directory of a finished run", "OUT": "the file to write"}
SETTINGS = {"euler_step=none": "for a program that steps by Euler: the length of its steps in seconds"}


def main(arguments: list[str]) -> None:
    (directory, out), given = parse(__doc__, POSITIONAL, SETTINGS, arguments)
    try:
        euler_step = float(given["euler_step"]) if "euler_step" in given else None
    except ValueError:
        raise UserError(f"euler_step = {given['euler_step']} must be a number of seconds") from None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        export(Path(directory), Path(out), euler_step)
    print(out, *(f"note: {warning.message}" for warning in said), sep="\n")


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
