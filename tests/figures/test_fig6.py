"""Figure 6 from small runs: everything drawn is in the numbers, verdicts follow from them, mistakes are named."""

import json
import types

import numpy as np
import pandas as pd
import pytest

from sgtheory.errors import UserError
from sgtheory.figures import fig6, save_figure

SMALL = ("task.hidden=20", "task.inputs=20", "task.target.rows=20", "task.target.steps=30", "task.measure_every=10")


def run(mode, seed, l2, van_rossum, fano=(0.8, 0.5), rate=20.0, silent=1.0):
    rows = [(e, "l2", "output", l2) for e in range(100)] + [(e, "van_rossum", "output", van_rossum) for e in range(100)]
    rows += [(99, f"{metric}_other_mode", "output", silent) for metric in ("l2", "van_rossum")]
    rows += [(99, "van_rossum_of_mean", "output", van_rossum / 2)]
    for layer in ("hidden", "output"):
        rows += [(e, "fano", layer, f) for e, f in zip((0, 99), fano, strict=True)]
        rows += [(99, "rate", layer, rate + seed), (99, "isi_cv", layer, 1.0)]
    frame = pd.DataFrame(rows, columns=["epoch", "metric", "layer", "value"])
    raster = np.eye(10, dtype=np.uint8)
    names = ["input", "target", *(f"{layer}_{when}" for layer in fig6.LAYERS for when in ("before", "after"))]

    def series(metric, layer):
        return frame[(frame.metric == metric) & (frame.layer == layer)].set_index("epoch")["value"]

    config = {"neuron": {"mode": mode, "dt": 1e-3}, "seed": seed, "trainer": {"epochs": 99}}
    return types.SimpleNamespace(config=config, rasters=dict.fromkeys(names, raster), series=series)


def runs(det_l2=(19.0, 19.2, 19.1), sto_l2=(22.0, 22.1, 22.2), det_vr=0.10, sto_vr=0.12, fano=(0.8, 0.5), silent=1.0):
    deterministic = [run("deterministic", s, v, det_vr + 1e-3 * s) for s, v in enumerate(det_l2)]
    return deterministic + [
        run("escape_noise", s, v, sto_vr - 1e-3 * s, fano, 60.0, silent) for s, v in enumerate(sto_l2)
    ]


def verdicts(*args, **kwargs):
    return {claim.id: claim.holds for claim in fig6.claims(fig6.measure(runs(*args, **kwargs)))}


def test_verdicts_follow_from_the_numbers():
    assert verdicts() == {"C10.1": True, "C10.2": False, "C10.3": True, "C10.4": True, "C10.5": True}
    assert not verdicts(sto_l2=(19.0, 19.3, 19.0))["C10.1"]
    assert verdicts(sto_vr=0.102)["C10.2"]
    (claim,) = (c for c in fig6.claims(fig6.measure(runs(silent=0.101))) if c.id == "C10.2")  # without noise only
    assert claim.verdict == "reproduced, with a qualification"
    assert not verdicts(fano=(0.5, 0.5))["C10.3"]


def test_both_modes_and_the_same_seeds_are_needed():
    for wrong in (runs()[:3], runs()[:5], []):
        with pytest.raises(UserError, match="same seeds in both neuron modes"):
            fig6.measure(wrong)


def test_the_figure_is_written_with_its_numbers(tmp_path):
    measured = fig6.measure(runs())
    paths = save_figure("fig6", fig6.draw, measured | {"claims": fig6.claims(measured)}, tmp_path)
    assert [p.name for p in paths] == ["fig6.png", "fig6.pdf", "fig6.json"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG"
    assert paths[1].read_bytes()[:4] == b"%PDF"
    numbers = json.loads(paths[2].read_text())
    assert [c["verdict"] for c in numbers["claims"]].count("contradicted") == 1
    assert numbers["input"][3] == "0001000000"
    assert len(numbers["curves"]["l2"]["deterministic"]["mean"]) == 100


def test_from_training_to_figure(script, tmp_path):
    """As `make fig6` does, small: a sweep, then the figure of the same overrides; a missing run is named."""
    overrides = ("experiment=fig6", "seed=1,2", "trainer.epochs=20", f"runs={tmp_path / 'runs'}", *SMALL)
    missing = script("figure.py", *overrides, f"output={tmp_path}")
    assert missing.returncode == 2
    assert "4 of 4 runs are not finished" in missing.stderr
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    trained = script("train.py", "-m", *overrides, *launcher)
    assert trained.returncode == 0, trained.stderr
    drawn = script("figure.py", *overrides, f"output={tmp_path}")
    assert drawn.returncode == 0, drawn.stderr
    assert "verdict" in drawn.stdout
    assert {"fig6.png", "fig6.pdf", "fig6.json"} <= {p.name for p in tmp_path.iterdir()}
    assert not list(tmp_path.glob("*.tmp*"))
