"""The figures of the paper, one module each.

Every module has three functions. ``measure(runs, **settings) -> numbers`` turns the records of finished runs into a
dictionary of everything that will be drawn and judged; a figure of the theory has no runs, its settings are enough.
``claims(numbers)`` gives the list of :class:`sgtheory.claims.Claim` that follows from these numbers alone, also when
they have been read from a file. ``draw(numbers) -> Figure`` draws what comes back from the file. The last two measure
nothing.
"""

from sgtheory.figures._output import COLOURS, LABELS, STYLE, panel_letter, save_figure
from sgtheory.figures._statistics import median_interval, over_seeds

__all__ = ["COLOURS", "LABELS", "STYLE", "median_interval", "over_seeds", "panel_letter", "save_figure"]
