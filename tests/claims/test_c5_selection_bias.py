"""C5. The surrogate gradient of a deterministic net is that of one path; against the stochastic mean it is biased.

Section 3.2.2, Fig S1. The paper calls the selection bias generally small. Here it is measured: it is a large part of
the norm of the mean, and the direction is nearly kept.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import SurrogateGradient, random_objective

SIZES, BETA = (5, 3, 3, 1), 10.0
STOCHASTIC, DETERMINISTIC = (
    SurrogateGradient(SigmoidDerivative(BETA), path=p) for p in ("stochastic", "deterministic")
)


def selection(objective):
    """Relative size of the selection bias, and cosine, between deterministic and mean stochastic gradient."""
    gradients, probability = STOCHASTIC.support(objective)
    mean, deterministic = probability @ gradients, DETERMINISTIC.support(objective)[0][0]
    cosine = torch.nn.functional.cosine_similarity(mean, deterministic, dim=0)
    return float((deterministic - mean).norm() / mean.norm()), float(cosine)


@pytest.mark.parametrize("seed", range(5))
def test_the_deterministic_gradient_is_that_of_one_path(seed):
    objective = random_objective(SIZES, BETA, seed)
    path, _ = objective.paths()
    hard = torch.cat(objective.deterministic_path(), dim=-1)
    index = int((torch.cat(path, dim=-1) == hard).all(-1).nonzero())
    on_path = STOCHASTIC.on_paths(objective, path)
    torch.testing.assert_close(on_path[index], DETERMINISTIC.support(objective)[0][0], rtol=1e-12, atol=1e-15)
    others = torch.cat([on_path[:index], on_path[index + 1 :]])
    assert (others - on_path[index]).norm(dim=1).max() > 0.1 * on_path[index].norm()  # the paths do differ


def test_selection_bias_over_random_nets():
    """Median over 50 nets: not small in norm (above a half), small in angle (cosine above 0.9)."""
    relative, cosine = np.array([selection(random_objective(SIZES, BETA, seed)) for seed in range(50)]).T
    assert np.median(relative) > 0.5
    assert np.median(cosine) > 0.9


def test_the_bias_vanishes_with_the_noise_if_the_surrogate_stays():
    """Escape noise of beta = 1000 and a surrogate of beta = 10: stochastic and deterministic net become the same."""
    relative = []
    for seed in range(20):
        objective = random_objective(SIZES, BETA, seed)
        quiet = replace(objective, net=replace(objective.net, escape=SigmoidEscape(1000.0)))
        relative.append(selection(quiet)[0])
    assert np.median(relative) < 1e-6


def test_without_hidden_layer_there_is_none():
    assert selection(random_objective((5, 1), BETA, 0))[0] < 1e-12
