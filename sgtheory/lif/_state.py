"""Where a layer is between two steps, so that a sequence can be computed piece by piece."""

from dataclasses import dataclass, replace

import torch

from sgtheory.errors import ParameterError, convert, require_kind, require_word

VALUES = ("potential", "current", "arriving", "adapted")


@dataclass(frozen=True, eq=False)
class State:
    """U, I, A and what is on the way after some steps of a layer: ``State()`` is the start, all zero.

    An operation that is given a state goes on from there, and returns the state after its last step as well. Two
    pieces of a sequence give the bits of the whole, noise included, on every backend. A state has no gradient: the
    backward pass of a piece ends where the piece begins (truncated back-propagation through time).

    Args:
        potential: U[n], in the shape of one step of the inputs; None is zero, or the initial potential of a readout.
        current: I[n]; None is zero.
        arriving: what arrives with a delay, x[n - 1]; None is zero, and it has no meaning without a delay.
        step: n, the number of steps so far, from which those of the noise count.
        adapted: A[n]; None is zero, and it has no meaning without adaptation.

    Raises:
        ParameterError: if ``step`` is not an integer in [0, 2**32).
    """

    potential: torch.Tensor | None = None
    current: torch.Tensor | None = None
    arriving: torch.Tensor | None = None
    step: int = 0
    adapted: torch.Tensor | None = None

    def __post_init__(self) -> None:
        require_word(step=self.step)
        convert(self, int, "step")

    def values(self, step: torch.Tensor, initial: float = 0.0) -> list[torch.Tensor]:
        """U, I, what arrives and A, without gradients, like ``step``, one step of the inputs.

        Raises:
            ParameterError: for tensors of another shape, type or place.
        """
        found = []
        for name in VALUES:
            value = getattr(self, name)
            if value is None:
                value = torch.full_like(step, initial if name == "potential" else 0.0, requires_grad=False)
            require_kind(torch.Tensor, **{f"state.{name}": value})
            if (value.shape, value.dtype, value.device) != (step.shape, step.dtype, step.device):
                given = f"{value.dtype} {list(value.shape)} on {value.device}"
                allowed = f"must be {step.dtype} {list(step.shape)} on {step.device}"
                raise ParameterError(f"state.{name}", given, allowed)
            found.append(value.detach())
        return found

    def after(self, steps: int, values: list[torch.Tensor]) -> "State":
        """The state ``steps`` steps later; it keeps what it is given from later changes of the inputs."""
        found = {name: value.detach().clone() for name, value in zip(VALUES, values, strict=True)}
        return replace(self, **found, step=self.step + steps)
