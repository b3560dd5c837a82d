"""Runs of the classification task: what they must have in common to be compared, in words and numbers."""

from sgtheory.errors import UserError

SPLITS = ("training", "validation")


def common_data(runs, figure: str) -> dict:
    """Data, numbers of samples, epochs and batch size of the runs.

    Raises:
        UserError: naming ``figure``, if they differ in one of them.
    """

    def of(run):
        samples = {f"{split}_samples": int(run.rasters[f"{split}_samples"]) for split in (*SPLITS, "test")}
        return {
            "data": str(run.rasters["data_name"]),
            **samples,
            "epochs": int(run.config["trainer"]["epochs"]),
            "batch_size": int(run.config["task"]["batch_size"]),
        }

    first, *others = map(of, runs)
    for other in others:
        if different := [f"{key} is {first[key]} and {other[key]}" for key in first if first[key] != other[key]]:
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
