"""The ledger: every claim, what was measured for it, at which scale, by which command, and whether it holds."""

import json
from dataclasses import dataclass
from pathlib import Path

from sgtheory.claims import CONTRADICTED, MEASURED, NOT_RUN, to_json
from sgtheory.errors import UserError
from sgtheory.reading import read_json, require_kinds
from sgtheory.report._provenance import command
from sgtheory.report._registry import KNOWN, PAPER_SCALE, PROFILES, TOPICS, Known, Topic
from sgtheory.report._setup import setup_claims

PUBLISHED = "published"  # folder within that of the figures: what comes with the package
CLAIM = {"id", "statement", "measured", "expected", "verdict"}
# where there is something to say
MORE = {"qualification", "undecided", "decides", "source", "choice", "power", "settles"}
HOW_MADE = {  # what is shown beside the claims
    "scale": str,
    "seeds": list,
    "epochs": int,
    "training_samples": int,
    "provenance": dict,
    "provenance.arguments": list,
    "provenance.settings": dict,
    "provenance.runs": list,
    "provenance.configs": dict,
}


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Args:
        id: C1, C3.averaging, ...
        topic: of the paper.
        statement, measured, expected: sentences with numbers and their uncertainty.
        verdict: one of the words in :mod:`sgtheory.claims`.
        scale: settings, seeds, epochs and samples of the measurement.
        command: that makes it.
        known: why it is contradicted, if that is known; None if it is not contradicted.
        qualification, undecided, decides, source, choice, power, settles: as in :class:`sgtheory.claims.Claim`.
    """

    id: str
    topic: Topic
    statement: str
    measured: str
    expected: str
    verdict: str
    scale: str
    command: str
    known: Known | None = None
    qualification: str = ""
    undecided: str = ""
    decides: str = ""
    source: str = ""
    choice: str = ""
    power: str = ""
    settles: str = ""


@dataclass(frozen=True)
class Drawn:
    """A figure on disk: its name (fig6_quick), the folder it is in, and its numbers."""

    name: str
    folder: Path
    numbers: dict

    @property
    def provenance(self) -> dict:
        return self.numbers.get("provenance") or {}

    @property
    def command(self) -> str:
        return command(self.name, self.provenance)


def read_figure(path: Path) -> dict:
    """The numbers of a figure, with its claims checked to be claims.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    numbers = read_json(path, "the numbers of a figure")
    claims = numbers.get("claims")
    if not isinstance(claims, list):
        raise UserError(f"{path} has no list of claims; scripts/figure.py writes files that have one")
    for claim in claims:
        texts = isinstance(claim, dict) and all(isinstance(text, str) for text in claim.values())
        if not texts or not CLAIM <= claim.keys() <= CLAIM | MORE:
            raise UserError(
                f"{path}: a claim must have the texts {', '.join(sorted(CLAIM))}, not {json.dumps(claim):.80}"
            )
        if claim["verdict"] not in MEASURED:
            raise UserError(f"{path}: {claim['id']} must have the verdict {' | '.join(MEASURED)}")
    require_kinds(path, numbers, HOW_MADE, needed=False)
    made = numbers.get("provenance") or {}
    if not all(isinstance(argument, str) for argument in made.get("arguments") or ()):
        raise UserError(f"{path}: provenance.arguments must be a list of texts")
    for run in made.get("runs") or ():
        require_kinds(path, {"run": run}, {"run.name": str, "run.seconds": float, "run.versions": dict})
    if made:
        require_kinds(path, made, {"versions": dict})
    return numbers


def find_figures(folder: Path) -> dict[str, Drawn]:
    """The figures that carry claims, by source; of several profiles the largest.

    What has been rendered into ``folder`` comes before what is published in it (``folder``/published).
    """
    found = {}
    for source in dict.fromkeys(name for topic in TOPICS.values() for name in (topic.source, *topic.also)):
        names = [source + profile for profile in PROFILES]
        paths = [place / f"{name}.json" for name in names for place in (Path(folder), Path(folder) / PUBLISHED)]
        if path := next(filter(Path.is_file, paths), None):
            found[source] = Drawn(path.stem, path.parent, read_figure(path))
    return found


def make_ledger(figures: dict[str, Drawn]) -> list[Entry]:
    """Every claim, in the order of the paper; a topic of which nothing was measured has one entry that says so.

    Args:
        figures: from :func:`find_figures`.

    Raises:
        UserError: if a figure carries a claim of no topic.
    """
    entries = {topic: [] for topic in TOPICS}
    for figure in figures.values():
        for claim in figure.numbers["claims"]:
            topic = claim["id"].partition(".")[0]
            if topic not in TOPICS:
                raise UserError(f"{figure.name}.json: claim {claim['id']} is of no topic in the ledger's registry")
            entries[topic].append(_entry(claim, scale(figure), figure.command))
    for topic in TOPICS.values():
        if topic.source not in figures:
            entries[topic.id].insert(0, _not_run(topic))
    for claim in map(to_json, setup_claims()):
        topic = claim["id"].partition(".")[0]
        entries[topic].append(_entry(claim, "the network before training", "make claims"))
    return [entry for group in entries.values() for entry in group]


def _entry(claim: dict, scale: str, command: str) -> Entry:
    known = KNOWN.get(claim["id"]) if claim["verdict"] == CONTRADICTED else None
    return Entry(**claim, topic=TOPICS[claim["id"].partition(".")[0]], scale=scale, command=command, known=known)


def _not_run(topic: Topic) -> Entry:
    return Entry(topic.id, topic, topic.finding, "-", "-", NOT_RUN, "-", f"make {topic.source}")


def scale(figure: Drawn) -> str:
    """At which scale the numbers of a figure were measured, and whether that is the paper's or its default."""
    numbers, source = figure.numbers, figure.name.partition("_")[0]
    text = numbers.get("scale") or "not recorded"
    if wanted := PAPER_SCALE.get(source):
        full = all((numbers.get(key) or 0) >= value for key, value in wanted.items())
        return text + (" (the paper's scale)" if full else " (reduced)")
    changed = [argument for argument in figure.provenance.get("arguments") or () if "figure." in argument]
    return text + (f"; not the default: {', '.join(changed)}" if changed else "")


def failing(entries: list[Entry], accept_known: bool = False) -> list[Entry]:
    """The claims that were run and are contradicted; on request without those of which that is known."""
    return [entry for entry in entries if entry.verdict == CONTRADICTED and not (accept_known and entry.known)]
