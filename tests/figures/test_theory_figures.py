"""The theory figures: the same numbers from the same seed, claims computed from them, and a drawing of every one."""

import importlib
import json

import pytest
import torch

from sgtheory.claims import from_json, to_json
from sgtheory.figures import save_figure
from sgtheory.neurons import SigmoidEscape

SMALL = {
    "fig1": {"points": 41, "samples": 5000, "trials": 10},
    "fig2": {"points": 21, "samples": 2000},
    "fig3": {"samples": 5000, "passes": 256, "repeats": 100},
    "figS1": {"nets": 10, "spiking_nets": 2, "spiking_units": 20, "spiking_epochs": 20, "spiking_trials": 16},
    "figS3": {"points": 41, "samples": 200},
    "figE1": {"nets": 3, "samples": 200, "depths": [0, 1, 2], "betas": [1.0, 10.0]},
}
HOLD = {
    "fig1": {"C1": True},
    "fig2": {"C2": True},
    "fig3": {"C3": True, "C3.averaging": True, "C4": True},
    "figS1": {"C5": True, "C5.small": False, "C5.limit": True},
    "figS3": {"C12": True},
}


@pytest.mark.parametrize("name", SMALL)
def test_compute_and_draw(name, tmp_path):
    module = importlib.import_module(f"sgtheory.figures.{name}")
    numbers = module.measure(**SMALL[name])
    again = module.measure(**SMALL[name])
    assert to_json(numbers) == to_json(again)
    found = module.claims(numbers)
    assert module.claims(from_json(to_json(numbers))) == found  # verdicts follow from what is on disk
    written = save_figure(name, module.draw, numbers | {"claims": found}, tmp_path)
    assert [path.suffix for path in written] == [".png", ".pdf", ".json"]
    claims = json.loads(written[2].read_text())["claims"]
    assert len({claim["id"] for claim in claims}) == len(claims)
    assert all("nan" not in claim["measured"] for claim in claims)
    if name in HOLD:
        assert {claim.id: claim.holds for claim in found} == HOLD[name]


def test_an_unmatched_neuron_breaks_the_claim(monkeypatch):
    """The verdict is computed: with another surrogate in place of the matched one, C1 must fail."""
    fig1 = importlib.import_module("sgtheory.figures.fig1")
    monkeypatch.setattr(fig1, "EscapeDerivative", lambda escape: fig1.SuperSpike(10.0))
    (claim,) = fig1.claims(fig1.measure(points=41, samples=5000))
    assert not claim.holds


def test_without_noise_spiking_networks_have_no_selection_bias(monkeypatch):
    """The mean over trials of a network whose noise vanishes is the deterministic gradient; with noise it is not."""
    figS1 = importlib.import_module("sgtheory.figures.figS1")
    inputs, target, weights = figS1._spiking_networks(seed=0, units=30, epochs=50)
    assert not torch.equal(weights["before"][0], weights["after"][0])
    noisy = figS1._spiking_selection(weights["after"], inputs, target, seed=0, trials=16)
    monkeypatch.setattr(figS1, "ESCAPES", [SigmoidEscape(1e9)] * 2)
    silent = figS1._spiking_selection(weights["after"], inputs, target, seed=0, trials=4)
    for kind in figS1.SPIKING:
        assert silent[kind]["relative"] < 1e-6
        assert silent[kind]["cosine"] > 1 - 1e-9
        assert noisy[kind]["relative"] > 0.1
