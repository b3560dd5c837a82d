"""Class scores from readout potentials, and penalties on activity (Section 8.4.2)."""

from collections.abc import Callable, Sequence

import torch


def max_over_time(potentials: torch.Tensor) -> torch.Tensor:
    """Eq 29: the largest potential of each readout unit. [batch, time, class] -> [batch, class]."""
    return potentials.max(dim=1).values


def sum_of_softmax(potentials: torch.Tensor) -> torch.Tensor:
    """Softmax over classes in each time step, summed over time. [batch, time, class] -> [batch, class]."""
    return potentials.softmax(dim=2).sum(dim=1)


LOSSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max_over_time": max_over_time,
    "sum_of_softmax": sum_of_softmax,
}


def regulariser(
    counts: Sequence[torch.Tensor], per: str, upper: tuple[float, float], lower: tuple[float, float]
) -> torch.Tensor:
    """Activity penalty (Eqs 26, 27): sum over layers of the mean over samples of

    upper strength * relu(count - upper bound)^2 + lower strength * relu(lower bound - count)^2.

    Args:
        counts: spikes of each neuron, one [batch, channel, position] for each layer.
        per: what ``count`` is averaged over before the bounds are applied: all neurons of the ``"layer"``, those of a
            ``"channel"`` (then the penalty is averaged over channels), or none (``"neuron"``).
        upper, lower: strength and bound (spikes per sample).
    """
    over = {"layer": (1, 2), "channel": (2,), "neuron": ()}[per]
    total = counts[0].new_zeros(())
    for count in counts:
        mean = count.mean(dim=over) if over else count
        for (strength, bound), sign in ((upper, 1), (lower, -1)):
            if strength:
                total = total + strength * torch.relu(sign * (mean - bound)).square().mean()
    return total
