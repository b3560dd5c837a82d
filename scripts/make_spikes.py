"""Turn recordings of spoken words into spikes of 700 channels, in the format of SHD.

    python scripts/make_spikes.py recordings spikes.h5
    python scripts/make_spikes.py hd_audio/audio data/mine/shd_train.h5 files=hd_audio/train_filenames.txt

The class of a recording (wav, flac, ogg, aiff) is the name of the folder that it is in; recordings with the names of
the Heidelberg Digits have the classes and speakers of SHD.
"""

import sys
from pathlib import Path

import numpy as np
from rich.progress import MofNCompleteColumn, Progress

from sgtheory.command import parse, report_errors
from sgtheory.data import recordings_to_spikes, write_shd
from sgtheory.errors import UserError

ARGUMENTS = {"AUDIO_DIR": "folder with the recordings", "OUT.h5": "file to write"}
SETTINGS = {
    "files=LIST.txt": "use these recordings only, one name a line",
    "name=NAME": "of the data set (default: the name of the folder)",
    "seed=0": "of the spikes",
}


def main(arguments: list[str]) -> None:
    (folder, out), settings = parse(__doc__, ARGUMENTS, SETTINGS, arguments)
    if not out.endswith(".h5"):
        raise UserError(f"{out} must end with .h5")
    seed = settings.get("seed", "0")
    if not seed.isdecimal():
        raise UserError(f"seed={seed} is not an integer of at least 0")
    files = None
    if "files" in settings:
        try:
            files = Path(settings["files"]).read_text().split("\n")
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{settings['files']} cannot be read: files names a text file with a list") from None
        files = [file.strip() for file in files if file.strip()]
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as bar:
        task = bar.add_task("Hearing", total=None)
        data = recordings_to_spikes(
            folder,
            settings.get("name"),
            files,
            int(seed),
            progress=lambda ready, total: bar.update(task, completed=ready, total=total),
        )
    write_shd(out, data, {"source": f"recordings in {Path(folder).name}", "seed": int(seed)})
    spikes = np.diff(data.offsets)
    print(f"{out}: {len(data)} samples of {len(data.keys)} classes, {spikes.mean():.0f} spikes in the mean")


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
