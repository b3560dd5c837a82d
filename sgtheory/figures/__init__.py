"""The figures of the paper, one module each.

Every module has two functions. ``compute(runs, **settings) -> numbers`` turns the records of finished runs (or, for
the theory figures, nothing but its settings) into a dictionary of everything that will be drawn, with a list of
:class:`Claim` under ``"claims"``. ``draw(numbers) -> Figure`` draws that dictionary and computes nothing.
"""

from sgtheory.figures._output import COLOURS, LABELS, STYLE, Claim, panel_letter, save_figure, to_json

__all__ = ["COLOURS", "LABELS", "STYLE", "Claim", "panel_letter", "save_figure", "to_json"]
