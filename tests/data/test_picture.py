"""Pictures as target spike trains."""

import struct
import zlib

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from sgtheory.data import floyd_steinberg, load_target
from sgtheory.errors import ParameterError, UserError

RNG = np.random.default_rng(0)
LEVELS = np.arange(256, dtype=np.uint8).reshape(8, 32)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path, pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


# Dithering


def test_dither_by_hand():
    # Row 1, to the right: .4 -> black, hands on .4; .4 + .4 7/16 = .575 -> white, hands on -.425;
    # .4 - .425 7/16 = .2140625 -> black, hands on .2140625.
    # Row 2, to the left. Column 3: .4 + (5 .2140625 - 1 .425)/16 = .44033... -> black; column 2:
    # .4 + .19264... + (3 .2140625 - 5 .425 + 1 .4)/16 = .52497... -> white; column 1:
    # .4 - .20782... + (-3 .425 + 5 .4)/16 = .23749... -> black.
    dark = floyd_steinberg(np.full((2, 3), 0.4))
    np.testing.assert_array_equal(dark, [[True, False, True], [True, False, True]])


@given(st.floats(0, 1), st.tuples(st.integers(20, 60), st.integers(20, 60)))
@settings(max_examples=60, deadline=None)
def test_dither_keeps_the_mean_of_an_even_grey(grey, shape):
    # only what is handed over the edges is lost, less than a dot per row or column
    assert abs(floyd_steinberg(np.full(shape, grey)).mean() - (1 - grey)) < 0.6 / min(shape)


def test_dither_follows_a_gradient():
    grey = np.tile(np.linspace(0, 1, 400), (200, 1))
    local = floyd_steinberg(grey).reshape(10, 20, 20, 20).mean((1, 3))
    np.testing.assert_allclose(local, 1 - grey.reshape(10, 20, 20, 20).mean((1, 3)), atol=0.04)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=30)))
@settings(deadline=None)
def test_dither_leaves_black_and_white_alone(dark):
    np.testing.assert_array_equal(floyd_steinberg(np.where(dark, 0.0, 1.0)), dark)


def test_dither_has_no_memory():
    grey = RNG.random((30, 40))
    before = grey.copy()
    np.testing.assert_array_equal(floyd_steinberg(grey), floyd_steinberg(grey))
    np.testing.assert_array_equal(grey, before)


# From file to target


def test_default_is_the_packaged_picture():
    target = load_target()
    assert target.shape == (200, 198)
    assert target.dtype == bool
    np.testing.assert_array_equal(target, load_target(method="threshold"))
    np.testing.assert_array_equal(target, load_target(steps=None))


@pytest.mark.parametrize("method", ["dither", "threshold"])
def test_black_and_white_of_the_right_size_is_taken_as_it_is(tmp_path, method):
    dark = RNG.random((17, 23)) < 0.4
    path = save(tmp_path / "bits.png", ~dark)
    np.testing.assert_array_equal(load_target(path, rows=17, steps=23, method=method), dark)


def test_threshold_is_strict_and_exact(tmp_path):
    path = save(tmp_path / "levels.png", LEVELS)
    for threshold in (0.0, 0.5, 0.85, 100 / 255, 1.0):
        target = load_target(path, rows=8, steps=32, method="threshold", threshold=threshold)
        np.testing.assert_array_equal(target, LEVELS / 255 < threshold)
    assert load_target(path, rows=8, steps=32, method="threshold").sum() == 217  # 0 ... 216 < 0.85 * 255


@pytest.mark.parametrize("channels", [3, 4])
def test_target_of_the_papers_picture_is_its_red_channel_below_085(tmp_path, channels):
    path = save(tmp_path / "oxford.png", RNG.integers(0, 256, (200, 189, channels), dtype=np.uint8))
    target = load_target(path, steps=None, method="threshold", threshold=0.85, channel="red")
    np.testing.assert_array_equal(target, matplotlib.image.imread(path)[:, :, 0] < 0.85)
    assert target.shape == (200, 189)


