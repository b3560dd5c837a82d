"""Runs of the classification task: what they must have in common to be compared, and their accuracies at the end."""

import math

import numpy as np

from sgtheory.errors import UserError

SPLITS = ("training", "validation")
SMALL = 0.02  # a difference in accuracy that does not matter
UNDECIDED = 0.05  # a wider error decides nothing, and does not count as "no difference"


def common_data(runs, figure: str) -> dict:
    """Data, numbers of samples, epochs and batch size of the runs; those that diverged have not counted samples.

    Raises:
        UserError: naming ``figure``, if they differ in one of them, or all have diverged.
    """

    def of(run):
        trained = {
            "epochs": int(run.config["trainer"]["epochs"]),
            "batch_size": int(run.config["task"]["batch_size"]),
        }
        if run.diverged_in is not None:
            return trained
        samples = {f"{split}_samples": int(run.rasters[f"{split}_samples"]) for split in (*SPLITS, "test")}
        return {"data": str(run.rasters["data_name"]), **samples, **trained}

    first, *others = map(of, sorted(runs, key=lambda run: run.diverged_in is not None))
    if "data" not in first:
        raise UserError(f"{figure} needs a run that has not diverged")
    for other in others:
        if different := [f"{key} is {first[key]} and {other[key]}" for key in other if first[key] != other[key]]:
            raise UserError(f"{figure} needs runs on the same data and of the same length: {', '.join(different)}")
    return first


def scale(numbers: dict) -> str:
    """What a figure was made from, in one line: the numbers of :func:`common_data`, and ``seeds``."""
    counts = ", ".join(f"{numbers[f'{split}_samples']} {split}" for split in (*SPLITS, "test"))
    seeds = ", ".join(map(str, numbers["seeds"]))
    return (
        f"{numbers['data']}: {counts} samples; {numbers['epochs']} epochs, batches of {numbers['batch_size']}; "
        f"{len(numbers['seeds'])} seed{'s' * (len(numbers['seeds']) > 1)} ({seeds})"
    )


def accuracy_at_the_end(runs, split: str, part: int) -> np.ndarray:
    """Accuracy of each run, averaged over the last of ``part`` parts of its epochs, at least over the last one."""
    series = [run.series("accuracy", split) for run in runs]
    return np.array([values.iloc[-max(1, values.index[-1] // part) :].mean() for values in series])


def binomial_error(accuracies, samples: int) -> float:
    """Half-width of the 95 % interval of the difference between two accuracies, each over ``samples`` samples."""
    return 1.96 * math.sqrt(sum(float(p * (1 - p)) for p in accuracies) / samples)
