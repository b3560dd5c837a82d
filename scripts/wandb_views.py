"""Save the views of docs/dashboards.md in a project of Weights & Biases. A view is a page of charts, new each time;
what a project has stays. Needs `pip install wandb-workspaces`, a key and a network.

    python scripts/wandb_views.py ENTITY project=sgtheory
    python scripts/wandb_views.py ENTITY --dry-run              # print what would be sent, one JSON object a line
"""

import sys
from dataclasses import dataclass

from sgtheory.command import parse, report_errors
from sgtheory.errors import UserError, first_line

MODES = ("JobType",)  # the neuron mode of a run
SETTINGS = {"project=sgtheory": "where the runs are"}
FLAGS = {"--dry-run": "print what would be sent"}


@dataclass(frozen=True)
class View:
    """A question, and the charts that answer it.

    Args:
        name: of the view.
        lines: ``layer/metric`` of each line chart over the epochs, mean and standard error of a group of runs.
        groups: what runs of a group share: a property of a run, or keys of the configuration.
        logarithmic: those of ``lines`` with a logarithmic axis.
        bars: values of the summary.
        media: pictures and histograms.
    """

    name: str
    lines: tuple[str, ...] = ()
    groups: tuple[str, ...] = MODES
    logarithmic: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()
    media: tuple[str, ...] = ()


HIDDEN = ("hidden1", "hidden2", "hidden3")
VIEWS = (
    View(
        "Figure 6, do both networks match the target",
        ("output/l2", "output/van_rossum"),
        logarithmic=("output/van_rossum",),
    ),
    View(
        "Figure 6, does the output become reliable",
        ("hidden/fano", "output/fano", "hidden/fano_window", "output/fano_window"),
    ),
    View(
        "Figure 7, who classifies better",
        ("training/accuracy", "validation/accuracy", "validation/accuracy_other_mode"),
    ),
    View(
        "Figure 7, is activity alike",
        tuple(f"{layer}/{metric}" for metric in ("rate", "fano") for layer in HIDDEN),
    ),
    View(
        "Sweep over steepness and surrogate",
        ("output/l2",),
        groups=("surrogate._target_", "surrogate.beta"),
        bars=("output/l2.min",),
    ),
    View(
        "Are weights and rates sound",
        groups=(),
        media=("rates/hidden_after", "weights/w0", "rasters/output_after"),
    ),
)


def workspace(view: View, entity: str, project: str):
    """The view as an object of wandb-workspaces."""
    from wandb_workspaces.reports.v2 import BarPlot, LinePlot, MediaBrowser, SummaryMetric
    from wandb_workspaces.workspaces import Config, Metric, RunsetSettings, Section, Workspace, WorkspaceSettings

    group = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"} if view.groups else {}
    panels = [LinePlot(x="epoch", y=[key], log_y=key in view.logarithmic, **group) for key in view.lines]
    panels += [BarPlot(metrics=[SummaryMetric(key)], **group) for key in view.bars]
    panels += [MediaBrowser(media_keys=[key]) for key in view.media]
    shared = [Metric(key) if key in MODES else Config(key) for key in view.groups]
    return Workspace(
        entity=entity,
        project=project,
        name=view.name,
        sections=[Section(name=view.name, panels=panels, is_open=True)],
        settings=WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=RunsetSettings(groupby=shared),
    )


def main(arguments: list[str]) -> None:
    (entity,), given, dry = parse(__doc__, {"ENTITY": "whose project it is"}, SETTINGS, arguments, FLAGS)
    try:
        views = [workspace(view, entity, given.get("project", "sgtheory")) for view in VIEWS]
    except ModuleNotFoundError as error:
        raise UserError("views need wandb-workspaces: pip install wandb-workspaces") from error
    for view in views:
        if dry:
            print(view._to_model().model_dump_json(by_alias=True, exclude_none=True))
            continue
        try:
            print(view.save().url)
        except Exception as error:  # of the server, the network or the key
            raise UserError(f"the view {view.name!r} was not saved: {first_line(error)}") from error


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
