"""What all figures share: the style, the colours, panel letters, claims, and saving."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure

from sgtheory.files import atomic_path

STYLE = Path(__file__).with_name("sgtheory.mplstyle")
COLOURS = {"escape_noise": "#EBB400", "deterministic": "#008CA5"}
LABELS = {"escape_noise": "stochastic", "deterministic": "deterministic"}


@dataclass(frozen=True)
class Claim:
    """One statement of the paper, what was measured for it, and whether it holds.

    ``measured`` and ``expected`` are short sentences with numbers and their uncertainty; ``holds`` is computed from
    the numbers, never set by hand.
    """

    id: str
    statement: str
    measured: str
    expected: str
    holds: bool

    @property
    def verdict(self) -> str:
        return "holds" if self.holds else "does not hold"


def panel_letter(axes, letter: str) -> None:
    """Put a bold panel letter above the upper left corner of ``axes``."""
    axes.set_title(letter, loc="left", fontweight="bold", fontsize=10)


def to_json(value):
    """Numbers of a figure as plain JSON types: arrays become lists, rasters strings, NaN and infinities null."""
    if isinstance(value, Claim):
        return {**{k: to_json(v) for k, v in asdict(value).items() if k != "holds"}, "verdict": value.verdict}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype in (bool, np.uint8) and value.ndim:  # a raster: one string of 0 and 1 for each row
            return ["".join("01"[s] for s in row) if row.ndim else int(row) for row in value.astype(int)]
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def save_figure(name: str, draw, numbers: dict, directory: str | Path) -> list[Path]:
    """Draw ``numbers`` in the house style and write ``name``.png, .pdf and .json (every number drawn, and
    ``claims``) into ``directory``. Returns the three paths."""
    directory = Path(directory)
    written = []
    with matplotlib.style.context(STYLE):
        figure: Figure = draw(numbers)
        for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
            content = io.BytesIO()  # writers of formats end in other errors than the disk's when it is full
            figure.savefig(content, format=suffix[1:], metadata=metadata)
            with atomic_path(directory / f"{name}{suffix}") as path:
                path.write_bytes(content.getbuffer())
            written.append(directory / f"{name}{suffix}")
    with atomic_path(directory / f"{name}.json") as path:
        lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in to_json(numbers).items())
        path.write_text(f"{{\n{lines}\n}}\n")
    written.append(directory / f"{name}.json")
    return written
