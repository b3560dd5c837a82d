"""Is a vector field a gradient? Its line integral around closed loops in parameter space (Section 4.2, Fig 5)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ortho_group

from sgtheory.errors import ParameterError, UserError, require_count, require_positive, require_word
from sgtheory.theory._checks import require_tensor

_FIRST_INTERVALS = 64
_POINTS_AT_ONCE = 8192
_NODES_PER_INTERVAL = 8
FEWEST_POINTS = 3 * _FIRST_INTERVALS * _NODES_PER_INTERVAL  # of the first round of refinement


def _gauss_lobatto(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes, both ends among them, and weights of the Gauss-Lobatto rule on [0, 1]."""
    highest = np.polynomial.Legendre.basis(n - 1)
    nodes = np.concatenate([[-1], np.sort(highest.deriv().roots()), [1]])
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(1 / (n * (n - 1) * highest(nodes) ** 2))


_NODES, _WEIGHTS = _gauss_lobatto(_NODES_PER_INTERVAL)
# With these nodes, the error of a step anywhere in an interval is at most 2.6 times the difference of two resolutions.
_SAFETY = 3.0


def _require_centre(centre: torch.Tensor) -> None:
    require_tensor(None, centre=centre)
    require_count(2, **{"parameters of centre": len(centre)})


@dataclass(frozen=True)
class Loop:
    """The circle theta(a) = centre + radius (sin(a) d1 + cos(a) d2), 0 <= a < 2 pi (Section 8.3).

    Args:
        centre: [parameters].
        directions: the orthonormal d1 and d2, [2, parameters].
        radius: unit of the parameters.

    Raises:
        ParameterError: if ``centre`` is no vector of at least two float64 numbers, the directions are not orthonormal,
            or the radius is not positive.
    """

    centre: torch.Tensor
    directions: torch.Tensor
    radius: float

    def __post_init__(self):
        _require_centre(self.centre)
        require_positive(radius=self.radius)
        require_tensor(2, len(self.centre), directions=self.directions)
        products = self.directions @ self.directions.T
        if not torch.allclose(products, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-9):
            raise ParameterError("directions", products.tolist(), "must be orthonormal, so that these products are I")

    @classmethod
    def in_random_plane(cls, centre: torch.Tensor, radius: float, plane_seed: int) -> "Loop":
        """A loop in the plane of the first two rows of a random orthogonal matrix (Haar measure).

        Raises:
            ParameterError: as for a :class:`Loop`, or if ``plane_seed`` is not an integer in [0, 2**32).
        """
        _require_centre(centre)
        require_word(plane_seed=plane_seed)
        directions = ortho_group.rvs(len(centre), random_state=plane_seed)[:2]
        return cls(centre, torch.from_numpy(directions), radius)

    def points(self, angles: torch.Tensor) -> torch.Tensor:
        """theta(a), [points, parameters], for ``angles`` (rad) [points]."""
        turning = torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1)
        return self.centre + self.radius * turning @ self.directions

    def velocity(self, angles: torch.Tensor) -> torch.Tensor:
        """d theta / d a, [points, parameters]: a tangent of length ds / da = ``radius``."""
        turning = torch.stack([torch.cos(angles), -torch.sin(angles)], dim=-1)
        return self.radius * turning @ self.directions


@dataclass(frozen=True)
class Circulation:
    """Line integrals of one or several fields around one loop; see :func:`circulation`.

    Attributes:
        value: the integral of F . d theta around the loop, [fields].
        error: estimate of its numerical error from two resolutions, [fields].
        variation: the integral of |F . d theta|: how much there was to cancel, [fields].
        points: number of points at which the fields were evaluated.
        converged: whether every error is within the tolerance.
        angles: right ends of the intervals (rad), increasing, [intervals].
        cumulative: the integral from 0 to each of ``angles``, [fields, intervals].
        table: one row for each round of refinement: ``points``, ``value`` [fields], ``error`` [fields].
    """

    value: torch.Tensor
    error: torch.Tensor
    variation: torch.Tensor
    points: int
    converged: bool
    angles: torch.Tensor
    cumulative: torch.Tensor
    table: tuple[dict, ...]


