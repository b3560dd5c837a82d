"""Time and memory of the parts that matter, side by side with plain PyTorch in one run.

    python scripts/benchmark.py SUITE [--json] [--threads N] [--device cuda]

Every case is timed in a process of its own after a warm-up; `naive` is the same work with the layers as loops over
steps in plain PyTorch (backend "reference"), and a ratio says how many times faster than that a case is. `load`
compares an idle machine with a busy one; there the ratio says how much of the speed is left. `peers` times other
packages, where they are installed, in turn with this one in one process, so that other load on the machine meets all of
them; the ratio is how many times longer they take, median and quartiles of the rounds.
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
from importlib.metadata import version

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


def measure_in_turn(cases: dict[str, Case], rounds: int = 15) -> list[dict]:
    """Times (s) of cases that take turns, and of each round the ratio to the case that it refers to."""
    works = {name: case.prepare(**case.arguments) for name, case in cases.items()}
    times = {name: [] for name in works}
    for turn in range(-2, rounds):  # the first two to warm up
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    results = []
    for name, case in cases.items():
        p25, median, p75 = np.percentile(times[name], (25, 50, 75))
        result = {"case": name, "median_s": median, "p25_s": p25, "p75_s": p75, "ratio": None}
        if case.naive:
            result["ratio"] = list(np.percentile(np.divide(times[name], times[case.naive]), (50, 25, 75)))
        results.append(result | {"version": version(case.package)})
    return results


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
    """Results of all cases; in ``peers`` those of packages that are not there say so."""
    if suite == "peers":
        there = {name: case for name, case in cases.items() if importlib.util.find_spec(case.package)}
        absent = [{"case": name, "not_installed": cases[name].package} for name in cases if name not in there]
        return measure_in_turn(there) + absent
    results = {}
    for name, case in cases.items():
        result = {"case": name, **run_case(suite, name, threads, device, case.busy)}
        result["ratio_to_naive"] = results[case.naive]["median_s"] / result["median_s"] if case.naive else None
        results[name] = result
    return list(results.values())


COMPARED = {"load": "share of the idle speed", "peers": "times as long as this package (quartiles)"}


def table(suite: str, results: list[dict]):
    """The results as a table of rich."""
    from rich.table import Table  # not needed where the cases alone are run

    more = "version" if suite == "peers" else "peak (MB)"
    rows = Table("case", "median (ms)", "quartiles (ms)", more, COMPARED.get(suite, "times faster than naive"))
    for r in results:
        if "not_installed" in r:
            rows.add_row(r["case"], "not installed")
            continue
        milliseconds = [f"{1e3 * r[key]:.2f}" for key in ("median_s", "p25_s", "p75_s")]
        if suite == "peers":
            more, ratio = r["version"], r["ratio"] and "{:.1f} ({:.1f} - {:.1f})".format(*r["ratio"])
        else:
            more, ratio = f"{r['peak_mb']:.0f}", r["ratio_to_naive"] and f"{r['ratio_to_naive']:.2g}"
        rows.add_row(r["case"], milliseconds[0], " - ".join(milliseconds[1:]), more, ratio or "")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=CASES)
    parser.add_argument("--json", action="store_true", help="print a list of results instead of a table")
    threads = range(1, cores() + 1)
    parser.add_argument("--threads", type=int, choices=threads, metavar="N", help="of each case (default: all cores)")
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
        from rich.console import Console

        Console().print(table(options.suite, results))


if __name__ == "__main__":
    main()
