"""What a bug report needs: software, machine, backends, threads and data, and what to do about each problem.

python scripts/doctor.py [data.dir=FOLDER]

The exit code is 1 if something that `make fig6` or `make fig7` needs is missing.
"""

import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from sgtheory.command import parse, report_errors

NEEDED = ("torch", "numpy", "numba", "scipy", "h5py", "pandas", "hydra-core", "omegaconf", "matplotlib", "pillow")
OPTIONAL = {
    "triton": "pip install 'sgtheory[cuda]'",
    "hydra-joblib-launcher": "pip install 'sgtheory[sweep]'",
    "wandb": "pip install wandb",
    "espeakng-loader": "pip install espeakng-loader",
    "pytest": "pip install 'sgtheory[dev]'",
}
MODULES = {"hydra-core": "hydra", "pillow": "PIL"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and the mend if something is wrong."""

    what: str
    found: str
    mend: str = ""
    fatal: bool = False


def software() -> Iterator[Finding]:
    """Versions, and whether what is needed can be imported."""
    yield Finding("python", platform.python_version())
    for name in ("sgtheory", *NEEDED):
        try:
            importlib.import_module(MODULES.get(name, name))
            yield Finding(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "not installed", "run make, or pip install -e '.[experiments]'", True)
        except Exception as error:  # a broken installation fails in its own way
            yield Finding(name, f"cannot be imported ({error})", f"pip install --force-reinstall {name}", True)
    for name, mend in OPTIONAL.items():
        try:
            yield Finding(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "not installed (optional)", mend)


def lock() -> Finding:
    """Whether what is installed is what requirements.lock names."""
    from sgtheory.environment import LOCK, unlike_the_lock

    if not LOCK.is_file():
        return Finding("lock", "not there: an installed package", "")
    others = "; ".join(f"{name} {versions}" for name, versions in unlike_the_lock().items())
    mend = "for the reproduction environment: make clean, then make test"
    return Finding("lock", others, mend) if others else Finding("lock", "the versions of requirements.lock")


def machine() -> Iterator[Finding]:
    """Processor, cores, memory, threads."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Finding("cores", f"{cores} of {os.cpu_count()}")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        mend = "make fig7 PROFILE=paper needs 3 GB for each job: JOBS=1 or task.recompute=true" if memory < 8 else ""
        yield Finding("memory", f"{memory:.0f} GB", mend)
    threads = torch.get_num_threads()
    mend = f"{cores} cores, {threads} threads: look at OMP_NUM_THREADS" if threads != cores else ""
    yield Finding("threads", f"PyTorch {threads}", mend)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMBA_CACHE_DIR", "CUDA_VISIBLE_DEVICES", "WANDB_MODE"):
        if name in os.environ:
            yield Finding(name, os.environ[name])


def backends() -> Iterator[Finding]:
    """Whether each backend computes the same spikes as the reference, or why it is not there."""
    import torch

    from sgtheory.lif import cuda_available, lif
    from sgtheory.neurons import LIFParameters, SuperSpike

    inputs = torch.rand(2, 20, 8, generator=torch.Generator().manual_seed(0)) * 3
    expected, _ = lif(inputs, LIFParameters(), SuperSpike(10.0), backend="reference")
    yield Finding("backend reference", f"works, {int(expected.sum())} spikes")
    there, why = cuda_available()
    for backend, usable in (("cpu", True), ("cuda", there)):
        if not usable:
            mend = "no GPU is needed; with one, see the README on builds of PyTorch"
            yield Finding(f"backend {backend}", f"not available: {why}", mend)
            continue
        try:
            spikes, _ = lif(inputs.to(backend), LIFParameters(), SuperSpike(10.0), backend=backend)
            same = torch.equal(spikes.cpu(), expected)
        except Exception as error:
            yield Finding(f"backend {backend}", f"fails: {error}", "please report this", True)
            continue
        yield (
            Finding(f"backend {backend}", "works, same spikes")
            if same
            else Finding(f"backend {backend}", "other spikes than the reference", "please report this", True)
        )


def data(directory: str) -> Iterator[Finding]:
    """Data sets that are there, with checksums, and whether results can be written."""
    from sgtheory.data import SHD_MD5, identify_dataset

    found = identify_dataset("auto", directory)
    if found["name"] == "shd":
        official = {found["train"], found["test"]} <= set(SHD_MD5.values())
        kind = "the official files" if official else "not the official files"
        mend = "the test set is the training set" if found["train"] == found["test"] else ""
        yield Finding("SHD", f"{kind}: train {found['train']}, test {found['test']} (MD5)", mend)
        if not official:  # the sum of the official ones says all
            yield read_shd(directory)
    else:
        mend = "`python scripts/fetch_data.py shd` downloads it; without it spoken digits are made"
        yield Finding("SHD", f"not in {directory}", mend)
    made = sorted(path.name for path in Path(directory).glob("spoken_digits/*.h5"))
    yield Finding("spoken digits", ", ".join(made) or "not made yet (under two minutes, once)")
    for folder in ("runs", directory, "figures"):
        place = next(p for p in (Path(folder), *Path(folder).absolute().parents) if p.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                yield Finding(f"write to {folder}", "yes")
        except OSError as error:
            mend = "choose another place: runs=FOLDER, data.dir=FOLDER, output=FOLDER"
            yield Finding(f"write to {folder}", f"no: {error.strerror}", mend, True)


def read_shd(directory: str) -> Finding:
    """Whether the files of SHD can be read."""
    from sgtheory.data import open_dataset
    from sgtheory.errors import UserError

    try:
        opened = open_dataset("shd", directory)
    except UserError as error:
        return Finding("SHD, read", str(error), "delete it; `python scripts/fetch_data.py shd` downloads it", True)
    return Finding("SHD, read", f"{len(opened.train)} samples to train on, {len(opened.test)} to test on")


def main(arguments: list[str]) -> int:
    _, settings = parse(__doc__, {}, {"data.dir=FOLDER": "where data sets are (data)"}, arguments)
    directory = settings.get("data.dir", "data")
    findings = list(software())
    if not any(finding.fatal for finding in findings):
        findings += [lock(), *machine(), *backends(), *data(directory)]
    table = Table(*(Column(name, overflow="fold") for name in ("what", "found", "what to do")))
    for finding in findings:
        colour = "red" if finding.fatal else "yellow" if finding.mend else "green"
        table.add_row(finding.what, f"[{colour}]{finding.found}[/]", finding.mend)
    Console().print(table)
    return int(any(finding.fatal for finding in findings))


if __name__ == "__main__":
    with report_errors():
        sys.exit(main(sys.argv[1:]))
