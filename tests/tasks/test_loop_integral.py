"""The closed-loop task: every net, its settings, and the table of conservative fields."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.neurons import LIFParameters, MultilayerSpiker, SigmoidDerivative, StraightThrough, SuperSpike
from sgtheory.tasks.loop_integral import LoopIntegral
from sgtheory.theory import (
    SPIKE_MATCHING_NEURON,
    TABLE_NETS,
    LoopIntegralSettings,
    build_loop,
    build_net,
    conservative_fields,
    loop_integral,
    riemann_sum,
)
from sgtheory.training import load_run

LIF = LoopIntegralSettings(
    "lif", [4, 3, 1], steps=20, centre=3.0, centre_sd=2.0, radius=4.0, plane_seed=3, tolerance=1e-2
)


@pytest.mark.parametrize(
    "settings",
    [
        LoopIntegralSettings(),
        LoopIntegralSettings("perceptron", [2, 2, 1], beta=100.0),
        LoopIntegralSettings("stochastic_perceptron", [2, 2, 1], beta=5.0, tolerance=1e-6),
        LIF,
    ],
    ids=lambda s: s.net,
)
def test_the_surrogate_gradient_of_every_deep_net_has_a_circulation_and_the_true_one_has_none(settings):
    result = loop_integral(settings, SigmoidDerivative(2.0))
    assert result["converged"]
    assert result["error"] <= settings.tolerance
    assert abs(result["circulation"]) > 10 * result["error"]
    assert abs(result["true_circulation"]) <= result["true_error"] + 1e-12
    assert result["table"][-1]["circulation"] == result["circulation"]
    assert result["table"][-1]["points"] == result["points"]
    assert loop_integral(settings, SigmoidDerivative(2.0)) == result


def test_a_net_of_spiking_neurons_agrees_with_a_plain_sum():
    """The field jumps wherever a spike pattern changes; 20,000 equal steps get three digits."""
    net = build_net(LIF)
    loop = build_loop(LIF, net.n_parameters)
    expected = riemann_sum(net.fields([SuperSpike(5.0)]), loop, 20_000)[1]
    result = loop_integral(LIF, SuperSpike(5.0))
    assert result["circulation"] == pytest.approx(float(expected), abs=LIF.tolerance)
    assert len(net.output(loop.points(torch.linspace(0, 6.28, 200).double())).unique()) > 1  # spikes came and went


@pytest.mark.parametrize("surrogate", [SigmoidDerivative(3.0), StraightThrough(), MultilayerSpiker()])
def test_one_layer_of_perceptrons_is_conservative_with_any_surrogate(surrogate):
    result = loop_integral(LoopIntegralSettings("perceptron", [4, 1], plane_seed=7), surrogate)
    assert abs(result["circulation"]) <= result["error"] + 1e-12
    assert result["variation"] > 0.1


def test_a_lif_layer_is_conservative_only_as_long_as_nothing_is_reset():
    """Without spikes it is a linear filter and one layer of perceptrons; the derivative of the reset spoils that, and
    so does the reset itself."""

    def conservative(settings, reset_gradient):
        neuron = LIFParameters(10e-3, 5e-3, 1e-3, reset="same", reset_gradient=reset_gradient)
        result = loop_integral(settings, SuperSpike(10.0), neuron)
        return abs(result["circulation"]) <= result["error"] + 1e-12

    silent = TABLE_NETS["LIF layer, silent"]
    net = build_net(silent)
    loop = build_loop(silent, net.n_parameters)
    assert len(net.output(loop.points(torch.linspace(0, 6.28, 200).double())).unique()) == 1
    assert conservative(silent, "detached")
    assert not conservative(silent, "attached")
    assert not conservative(TABLE_NETS["LIF layer"], "detached")


def test_the_table_names_net_surrogate_and_verdict():
    nets = {
        "one": TABLE_NETS["perceptron, β = 25"],
        "two": replace(TABLE_NETS["hidden layer, β = 25"], layers=[2, 2, 1]),
    }
    rows = conservative_fields(nets, {"sigmoid'": SigmoidDerivative(5.0)}, planes=(1, 2))
    assert [(row["net"], row["surrogate"], row["conservative"]) for row in rows] == [
        ("one", "true gradient", True),
        ("one", "sigmoid'", True),
        ("two", "true gradient", True),
        ("two", "sigmoid'", False),
    ]
    assert all(len(row["circulation"]) == len(row["error"]) == 2 for row in rows)


def test_a_centre_for_every_parameter():
    loop = build_loop(LoopIntegralSettings(centre=[0, 0.1, 0.2, 0.3, 0.4]), 5)
    assert loop.centre.tolist() == [0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize("kind", ["perceptron", "stochastic_perceptron", "lif"])
def test_centre_and_inputs_are_drawn_apart(kind):
    """From one seed twice they would be the same numbers."""
    settings = LoopIntegralSettings(kind, [3, 3, 1] if kind == "lif" else [2, 2, 1], centre_sd=1.0, steps=4)
    net = build_net(settings)
    drawn = build_loop(settings, net.n_parameters).centre
    if kind == "lif":
        uniform = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert torch.equal(net.inputs, (uniform < 0.1).double())
        generator = torch.Generator().manual_seed(0)
        assert not torch.allclose(drawn, torch.randn(12, generator=generator, dtype=torch.float64))
    else:
        assert not torch.isclose(drawn[:2], net.x).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net", "hopfield"),
        ("layers", [3]),
        ("layers", [3, 0]),
        ("beta", 0.0),
        ("radius", -1.0),
        ("tolerance", 0.0),
        ("max_points", 0),
        ("centre_sd", -1.0),
        ("plane_seed", -1),
        ("net_seed", 2**32),
        ("steps", 0),
        ("rate", 1.5),
        ("x", float("nan")),
    ],
)
def test_a_setting_out_of_range_is_named(name, value):
    with pytest.raises(ParameterError, match=name):
        LoopIntegralSettings(**{name: value})


@pytest.mark.parametrize("centre", [[1.0, 2.0], "origin", None, float("nan")])
def test_a_centre_of_the_wrong_size_is_named(centre):
    with pytest.raises(ParameterError, match=r"centre .*5 finite numbers"):
        loop_integral(LoopIntegralSettings(centre=centre), SigmoidDerivative(5.0))


def test_the_task_computes_once_and_keeps_what_it_found(script, tmp_path):
    arguments = ("task=loop_integral", "surrogate=sigmoid", "surrogate.beta=5", "task.radius=1.8", f"runs={tmp_path}")
    done = script("train.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "circulation 0.3691 ± " in done.stdout
    assert "not the gradient of any function" in done.stdout
    (directory,) = (tmp_path / "loop_integral").iterdir()
    run = load_run(directory)
    values = run.records.set_index("metric")["value"]
    expected = loop_integral(LoopIntegralSettings(net_seed=17), SigmoidDerivative(5.0))
    assert {name: values[name] for name in values.index} == {k: v for k, v in expected.items() if k != "table"}
    assert run.rasters["refinement_points"].tolist() == [row["points"] for row in expected["table"]]
    (directory / "finished.json").unlink()
    (directory / "rasters.npz").unlink()
    again = script("train.py", *arguments)  # as after a power failure: finished from the checkpoint, not computed again
    assert "going on from epoch 1" in again.stdout
    assert "circulation 0.3691 ± " in again.stdout
    pd.testing.assert_frame_equal(load_run(directory).records, run.records)


def task_of(settings):
    context = SimpleNamespace(
        settings=settings,
        neuron=SimpleNamespace(mode="deterministic", parameters=SPIKE_MATCHING_NEURON),
        surrogate=SigmoidDerivative(5.0),
        trainer=SimpleNamespace(epochs=1, device="cpu"),
    )
    return LoopIntegral(context)


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({"net": "perceptron", "layers": [4, 1], "beta": 25.0}, "zero within its error"),
        ({"net": "lif", "layers": [2, 1], "rate": 1e-9}, "zero everywhere on this loop"),
        ({"net": "sigmoid", "max_points": 1600}, "1e-08 not reached with 1600 points"),
    ],
    ids=["conservative", "nothing", "unfinished"],
)
def test_the_summary_says_what_was_found(settings, verdict):
    task = task_of(LoopIntegralSettings(**settings))
    assert verdict in task.summary(task.epoch(0))


def test_a_long_integral_shows_that_it_moves(monkeypatch, caplog):
    monkeypatch.setattr("sgtheory.tasks.loop_integral.LINE_INTERVAL", 0.0)
    task = task_of(LoopIntegralSettings())
    with caplog.at_level("INFO", logger="sgtheory"):
        task.epoch(0)
    assert len(caplog.messages) == len(task.result["table"])
    assert "wanted 1e-08" in caplog.messages[-1]
