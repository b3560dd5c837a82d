"""Time and memory of the parts that matter, side by side with plain PyTorch in one run.

    python scripts/benchmark.py SUITE [--json] [--threads N] [--device cuda]

Every case is timed in a process of its own after a warm-up; `naive` is the same work with the layers as loops over
steps in plain PyTorch (backend "reference"), and a ratio says how many times faster than that a case is. Other packages
are timed where they are installed. `load` compares an idle machine with a busy one; there the ratio says how much of
the speed is left.
"""

import argparse
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
from benchmark_cases import CASES, GPU_CASES, Case

LEAST_SECONDS, MOST_CALLS = 3.0, 500


def measure(case: Case, device: str) -> dict:
    """Median and quartiles (s) of repeated calls after a warm-up, and peak memory (MB).

    Memory is the resident memory of the process, or of the largest of its children if those do the work; on a GPU what
    PyTorch had allocated there.
    """
    if case.first:
        importlib.import_module(case.first)
    if device == "cuda":
        import torch

        work = case.prepare(**case.arguments, device=device)
        finish = torch.cuda.synchronize
    else:
        work = case.prepare(**case.arguments)
        finish = int  # nothing to wait for
    times = []
    for _ in range(0 if case.once else 3):
        work()
    finish()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    while len(times) < (3 if case.once else 5) or (sum(times) < LEAST_SECONDS and len(times) < MOST_CALLS):
        start = time.perf_counter()
        work()
        finish()
        times.append(time.perf_counter() - start)
    p25, median, p75 = np.percentile(times, (25, 50, 75))
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        whose = resource.RUSAGE_CHILDREN if case.once else resource.RUSAGE_SELF
        peak = resource.getrusage(whose).ru_maxrss / 1024
    return {"median_s": median, "p25_s": p25, "p75_s": p75, "peak_mb": peak}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run_case(suite: str, name: str, threads: int | None, device: str, busy: bool = False) -> dict:
    """One case in a fresh process, so that memory and compiled code are its own."""
    command = [sys.executable, os.path.abspath(__file__), suite, "--case", name, "--device", device]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}  # as users have it
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores() if busy else 0)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    finally:
        for other in others:
            other.kill()
            other.wait()
    if done.returncode:
        last = (done.stderr.strip() or f"ended with code {done.returncode}").splitlines()[-1]
        sys.exit(f"error: {name}: {last}")
    return json.loads(done.stdout.splitlines()[-1])  # packages may greet


def run_suite(suite: str, cases: dict[str, Case], threads: int | None, device: str) -> list[dict]:
    """Results of all cases; those of packages that are not there say so."""
    results = {}
    for name, case in cases.items():
        if case.package and importlib.util.find_spec(case.package) is None:
            results[name] = {"case": name, "not_installed": case.package}
            continue
        result = {"case": name, **run_case(suite, name, threads, device, case.busy)}
        result["ratio_to_naive"] = results[case.naive]["median_s"] / result["median_s"] if case.naive else None
        results[name] = result
    return list(results.values())


def table(results: list[dict], compared: str = "times faster than naive"):
    """The results as a table of rich."""
    from rich.table import Table  # not needed where the cases alone are run

    rows = Table("case", "median (ms)", "quartiles (ms)", "peak (MB)", compared)
    for r in results:
        if "not_installed" in r:
            rows.add_row(r["case"], "not installed")
            continue
        milliseconds = [f"{1e3 * r[key]:.2f}" for key in ("median_s", "p25_s", "p75_s")]
        ratio = f"{r['ratio_to_naive']:.2g}" if r["ratio_to_naive"] else ""
        rows.add_row(r["case"], milliseconds[0], " - ".join(milliseconds[1:]), f"{r['peak_mb']:.0f}", ratio)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=CASES)
    parser.add_argument("--json", action="store_true", help="print a list of results instead of a table")
    parser.add_argument("--threads", type=int, help="threads of each case (default: all cores)")
    parser.add_argument("--case", help="only this one, in this process, as JSON")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    cases = (CASES if options.device == "cpu" else GPU_CASES).get(options.suite)
    if cases is None:
        parser.error(f"{options.suite} has no cases for {options.device}")
    if options.case and options.case not in cases:
        parser.error(f"--case {options.case!r} is none of {', '.join(map(repr, cases))}")
    if options.device == "cuda":
        from sgtheory.lif import cuda_available

        available, reason = cuda_available()
        if not available:
            parser.error(f"--device cuda is not available here: {reason}")
    if options.case:
        print(json.dumps(measure(cases[options.case], options.device)))
        return
    results = run_suite(options.suite, cases, options.threads, options.device)
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        compared = {"compared": "share of the idle speed"} if options.suite == "load" else {}
        from rich.console import Console

        Console().print(table(results, **compared))


if __name__ == "__main__":
    main()
