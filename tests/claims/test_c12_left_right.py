"""C12. Smoothed left and right derivative of one sample, and the combination that is the surrogate derivative.

Appendix B, Fig S3. For S ~ Bernoulli(p), p = sigma_beta(U - theta), p' = beta p (1 - p):
right = p'/(1-p) if S = 0 else 0 = beta p,  left = p'/p if S = 1 else 0 = beta (1 - p),  (1-p) right + p left = p'.
"""

import pytest
import torch

from sgtheory.figures import figS3
from sgtheory.neurons import SigmoidEscape

BETA = 10.0
X = torch.linspace(-0.8, 0.8, 161, dtype=torch.float64)
P = SigmoidEscape(BETA).value(X)
SLOPE = BETA * P * (1 - P)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_values_for_each_outcome(outcome):
    values = figS3._smoothed(SigmoidEscape(BETA), X, torch.full_like(X, outcome))
    torch.testing.assert_close(values["right"], BETA * P * (1 - outcome), rtol=1e-12, atol=0)
    torch.testing.assert_close(values["left"], BETA * (1 - P) * outcome, rtol=1e-12, atol=0)
    torch.testing.assert_close(values["matched"], SLOPE, rtol=1e-12, atol=0)


def test_right_and_left_have_the_surrogate_derivative_as_their_mean():
    """Exactly, over the two outcomes."""
    silent, spiking = (figS3._smoothed(SigmoidEscape(BETA), X, torch.full_like(X, s)) for s in (0.0, 1.0))
    for side in ("right", "left"):
        torch.testing.assert_close((1 - P) * silent[side] + P * spiking[side], SLOPE, rtol=1e-12, atol=0)


def test_a_constant_combination_is_right_on_average_and_depends_on_the_outcome():
    """Negative control: one half of each is not the surrogate derivative, except where p = 1/2."""
    silent, spiking = (figS3._smoothed(SigmoidEscape(BETA), X, torch.full_like(X, s)) for s in (0.0, 1.0))
    half = [0.5 * values["right"] + 0.5 * values["left"] for values in (silent, spiking)]
    torch.testing.assert_close((1 - P) * half[0] + P * half[1], SLOPE, rtol=1e-12, atol=0)
    different = (half[0] - half[1]).abs() > 1e-9
    assert different.sum() == len(X) - 1


def test_figure_states_the_claim():
    (claim,) = figS3.claims(figS3.measure())
    assert claim.id == "C12"
    assert claim.holds
