"""The ledger on a terminal: a table where there is room for one, else a list."""

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sgtheory.claims import CONTRADICTED, MEASURED, NOT_RUN, QUALIFIED, REPRODUCED, UNDECIDED, Claim
from sgtheory.report._ledger import Entry

WIDE = 140  # columns from which on the ledger is a table
COLOURS = {REPRODUCED: "green", QUALIFIED: "green", CONTRADICTED: "red", UNDECIDED: "yellow", NOT_RUN: "yellow"}


def show_ledger(entries: Sequence[Entry], console: Console) -> None:
    """Print the ledger, what is contradicted and why, and how many claims have which verdict."""
    console.print(_table(entries) if console.width >= WIDE else _list(entries))
    console.print()
    for entry in entries:
        if entry.verdict == CONTRADICTED:
            console.print(Text.assemble((entry.id, "bold red"), f" contradicted: {because(entry)}"))
    console.print(Text(summary(entries), "bold"))


def show_claims(claims: Sequence[Claim], long: bool) -> None:
    """Print a line for each claim of a figure: id, verdict, statement; with ``long`` what was measured and expected."""
    console, lines = Console(highlight=False), Table.grid(padding=(0, 2))
    lines.add_column(no_wrap=True)
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for claim in claims:
        lines.add_row(Text(claim.id, "bold"), Text(claim.verdict, COLOURS[claim.verdict]), Text(claim.statement))
        if long:
            for label in ("measured", "expected"):
                lines.add_row("", Text(label, "dim"), Text(getattr(claim, label)))
    console.print(lines)


def because(entry: Entry) -> str:
    """Why a claim is contradicted, if that is known, else where to look."""
    if entry.known:
        return f"{entry.known.reason} (known, see {entry.known.document})"
    return f"{entry.measured} (new, not explained in docs/)"


def summary(entries: Sequence[Entry]) -> str:
    """How many claims have which verdict, and of how many contradicted ones the reason is known."""
    counts = {verdict: sum(e.verdict == verdict for e in entries) for verdict in (*MEASURED, NOT_RUN)}
    known = sum(entry.known is not None for entry in entries)
    words = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{len(entries)} claims: {', '.join(words)}" + (
        f" ({known} contradicted for a known reason)" if known else ""
    )


def _verdict(entry: Entry) -> Text:
    known = f" (known, see {entry.known.document})" if entry.known else ""
    return Text.assemble((entry.verdict, f"bold {COLOURS[entry.verdict]}"), known)


def _table(entries: Sequence[Entry]) -> Table:
    table = Table(show_lines=True, expand=True)
    for column, ratio in (("claim", 3), ("statement", 7), ("measured", 10), ("expected", 6), ("scale, command", 6)):
        table.add_column(column, ratio=ratio, overflow="fold")
    table.add_column("verdict", ratio=4)
    for entry in entries:
        place = Text.assemble((entry.id, "bold"), f"\n{entry.topic.section}\n{entry.topic.figure}")
        made = Text.assemble(f"{entry.scale}\n", (entry.command, "cyan"))
        table.add_row(place, *map(Text, (entry.statement, entry.measured, entry.expected)), made, _verdict(entry))
    return table


def _list(entries: Sequence[Entry]) -> Group:
    parts = []
    for topic, group in groupby(entries, key=lambda entry: entry.topic):
        parts.append(Text(f"\n{topic.id}  {topic.section}; {topic.figure}", "bold reverse"))
        for entry in group:
            parts.append(Text.assemble((entry.id, "bold"), "  ", _verdict(entry)))
            lines = Table.grid(padding=(0, 1))
            lines.add_column(style="dim")
            lines.add_column(overflow="fold")
            lines.add_row("", Text(entry.statement))
            for label in ("measured", "expected", "scale", "command"):
                if (value := getattr(entry, label)) != "-":
                    lines.add_row(label, Text(value))
            parts.append(Padding(lines, (0, 0, 0, 2)))
    return Group(*parts)
