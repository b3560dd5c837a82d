"""Counter-based random numbers: noise as a function of where it is used, never of what was drawn before.

Every number is Philox4x32-10 (Salmon et al. 2011) of (seed, stream, draw, sample, step, neuron). Nothing is stored,
and a shuffled batch, a resumed run, another backend or another number of threads draws the same numbers.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from sgtheory.errors import ParameterError, convert, require_word

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
# 64 consecutive neurons share 16 counters: neuron n takes word (n % 64) // 16 of counter 16 (n // 64) + n % 16, so that
# a vector unit computes 16 counters at once and writes each of their four words to adjacent neurons.
GROUP, COUNTERS = 64, 16
MASK = 0xFFFFFFFF


def philox(counter: tuple[torch.Tensor | int, ...], key: tuple[torch.Tensor | int, ...]) -> tuple[torch.Tensor, ...]:
    """Philox4x32-10: four 32-bit words from a counter of four words and a key of two.

    All words are int64 tensors (or ints) with values in [0, 2**32), of shapes that broadcast.
    """
    c0, c1, c2, c3 = (torch.as_tensor(c, dtype=torch.int64) for c in counter)
    k0, k1 = (torch.as_tensor(k, dtype=torch.int64) for k in key)
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # may wrap: the 64 bits are right all the same
        c0, c1, c2, c3 = (
            ((product1 >> 32) & MASK) ^ c1 ^ k0,
            product1 & MASK,
            ((product0 >> 32) & MASK) ^ c3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & MASK, (k1 + KEY_INCREMENTS[1]) & MASK
    return c0, c1, c2, c3


@dataclass(frozen=True, eq=False)
class Noise:
    """Where the randomness of a layer comes from.

    Args:
        seed: of the experiment, in [0, 2**32).
        stream: which layer or purpose, in [0, 2**32).
        draw: which repetition (update of the weights, evaluation), in [0, 2**32).
        samples: index of each sample or trial of the batch, in [0, 2**32), int64 of shape [batch]; 0, 1, 2, ...
            by default.
        first_step: the number of the first step, in [0, 2**32); a :class:`State` adds its own.

    Raises:
        ParameterError: if a number does not fit into 32 bits.
    """

    seed: int
    stream: int = 0
    draw: int = 0
    samples: torch.Tensor | None = None
    first_step: int = 0

    def __post_init__(self) -> None:
        require_word(seed=self.seed, stream=self.stream, draw=self.draw, first_step=self.first_step)
        convert(self, int, "seed", "stream", "draw", "first_step")

    def at(self, **changes: Any) -> "Noise":
        """The same source with another ``stream``, ``draw``, ``samples`` or ``first_step``."""
        return replace(self, **changes)

    def sample_indices(self, batch: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """``samples``, or 0 ... batch-1. Shape [batch], int64, on ``device``.

        Values are not checked where they lie on a GPU, which would have to be waited for.

        Raises:
            ParameterError: if ``samples`` has another length or type, or leaves [0, 2**32).
        """
        if self.samples is None:
            return torch.arange(batch, device=device)
        samples = torch.as_tensor(self.samples).detach()
        if samples.is_floating_point() or samples.is_complex() or samples.dtype == torch.bool:
            raise ParameterError("samples", str(samples.dtype), "must be whole numbers, int64")
        samples = samples.to(torch.int64)
        if samples.shape != (batch,):
            raise ParameterError("samples", list(samples.shape), f"must hold one index for each of {batch} samples")
        if batch and samples.device.type == "cpu" and not (0 <= int(samples.min()) and int(samples.max()) <= MASK):
            raise ParameterError("samples", [int(samples.min()), int(samples.max())], "must be in [0, 2**32)")
        return samples.to(device)

    def uniform(
        self,
        batch: int,
        steps: range,
        neurons: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> torch.Tensor:
        """Uniform numbers for the given steps, counted from ``first_step`` on, shape [batch, len(steps), neurons].

        They are (k + 1/2) / 2**23 with an integer k, so r and 1 - r are exact in float32 and never 0 or 1.
        """
        groups = -(-neurons // GROUP)
        counters = torch.arange(groups * COUNTERS, device=device).view(1, 1, groups, COUNTERS)
        step = torch.arange(steps.start, steps.stop, steps.step, device=device).view(1, -1, 1, 1) + self.first_step
        sample = self.sample_indices(batch, device).view(-1, 1, 1, 1)
        drawn = philox((counters, step, sample, self.draw), (self.seed, self.stream))
        words = torch.stack(drawn, dim=-2)  # [batch, steps, group, word, counter in the group]
        words = words.reshape(batch, len(steps), groups * GROUP)[..., :neurons]
        return ((words >> 9).to(dtype) + 0.5) * 2.0**-23
