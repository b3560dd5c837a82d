"""Running a task: configuration, records, checkpoints, progress, loggers.

This layer knows of Hydra and wandb; nothing below does.
"""

from sgtheory.training._collect import Collection, collect, companions, widen
from sgtheory.training._config import NeuronSettings, TaskContext, TrainerSettings, figure_settings, find_run, prepare
from sgtheory.training._evaluate import evaluate, update_run
from sgtheory.training._records import FINISHED, Records, Run, load_run
from sgtheory.training._runner import Interrupted, run_task, versions
from sgtheory.training._sweep import CONF, expand

__all__ = [
    "CONF",
    "FINISHED",
    "Collection",
    "Interrupted",
    "NeuronSettings",
    "Records",
    "Run",
    "TaskContext",
    "TrainerSettings",
    "collect",
    "companions",
    "evaluate",
    "expand",
    "figure_settings",
    "find_run",
    "load_run",
    "prepare",
    "run_task",
    "update_run",
    "versions",
    "widen",
]
