"""How close the mean of an estimator comes to a reference that is itself an average of random numbers."""

from dataclasses import dataclass

import torch

from sgtheory.errors import require_count
from sgtheory.theory._checks import require_tensor


def _require_estimates(**estimates: torch.Tensor) -> None:
    require_tensor(None, None, **estimates)
    for name, values in estimates.items():
        require_count(2, **{f"number of {name}": len(values)})


def squared_norm(estimates: torch.Tensor) -> float:
    """|mean|^2 without the bias of its own noise, from independent ``estimates`` [n, parameters].

    Raises:
        ParameterError: if they are not float64, or fewer than two.
    """
    _require_estimates(estimates=estimates)
    n = len(estimates)
    return float((estimates.sum(0).square().sum() - estimates.square().sum()) / (n * (n - 1)))


def relative_error(estimates: torch.Tensor) -> float:
    """Standard error of the mean of ``estimates`` [n, parameters] over the length of that mean.

    Near or above 1 the mean is not known; that it stays there with more estimates is how a mean that does not exist
    shows.

    Raises:
        ParameterError: if they are not float64, or fewer than two.
    """
    _require_estimates(estimates=estimates)
    error = (estimates.var(0).sum() / len(estimates)).sqrt()
    return float(error / estimates.mean(0).norm())


@dataclass(frozen=True)
class Agreement:
    """The mean of n estimates against a reference.

    Attributes:
        cosine: of the angle between them. What the noise of the reference takes from it is put back; what the noise of
            the estimates takes is not, since it belongs to an estimator that is averaged over so many runs.
        length: of the mean, over that of the reference.
        sign: share of the weights with the same sign, among those of which the reference knows the sign (two standard
            errors); NaN if there are none.
        error: :func:`relative_error` of the estimates.
        reference_error: the same of the reference.
    """

    cosine: float
    length: float
    sign: float
    error: float
    reference_error: float


def agreement(estimates: torch.Tensor, reference: torch.Tensor) -> Agreement:
    """Compare independent estimates [n, parameters] with those of an unbiased estimator [n', parameters].

    Raises:
        ParameterError: if there are fewer than two of either, or their parameters differ in number.
    """
    _require_estimates(estimates=estimates, reference=reference)
    require_tensor(None, estimates.shape[1], reference=reference)
    mean, exact = estimates.mean(0), reference.mean(0)
    size = max(squared_norm(reference), 0.0) ** 0.5
    known = exact.abs() > 2 * reference.std(0) / len(reference) ** 0.5
    return Agreement(
        cosine=float(mean @ exact / mean.norm()) / size if size else float("nan"),
        length=float(mean.norm()) / size if size else float("nan"),
        sign=float((mean.sign() == exact.sign())[known].double().mean()),
        error=relative_error(estimates),
        reference_error=relative_error(reference),
    )
