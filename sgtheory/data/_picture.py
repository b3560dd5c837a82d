"""Pictures as spike trains: a column of pixels is a time step, a row is a neuron, a dark pixel is a spike."""

import os
import warnings
from numbers import Integral
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sgtheory.errors import ParameterError, UserError, first_line, is_number, require_choice
from sgtheory.files import user_path

MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # not those for which Pillow starts another program
RADCLIFFE = Path(__file__).with_name("radcliffe.png")


def floyd_steinberg(grey: np.ndarray) -> np.ndarray:
    """Grey levels as black and white dots (Floyd & Steinberg 1976), rows read in alternating directions.

    Each pixel becomes black or white, whichever is nearer, and hands its error on: 7/16 to the next pixel of the row,
    3/16, 5/16 and 1/16 to the row below. The local density of the dots is the local darkness; a picture that is
    already black and white comes out as it is.

    Args:
        grey: [rows, columns], 0 (black) to 1 (white).

    Returns:
        bool [rows, columns], True where a dot is black.

    Raises:
        ParameterError: if it is not a table of numbers from 0 to 1.
    """
    grey = np.asarray(grey)
    if grey.ndim != 2 or grey.dtype.kind not in "biuf" or not ((grey >= 0) & (grey <= 1)).all():
        raise ParameterError("grey", f"{grey.dtype} {list(grey.shape)}", "must be a table of numbers from 0 to 1")
    rows, columns = grey.shape
    dark = np.zeros((rows, columns), dtype=bool)
    handed_down = [0.0] * (columns + 2)  # with a margin at either end, so that the ends need no special case
    for i in range(rows):
        way = slice(None, None, -1 if i % 2 else 1)
        from_above, handed_down, error = handed_down[::-1], [0.0] * (columns + 2), 0.0
        dots = []
        for j, value in enumerate(grey[i, way].tolist(), start=1):
            value += from_above[j] + 7 * error
            dots.append(value < 0.5)
            error = (value - (value >= 0.5)) / 16
            handed_down[j - 1] += 3 * error
            handed_down[j] += 5 * error
            handed_down[j + 1] += error
        dark[i, way] = dots
    return dark


def load_target(
    image: str | Path | None = None,
    rows: int = 200,
    steps: int | None = 198,
    method: Literal["dither", "threshold"] = "dither",
    threshold: float = 0.85,
    channel: Literal["grey", "red"] = "grey",
) -> np.ndarray:
    """Turn a picture into target spike trains (Gygax & Zenke 2025, Fig. 6A and section 8.4.1).

    The picture is stretched to ``rows`` x ``steps`` pixels if it has another size (Lanczos filter) and then made
    black and white. One that is black and white already and has the right size is taken pixel for pixel. The authors'
    own picture gives the authors' own target with ``steps=None, method="threshold", threshold=0.85, channel="red"``.

    Args:
        image: a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, PPM) of at most 64 megapixels; of an animation the first
            frame.
            None is the drawing of the Radcliffe Camera that comes with the package, 200 x 198 black or white pixels.
        rows: number of neurons; neuron 0 is the top row.
        steps: number of time steps; None keeps the proportions of the picture (its own width if it is ``rows`` high).
        method: "dither" spreads spikes in proportion to the darkness, "threshold" makes every pixel darker than
            ``threshold`` a spike.
        threshold: grey level between 0 (black) and 1 (white), used by the method of that name alone.
        channel: "grey" is the luminance (ITU-R 601) on a white background, "red" the first colour channel as it is
            stored, transparent or not.

    Returns:
        bool [rows, steps], True = spike. Its mean over dt is the mean firing rate.

    Raises:
        UserError: the file is missing, is no picture, is damaged or too large.
        ParameterError: another argument is out of range.
    """
    for name, value in {"rows": rows, "steps": 1 if steps is None else steps}.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ParameterError(name, value, "must be a whole number above 0")
    require_choice(("dither", "threshold"), method=method)
    require_choice(("grey", "red"), channel=channel)
    if not is_number(threshold) or not 0 <= threshold <= 1:
        raise ParameterError("threshold", threshold, "must be a grey level from 0 (black) to 1 (white)")

    path = RADCLIFFE if image is None else user_path(image)
    picture = _read_grey(path, channel)
    if steps is None:
        steps = max(1, round(picture.width * rows / picture.height))
    if rows * steps > MAX_PIXELS:
        raise UserError(f"{path} as {rows} neurons x {steps} steps is too large: at most {MAX_PIXELS} pixels")
    if picture.size != (steps, rows):
        picture = picture.resize((steps, rows), Image.Resampling.LANCZOS)
    grey = np.asarray(picture) / 255
    return floyd_steinberg(grey) if method == "dither" else grey < threshold


def _read_grey(path: Path, channel: str) -> Image.Image:
    """The picture as 8-bit grey."""
    if not os.path.isfile(path):  # false as well for a name that no file can have
        raise UserError(f"{path} does not exist or is not a file: give the path of a picture (PNG, JPEG, ...)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, refused by our own, lower limit, and of damage that is mended
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return _to_grey(ImageOps.exif_transpose(image), channel)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large: at most {MAX_PIXELS // 10**6} megapixels are read") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture in a known format: give a PNG, JPEG or similar file") from error
    except Exception as error:  # what a decoder raises for a damaged file differs from format to format
        raise UserError(f"{path} cannot be read as a picture, it may be damaged: {first_line(error)}") from error


def _to_grey(image: Image.Image, channel: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow itself would clip to 8
        image = Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if channel == "red":
        return image.convert("RGB").getchannel("R")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")
