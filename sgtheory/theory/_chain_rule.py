"""The chain rule over expectations against the derivative of the expectation (Section 3.2.1)."""

import torch

from sgtheory.errors import ParameterError
from sgtheory.neurons import SigmoidEscape
from sgtheory.theory._estimators import SmoothedStochAD
from sgtheory.theory._perceptron import Objective, PerceptronNet


def perceptron_chain(w: float, v: float, u: float, beta: float) -> Objective:
    """x = 1 -> h1 -> h2 -> y with one unit per layer, weights w, v, u, no bias and the threshold 1 (Section 3.2.1)."""
    parameters = torch.tensor([w, 0, v, 0, u, 0], dtype=torch.float64)
    return Objective(PerceptronNet((1, 1, 1, 1), SigmoidEscape(beta)), parameters, torch.ones(1, dtype=torch.float64))


def chain_rule_derivatives(objective: Objective) -> dict[str, float]:
    """Candidates for the derivative of E[y] with respect to w, the weight of the first layer (Section 3.2.1).

    Returns:
        ``exact``: the derivative itself. ``expected_product``: the mean over all paths of the product of smoothed
        stochastic derivatives, the expected surrogate gradient. ``product_of_expectations``: the product of the means.
        ``rates``: the chain rule through activities p(x) in place of spikes, with nothing random.

    Raises:
        ParameterError: if a layer of the net has more than one unit.
    """
    if set(objective.net.sizes) != {1}:
        raise ParameterError("sizes", objective.net.sizes, "must be a chain, one unit in every layer")
    net, weights = objective.net, objective.parameters[::2]
    path, probability = objective.paths()
    local = []

    def impose(layer, x):
        local.append(net.escape.derivative(x[:, 0]).expand_as(probability))
        return path[layer]

    net.run(objective.parameters, objective.x.expand(1, 1), impose)
    factors = [probability @ derivative for derivative in local]
    rates = objective.pathwise_gradient(lambda _, x: net.escape.value(x), 1)[0, 0]
    return {
        "exact": float(objective.gradient()[0]),
        "expected_product": float(probability @ SmoothedStochAD().on_paths(objective, path)[:, 0]),
        "product_of_expectations": float(objective.x[0] * torch.stack(factors).prod() * weights[1:].prod()),
        "rates": float(rates),
    }
