"""The drawing of the Radcliffe Camera, and the packaged picture made from it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import radcliffe
from PIL import Image

import sgtheory.data
from sgtheory.data import load_target

SCRIPT = Path(__file__).parents[2] / "scripts" / "draw_radcliffe.py"


def pixels(path):
    with Image.open(path) as image:
        assert image.mode == "1"
        return np.array(image)


def test_script_regenerates_the_packaged_picture_pixel_for_pixel(tmp_path, monkeypatch, capsys):
    packaged = Path(sgtheory.data.__file__).with_name("radcliffe.png")
    monkeypatch.setattr("sys.argv", ["draw_radcliffe.py", str(tmp_path / "out.png")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    drawn = pixels(tmp_path / "out.png")
    assert drawn.shape == (200, 198)
    np.testing.assert_array_equal(drawn, pixels(packaged))
    assert "200 rows x 198 columns" in capsys.readouterr().out


def test_packaged_picture_gives_spikes_at_a_rate_like_that_of_the_paper():
    assert 0.25 < load_target().mean() < 0.35  # 27 % in the paper's own picture


def test_drawing_is_grey_levels_of_a_building_lit_from_the_left_under_a_bright_sky():
    grey = radcliffe.draw_radcliffe(rows=50, columns=50)
    np.testing.assert_array_equal(grey, np.rint(grey * 255) / 255)
    assert grey.min() >= 0
    assert grey.max() <= 1
    dome, storey, sky = grey[8:15], grey[28:37], grey[:8, :18]
    for part in (dome, storey):
        assert part[:, 15:24].mean() > part[:, 26:35].mean() + 0.05
    assert sky.mean() > 0.85 > dome[:, 17:33].mean() + 0.2


SOLIDS = {
    "cylinder": radcliffe.turned(1.5, -1.0, 2.0, at=(0.5, -0.3)),
    "cut ellipsoid": radcliffe.turned(2.0, -0.5, 1.0, at=(-0.4, 0.2), rise=2.5),
    "box": radcliffe.block((0.3, 0.4), 2.0, 3.0, -1.0, 1.5, angle=0.4),
    "gabled block": radcliffe.block((0.3, 0.4), 2.0, 3.0, -1.0, 1.5, angle=-0.4, gable=1.0),
    "pinnacle": radcliffe.block((-0.3, 0.1), 2.0, 2.0, -1.0, 3.0, hip=3.0),
}


def inside(solid, points):
    """The definition of a solid, for points [..., 3]."""
    flat = points @ solid.faces[:, :3].T <= solid.faces[:, 3]
    return flat.all(-1) & (np.linalg.norm((points - solid.centre) * solid.curvature, axis=-1) <= 1)


@pytest.mark.parametrize("name", SOLIDS)
def test_rays_enter_and_leave_where_the_definition_says(name):
    solid, rng = SOLIDS[name], np.random.default_rng(5)
    start = rng.normal(0, 4, (400, 3))
    way = rng.normal(0, 1.5, (400, 3)) - start
    way[:40, 2] = 0  # parallel to floor and ceiling
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    t_in, t_out, face = solid.crossing(start, way)
    hits = t_in < t_out
    assert 50 < hits.sum() < 350

    t = np.linspace(-30, 30, 4001) + 1e-5
    within = inside(solid, start[:, None] + t[:, None] * way[:, None])
    np.testing.assert_array_equal(within, (t > t_in[:, None]) & (t < t_out[:, None]))
    assert set(np.flatnonzero(hits)) <= set(solid.near(start, way))

    points = start[hits] + t_in[hits, None] * way[hits]
    normals = solid.normals(points, face[hits])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-12)
    assert not inside(solid, points + 1e-4 * normals).any()
    assert inside(solid, points + 1e-4 * way[hits]).mean() > 0.97  # all but rays that graze an edge


def test_no_solid_sticks_out_of_its_sphere():
    rng = np.random.default_rng(6)
    start, way = rng.normal(0, 40, (2000, 3)), rng.normal(0, 1, (2000, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    for solid in [*radcliffe.camera(), *radcliffe.neighbours()]:
        aimed = way.copy()  # half of the rays at the solid, so that there are hits
        aimed[::2] = rng.uniform(solid.box[0] - 1, solid.box[1] + 1, (1000, 3)) - start[::2]
        aimed /= np.linalg.norm(aimed, axis=1, keepdims=True)
        t_in, t_out, _ = solid.crossing(start, aimed)
        assert (t_in < t_out).sum() > 10
        assert np.isin(np.flatnonzero(t_in < t_out), solid.near(start, aimed)).all()