@pytest.mark.parametrize("channel", ["grey", "red"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16", "png with a transparent level"])
def test_the_same_grey_picture_in_every_mode_gives_the_same_target(tmp_path, mode, channel):
    grey = Image.fromarray(LEVELS)
    options = {}
    if mode == "I;16":
        image = Image.fromarray(LEVELS.astype(np.uint16) * 257)
    elif mode == "png with a transparent level":
        image, options = grey, {"transparency": 255}  # white on white
    else:
        image = grey.convert(mode)
    path = save(tmp_path / "picture.png", image, **options)
    settings = {"rows": 8, "steps": 32, "method": "threshold", "channel": channel}
    np.testing.assert_array_equal(load_target(path, **settings), LEVELS / 255 < 0.85)


def test_what_is_transparent_is_white_in_grey_and_itself_in_red(tmp_path):
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[0, :, 3] = 255
    path = save(tmp_path / "alpha.png", pixels)
    np.testing.assert_array_equal(load_target(path, rows=2, steps=2), [[True, True], [False, False]])
    assert load_target(path, rows=2, steps=2, channel="red").all()


def test_grey_is_luminance(tmp_path):
    path = save(tmp_path / "colours.png", COLOURS)
    luminance = COLOURS @ [0.299, 0.587, 0.114] / 255
    clear = np.abs(luminance - 0.5) > 1 / 255  # not where the rounding to 8 bits decides
    target = load_target(path, rows=20, steps=30, method="threshold", threshold=0.5)
    np.testing.assert_array_equal(target[clear], (luminance < 0.5)[clear])


def test_columns_are_time_and_the_camera_orientation_is_followed(tmp_path):
    pixels = np.full((200, 198), 255, dtype=np.uint8)
    pixels[:50] = 0
    upright = load_target(save(tmp_path / "top.png", pixels))
    assert upright[:50].all()
    assert not upright[50:].any()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the left edge as stored is the top as shown
    turned = load_target(save(tmp_path / "turned.png", np.rot90(pixels), exif=exif))
    np.testing.assert_array_equal(turned, upright)


def test_another_size_is_resampled(tmp_path):
    fine = np.kron(RNG.integers(0, 2, (20, 30)), np.ones((16, 16))).astype(np.uint8) * 255
    path = save(tmp_path / "fine.png", fine)
    coarse = load_target(path, rows=20, steps=30)
    assert (coarse == (fine[8::16, 8::16] == 0)).mean() > 0.99  # the filter overshoots a little at the edges
    assert load_target(path, rows=20, steps=None).shape == (20, 30)
    assert load_target(path, rows=7, steps=90).shape == (7, 90)


def test_resampling_keeps_the_grey_of_fine_detail(tmp_path):
    stripes = np.tile(np.array([0, 255, 255, 255], dtype=np.uint8), (400, 200))  # 4 pixels become 1
    assert abs(load_target(save(tmp_path / "stripes.png", stripes), rows=100, steps=200).mean() - 0.25) < 0.01


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (5, 4), level) for level in (0, 255)]
    path = save(tmp_path / "film.gif", frames[0], save_all=True, append_images=frames[1:])
    assert load_target(path, rows=4, steps=5).all()


# Mistakes


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("rows", value) for value in (0, -3, 2.5, True, None)),
        *(("steps", value) for value in (0, "many")),
        *(("threshold", value) for value in (-0.1, 1.5, float("nan"), "dark")),
        ("method", "halftone"),
        ("channel", "blue"),
    ],
)
def test_setting_out_of_range(setting, value):
    with pytest.raises(ParameterError, match=f"^{setting} = ") as caught:
        load_target(**{setting: value})
    assert caught.value.name == setting


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "does not exist"),
        (b"", "not a picture"),
        (b"Brightness: 7\n", "not a picture"),
        (png_header(8001, 8000), "at most 64 megapixels"),
        (png_header(10_000, 10_000), "at most 64 megapixels"),
        (png_header(20_000, 20_000), "at most 64 megapixels"),
        (png_header(80, 80), "cannot be read"),
    ],
    ids=["missing", "empty", "text", "large", "Pillow warns", "Pillow refuses", "no pixels"],
)
@pytest.mark.filterwarnings("error")
def test_file_that_is_no_usable_picture(tmp_path, content, complaint):
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        load_target(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff"])
def test_truncated_file(tmp_path, suffix):
    path = save(tmp_path / f"picture.{suffix}", COLOURS)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match=str(path)):
        load_target(path)


def test_folder_and_target_too_large(tmp_path):
    with pytest.raises(UserError, match="not a file"):
        load_target(tmp_path)
    thin = save(tmp_path / "thin.png", np.zeros((1, 2000), dtype=np.uint8))
    with pytest.raises(UserError, match="too large"):
        load_target(thin, steps=None)
