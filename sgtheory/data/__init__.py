"""The data of the experiments: the target picture of spike-train matching."""

from sgtheory.data._picture import floyd_steinberg, load_target
from sgtheory.data._radcliffe import draw_radcliffe

__all__ = ["draw_radcliffe", "floyd_steinberg", "load_target"]
