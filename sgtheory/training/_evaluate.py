"""Trained weights, tested again: what a finished run measures at its end, from the files of the run."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf

from sgtheory.data import SHD_FILES
from sgtheory.errors import UserError
from sgtheory.files import atomic_path
from sgtheory.reading import read_numbers
from sgtheory.training._config import choose_device, find_class, identity, prepare
from sgtheory.training._final_state import WEIGHTS
from sgtheory.training._records import RASTERS, Records, load_run, read_config


def evaluate(directory: Path, data: dict) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Give the task of a run its trained weights, and measure what it measures after the last epoch.

    It is computed on the device of the run, or on the CPU where there is no GPU.

    Args:
        directory: of the run, with config.json and weights.npz.
        data: settings that say where the data set is, such as ``{"dir": "data"}``.

    Returns:
        rows: metric, layer, value, and ``recorded``: what records.csv has, NaN where it has nothing.
        arrays: what rasters.npz is to hold.

    Raises:
        UserError: if a file is missing or is not what it should be, the run diverged, or the data are not those of it.
    """
    parts, run = read_config(directory), load_run(directory)
    run.require_trained()
    if not hasattr(find_class(parts["task"].get("_target_"), "task._target_"), "load_weights"):
        raise UserError(
            f"{directory}: weights of {parts['task']['name']} cannot be tested again, only those of networks"
        )
    stored = parts["data"].get("name") in SHD_FILES
    made = {key: value for key, value in parts["data"].items() if key == "name" or not (stored or key == "version")}
    config = OmegaConf.create(parts | {"data": made | data})
    found = identity(config)["data"]
    if found != parts["data"]:
        raise UserError(
            f"{directory} was trained on {parts['data']}, and here is {found}: name its folder by data.dir="
        )
    if choose_device(config)[0] == "cuda" and not torch.cuda.is_available():
        config.trainer.update({"device": "cpu", "backend": "auto"})
    task, trainer = prepare(config)
    try:
        task.load_weights(read_numbers(directory / WEIGHTS, WEIGHTS))
    except ValueError as error:
        raise UserError(f"{directory / WEIGHTS}: {error}") from None
    rows, arrays = task.finish(trainer.epochs)
    last = run.records[run.records.epoch == trainer.epochs].set_index(["metric", "layer"])["value"]
    table = pd.DataFrame(rows, columns=["metric", "layer", "value"])
    table["recorded"] = [last.get((metric, layer), np.nan) for metric, layer, _ in rows]
    return table, arrays


def update_run(directory: Path, table: pd.DataFrame, arrays: dict[str, np.ndarray]) -> None:
    """Write what :func:`evaluate` measured into records.csv and rasters.npz of the run."""
    run = load_run(directory)
    epochs = run.config["trainer"]["epochs"]
    records = Records(run.records["run"].iloc[0])
    records.load(directory, before=epochs + 1)
    records.add(epochs, table[["metric", "layer", "value"]].itertuples(index=False))
    with atomic_path(directory / RASTERS) as path:
        np.savez_compressed(path, **arrays)
    records.save(directory)
