"""Draw the default target of the spike-train matching task, the Radcliffe Camera in black and white, as a PNG.

Without an argument it writes the picture that the package ships, which is the same pixel for pixel.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from radcliffe import draw_radcliffe

import sgtheory.data
from sgtheory.files import atomic_path


def main() -> None:
    packaged = Path(sgtheory.data.__file__).with_name("radcliffe.png")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=packaged, help="PNG to write (default: %(default)s)")
    out = parser.parse_args().out

    dark = sgtheory.data.floyd_steinberg(draw_radcliffe())
    with atomic_path(out) as path:
        Image.fromarray(np.where(dark, 0, 255).astype(np.uint8)).convert("1").save(path, format="PNG", optimize=True)
    print(f"{out}: {dark.shape[0]} rows x {dark.shape[1]} columns, {dark.mean():.1%} dark")


if __name__ == "__main__":
    main()
