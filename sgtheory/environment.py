"""What a result was computed with: software, machine, and whether it is the environment of requirements.lock."""

import contextlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path

import torch

from sgtheory import __version__

SOFTWARE = ("torch", "numpy", "numba", "scipy", "hydra-core", "h5py", "pandas", "matplotlib", "triton")
LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"  # not there in an installed package


def processor() -> str:
    """Model of the processor, as far as the system tells."""
    with contextlib.suppress(OSError):
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if models:
            return models[0].split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Software and machine that a result was computed with."""
    found = {"sgtheory": __version__, "python": platform.python_version(), "machine": platform.machine()}
    found |= {"processor": processor(), "cores": str(os.cpu_count())}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for name in SOFTWARE:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def unlike_the_lock(names: tuple[str, ...] | None = None) -> dict[str, str]:
    """Packages of another version than in requirements.lock: ``{"torch": "2.14.1, not 2.13.0"}``.

    Args:
        names: which ones; None: all that the lock names. What is not installed does not count.
    """
    if not LOCK.is_file():
        return {}
    found = {}
    for name, locked in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(), flags=re.MULTILINE):
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed = metadata.version(name).partition("+")[0]  # of a build: +cpu, +cu130
            if installed != locked and (names is None or name in names):
                found[name] = f"{installed}, not {locked}"
    return found
