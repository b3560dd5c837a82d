"""The views of Weights & Biases show what the runs record."""

import json

import pytest
import wandb_views
from conftest import ROOT

from sgtheory.errors import UserError
from sgtheory.training._metrics import METRICS, find_metric

TASKS = {metric.task for metric in METRICS}


def test_what_a_view_shows_is_recorded_and_documented():
    document = (ROOT / "docs" / "dashboards.md").read_text()
    for view in wandb_views.VIEWS:
        for key in (*view.lines, *(bar.rpartition(".")[0] for bar in view.bars)):
            layer, metric = key.split("/")
            assert any(find_metric(task, metric, layer) for task in TASKS), key
        assert set(view.logarithmic) <= set(view.lines)
        for key in (*view.bars, *view.media, *view.lines[:1]):
            assert f"`{key}`" in document


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match="pip install wandb-workspaces"):
        wandb_views.main(["me", "--dry-run"])


def test_views_are_sent_with_their_charts(capsys):
    pytest.importorskip("wandb_workspaces")
    wandb_views.main(["me", "project=mine", "--dry-run"])
    sent = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [view["displayName"] for view in sent] == [view.name for view in wandb_views.VIEWS]
    (section,) = sent[0]["spec"]["section"]["panelBankConfig"]["sections"]
    assert [(p["config"]["metrics"], p["config"]["yLogScale"]) for p in section["panels"]] == [
        (["output/l2"], False),
        (["output/van_rossum"], True),
    ]
    assert sent[0]["project"] == "mine"
    assert sent[0]["spec"]["section"]["runSets"][0]["grouping"] == [{"section": "run", "name": "jobType"}]
