"""The tables in README.md and docs/claims.md say what is published."""

import json

import pytest
from conftest import ROOT

from sgtheory.errors import UserError
from sgtheory.report import find_figures, write_tables

FILES = ("README.md", "docs/claims.md")
PUBLISHED = ROOT / "figures" / "published"


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in FILES:
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def test_the_tables_are_those_of_the_published_figures(copy):
    figures = find_figures(PUBLISHED)
    assert not write_tables(figures, copy), "make tables"
    readme = (copy / "README.md").read_text()
    for path in PUBLISHED.glob("*.json"):
        assert f"`make {path.stem.partition('_')[0]}" in readme
        for claim in json.loads(path.read_text())["claims"]:
            assert f"**{claim['id']}, {claim['verdict']}.**" in (copy / "docs/claims.md").read_text()


def test_other_numbers_and_verdicts_make_other_tables(copy):
    figures = find_figures(PUBLISHED)
    figures["fig4"].numbers["true_derivative"] = 0.5
    assert write_tables(figures, copy) == [copy / "README.md"]
    assert "+0.50" in (copy / "README.md").read_text()
    figures["fig4"].numbers["claims"][0]["verdict"] = "contradicted"
    assert write_tables(figures, copy) == [copy / name for name in FILES]
    assert "C6: contradicted" in (copy / "README.md").read_text()


def test_a_file_without_markers_is_left_alone(copy):
    (copy / "README.md").write_text("nothing to fill in\n")
    with pytest.raises(UserError, match="must have the lines"):
        write_tables(find_figures(PUBLISHED), copy)
    assert (copy / "README.md").read_text() == "nothing to fill in\n"
