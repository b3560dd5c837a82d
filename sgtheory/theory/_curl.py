"""Is the mean of an estimator a gradient? The antisymmetric part of its Jacobian, and small loops (Section 4.2).

The mean over paths is smooth in the parameters, though each path jumps. Paths are drawn once, at the centre; elsewhere
each has the ratio of its probabilities as a weight. So derivatives and loops need no steps across jumps of spikes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from sgtheory.errors import ParameterError
from sgtheory.theory._perceptron import Objective, Path

PathField = Callable[[Objective, Path], torch.Tensor]  # spikes [n, 1, units] of every group -> [n, n_parameters]
STEP = 1e-4  # of central differences along paths that stay as they are


def _batches(values: torch.Tensor, batches: int) -> torch.Tensor:
    """Means over equal parts of the first dimension, [batches, ...]."""
    return values.unflatten(0, (batches, -1)).mean(1)


def _moved(objective: Objective, change: torch.Tensor) -> Objective:
    return replace(objective, parameters=objective.parameters + change)


def likelihood_field(baseline: torch.Tensor | float = 0.0) -> PathField:
    """(f - baseline) d log P / d parameters on each path, with the part of f that each group can still change: its mean
    is the exact gradient. ``baseline`` is one number, or one for each group, [groups, 1, 1]."""

    def field(objective, path):
        rewards = torch.stack(objective.consequences(path)) - baseline
        return objective.gradients(lambda p: (rewards * objective.log_likelihood(p, path)).sum(0), len(path[0]))

    return field


def mean_jacobians(
    objective: Objective,
    fields: Mapping[str, PathField],
    directions: torch.Tensor,
    paths: int,
    batches: int,
    rng: torch.Generator,
    moved: int = 4,
) -> dict[str, torch.Tensor]:
    """Jacobian of the mean over paths of each field s, projected on K directions: d_i . dE[s]/d(theta along d_j).

    dE[s]/dtheta = E[ds/dtheta] + Cov(s, d log P/dtheta): the field changes along paths that stay as they are, and other
    paths become more likely.

    Args:
        objective: the net and its parameters, [n_parameters].
        fields: of which the mean is taken.
        directions: orthonormal, [K, n_parameters].
        paths: number of them; ``batches``: independent parts of these, from which errors follow.
        rng: source of the randomness.
        moved: one path in so many is used for the first term, which varies less and costs 2 K passes.

    Returns:
        For each field both terms in every batch, [2, batches, K, K].

    Raises:
        ParameterError: if ``paths`` is not a multiple of ``batches`` times ``moved``.
    """
    if paths % (batches * moved):
        raise ParameterError("paths", paths, f"must be a multiple of {batches} x {moved}")
    path = [spikes[:, None] for spikes in objective.sample_paths(paths, rng)]
    some = [spikes.unflatten(0, (batches, -1))[:, : paths // batches // moved].flatten(0, 1) for spikes in path]
    score = objective.gradients(lambda p: objective.log_likelihood(p, path).sum(0), paths) @ directions.T
    found = {}
    for name, field in fields.items():
        values = field(objective, path) @ directions.T  # [paths, K]
        redistributed = _batches((values - values.mean(0))[:, :, None] * score[:, None], batches)
        columns = []
        for d in directions:
            up, down = (field(_moved(objective, step * d), some) @ directions.T for step in (STEP, -STEP))
            columns.append(_batches((up - down) / (2 * STEP), batches))
        found[name] = torch.stack([torch.stack(columns, -1), redistributed])
    return found


def mean_circulation(
    objective: Objective,
    field: PathField,
    directions: torch.Tensor,
    radius: float,
    points: int,
    path: Path,
    batches: int,
) -> torch.Tensor:
    """Integral of the mean of ``field`` around theta + radius (cos(a) d_1 + sin(a) d_2) with ``points`` equal steps, in
    each of ``batches`` parts of the paths, [batches].

    The integrand is smooth and periodic, so that the sum converges faster than any power of the number of points.

    Args:
        objective: the net, and the centre.
        field: what is integrated.
        directions: orthonormal, [2, n_parameters].
        radius: unit of the parameters.
        points: on the loop.
        path: spikes [n, 1, units] of every group, drawn at the centre.
        batches: equal parts of these paths.
    """
    turn = 2 * torch.pi / points
    total = torch.zeros(batches, dtype=torch.float64)
    centre = objective.log_likelihood(objective.parameters, path).sum(0)
    for angle in turn * torch.arange(points, dtype=torch.float64):
        outwards = torch.stack([angle.cos(), angle.sin()]) @ directions
        along = torch.stack([-angle.sin(), angle.cos()]) @ directions
        here = _moved(objective, radius * outwards)
        weight = (here.log_likelihood(here.parameters, path).sum(0) - centre).exp()[:, 0]
        total += radius * turn * _batches(weight * (field(here, path) @ along), batches)
    return total
