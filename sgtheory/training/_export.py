"""The trained network of a finished run as a file for other programs."""

from pathlib import Path

from omegaconf import OmegaConf

from sgtheory.errors import UserError
from sgtheory.files import atomic_path
from sgtheory.training._config import describe
from sgtheory.training._final_state import WEIGHTS, final_weights
from sgtheory.training._records import CHECKPOINT, load_run


def export(directory: Path, path: Path, euler_step: float | None = None) -> None:
    """Write the trained network of a run as a NIR graph (HDF5); the data set is not needed.

    Args:
        directory: of the finished run.
        path: of the file.
        euler_step: see :func:`sgtheory.nir.layers_to_nir`.

    Raises:
        UserError: if the run has no network, its files are not what they should be, or nir is not installed.
    """
    try:
        import nir
    except ImportError:
        raise UserError("the package nir is not installed: pip install nir") from None
    run = load_run(directory)
    run.require_trained()
    here = {"device": "cpu", "backend": "auto"}  # where it was trained does not matter
    config = OmegaConf.create(run.config | {"trainer": run.config["trainer"] | here})
    cls, context = describe(config)
    if not hasattr(cls, "graph") or "input" not in run.rasters:
        raise UserError(f"{directory}: a run of {config.task.name} has no network that NIR could describe")
    if not (weights := final_weights(directory)):
        raise UserError(f"{directory} has no weights: neither {WEIGHTS} nor {CHECKPOINT}")
    try:
        graph = cls.graph(context, weights, run.rasters["input"].shape[-1], euler_step)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{directory}: {error}") from None
    with atomic_path(path) as temporary:
        nir.write(temporary, graph)
