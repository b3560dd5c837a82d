"""The closed-loop task: every net, its settings, and the table of conservative fields."""

from dataclasses import replace

import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.neurons import LIFParameters, MultilayerSpiker, SigmoidDerivative, StraightThrough, SuperSpike
from sgtheory.tasks.loop_integral import (
    TABLE_NETS,
    LoopIntegralSettings,
    build_loop,
    build_net,
    conservative_fields,
    loop_integral,
)
from sgtheory.theory import riemann_sum

LIF = LoopIntegralSettings("lif", [4, 3, 1], steps=20, centre=3.0, centre_sd=2.0, radius=4.0, tolerance=1e-2)


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
    ],
)
def test_a_setting_out_of_range_is_named(name, value):
    with pytest.raises(ParameterError, match=name):
        LoopIntegralSettings(**{name: value})


@pytest.mark.parametrize("centre", [[1.0, 2.0], "origin", None])
def test_a_centre_of_the_wrong_size_is_named(centre):
    with pytest.raises(ParameterError, match=r"centre .*5 numbers"):
        loop_integral(LoopIntegralSettings(centre=centre), SigmoidDerivative(5.0))
