"""What of the paper holds: the ledger of its claims, comparisons of results, and a page that shows all of it.

Reads what figures and runs have written; measures nothing but the networks of Tables 2 and 3 themselves.
"""

from sgtheory.report._difference import against_published, compare, show_differences
from sgtheory.report._ledger import Drawn, Entry, failing, find_figures, make_ledger, read_figure
from sgtheory.report._page import write_page
from sgtheory.report._provenance import provenance
from sgtheory.report._quick import measure_quickly
from sgtheory.report._table import show_claims, show_ledger, summary
from sgtheory.report._tables import write_tables

__all__ = [
    "Drawn",
    "Entry",
    "against_published",
    "compare",
    "failing",
    "find_figures",
    "make_ledger",
    "measure_quickly",
    "provenance",
    "read_figure",
    "show_claims",
    "show_differences",
    "show_ledger",
    "summary",
    "write_page",
    "write_tables",
]
