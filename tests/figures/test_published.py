"""What is published: the numbers on disk are enough to draw a figure again, and the figure says what it shows."""

import importlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import matplotlib.style
import pytest

from sgtheory.claims import from_json
from sgtheory.figures import STYLE

PUBLISHED = Path(__file__).parents[2] / "figures" / "published"


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.json")), ids=lambda path: path.stem)
def test_it_can_be_drawn_again_and_has_a_caption(path):
    module = importlib.import_module(f"sgtheory.figures.{path.stem.partition('_')[0]}")
    with matplotlib.style.context(STYLE):
        figure = module.draw(from_json(json.loads(path.read_text())))
    plt.close("all")
    assert figure.get_supxlabel()
