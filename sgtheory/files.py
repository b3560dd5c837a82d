"""Files that are either whole or not there."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

MARK = ".tmp"


def user_path(path: str | os.PathLike) -> Path:
    """A path as a person writes it: ``~`` is the home folder, which a shell does not see in KEY=~/FOLDER."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` if the block ends well, else delete it.

    The temporary name keeps the suffix, so that writers which choose a format by it still work. A reader sees the
    old file or the new one, never a part.

    Raises:
        OSError: of the block, with the name of ``path`` if it was about the temporary file or no file at all.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f"{MARK}{path.suffix}", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only the owner can read
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, name):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(directory: Path) -> None:
    """Delete what a killed process has left of unfinished files. Only for a directory that no other process uses."""
    for path in directory.glob(f".*{MARK}*"):
        path.unlink(missing_ok=True)
