"""Where metrics go beside the records: nowhere, or to Weights & Biases."""

import json
import logging
import math
import os
import queue
import shutil
import threading
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sgtheory import __version__
from sgtheory.errors import first_line, require_choice, require_positive
from sgtheory.files import user_path
from sgtheory.training._config import IDENTITY
from sgtheory.training._final_state import final_weights, firing_rates, picture, spike_rasters
from sgtheory.training._metrics import find_metric
from sgtheory.training._records import CONFIG

log = logging.getLogger("sgtheory")

WANDB_MODES = ("offline", "online", "disabled")
BINS = 64  # of histograms
KEEP = {"min": min, "max": max, "last": lambda _, value: value}  # of the course of a metric
PATIENCE = {"offline": 20.0, "online": 120.0}  # seconds to wait for wandb at the end of a run
# Metrics, configuration and pictures, and nothing that tells of the user, the machine or the code.
SETTINGS = {
    "silent": True,
    "console": "off",
    "host": "",
    "program": "",
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": 2.0,  # seconds until a dashboard can see what was logged
    "init_timeout": 20.0,
    "finish_timeout": 60.0,
}


class NoLogger:
    """Keeps to the records. A context manager: leaving it says that the run has ended."""

    def log(self, epoch: int, rows: list[tuple[str, str, float]]) -> None:
        """One epoch of (metric, layer, value) rows; of a run that goes on, the earlier epochs come first."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        pass


class WandbLogger(NoLogger):
    """Mirrors the records to a wandb run; a failure of wandb is a warning, never the end of a run.

    All of wandb, its import included, runs in a thread of its own, so that a run neither starts later nor waits for a
    disk or a server. A run that goes on is the same wandb run: offline, its file is written again from the records and
    takes the place of the earlier one, because offline runs cannot be continued; online, the server says which steps
    it has.

    Args:
        settings: the ``logger`` section.
        config: of the run, as columns.
        directory: of the run.
        folder: where the wandb folder is made.
        init: further arguments of ``wandb.init``.
    """

    def __init__(self, settings: DictConfig, config: dict, directory: Path, folder: Path, **init):
        self.mode, self.task, self.directory, self.folder = settings.mode, config["task"]["name"], directory, folder
        self.init = {"project": settings.project, "entity": settings.entity, "config": config, **init}
        require_positive(**{"logger.points": settings.points})
        self.every = max(1, math.ceil(config["trainer"]["epochs"] / settings.points))
        self.queue: queue.SimpleQueue = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._mirror, name="wandb", daemon=True)
        self.thread.start()

    def log(self, epoch, rows):
        if rows and self.thread.is_alive():
            self.queue.put((epoch, list(rows)))

    def __exit__(self, kind, error, traceback):
        self.queue.put(kind is None)
        self.thread.join(PATIENCE[self.mode])
        if self.thread.is_alive():
            log.warning("wandb does not answer; the records are complete without it")

    def _mirror(self) -> None:
        """What the thread does: everything in the queue to wandb, until the queue says whether the run succeeded."""
        try:
            run = self._start()
            first, summary, before = run.step, {}, set()
            while not isinstance(item := self.queue.get(), bool):
                epoch, rows = item
                values = {}
                for metric, layer, value in rows:
                    if math.isfinite(value):
                        name = key(metric, layer)
                        values[name] = value
                        old = summary[name] if name in summary else self._define(run, name, metric, layer, value)
                        summary[name] = {kind: KEEP[kind](kept, value) for kind, kept in old.items()}
                # what is measured now and then is logged whenever it is
                if epoch >= first and (epoch % self.every == 0 or values.keys() - before):
                    run.log({"epoch": epoch, **values}, step=epoch)
                before = values.keys()
            if item:
                run.log(self._final_state())
            run.summary.update(summary)  # of all epochs
            run.finish(exit_code=0 if item else 1)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            log.warning("wandb failed (%s); the records are written all the same", reason)

    def _define(self, run, name: str, metric: str, layer: str, value: float) -> dict[str, float]:
        known = find_metric(self.task, metric, layer)
        kinds = known.summary if known else "last"
        run.define_metric(name, step_metric="epoch", summary=kinds)
        return dict.fromkeys(kinds.split(","), value)

    def _start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # slow to import, and not needed without this logger

        wandb.setup(wandb.Settings(mode=self.mode, silent=True))
        if self.mode == "online":
            try:
                if wandb.login(prompt=False):
                    return self._init(wandb, "online")
                reason = "there is no API key: `wandb login` or WANDB_API_KEY gives one"
            except Exception as error:
                reason = f"{type(error).__name__}: {first_line(error)}"
            log.warning("wandb cannot be online (%s); it goes on offline, `wandb sync` uploads the run later", reason)
        for earlier in (self.folder / "wandb").glob(f"offline-run-*-{self.init['id']}"):
            shutil.rmtree(earlier, ignore_errors=True)
        return self._init(wandb, "offline")

    def _init(self, wandb, mode):
        run = wandb.init(
            mode=mode,
            dir=str(self.folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(**SETTINGS),
            **self.init,
        )
        for handler in logging.getLogger("wandb").handlers:  # its own debug.log
            handler.handleError = lambda record: None  # no tracebacks between our lines if the disk is full
        run.define_metric("epoch", hidden=True, summary="none")
        for histograms in ("rates/*", "weights/*"):  # their bins would hide the numbers of the summary
            run.define_metric(histograms, summary="none")
        return run

    def _final_state(self) -> dict:
        """Rasters as pictures, histograms of rates (Hz) and weights."""
        import wandb

        dt = json.loads((self.directory / CONFIG).read_text())["neuron"]["dt"]
        rasters = spike_rasters(self.directory)
        media = {f"rasters/{name}": wandb.Image(picture(raster)) for name, raster in rasters.items()}
        spread = {f"rates/{name}": rates for name, rates in firing_rates(rasters, dt).items()}
        spread |= {f"weights/{name}": weights for name, weights in final_weights(self.directory).items()}
        for name, values in spread.items():
            media[name] = wandb.Histogram(np_histogram=np.histogram(values, BINS))
        return media


def key(metric: str, layer: str) -> str:
    """Name of a metric in wandb: layers become sections of the dashboard."""
    return f"{layer}/{metric}" if layer else metric


def columns(config: DictConfig) -> dict:
    """The whole configuration but where files are and what is logged; of absolute paths only the name."""

    def public(value):
        if isinstance(value, dict):
            return {k: public(v) for k, v in value.items()}
        if isinstance(value, list):
            return [public(v) for v in value]
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    plain = OmegaConf.to_container(config, resolve=True)
    return {k: public(v) for k, v in plain.items() if k not in ("runs", "logger")} | {"version": __version__}


def group(config: DictConfig) -> str:
    """Runs that belong together: those of an experiment, or of sweeps over the same keys, or of a task."""
    if config.experiment:
        return config.experiment
    name = config.task.name
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        keys = {override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task}
        swept = sorted(k for k in keys if k.split(".")[0] in IDENTITY or k == "trainer.epochs")
        name = f"{name}: {', '.join(swept)}"
    return name[:128]


def make_logger(config: DictConfig, fingerprint: str, directory: Path, name: str) -> NoLogger:
    """The logger that the ``logger`` section asks for.

    Args:
        config: the resolved configuration.
        fingerprint: of the run, its id in wandb.
        directory: of the run.
        name: of the run.

    Raises:
        UserError: for an unknown logger or mode.
    """
    settings = config.logger
    require_choice(("none", "wandb"), **{"logger.name": settings.name})
    if settings.name == "none":
        return NoLogger()
    require_choice(WANDB_MODES, **{"logger.mode": settings.mode})
    if settings.mode == "disabled":
        return NoLogger()
    folder = user_path(settings.dir or config.runs)
    if not settings.dir and not directory.absolute().is_relative_to(folder.absolute()):
        folder = directory
    labels = {"id": fingerprint, "name": name, "group": group(config), "job_type": config.neuron.mode}
    return WandbLogger(settings, columns(config), directory, folder, **labels)
