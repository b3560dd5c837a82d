"""What is published: the numbers on disk are enough to draw a figure again, and the figure says what it shows."""

import importlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import matplotlib.style
import numpy as np
import pytest

from sgtheory.claims import from_json, to_json
from sgtheory.figures import STYLE

PUBLISHED = Path(__file__).parents[2] / "figures" / "published"


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.json")), ids=lambda path: path.stem)
def test_it_can_be_drawn_again_and_has_a_caption(path):
    module = importlib.import_module(f"sgtheory.figures.{path.stem.partition('_')[0]}")
    with matplotlib.style.context(STYLE):
        figure = module.draw(from_json(json.loads(path.read_text())))
    plt.close("all")
    assert figure.get_supxlabel()


def test_a_raster_comes_back_and_words_stay_words():
    """Also words of 0 and 1 of several lengths, which are no raster."""
    raster = np.random.default_rng(0).random((3, 5)) < 0.5
    back = from_json(to_json({"raster": raster, "words": ["1", "10"], "empty": ["", ""]}))
    assert np.array_equal(back["raster"], raster)
    assert (back["words"], back["empty"]) == (["1", "10"], ["", ""])
