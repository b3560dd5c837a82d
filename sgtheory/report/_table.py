"""The ledger on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgtheory.claims import CONTRADICTED, MEASURED, NOT_RUN, QUALIFIED, REPRODUCED, UNDECIDED, Claim
from sgtheory.report._ledger import Entry

COLOURS = {REPRODUCED: "green", QUALIFIED: "green", CONTRADICTED: "red", UNDECIDED: "yellow", NOT_RUN: "yellow"}
SHORT = {QUALIFIED: "qualified", UNDECIDED: "undecided"}
INTERVALS = "± and [ ]: 95 % intervals, unless a line says otherwise"
# what a reader may want to know of a claim, in this order
DETAILS = {
    "statement": "statement",
    "measured": "measured",
    "expected": "expected",
    "qualification": "but",
    "undecided": "decided by",
    "power": "power",
    "choice": "our choice",
    "source": "judged is",
    "settles": "could change it",
    "scale": "scale",
    "command": "command",
}


def show_ledger(entries: Sequence[Entry], console: Console, long: bool = False) -> None:
    """Print a line for each claim, or all that is known of it, what is contradicted and why, and how many claims have
    which verdict."""
    console.print(_lines(entries, long))
    console.print()
    for entry in entries:
        if entry.verdict == CONTRADICTED:
            console.print(Text.assemble((entry.id, "bold red"), f" contradicted: {because(entry)}"))
    console.print(Text(summary(entries), "bold"))
    if not long:
        console.print(Text(f"{INTERVALS}; all that is known of them: python scripts/report.py --long", "dim"))


def show_claims(claims: Sequence[Claim], long: bool) -> None:
    """Print a line for each claim of a figure, or all that is known of it."""
    console = Console(highlight=False)
    console.print(_lines(claims, long))
    if not long and any(sign in decisive(claim) for claim in claims for sign in "±["):
        console.print(Text(INTERVALS, "dim"))


def _lines(claims: Sequence[Claim | Entry], long: bool) -> Table:
    """Id, verdict and the number that decides, on one line; with ``long`` the details below it."""
    lines = Table.grid(padding=(0, 2), expand=True)
    lines.add_column(no_wrap=True)
    lines.add_column(no_wrap=True, min_width=len(CONTRADICTED))
    lines.add_column(
        no_wrap=not long, overflow="fold" if long else "ellipsis", ratio=1
    )  # it has the width that is left
    for claim in claims:
        verdict = Text(SHORT.get(claim.verdict, claim.verdict), COLOURS[claim.verdict])
        lines.add_row(Text(claim.id, "bold"), verdict, Text(claim.statement if long else decisive(claim)))
        for key, label in list(DETAILS.items())[1:] if long else ():
            if (value := getattr(claim, key, "")) and value != "-":
                lines.add_row("", Text(label, "dim"), Text(value))
    return lines


def decisive(claim: Claim | Entry) -> str:
    """The number that decides about a claim; of one that was not run, its command."""
    if claim.verdict == NOT_RUN:
        return claim.command
    return claim.decides or claim.measured


def because(entry: Entry) -> str:
    """What is known of a contradicted claim, else what was measured."""
    if entry.known:
        return f"{entry.known.reason} (known, see {entry.known.document})"
    return f"{entry.measured} (new, not in docs/)"


def summary(entries: Sequence[Entry]) -> str:
    """How many claims have which verdict, and how many contradicted ones docs/ knows of."""
    counts = {verdict: sum(e.verdict == verdict for e in entries) for verdict in (*MEASURED, NOT_RUN)}
    known = sum(entry.known is not None for entry in entries)
    words = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{len(entries)} claims: {', '.join(words)}" + (f" ({known} contradicted as documented)" if known else "")
