"""LIF layers compiled for the CPU by numba."""

from contextlib import suppress
from pathlib import Path


def forget_outdated(folder: Path) -> None:
    """Remove the indices of compiled code in ``folder`` that are older than a source file there.

    numba looks at the file of a kernel alone, not at what the kernel calls, and fails on an index that names a class
    which is gone.
    """
    newest = max(source.stat().st_mtime_ns for source in folder.glob("*.py"))
    for index in folder.glob("__pycache__/*.nbi"):
        with suppress(OSError):  # another process was first, or the folder is read-only
            if index.stat().st_mtime_ns < newest:
                index.unlink()


forget_outdated(Path(__file__).parent)
