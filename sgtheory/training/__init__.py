"""Running a task: configuration, records, checkpoints, progress, loggers.

This layer knows of Hydra and wandb; nothing below does.
"""

from sgtheory.training._checkpoint import load_checkpoint, restore_checkpoint, save_checkpoint
from sgtheory.training._collect import Collection, collect, companions, widen
from sgtheory.training._config import (
    NEURON_MODES,
    NeuronSettings,
    TaskContext,
    TrainerSettings,
    build,
    figure_settings,
    find_run,
    identity,
    prepare,
    run_name,
)
from sgtheory.training._evaluate import evaluate, update_run
from sgtheory.training._export import export
from sgtheory.training._records import COLUMNS, FINISHED, Records, Run, load_run, read_config, read_records
from sgtheory.training._runner import run_task
from sgtheory.training._start import RunFailed, count_failures, named_errors, start
from sgtheory.training._sweep import CONF, expand, not_waiting

__all__ = [
    "COLUMNS",
    "CONF",
    "FINISHED",
    "NEURON_MODES",
    "Collection",
    "NeuronSettings",
    "Records",
    "Run",
    "RunFailed",
    "TaskContext",
    "TrainerSettings",
    "build",
    "collect",
    "companions",
    "count_failures",
    "evaluate",
    "expand",
    "export",
    "figure_settings",
    "find_run",
    "identity",
    "load_checkpoint",
    "load_run",
    "named_errors",
    "not_waiting",
    "prepare",
    "read_config",
    "read_records",
    "restore_checkpoint",
    "run_name",
    "run_task",
    "save_checkpoint",
    "start",
    "update_run",
    "widen",
]
