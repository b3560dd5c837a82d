"""The report: one HTML page that shows what of the paper holds and how it was measured, and needs no other file."""

import base64
import importlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from sgtheory import __version__
from sgtheory.files import atomic_path
from sgtheory.report._ledger import Drawn, Entry, failing
from sgtheory.report._table import because, summary
from sgtheory.training import CONF


def write_page(entries: Sequence[Entry], figures: dict[str, Drawn], path: Path) -> None:
    """Write the ledger, the figures and how they were made as one page.

    Args:
        entries: from :func:`sgtheory.report.make_ledger`.
        figures: from :func:`sgtheory.report.find_figures`; the pictures lie beside their numbers.
        path: of the page.
    """
    templates = Environment(
        loader=PackageLoader("sgtheory.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = sorted(figures.values(), key=_order)
    page = templates.get_template("page.html.j2").render(
        topics=[(topic, list(group)) for topic, group in groupby(entries, key=lambda entry: entry.topic)],
        summary=summary(entries),
        because=because,
        failing=failing(entries),
        figures=[_shown(figure, entries) for figure in shown],
        environments=_environments(shown),
        runs=[_runs(figure) for figure in shown if figure.provenance.get("runs")],
        version=__version__,
        date=datetime.now(UTC).strftime("%d %B %Y"),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page)


def _order(figure: Drawn) -> tuple[bool, str]:
    """Figures of the paper's text first, then supplementary ones and our own."""
    return (not figure.name[3].isdigit(), figure.name.replace("S", "0"))


def _shown(figure: Drawn, entries: Sequence[Entry]) -> dict:
    source = figure.name.partition("_")[0]
    picture = figure.folder / f"{figure.name}.png"
    experiment = CONF / "experiment" / f"{figure.name}.yaml"
    ids = {claim["id"] for claim in figure.numbers["claims"]}
    return {
        "name": figure.name,
        "caption": _first_paragraph(importlib.import_module(f"sgtheory.figures.{source}").__doc__),
        "picture": base64.b64encode(picture.read_bytes()).decode() if picture.is_file() else None,
        "entries": [entry for entry in entries if entry.id in ids],
        "command": figure.command,
        "settings": experiment.read_text() if experiment.is_file() else None,
        "configs": {mode: json.dumps(c, indent=1) for mode, c in (figure.provenance.get("configs") or {}).items()},
    }


def _first_paragraph(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())


def _environments(figures: Sequence[Drawn]) -> list[tuple[dict, list[str]]]:
    """Software and machines, each with what was computed with it."""
    used: dict[str, list[str]] = {}
    for figure in figures:
        made = figure.provenance
        parts = [(figure.name, made)] if made else []
        parts += [(f"runs of {figure.name}", run) for run in made.get("runs") or ()]
        for name, part in parts:
            names = used.setdefault(json.dumps(part["versions"], sort_keys=True), [])
            if name not in names:
                names.append(name)
    return [(json.loads(versions), names) for versions, names in used.items()]


def _runs(figure: Drawn) -> dict:
    runs = figure.provenance["runs"]
    return {"name": figure.name, "runs": runs, "seconds": sum(run["seconds"] for run in runs)}
