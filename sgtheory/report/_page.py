"""The report: one HTML page that shows what of the paper holds and how it was measured, and needs no other file."""

import base64
import importlib
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from sgtheory import __version__
from sgtheory.claims import CONTRADICTED, NOT_RUN, QUALIFIED, REPRODUCED, UNDECIDED
from sgtheory.files import atomic_path
from sgtheory.report._ledger import Drawn, Entry, failing
from sgtheory.report._table import DETAILS, INTERVALS, SHORT, because, decisive, summary
from sgtheory.training import CONF

MINUS, TIMES = "\u2212", "\u00d7"
THUMBNAIL = 520  # pixels
DOUBT = (CONTRADICTED, UNDECIDED, NOT_RUN, QUALIFIED, REPRODUCED)  # the most doubtful first


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
    templates.filters["typeset"] = typeset
    shown = sorted(figures.values(), key=_order)
    page = templates.get_template("page.html.j2").render(
        topics=_topics(entries, figures),
        summary=summary(entries),
        because=because,
        decisive=decisive,
        short=SHORT,
        details=DETAILS,
        intervals=INTERVALS,
        failing=failing(entries),
        figures=[_shown(figure, entries) for figure in shown],
        environments=_environments(shown),
        runs=[_runs(figure) for figure in shown if figure.provenance.get("runs")],
        version=__version__,
        date=datetime.now(UTC).strftime("%d %B %Y"),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page)


def typeset(text: str) -> Markup:
    """Text with the signs that a keyboard lacks, as HTML: +-, <=, -1, 1e-08, 2x3, ^2, beta_SG."""
    text = str(escape(text)).replace("+-", "±").replace("&lt;=", "≤").replace("&gt;=", "≥")
    text = re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-])0*(\d+)", _power, text)
    text = re.sub(r"\bbeta(_SG)?(?![a-z])", lambda found: "β<sub>SG</sub>" if found[1] else "β", text)
    text = re.sub(r"\^(-?[\d.]*\d)", lambda found: f"<sup>{found[1].replace('-', MINUS)}</sup>", text)
    text = re.sub(r"(?<=\d)x(?=\d)| x (?=\d)", lambda found: found[0].replace("x", TIMES), text)
    return Markup(re.sub(r"(?<![\w.)-])-(?=\d)", MINUS, text))


def _power(found: re.Match) -> str:
    mantissa, sign, exponent = found.groups()
    return f"{mantissa} {TIMES} 10<sup>{MINUS * (sign == '-')}{exponent}</sup>"


def _topics(entries: Sequence[Entry], figures: dict[str, Drawn]) -> list[dict]:
    """Each topic with its claims, how many have which verdict, the most doubtful first, and its pictures."""
    topics, above = [], set()
    for topic, group in groupby(entries, key=lambda entry: entry.topic):
        group = list(group)
        counts = Counter(entry.verdict for entry in group)
        drawn = [figures[source] for source in (topic.source, *topic.also) if source in figures]
        pictures = [_shown(figure, entries) | {"shown": figure.name in above} for figure in drawn]
        above |= {figure.name for figure in drawn}
        topics.append(
            {
                **vars(topic),
                "entries": group,
                "verdicts": [(verdict, counts[verdict]) for verdict in DOUBT if counts[verdict]],
                "figures": pictures,
                "thumbnail": next(filter(None, map(_thumbnail, drawn)), None),
            }
        )
    return topics


def _thumbnail(figure: Drawn) -> str | None:
    """The top of the picture of a figure in small, 4 to 3, as base64; None if it is not there."""
    path = figure.folder / f"{figure.name}.png"
    if not path.is_file():
        return None
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, 4 * THUMBNAIL))
    card = Image.new("RGB", (small.width, max(1, round(0.75 * small.width))), "white")
    card.paste(small, (0, max(0, (card.height - small.height) // 2)))
    content = io.BytesIO()
    card.quantize(64).save(content, "png")
    return base64.b64encode(content.getvalue()).decode()


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
