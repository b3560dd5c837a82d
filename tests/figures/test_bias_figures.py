"""Figures 4, 5 and E2 on small settings: they run, their claims hold, they can be drawn; and the nets behind E2."""

import json

import numpy as np
import pytest

from sgtheory.errors import ParameterError
from sgtheory.figures import fig4, fig5, figE2, save_figure
from sgtheory.neurons import SigmoidEscape, SuperSpike
from sgtheory.theory import SPIKE_TIME_NEURON, TABLE_NETS, DiscreteNets, SpikingNet, cosine, sign_agreement, van_rossum

SMALL = {
    "fig4": (fig4, {"line_points": 401, "map_points": 21, "random_nets": 1000}),
    "fig5": (fig5, {"most_points": 2**10, "map_points": 21, "betas": 5, "table_nets": tuple(TABLE_NETS)[:2]}),
    "figE2": (figE2, {"nets": 12, "betas": (5.0, 20.0), "dts": (1e-3, 2e-4), "paths": 2, "creation_paths": 4}),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_figure_is_computed_its_claims_hold_and_it_is_drawn(name, tmp_path):
    module, settings = SMALL[name]
    numbers = module.measure(**settings)
    claims = module.claims(numbers)
    for claim in claims:
        if not claim.id.startswith("E2."):  # those need more nets
            assert claim.holds, claim
    if name == "fig5":
        assert [claim.id for claim in claims] == ["C7", "C7.smoothed", "C7.layer", "C7.depth"]
    png, pdf, written = save_figure(name, module.draw, numbers | {"claims": claims}, tmp_path)
    assert png.stat().st_size > 20_000
    assert pdf.stat().st_size > 10_000
    assert json.loads(written.read_text())["claims"][0]["verdict"] == "reproduced"


def test_figure_4_is_wrong_if_the_surrogate_is_the_true_derivative():
    settings = {"line_points": 41, "map_points": 5, "random_nets": 10}
    claim, *_ = fig4.claims(fig4.measure(beta_sg=100.0, **settings))
    assert not claim.holds
    *_, minima = fig4.claims(fig4.measure(line_beta_sgs=(100.0,), **settings))
    assert not minima.holds
    numbers = fig4.measure(map_beta_sgs=(19.9,), **settings)
    assert not {claim.id: claim.holds for claim in fig4.claims(numbers)}["C6.descent"]


def test_only_the_integral_of_the_true_gradient_does_not_depend_on_the_order():
    numbers = fig4.measure(line_points=11, map_points=21, random_nets=10, descent_steps=1)
    y, true = numbers["map_output"], numbers["maps"][-1]
    for order in ("v1_first", "v2_first"):
        assert np.abs(true[order] - (y - y[0, 0])).max() < 1e-3
    for each in numbers["maps"][:-1]:
        assert np.abs(each["v1_first"] - each["v2_first"]).max() > 0.05


def test_figure_5_has_a_control_that_can_fail():
    numbers = fig5.measure(beta_sg=5, most_points=128, map_points=11, betas=3, table_nets=())
    assert {c.id: c.holds for c in fig5.claims(numbers)} == {"C7": True, "C7.smoothed": True}
    numbers["smoothed"][0]["circulation"] = 1e-3
    assert {c.id: c.holds for c in fig5.claims(numbers)} == {"C7": True, "C7.smoothed": False}


def test_figure_5_takes_one_steepness():
    numbers = fig5.measure(beta_sg=5, most_points=128, map_points=11, betas=3, table_nets=())
    assert [c["beta_sg"] for c in numbers["circulations"]] == [5]
    with pytest.raises(ParameterError, match="table_nets"):
        fig5.measure(table_nets=("hopfield",))


def nets(n=6):
    return [SpikingNet.random((12, 8, 2), 0.1, seed) for seed in range(n)]


def test_exact_gradient_is_that_of_the_exact_loss():
    net = nets(1)[0]
    _, gradients, counts = net.exact()
    rng, step = np.random.default_rng(0), 1e-8
    direction = [rng.normal(size=w.shape) for w in net.weights]

    def moved(sign):
        weights = [w + sign * step * d for w, d in zip(net.weights, direction, strict=True)]
        loss, _, fired = SpikingNet(net.input_times, net.input_channels, weights, net.targets, net.duration).exact()
        assert fired.tolist() == counts.tolist()
        return loss

    expected = (moved(1) - moved(-1)) / (2 * step)
    assert sum((g * d).sum() for g, d in zip(gradients, direction, strict=True)) == pytest.approx(expected, rel=1e-5)


def test_loss_in_steps_is_the_loss_of_its_spikes_and_converges_to_the_exact_one():
    population = nets()
    exact, counts = np.array([net.exact()[0] for net in population]), np.stack([net.exact()[2] for net in population])
    distances = []
    for dt in (5e-4, 5e-5):
        loss, _, fired = DiscreteNets(population, dt).gradient(SuperSpike(10.0))
        distances.append(np.abs(loss - exact)[(fired == counts).all(1)].max())
    assert distances[1] < 0.3 * distances[0]
    silent = SpikingNet(np.zeros(1), np.zeros(1, dtype=int), [np.zeros((1, 1))], [np.array([0.01])], 0.05)
    loss, _, _ = DiscreteNets([silent], 1e-3).gradient(SuperSpike(10.0))
    assert loss[0] == pytest.approx(van_rossum(np.array([]), np.array([0.01]), SPIKE_TIME_NEURON)[0], rel=1e-12)


def test_paths_are_independent_and_equal_without_noise():
    discrete = DiscreteNets(nets(2), 5e-4)
    one, three = (discrete.gradient(SuperSpike(10.0), paths=paths) for paths in (1, 3))
    for a, b in zip([one[0], *one[1], one[2]], [three[0], *three[1], three[2]], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15)
    counts = [discrete.gradient(SuperSpike(10.0), SigmoidEscape(5.0), paths=50, seed=seed)[2] for seed in (0, 1)]
    assert not np.array_equal(*counts)
    np.testing.assert_allclose(counts[0].sum(), counts[1].sum(), rtol=0.05)


def test_measures_of_alignment():
    a, b = np.array([[[1.0, 0.0]], [[1.0, 2.0]], [[0.0, 0.0]]]), np.array([[[1.0, 1.0]], [[-1.0, 2.0]], [[1.0, 1.0]]])
    np.testing.assert_allclose(cosine(a, b), [1 / np.sqrt(2), 3 / 5, np.nan])
    np.testing.assert_allclose(sign_agreement(a, b), [1, 0.5, np.nan])
