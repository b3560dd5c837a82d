"""Download the data that this package does not contain.

    python scripts/fetch_data.py shd            # Spiking Heidelberg Digits, 155 MB, CC BY 4.0
    python scripts/fetch_data.py ssc            # Spiking Speech Commands, about 2 GB, CC BY 4.0
    python scripts/fetch_data.py radcliffe      # the authors' own target picture

Files that are there already are checked and kept, and an interrupted download goes on where it ended. Proxies are taken
from the environment (https_proxy, no_proxy).
"""

import contextlib
import re
import sys
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from sgtheory.command import parse, report_errors
from sgtheory.data import fetch_radcliffe, fetch_shd, load_shd
from sgtheory.errors import UserError

SETTINGS = {
    "data.dir=FOLDER": "where the files go (shd: data/shd, ssc: data/ssc, radcliffe: data)",
    "data.base_url=URL": "another server: the folder (shd, ssc) or repository (radcliffe) at URL",
    "data.md5sums=FILE": "sums of that server's files, as md5sum prints them (default: the official ones)",
}


def main(arguments: list[str]) -> None:
    (what,), settings = parse(__doc__, {"WHAT": "shd, ssc or radcliffe"}, SETTINGS, arguments)
    if what in ("shd", "ssc"):
        options = {"servers": [settings["data.base_url"]]} if "data.base_url" in settings else {}
        if "data.md5sums" in settings:
            options["sums"] = read_sums(Path(settings["data.md5sums"]))
        with progress_bar() as show:
            files = fetch_shd(settings.get("data.dir", f"data/{what}"), progress=show, name=what, **options)
        for file in files:
            data = load_shd(file)
            print(f"{file}: {data.name}, {len(data)} samples")
    elif what == "radcliffe":
        if "data.md5sums" in settings:
            raise UserError("data.md5sums is a setting of shd and ssc: the picture is checked by its size")
        options = {"server": settings["data.base_url"]} if "data.base_url" in settings else {}
        with progress_bar() as show:
            file = fetch_radcliffe(
                Path(settings.get("data.dir", "data")) / "radcliffe_authors.png", progress=show, **options
            )
        print(f"{file}: 189 x 200 pixels")
    else:
        raise UserError(f"{what!r} cannot be fetched: choose shd, ssc or radcliffe")


@contextlib.contextmanager
def progress_bar():
    """A function to call with the name of a file, bytes so far and bytes in all, which shows them."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    tasks = {}
    with Progress(TextColumn("{task.description}"), *columns) as bar:

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, completed=done)
            bar.update(tasks[name], completed=done, total=total)

        yield show


def read_sums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} cannot be read: data.md5sums names a file that md5sum has printed") from None
    matches = [re.fullmatch(r"([0-9a-f]{32}) [ *](.+)", line) for line in lines if line.strip()]
    if not matches or None in matches:
        raise UserError(f"{path} is not what md5sum prints: each line is a sum, two spaces and a file name")
    return {Path(match[2]).name: match[1] for match in matches}


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
