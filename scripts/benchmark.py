"""Time and memory of the parts that matter, side by side with plain PyTorch in one run.

    python scripts/benchmark.py spike_matching [--json] [--threads N]

Every case is timed in a process of its own after a warm-up; `naive` is the same epoch with the layers as loops over
steps in plain PyTorch (backend "reference"), and a ratio says how many times faster than that a case is.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.table import Table


def measure(function, at_least: float = 3.0, most: int = 500) -> dict:
    """Median and quartiles (s) of repeated calls after a warm-up; peak memory of the process (MB)."""
    for _ in range(3):
        function()
    times = []
    while len(times) < 5 or (sum(times) < at_least and len(times) < most):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    p25, median, p75 = np.percentile(times, (25, 50, 75))
    return {"median_s": median, "p25_s": p25, "p75_s": p75, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Largest resident memory of this process so far (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spike_matching_epoch(mode: str, backend: str) -> dict:
    """One epoch at the scale of the paper, metrics included: 200-200-200 neurons, 198 steps, 10 trials or 1."""
    import itertools

    from sgtheory.training import expand, prepare

    (config,) = expand([f"neuron={mode}", f"trainer.backend={backend}", "task.measure_every=1000000"])
    task, _ = prepare(config)
    task.epoch(0)
    epochs = itertools.count(1)
    return measure(lambda: task.epoch(next(epochs)))


def first_epoch(mode: str) -> dict:
    """From the shell to the end of the first epoch, compiled code cached."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train.py")

    def run():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, script, f"neuron={mode}", "trainer.epochs=1", f"hydra.run.dir={folder}/run"]
            subprocess.run(command, check=True, capture_output=True)

    result = measure(run, at_least=0)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return result


CASES = {
    "spike_matching": {
        f"{mode}, {what}": (function, arguments)
        for mode in ("deterministic", "escape_noise")
        for what, function, arguments in (
            ("epoch, naive", spike_matching_epoch, (mode, "reference")),
            ("epoch", spike_matching_epoch, (mode, "auto")),
            ("start to first epoch", first_epoch, (mode,)),
        )
    }
}


def run_case(suite: str, case: str, threads: int | None) -> dict:
    """One case in a fresh process, so that memory and compiled code are its own."""
    command = [sys.executable, os.path.abspath(__file__), suite, "--case", case]
    environment = dict(os.environ)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=CASES)
    parser.add_argument("--json", action="store_true", help="print a list of results instead of a table")
    parser.add_argument("--threads", type=int, help="threads of each case (default: all cores)")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        function, arguments = CASES[options.suite][options.case]
        print(json.dumps(function(*arguments)))
        return
    results = []
    for case in CASES[options.suite]:
        result = {"case": case, **run_case(options.suite, case, options.threads)}
        naive = next((r["median_s"] for r in results if r["case"] == f"{case}, naive"), None)
        result["ratio_to_naive"] = naive / result["median_s"] if naive else None
        results.append(result)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    table = Table("case", "median (ms)", "quartiles (ms)", "peak (MB)", "times faster than naive")
    for r in results:
        milliseconds = [f"{1e3 * r[key]:.2f}" for key in ("median_s", "p25_s", "p75_s")]
        ratio = f"{r['ratio_to_naive']:.0f}" if r["ratio_to_naive"] else ""
        table.add_row(r["case"], milliseconds[0], " - ".join(milliseconds[1:]), f"{r['peak_mb']:.0f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
