"""Where metrics go beside the records: nowhere, or to Weights & Biases."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from sgtheory.errors import UserError, require_choice

log = logging.getLogger("sgtheory")


class NoLogger:
    """Keeps to the records."""

    def log(self, epoch: int, rows: list[tuple[str, str, float]]) -> None:
        """One epoch of (metric, layer, value) rows."""

    def finish(self) -> None:
        """The run has ended."""


class WandbLogger(NoLogger):
    """Mirrors the records to a wandb run; a failure of wandb is a warning, never the end of a run."""

    def __init__(self, settings: DictConfig, config: dict, directory: Path, name: str):
        require_choice(("offline", "online", "disabled"), **{"logger.mode": settings.mode})
        import wandb  # slow to import, and not needed without this logger

        self.run = wandb.init(
            project=settings.project,
            mode=settings.mode,
            dir=str(directory),
            name=name,
            id=name.rsplit("-", 1)[-1],
            resume="allow",
            group=config["task"]["name"],
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.run.define_metric("*", step_metric="epoch")

    def log(self, epoch, rows):
        self.run.log({"epoch": epoch, **{f"{layer}/{metric}" if layer else metric: v for metric, layer, v in rows}})

    def finish(self):
        self.run.finish()


def make_logger(settings: DictConfig, config: dict, directory: Path, name: str) -> NoLogger:
    """The logger that the ``logger`` section asks for.

    Raises:
        UserError: for an unknown logger.
    """
    if settings.name == "none":
        return NoLogger()
    if settings.name != "wandb":
        raise UserError(f"logger.name = {settings.name}: must be one of none, wandb")
    try:
        return WandbLogger(settings, config, directory, name)
    except UserError:
        raise
    except Exception as error:  # no disk, no network, a changed API: the records are what counts
        log.warning("wandb could not be started (%s); the records are written all the same", error)
        return NoLogger()
