"""Claims and their verdicts: what a figure says about a statement of the paper, and the words for it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

REPRODUCED = "reproduced"
QUALIFIED = "reproduced, with a qualification"
CONTRADICTED = "contradicted"
UNDECIDED = "undecided at this scale"
NOT_RUN = "not run"
MEASURED = (REPRODUCED, QUALIFIED, CONTRADICTED, UNDECIDED)


@dataclass(frozen=True)
class Claim:
    """One statement of the paper, what was measured for it, and whether it holds.

    ``measured`` and ``expected`` are short sentences with numbers and their uncertainty; ``holds`` is computed from
    the numbers, never set by hand.

    Args:
        id: of the claim, beginning with that of its topic.
        statement, measured, expected: what is claimed, found and asked for.
        holds: whether what was measured is what is expected.
        qualification: what a reader must add to a statement that holds; empty if nothing.
        undecided: the scale at which it could be decided, if this one is too small; empty if it is decided.
        source: the sentence that is judged, by section and version of the paper.
        choice: what of the measurement is a choice of this package: threshold, net, estimator.
        decides: the number that decides, with its uncertainty, in a few words; empty if ``measured`` is short.
        power: for "no difference": which difference would be found in 80 % of repetitions.
        settles: the experiment that could change the verdict.
    """

    id: str
    statement: str
    measured: str
    expected: str
    holds: bool
    qualification: str = ""
    undecided: str = ""
    decides: str = ""
    source: str = ""
    choice: str = ""
    power: str = ""
    settles: str = ""

    @property
    def verdict(self) -> str:
        """One of :data:`MEASURED`."""
        if self.undecided:
            return UNDECIDED
        if not self.holds:
            return CONTRADICTED
        return QUALIFIED if self.qualification else REPRODUCED


def to_json(value):
    """Numbers of a figure as plain JSON types: arrays become lists, rasters strings, NaN and infinities null."""
    if isinstance(value, Claim):
        texts = {key: text for key, text in asdict(value).items() if key != "holds" and text}
        return {**texts, "verdict": value.verdict}
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


def from_json(value):
    """Numbers of a figure from :func:`to_json`: rasters and lists of numbers are arrays again, with NaN for null."""
    if isinstance(value, Mapping):
        return {key: from_json(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    try:
        if value and all(isinstance(row, str) and row and set(row) <= set("01") for row in value):
            return np.array([list(row) for row in value], np.uint8)
        array = np.array(value)
        return array.astype(np.float64) if array.dtype.kind == "O" else _numbers(array, value)
    except (TypeError, ValueError):
        return [from_json(inner) for inner in value]


def _numbers(array: np.ndarray, value: list):
    return array if array.size and array.dtype.kind in "iuf" else value
