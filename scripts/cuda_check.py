"""Everything about the GPU that only a GPU can answer, in ten minutes at most: `make cuda-check`.

    python scripts/cuda_check.py [--json FILE] [--minutes 10] [--quick]

Needs no installation: the torch, triton, numpy and numba of the machine are enough; what needs Hydra, other packages or
compute-sanitizer is left out where they are not there. Each step runs in a process of its own, prints its verdict, and
its results are in FILE at once. `--quick` takes small sizes.

Exit code: 0 if nothing failed, 1 if something did, 2 if there is no GPU to check.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# steps of cuda_check_steps.py in the order in which they are worth most, and the most seconds of ten minutes for each
STEPS = {
    "machine": 60,
    "layers": 180,
    "network": 90,
    "determinism": 60,
    "training": 120,
    "idle": 60,
    "timing": 150,
    "sanitizer": 180,
}
NO_GPU = 2
GRACE = 60  # seconds to end after its time; a step ends by itself, unless the GPU hangs


def run_step(name: str, seconds: float, quick: bool) -> dict:
    """Verdict and numbers of a step, from a process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / "step.json", Path(folder) / "stderr"
        command = [sys.executable, str(Path(__file__).with_name("cuda_check_steps.py")), name, str(path), str(seconds)]
        with open(said, "w") as errors:
            process = subprocess.Popen(
                [*command, *(["--quick"] if quick else [])], stderr=errors, stdout=errors, start_new_session=True
            )
            try:
                process.wait(seconds + GRACE)
            except subprocess.TimeoutExpired:
                pass
            finally:
                ended = process.poll() is not None
                if not ended:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        found = json.loads(path.read_text()) if path.is_file() else {"numbers": {}}
        if "verdict" not in found:
            last = (said.read_text(errors="replace").strip() or "nothing was said").splitlines()[-1]
            how = f"ended with code {process.returncode}: {last}" if ended else "hung, and was ended"
            found |= {"verdict": "failed", "what": how}
    return {"step": name, **found, "seconds": round(time.monotonic() - began, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("cuda-check.json"), metavar="FILE", help="for the results")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no step begins")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="only these")
    options = parser.parse_args()
    if not 0 < options.minutes < float("inf"):
        parser.error(f"--minutes {options.minutes:g} must be a finite number above 0")
    if not options.json.parent.is_dir() or options.json.is_dir():
        parser.error(f"--json {options.json} is not a file in a folder that is there")
    ends = time.monotonic() + 60 * options.minutes
    results = {"finished": False, "quick": options.quick, "steps": []}

    def write() -> None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")

    for name in dict.fromkeys(["machine", *options.steps]):
        left = ends - time.monotonic()
        if left > 0:
            step = run_step(name, min(STEPS[name] * options.minutes / 10, left), options.quick)
        else:
            step = {"step": name, "verdict": "skipped", "what": "the time is over", "numbers": {}, "seconds": 0.0}
        if step["verdict"] == "no gpu":
            print(f"There is no GPU to check: {step['what']}.")
            return NO_GPU
        print(f"{name:12} {step['verdict']:8} {step['what']} ({step['seconds']:.0f} s)", flush=True)
        results["steps"].append(step)
        write()
    results["finished"] = True
    write()
    failed = [step["step"] for step in results["steps"] if step["verdict"] == "failed"]
    print(f"{'failed: ' + ', '.join(failed) if failed else 'nothing failed'}; numbers are in {options.json}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
