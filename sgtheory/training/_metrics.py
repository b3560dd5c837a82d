"""Every metric that a task records, defined once: what it is, its unit, where the paper has it, and what is better."""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Metric:
    """One column ``metric`` of the records.

    Args:
        task: that records it.
        name: in the records.
        layers: where it is measured, the column ``layer``; ``hidden*`` stands for hidden1, hidden2, ...
        unit: 1 for a pure number.
        meaning: what it is, one sentence.
        source: equation or section of the paper.
        best: ``"min"`` or ``"max"`` over the run if smaller or larger is better, else None.
    """

    task: str
    name: str
    layers: tuple[str, ...]
    unit: str
    meaning: str
    source: str
    best: str | None = None

    @property
    def summary(self) -> str:
        """What is kept of its course, in the words of wandb."""
        return f"{self.best},last" if self.best else "last"


def in_other_mode(metric: Metric, layers: tuple[str, ...] | None = None) -> Metric:
    """The same, measured with escape noise if the network is trained without, and the other way round."""
    return replace(
        metric,
        name=f"{metric.name}_other_mode",
        layers=layers or metric.layers,
        meaning=f"`{metric.name}` of the same weights in the other neuron mode",
    )


def spike_matching() -> list[Metric]:
    def metric(*values):
        return Metric("spike_matching", *values)

    both, output = ("hidden", "output"), ("output",)
    l2 = metric("l2", output, "1", "L2 distance of output and target spike trains, mean of neurons", "Eq 24", "min")
    meaning = "van Rossum distance of output and target spike trains, mean of neurons"
    van_rossum = metric("van_rossum", output, "1", meaning, "Eq 25", "min")
    rate = metric("rate", both, "Hz", "mean firing rate", "Fig 6D")
    of_mean = "van Rossum distance of the output averaged over trials: without trial-to-trial noise"
    return [
        l2,
        van_rossum,
        metric("van_rossum_of_mean", output, "1", of_mean, "Eq 25", "min"),
        rate,
        metric("van_rossum_trials", output, "1", f"{meaning}, of single trials", "Eq 25", "min"),
        metric("van_rossum_of_mean_corrected", output, "1", f"{of_mean}, of infinitely many trials", "Eq 25", "min"),
        metric(
            "van_rossum_without_noise", output, "1", f"{meaning}, of the same weights without noise", "Eq 25", "min"
        ),
        metric("fano", both, "1", "Fano factor of spikes over trials, in single time steps", "Section 8.4.1"),
        metric("fano_window", both, "1", "Fano factor of spike counts in a sliding window (20 ms)", "Section 8.4.2"),
        metric("isi_mean", both, "s", "mean inter-spike interval", "Fig 6D"),
        metric("isi_cv", both, "1", "coefficient of variation of inter-spike intervals, mean of neurons", "Fig 6D"),
        *(in_other_mode(m) for m in (l2, van_rossum, rate)),
    ]


def classification() -> list[Metric]:
    def metric(*values):
        return Metric("classification", *values)

    splits, measured, hidden = ("training", "validation", "test"), ("validation", "test"), ("hidden*",)
    speakers = ("test_known_speakers", "test_new_speakers")
    meaning = "cross-entropy, mean of samples, without the activity penalty"
    loss = metric("loss", splits, "nat", meaning, "Eqs 28, 29", "min")
    right = "share of samples with the right answer, of the test also by speakers who are heard in training or are not"
    accuracy = metric("accuracy", (*splits, *speakers), "1", right, "Section 8.4.2", "max")
    accuracy_other_mode = in_other_mode(accuracy, (*measured, *speakers))
    best = [
        replace(
            m,
            name=f"{m.name}_best_validation",
            layers=("test", *speakers),
            meaning=f"`{m.name}` with the weights of the epoch that was best in validation",
        )
        for m in (accuracy, accuracy_other_mode)
    ]
    chosen = metric("epoch_best_validation", ("validation",), "1", "that epoch, the first of equal ones", "")
    return [
        loss,
        accuracy,
        metric("regulariser", ("training",), "1", "activity penalty, mean of samples", "Eqs 26, 27"),
        metric("rate", hidden, "Hz", "mean firing rate on the validation samples", "Section 8.4.2"),
        metric("fano", hidden, "1", "Fano factor of spike counts in a sliding window (20 ms)", "Section 8.4.2"),
        metric("fano_step", hidden, "1", "Fano factor of spikes over trials, in single time steps", "Section 8.4.1"),
        in_other_mode(loss, measured),
        accuracy_other_mode,
        *best,
        chosen,
    ]


def loop_integral() -> list[Metric]:
    rows = []
    for prefix, field in (("", "surrogate gradient"), ("true_", "true gradient")):
        rows += [
            (f"{prefix}circulation", f"integral of the {field} around the closed loop"),
            (f"{prefix}error", f"estimated numerical error of `{prefix}circulation`"),
            (
                f"{prefix}variation",
                f"integral along the loop of the absolute value of the component of the {field} along it",
            ),
        ]
    rows += [
        ("points", "points at which the fields were evaluated"),
        ("converged", "1 if all errors are within the tolerance"),
    ]
    return [Metric("loop_integral", name, ("",), "1", meaning, "Section 8.3, Fig 5") for name, meaning in rows]


METRICS = (*spike_matching(), *classification(), *loop_integral())


def find_metric(task: str, name: str, layer: str) -> Metric | None:
    """The definition of a row of the records; None for a metric of a task that is not part of this package."""
    for metric in METRICS:
        if (metric.task, metric.name) == (task, name) and any(fnmatchcase(layer, known) for known in metric.layers):
            return metric
    return None


def metrics_table(task: str) -> str:
    """The metrics of a task as a table in Markdown, as docs/metrics.md has it."""
    lines = ["| metric | layer | unit | what it is | paper | best |", "|---|---|---|---|---|---|"]
    for m in METRICS:
        if m.task == task:
            layers = ", ".join(layer.replace("*", "1, hidden2, ...") for layer in m.layers)
            lines.append(f"| `{m.name}` | {layers} | {m.unit} | {m.meaning} | {m.source} | {m.best or ''} |")
    return "\n".join(lines)
