"""Train what the configuration describes, in the run directory that its content names.

python scripts/train.py task=spike_matching neuron=escape_noise surrogate=sigmoid seed=3
python scripts/train.py -m experiment=fig6 neuron=deterministic,escape_noise seed=1,2,3
python scripts/train.py -m experiment=fig7 hydra/launcher=submitit_slurm --no-wait    # submit the jobs, and end
"""

import contextlib
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from sgtheory.command import report_errors
from sgtheory.training import RunFailed, count_failures, named_errors, not_waiting, start

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach report_errors, which makes one sentence of them


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def main(config):
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.RUN:
        with report_errors():
            start(config, directory)
    else:
        with named_errors(" ".join(hydra_config.overrides.task)):
            start(config, directory)


if __name__ == "__main__":
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))  # Hydra wants it at an end
    with report_errors(), not_waiting(sys.argv) if "--no-wait" in sys.argv else contextlib.nullcontext():
        try:
            main()
        except RunFailed as first:  # the launcher ends when all runs have ended, with the first failure
            raise count_failures(first, sys.argv[1:]) from None
