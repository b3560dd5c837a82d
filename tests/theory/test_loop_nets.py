"""The nets of the loop integrals, each against a part of the package that computes the same thing another way."""

import torch

from sgtheory import metrics
from sgtheory.lif import lif
from sgtheory.neurons import EscapeDerivative, LIFParameters, SigmoidDerivative, SigmoidEscape, SuperSpike
from sgtheory.theory import (
    Objective,
    PerceptronNet,
    RelaxedPerceptronNet,
    SpikeMatchingNet,
    StochasticPerceptronNet,
    SurrogateGradient,
    gradient_field,
)

X = torch.tensor([1.0, -0.5], dtype=torch.float64)
NET = PerceptronNet((2, 3, 1), SigmoidEscape(4.0), threshold=0.0)


def random_points(n, parameters, scale=1.0):
    return scale * torch.randn(n, parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_mean_over_paths_against_the_paths_one_by_one():
    net, surrogate = StochasticPerceptronNet(NET, X), SuperSpike(3.0)
    points = random_points(5, net.n_parameters)
    gradients = gradient_field(lambda p: net.surrogate_output(p, surrogate))(points)
    for point, gradient, output in zip(points, gradients, net.surrogate_output(points, surrogate), strict=True):
        objective = Objective(NET, point, X)
        torch.testing.assert_close(output, objective.expectation())
        path, probability = objective.paths()
        torch.testing.assert_close(gradient, probability @ SurrogateGradient(surrogate).on_paths(objective, path))


def test_true_gradient_of_the_stochastic_net_is_that_of_the_expectation():
    net = StochasticPerceptronNet(NET, X)
    points = random_points(3, net.n_parameters)
    expected = torch.stack([Objective(NET, point, X).gradient() for point in points])
    torch.testing.assert_close(gradient_field(net.output)(points), expected)


def test_one_stochastic_layer_with_the_matching_surrogate_has_the_true_gradient():
    net = StochasticPerceptronNet(PerceptronNet((2, 1), SigmoidEscape(4.0)), X)
    true, surrogate, other = net.fields([EscapeDerivative(net.escape), SuperSpike(1.0)])(random_points(4, 3))
    torch.testing.assert_close(surrogate, true)
    assert (other - true).abs().max() > 0.01


def test_relaxed_net_is_the_stochastic_one_without_a_hidden_layer_and_not_with_one():
    for sizes, equal in (((2, 1), True), ((2, 3, 1), False)):
        net = PerceptronNet(sizes, SigmoidEscape(4.0))
        points = random_points(4, net.n_parameters)
        outputs = RelaxedPerceptronNet(net, X).output(points), StochasticPerceptronNet(net, X).output(points)
        assert torch.allclose(*outputs) is equal
        signals = RelaxedPerceptronNet(net, X).signals(points)
        assert signals.shape == (net.units, 4)
        assert torch.equal(signals[-1], outputs[0])


def test_spike_matching_net_against_the_metric_and_two_layers():
    rng = torch.Generator().manual_seed(1)
    inputs, targets = ((torch.rand(30, n, generator=rng) < 0.3).double() for n in (4, 2))
    parameters = LIFParameters(10e-3, 5e-3, 1e-3, reset="same")
    net = SpikeMatchingNet((4, 3, 2), parameters, inputs, targets)
    points = random_points(2, net.n_parameters, 5.0).abs()
    for point, loss in zip(points, net.output(points), strict=True):
        hidden, _ = lif((inputs @ point[:12].view(4, 3))[None], parameters, SigmoidDerivative())
        output, _ = lif(hidden @ point[12:].view(3, 2), parameters, SigmoidDerivative())
        assert output.sum() > 0
        expected = metrics.l2_distance(output.numpy().astype("uint8"), targets.numpy().astype("uint8")).mean()
        assert float(loss) == float(expected)
    assert not gradient_field(net.output)(points).any()
