"""The claims at a reduced scale: every theory figure and the small spike-train matching, measured from nothing."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sgtheory.errors import UserError
from sgtheory.training import CONF

SCRIPTS = CONF.parent / "scripts"
TRAINED = ("fig6_quick",)
PROFILED = ("figE7_quick", "figE6_quick", "figE5_quick", "figE4_quick")
REDUCED = {
    "figE2": ("figure.dts=[5e-4,2e-4]", "figure.betas=[20,50]", "figure.creation_paths=64"),
    "figE1": ("figure.nets=8", "figure.samples=500", "figure.depths=[0,1,2]", "figure.betas=[2,5,20]"),
    "fig5": (
        "figure.table_nets=['perceptron, β = 25','hidden layer, β = 25','stochastic hidden layer, β = 5',"
        "'LIF layer, silent',LIF layer]",
        "figure.map_points=41",
        "figure.betas=5",
        "figure.most_points=65536",
    ),
    "fig3": ("figure.samples=5000", "figure.repeats=50"),
    "fig4": ("figure.random_nets=10000", "figure.map_points=21"),
    "fig2": ("figure.samples=5000", "figure.points=31"),
    "fig1": ("figure.samples=5000", "figure.points=41"),
    "figS1": ("figure.nets=30", "figure.spiking_nets=3", "figure.spiking_epochs=300", "figure.spiking_trials=40"),
    "figS3": ("figure.points=61", "figure.samples=200"),
}


def measure_quickly(folder: Path, report: Callable[[str], None], jobs: int | None = None) -> None:
    """Train and compute everything anew; the figures lie in ``folder`` afterwards, and its runs below it.

    Args:
        folder: made again from nothing: what was in it is lost.
        report: called with one line when a figure is ready.
        jobs: figures at a time; None: as many as there are cores.

    Raises:
        UserError: if one of the scripts fails, with what it said.
    """
    shutil.rmtree(folder, ignore_errors=True)

    def make(name: str) -> None:
        began = time.monotonic()
        arguments = [f"experiment={name}", *REDUCED.get(name, ())]
        if name in TRAINED:
            arguments.append(f"runs={folder}")
            _run("train.py", "-m", *arguments, "trainer.threads=1")
        _run("figure.py", *arguments, f"output={folder}")
        report(f"{name} measured in {time.monotonic() - began:.0f} s")

    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        for _ in pool.map(make, (*TRAINED, *PROFILED, *REDUCED)):
            pass


def _run(script: str, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}  # they run side by side
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise UserError(f"{script} {' '.join(arguments)} failed and said: {said[-1]}")
