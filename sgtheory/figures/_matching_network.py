"""The network of Figure 6 (Section 8.4.1, Tables 2 and 3), trained by back-propagation."""

from dataclasses import dataclass

import numpy as np
import torch

from sgtheory.data import load_target
from sgtheory.lif import Noise, lif
from sgtheory.networks import fluctuation_driven_std
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import SPIKE_MATCHING_NEURON

NEURONS, RATE = 200, 50.0  # in every layer; Hz of the input
BETAS = (10.0, 100.0)  # of the escape noise, hidden and output
ESCAPES = tuple(SigmoidEscape(beta) for beta in BETAS)
LEARNING_RATES = (1.0, 1.5)  # hidden and output, of task=spike_matching task.output_rule=surrogate


def output_spikes(inputs: torch.Tensor, weights, escapes, noise: Noise) -> torch.Tensor:
    """Spikes of the output layer for ``inputs``, [trial, time, neuron], and the weights [..., pre, post] and escape
    functions of both layers, which take two adjacent streams of ``noise``; backwards, sigmoid' with the steepness of
    the hidden noise."""
    spikes = inputs
    for layer, (w, escape) in enumerate(zip(weights, escapes, strict=True)):
        source = noise.at(stream=noise.stream + layer)
        spikes, _ = lif(spikes @ w, SPIKE_MATCHING_NEURON, SigmoidDerivative(BETAS[0]), escape, source)
    return spikes


@dataclass(frozen=True)
class MatchingNetwork:
    """Frozen input and the picture as target, [time, neuron], and initial weights [2 x 200 x 200] as one vector."""

    inputs: torch.Tensor
    target: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def random(cls, seed: int) -> "MatchingNetwork":
        """Of the package's own picture, float64."""
        rng = torch.Generator().manual_seed(seed)
        target = torch.from_numpy(np.ascontiguousarray(load_target().T)).double()
        neuron = SPIKE_MATCHING_NEURON
        inputs = (torch.rand(len(target), NEURONS, generator=rng) < RATE * neuron.dt).double()
        sd = fluctuation_driven_std(1.0, NEURONS, RATE, neuron.tau_mem, neuron.tau_syn)
        return cls(inputs, target, sd * torch.randn(2 * NEURONS**2, generator=rng, dtype=torch.float64))

    def gradient(self, weights: torch.Tensor, noise: Noise, trials: int) -> tuple[torch.Tensor, float]:
        """Surrogate gradient of the L2 distance (Eq 24) over neurons, mean over trials, and that distance; sigmoid'
        with the steepness of the hidden noise in both layers.

        Args:
            weights: of both layers, [2 x 200 x 200].
            noise: source of the spikes; the layers take two adjacent streams.
            trials: number of them.
        """
        weights = weights.detach().requires_grad_()
        inputs = self.inputs.to(weights).expand(trials, -1, -1)
        spikes = output_spikes(inputs, weights.view(2, NEURONS, NEURONS), ESCAPES, noise)
        loss = 0.5 * (spikes - self.target.to(weights)).square().sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, weights)
        return gradient, float(loss.detach())

    def trained(self, updates: int, trials: int, seed: int) -> tuple[torch.Tensor, list[float]]:
        """Weights after plain descent along the mean surrogate gradient (float32, as in training), and the loss before
        each update."""
        weights, losses = self.weights.float(), []
        rates = torch.tensor(LEARNING_RATES).repeat_interleave(NEURONS**2)
        for update in range(updates):
            gradient, loss = self.gradient(weights, Noise(seed, draw=update), trials)
            weights = weights - rates * gradient
            losses.append(loss)
        return weights.double(), losses
