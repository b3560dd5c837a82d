"""Train what the configuration describes, in the run directory that its content names.

python scripts/train.py task=spike_matching neuron=escape_noise surrogate=sigmoid seed=3
python scripts/train.py -m experiment=fig6 neuron=deterministic,escape_noise seed=1,2,3
"""

import os
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from sgtheory.command import report_errors
from sgtheory.training import start

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach report_errors, which makes one sentence of them


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def main(config):
    hydra_config = HydraConfig.get()
    alone = hydra_config.mode == RunMode.RUN  # in a sweep the launcher collects errors and says which job it was
    with report_errors() if alone else nullcontext():
        start(config, Path(hydra_config.runtime.output_dir))


if __name__ == "__main__":
    with report_errors():
        main()
