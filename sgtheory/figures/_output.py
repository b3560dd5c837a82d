"""What all figures share: the style, the colours, panel letters, and saving."""

import io
import json
import textwrap
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from sgtheory.claims import from_json, to_json
from sgtheory.files import atomic_path

STYLE = Path(__file__).with_name("sgtheory.mplstyle")
COLOURS = {"escape_noise": "#EBB400", "deterministic": "#008CA5"}
LABELS = {"escape_noise": "stochastic", "deterministic": "deterministic"}


def panel_letter(axes, letter: str) -> None:
    """Put a bold panel letter above the upper left corner of ``axes``."""
    axes.set_title(letter, loc="left", fontweight="bold", fontsize=10)


def caption(figure: Figure, *sentences: str) -> None:
    """Say below the panels at which scale they were measured and what no legend does: bands, bars, dots, shades.

    A legend below the panels belongs into a subfigure, which ends above the caption.
    """
    text, widest = ". ".join(sentences), round(21.5 * figure.get_figwidth())
    lines = len(textwrap.wrap(text, widest))
    width = next(w for w in range(len(text) // lines, widest + 1) if len(textwrap.wrap(text, w)) == lines)
    figure.supxlabel(textwrap.fill(text, width), fontsize=6.5, color="0.3")


def save_figure(name: str, draw, numbers: dict, directory: str | Path) -> list[Path]:
    """Draw ``numbers`` in the house style and write ``name``.png, .pdf and .json (every number drawn, and
    ``claims``) into ``directory``. Returns the three paths."""
    directory = Path(directory)
    written, on_disk = [], to_json(numbers)
    with matplotlib.style.context(STYLE):
        figure: Figure = draw(from_json(on_disk))  # so that what is on disk is enough to draw it again
        for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
            content = io.BytesIO()  # writers of formats end in other errors than the disk's when it is full
            figure.savefig(content, format=suffix[1:], metadata=metadata)
            with atomic_path(directory / f"{name}{suffix}") as path:
                path.write_bytes(content.getbuffer())
            written.append(directory / f"{name}{suffix}")
    with atomic_path(directory / f"{name}.json") as path:
        lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in on_disk.items())
        path.write_text(f"{{\n{lines}\n}}\n")
    written.append(directory / f"{name}.json")
    return written