def circulation(
    field: Callable[[torch.Tensor], torch.Tensor],
    loop: Loop,
    tolerance: float = 1e-8,
    max_points: int = 1_000_000,
    monitor: Callable[[torch.Tensor], torch.Tensor] | None = None,
    after_round: Callable[[dict], None] = lambda row: None,
) -> Circulation:
    """Integrate one or several vector fields around a closed loop, with step length, until a stated error.

    The loop is cut into intervals with eight Gauss-Lobatto points each. The error of an interval is three times the
    difference between its integral and the sum over its two halves, which bounds the error of a jump of the field; the
    intervals that carry most of the error are halved until the errors add up to ``tolerance`` for every field. All
    fields share the points.

    A unit with a steep activation makes the true gradient a spike so narrow that the points can miss it, and the
    integral then looks like an exact zero. ``monitor`` guards against that: its values (say, the activities of all
    units) jump where the gradient has its spikes, and they are integrated, and refined, together with the fields.

    Args:
        field: maps points [points, parameters] to vectors [fields, points, parameters].
        loop: where to integrate.
        tolerance: wanted absolute error (unit of field times unit of parameter).
        max_points: stop refining before more points than this would be evaluated.
        monitor: maps points to signals [signals, points].
        after_round: called after every round of refinement with its row of :attr:`Circulation.table`.

    Raises:
        ParameterError: ``tolerance`` is not positive, ``max_points`` is too small for the first round, or what
            ``field`` returns has another shape.
        UserError: a field or signal is not finite.
    """
    require_positive(tolerance=tolerance)
    require_count(FEWEST_POINTS, max_points=max_points)
    start = loop.points(torch.zeros(1, dtype=torch.float64))
    vectors = field(start)
    require_tensor(None, *start.shape, field=vectors)
    fields = len(vectors)

    def integrands(angles):  # [2 fields + signals, points]: along the loop, its absolute value, monitor
        points = loop.points(angles)
        along = (field(points) * loop.velocity(angles)).sum(-1)
        signals = along.new_zeros(0, len(angles)) if monitor is None else monitor(points)
        return torch.cat([along, along.abs(), signals])

    def integrate(left, width):  # [2 fields + signals, intervals]
        angles = (left[:, None] + width[:, None] * _NODES).flatten()
        values = torch.cat([integrands(a) for a in angles.split(_POINTS_AT_ONCE)], dim=1)
        return values.unflatten(1, (len(left), -1)) @ _WEIGHTS * width

    def halve(left, width):
        return torch.stack([left, left + width / 2], -1).flatten(), (width / 2).repeat_interleave(2)

    width = torch.full((_FIRST_INTERVALS,), 2 * torch.pi / _FIRST_INTERVALS, dtype=torch.float64)
    left = torch.arange(_FIRST_INTERVALS) * width
    whole, halves = integrate(left, width), integrate(*halve(left, width)).unflatten(1, (-1, 2))
    points, table = FEWEST_POINTS, []
    while True:
        errors = _SAFETY * (halves.sum(-1) - whole).abs()
        errors[fields : 2 * fields] = 0  # |F . d theta| is reported, not refined
        value, error = halves[:fields].sum((1, 2)), errors.sum(1)
        if not error.isfinite().all():
            raise UserError("a field is not a finite number somewhere on the loop, so it has no integral")
        table.append({"points": points, "value": value, "error": error[:fields]})
        after_round(table[-1])
        converged = bool((error <= tolerance).all())
        split = (errors > tolerance / len(left)).any(0)
        more = 4 * int(split.sum()) * len(_NODES)
        if converged or points + more > max_points:
            break
        points += more
        new_left, new_width = halve(left[split], width[split])
        new_halves = integrate(*halve(new_left, new_width)).unflatten(1, (-1, 2))
        left, width = torch.cat([left[~split], new_left]), torch.cat([width[~split], new_width])
        whole = torch.cat([whole[:, ~split], halves[:, split].flatten(1)], dim=1)
        halves = torch.cat([halves[:, ~split], new_halves], dim=1)

    order = left.argsort()
    return Circulation(
        value=value,
        error=error[:fields],
        variation=halves[fields : 2 * fields].sum((1, 2)),
        points=points,
        converged=converged,
        angles=(left + width)[order],
        cumulative=halves[:fields].sum(-1)[:, order].cumsum(1),
        table=tuple(table),
    )


def riemann_sum(field: Callable[[torch.Tensor], torch.Tensor], loop: Loop, points: int) -> torch.Tensor:
    """The sum of F . d theta over ``points`` equal steps around the loop, with step length; [fields].

    On a closed loop this is the trapezoidal rule.

    Raises:
        ParameterError: if ``points`` is not a positive whole number.
    """
    require_count(points=points)
    angles = torch.arange(points, dtype=torch.float64) * (2 * torch.pi / points)
    along = [(field(loop.points(a)) * loop.velocity(a)).sum((1, 2)) for a in angles.split(_POINTS_AT_ONCE)]
    return torch.stack(along).sum(0) * (2 * torch.pi / points)
