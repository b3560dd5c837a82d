"""Weight updates of the spike-matching network: the likelihood rule, and back-propagation of a loss."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sgtheory.lif import (
    Noise,
    filter_cascade,
    leaky_readout,
    lif,
    mean_surrogate_error,
    simulate,
    spike_product,
    weight_gradient,
    weighted_spikes,
)
from sgtheory.metrics import PSPKernel
from sgtheory.neurons import EscapeFunction, LIFParameters, StraightThrough, SurrogateDerivative
from sgtheory.threads import product

STRAIGHT_THROUGH = StraightThrough()  # what a forward pass without gradient is given
OUTPUT_ERROR_WIDTH = 0.013  # delta_u of the output layer in the likelihood rule (Gardner et al. 2015)


@dataclass
class Activity:
    """One forward pass: spikes uint8 [trial, time, neuron], hidden membrane potential float32 (unit of threshold)."""

    hidden_potential: np.ndarray
    hidden: np.ndarray
    output: np.ndarray


@dataclass(frozen=True)
class TwoLayers:
    """The network: dense feed-forward, input - hidden - output, all spiking (Table 3).

    Args:
        inputs: frozen input spikes, uint8 [time, pre].
        target: spikes to match, uint8 [time, post].
        parameters: of both layers.
        kernel: of the likelihood rule and of the van Rossum loss.
    """

    inputs: np.ndarray
    target: np.ndarray
    parameters: LIFParameters
    kernel: PSPKernel
    backend: str = "auto"
    device: str = "cpu"

    @property
    def compiled(self) -> bool:
        """Whether the compiled CPU kernels are used; else the same formulas run as plain PyTorch."""
        return self.device == "cpu" and self.backend != "reference"

    @cached_property
    def spikes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``inputs`` and ``target`` on the device, float32."""
        inputs, target = (torch.from_numpy(a).to(self.device, torch.float32) for a in (self.inputs, self.target))
        return inputs, target

    @cached_property
    def trace(self) -> torch.Tensor:
        """The matrix [time, time] that passes spikes through Eqs 18, 19 without reset, on the device."""
        impulse = torch.eye(len(self.inputs))[:1].T[None]
        response = leaky_readout(impulse, self.parameters)[0, :, 0].numpy()  # U[1], U[2], ...
        return _toeplitz(np.concatenate([[0], response[:-1]])).to(self.device)

    @cached_property
    def smoothing(self) -> torch.Tensor:
        """The matrix [time, time] that convolves with ``kernel``, on the device."""
        return _toeplitz(self.kernel.samples(len(self.inputs))).to(self.device)

    def run(self, weights: list[np.ndarray], escape: dict[str, EscapeFunction], noise: Noise, trials: int) -> Activity:
        """Forward pass of ``trials`` trials; the hidden and the output layer draw from two adjacent streams."""
        if not self.compiled:
            with torch.no_grad():
                hidden, output, potential = self.differentiable_run(
                    [torch.from_numpy(w).to(self.device) for w in weights], escape, STRAIGHT_THROUGH, noise, trials
                )
            return Activity(potential.cpu().numpy(), *(s.to("cpu", torch.uint8).numpy() for s in (hidden, output)))
        steps = len(self.inputs)
        current = np.empty((1, steps, weights[0].shape[1]), np.float32)
        weighted_spikes(self.inputs[None], weights[0], current)
        spikes = []
        for layer, (name, weight) in enumerate(zip(("hidden", "output"), weights, strict=True)):
            if layer:
                current = np.empty((trials, steps, weight.shape[1]), np.float32)
                weighted_spikes(spikes[0], weight, current)
            potential = np.empty((trials, steps, weight.shape[1]), np.float32)
            spikes.append(np.empty(potential.shape, np.uint8))
            source = noise.at(stream=noise.stream + layer)
            simulate(current, self.parameters, escape[name], source, potential, spikes[layer])
            if not layer:
                hidden_potential = potential
        return Activity(hidden_potential, *spikes)

    def differentiable_run(self, weights, escape, surrogate, noise, trials) -> tuple[torch.Tensor, ...]:
        """The same forward pass with autograd: hidden and output spikes and hidden potential, [trial, time, neuron]."""
        options = {"parameters": self.parameters, "surrogate": surrogate, "backend": self.backend}
        weighted = spike_product if self.compiled else torch.matmul
        current = weighted(self.spikes[0][None], weights[0]).expand(trials, -1, -1)
        hidden, potential = lif(current, escape=escape["hidden"], noise=noise, **options)
        source = noise.at(stream=noise.stream + 1)
        output, _ = lif(weighted(hidden, weights[1]), escape=escape["output"], noise=source, **options)
        return hidden, output, potential


