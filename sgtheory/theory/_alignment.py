"""Small spiking nets in continuous and in discrete time, with the exact and the surrogate gradient of one loss."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch

from sgtheory.errors import ParameterError, require_array, require_count, require_positive
from sgtheory.lif import Noise, lif
from sgtheory.neurons import EscapeFunction, LIFParameters, Step, SurrogateDerivative
from sgtheory.theory._checks import require_sizes
from sgtheory.theory._spike_times import psp_overlap, simulate_events, spike_time_derivatives, van_rossum

SPIKE_TIME_NEURON = LIFParameters(tau_mem=10e-3, tau_syn=5e-3, reset="same")
DETERMINISTIC = Step()


@dataclass(frozen=True)
class SpikingNet:
    """A feed-forward net of LIF neurons whose outputs shall fire at given times.

    Args:
        input_times, input_channels: input spikes (s), [input spikes].
        weights: of every layer, [pre, post].
        targets: wanted firing times of every output neuron (s).
        duration: s.
    """

    input_times: np.ndarray
    input_channels: np.ndarray
    weights: list[np.ndarray]
    targets: list[np.ndarray]
    duration: float

    @classmethod
    def random(cls, sizes: tuple[int, int, int], duration: float, seed: int) -> "SpikingNet":
        """A net that fires at tens of spikes per second; inputs and targets end well before ``duration``."""
        require_sizes(sizes=sizes)
        require_positive(duration=duration)
        rng = np.random.default_rng(seed)
        inputs, hidden, outputs = sizes
        times = np.sort(rng.uniform(0, 0.6 * duration, 3 * inputs))
        channels = rng.integers(0, inputs, len(times))
        weights = [rng.normal(0.4, 1.0, (inputs, hidden)), rng.normal(0.9, 1.5, (hidden, outputs))]
        targets = [np.sort(rng.uniform(0.1, 0.7, 3) * duration) for _ in range(outputs)]
        return cls(times, channels, weights, targets, duration)

    def exact(self) -> tuple[float, list[np.ndarray], np.ndarray]:
        """Loss (s), its exact gradient for the weights of every layer, and spike counts of all neurons.

        The loss is the van Rossum distance, summed over outputs; the gradient is sum dL / dt_k dt_k / dw.
        """
        sizes = [len(self.weights[0]), *(w.shape[1] for w in self.weights)]
        ends = np.cumsum(sizes[1:])
        neurons, layers = ends[-1], [slice(e - n, e) for e, n in zip(ends, sizes[1:], strict=True)]
        input_weights, recurrent_weights = np.zeros((sizes[0], neurons)), np.zeros((neurons, neurons))
        input_weights[:, layers[0]] = self.weights[0]
        for (pre, post), w in zip(itertools.pairwise(layers), self.weights[1:], strict=True):
            recurrent_weights[pre, post] = w
        net = (self.input_times, self.input_channels, input_weights, recurrent_weights, SPIKE_TIME_NEURON)
        train = simulate_events(*net, self.duration)
        by_input, by_recurrent = spike_time_derivatives(train, *net)

        loss, of_input, of_recurrent = 0.0, np.zeros_like(input_weights), np.zeros_like(recurrent_weights)
        for target, neuron in zip(self.targets, range(neurons)[layers[-1]], strict=True):
            mine = train.neurons == neuron
            distance, slope = van_rossum(train.times[mine], target, SPIKE_TIME_NEURON)
            loss += distance
            of_input += np.tensordot(slope, by_input[mine], 1)
            of_recurrent += np.tensordot(slope, by_recurrent[mine], 1)
        gradients = [of_input[:, layers[0]], *(of_recurrent[pre, post] for pre, post in itertools.pairwise(layers))]
        return loss, gradients, np.bincount(train.neurons, minlength=neurons)


class DiscreteNets:
    """A batch of nets of equal sizes in steps of ``dt``, with the same loss of their spikes at times n dt."""

    def __init__(self, nets: list[SpikingNet], dt: float, reset_gradient: str = "detached"):
        require_count(**{"number of nets": len(nets)})
        self.parameters = replace(SPIKE_TIME_NEURON, dt=dt, reset_gradient=reset_gradient)
        self.weights = [torch.from_numpy(np.stack(layer)) for layer in zip(*(net.weights for net in nets), strict=True)]
        steps = round(nets[0].duration / dt)
        self.inputs = torch.zeros(len(nets), steps, self.weights[0].shape[1], dtype=torch.float64)
        for spikes, net in zip(self.inputs, nets, strict=True):
            # what arrives at time t raises the current at the first step that is not before t
            step = np.maximum(np.ceil(net.input_times / dt).astype(int) - 1, 0)
            np.add.at(spikes.numpy(), (step, net.input_channels), 1)
        grid = np.arange(steps) * dt
        self.overlap = torch.from_numpy(psp_overlap(grid, grid, SPIKE_TIME_NEURON)[0])
        with_target = [[psp_overlap(grid, t, SPIKE_TIME_NEURON)[0].sum(1) for t in net.targets] for net in nets]
        self.with_target = torch.from_numpy(np.array(with_target)).mT  # [nets, time, outputs]
        self.target_loss = np.array(
            [sum(psp_overlap(t, t, SPIKE_TIME_NEURON)[0].sum() / 2 for t in net.targets) for net in nets]
        )

    def gradient(
        self,
        surrogate: SurrogateDerivative,
        escape: EscapeFunction = DETERMINISTIC,
        paths: int = 1,
        seed: int = 0,
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Loss [nets], surrogate gradient of every layer [nets, pre, post], spike counts [nets, neurons]; means over
        ``paths`` independent runs."""
        weights = [w.clone().requires_grad_() for w in self.weights]
        spikes, counts = self.inputs[:, :, None], []
        for layer, w in enumerate(weights):
            current = torch.einsum("btki,bij->btkj", spikes, w).expand(-1, -1, paths, -1)
            # paths beside neurons: both are independent units for the neuron, and share the work of drawing noise
            fired, _ = lif(current.flatten(2), self.parameters, surrogate, escape, Noise(seed, stream=layer))
            spikes = fired.unflatten(2, (paths, -1))
            counts.append(spikes.detach().sum(1).mean(1))
        output = spikes.detach()
        with_itself = torch.einsum("tu,buko->btko", self.overlap, output)
        error = with_itself - self.with_target[:, :, None]
        loss = (output * (error + with_itself / -2)).sum((1, 3)).mean(1)
        gradients = torch.autograd.grad((spikes * error).sum() / paths, weights)
        return loss.numpy() + self.target_loss, [g.numpy() for g in gradients], torch.cat(counts, 1).numpy()


def _require_same_shape(a, b):
    require_array(3, "f", a=a, b=b)
    if a.shape != b.shape:
        raise ParameterError("b", list(b.shape), f"must have the shape of a, {list(a.shape)}")


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the angle between gradients [nets, pre, post], for each net; NaN where one of them is zero.

    Raises:
        ParameterError: if they are not arrays of the same shape.
    """
    _require_same_shape(a, b)
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(1), sizes, out=np.full(len(a), np.nan), where=sizes > 0)


def sign_agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of components with the same sign among those where neither gradient is zero, for each net.

    Raises:
        ParameterError: if they are not arrays [nets, pre, post] of the same shape.
    """
    _require_same_shape(a, b)
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    either = a * b != 0
    return np.divide((a * b > 0).sum(1), either.sum(1), out=np.full(len(a), np.nan), where=either.any(1))