def likelihood_update(
    network: TwoLayers, activity: Activity, weights: list[np.ndarray], surrogate: SurrogateDerivative
) -> list[np.ndarray]:
    """Ascent direction of the likelihood rule (after Gardner, Sporea & Grüning 2015), before the learning rates.

    With delta = (target - S_out) / 0.013, trace the spikes passed through Eqs 18, 19 without reset, and the PSP kernel
    eps, averaged over trials::

        dW1 = sum_t trace_hidden[t] x delta[t]
        dW0 = sum_t (eps * (trace_in x sigma'(U_hidden - theta)))[t] (W1 delta[t])

    The filters are moved onto the error, so that two sums over pairs of neurons and steps become a sum over spikes and
    a matrix product.

    Returns:
        dW0 [input, hidden], dW1 [hidden, output], float32.
    """
    if not network.compiled:
        return _likelihood_update_in_torch(network, activity, weights, surrogate)
    parameters, kernel = network.parameters, network.kernel
    a_m, a_s = parameters.membrane_decay, parameters.synaptic_decay
    a_m, a_s, gain = (np.float32(v) for v in (a_m, a_s, 1 - a_m))
    lag = 1 + parameters.delay  # a spike moves the potential of the step after next

    delta = (network.target.astype(np.float32) - activity.output) / np.float32(OUTPUT_ERROR_WIDTH)
    credit = np.empty_like(delta)
    filter_cascade(delta, a_m, a_s, gain, lag, True, credit)
    dw1 = np.empty_like(weights[1])
    weight_gradient(activity.hidden, credit, dw1)
    dw1 /= len(delta)

    flat = torch.from_numpy(delta).flatten(0, 1)
    error = product(flat, torch.from_numpy(weights[1]).T).view(activity.hidden.shape).numpy()
    filter_cascade(error, *(np.float32(v) for v in (kernel.slow, kernel.fast, kernel.gain)), 0, True, error)
    modulated = mean_surrogate_error(error, activity.hidden_potential, activity.hidden, surrogate, parameters)[None]
    filter_cascade(modulated, a_m, a_s, gain, lag, True, modulated_credit := np.empty_like(modulated))
    dw0 = np.empty_like(weights[0])
    weight_gradient(network.inputs[None], modulated_credit, dw0)
    return [dw0, dw1]


def _likelihood_update_in_torch(network, activity, weights, surrogate) -> list[np.ndarray]:
    """:func:`likelihood_update` as matrix products, on any device."""
    inputs, target = network.spikes
    potential, hidden, output, w1 = (
        torch.from_numpy(a).to(network.device, torch.float32)
        for a in (activity.hidden_potential, activity.hidden, activity.output, weights[1])
    )
    delta = (target - output) / OUTPUT_ERROR_WIDTH
    dw1 = torch.einsum("bth,bto->ho", network.trace @ hidden, delta) / len(delta)
    derivative = surrogate.derivative(potential - network.parameters.threshold, hidden)
    error = (derivative * (network.smoothing.T @ (delta @ w1.T))).mean(dim=0)
    return [((network.trace @ inputs).T @ error).cpu().numpy(), dw1.cpu().numpy()]


def back_propagation_update(
    network: TwoLayers,
    weights: list[np.ndarray],
    escape: dict[str, EscapeFunction],
    surrogate: SurrogateDerivative,
    noise: Noise,
    trials: int,
    loss: str,
) -> list[np.ndarray]:
    """Descent direction of the L2 (Eq 24) or van Rossum loss (Eq 25) by back-propagation through time with surrogate
    derivatives in both layers, averaged over trials, before the learning rates.

    Draws the same spikes as :meth:`TwoLayers.run` with the same noise.

    Returns:
        -dL/dW0 [input, hidden], -dL/dW1 [hidden, output], float32.
    """
    tensors = [torch.from_numpy(w).to(network.device).requires_grad_() for w in weights]
    _, output, _ = network.differentiable_run(tensors, escape, surrogate, noise, trials)
    error = output.detach() - network.spikes[1]
    if loss == "van_rossum":
        error = product(network.smoothing.T, product(network.smoothing, error))
    output.backward(error / error[:, 0].numel())
    return [-w.grad.cpu().numpy() for w in tensors]


def _toeplitz(kernel: np.ndarray) -> torch.Tensor:
    """The matrix that convolves with ``kernel`` along time, [time, time], float32."""
    steps = len(kernel)
    lags = np.subtract.outer(np.arange(steps), np.arange(steps))
    return torch.from_numpy(np.where(lags >= 0, kernel[np.maximum(lags, 0)], 0).astype(np.float32))
