"""The recurrent convolutional spiking network of the classification task (Section 8.4.2)."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sgtheory.errors import ParameterError, convert, is_whole, require_count
from sgtheory.lif import Layer, Noise, Readout, network_activity, spiking_network
from sgtheory.networks._initialisation import normal_weights, recurrent_fluctuation_driven_std
from sgtheory.neurons import EscapeFunction, LIFParameters, SurrogateDerivative


@dataclass(frozen=True)
class ConvShape:
    """One convolutional layer.

    Args:
        channels: number of filters.
        kernel: of the connections from the layer below, positions.
        stride: of these.
        padding: of these, zeros on both sides.
        recurrent_kernel: of the connections within the layer, odd; 0 for none.

    Raises:
        ParameterError: naming what is out of range.
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    recurrent_kernel: int = 0

    def __post_init__(self):
        require_count(channels=self.channels, kernel=self.kernel, stride=self.stride)
        require_count(0, padding=self.padding)
        wrong = not is_whole(self.recurrent_kernel) or self.recurrent_kernel < 0
        if wrong or (self.recurrent_kernel and not self.recurrent_kernel % 2):
            raise ParameterError("recurrent_kernel", self.recurrent_kernel, "must be odd, or 0 for no recurrence")
        convert(self, int, *self.__dataclass_fields__)

    def positions(self, below: int) -> int:
        """Length of the layer over a layer of length ``below``."""
        return (below + 2 * self.padding - self.kernel) // self.stride + 1


class ConvSNN(torch.nn.Module):
    """Convolutional layers of LIF neurons, recurrent within the layer, under a dense leaky readout (Section 8.4.2).

    Args:
        inputs: number of input channels, the positions of the first convolution.
        shapes: of the layers, from the input up.
        classes: number of readout units.
        neuron: time constants, reset and delay of the spiking neurons.
        readout: those of the readout units.
        surrogate: surrogate derivative of all layers.
        backend: of the LIF core.
        recompute: trade time for memory, see :func:`sgtheory.lif.spiking_network`.

    Raises:
        ParameterError: if a layer is longer than what is below it.

    Parameters are ``feed_forward`` [post, pre, kernel] and ``recurrent`` [channel, channel, kernel] for each layer (a
    layer without recurrence has a kernel of length 0), and ``readout_weight`` [class, channel * position], all zero
    until :meth:`initialise`.
    """

    def __init__(
        self,
        inputs: int,
        shapes: Sequence[ConvShape],
        classes: int,
        neuron: LIFParameters,
        readout: LIFParameters,
        surrogate: SurrogateDerivative,
        backend: str = "auto",
        recompute: bool = False,
    ):
        super().__init__()
        require_count(inputs=inputs, classes=classes)
        if not shapes:
            raise ParameterError("shapes", list(shapes), "must have at least one layer")
        self.shapes, self.neuron, self.surrogate = tuple(shapes), neuron, surrogate
        self.readout, self.backend, self.recompute = Readout(readout), backend, recompute
        self.sizes = [(1, inputs)]  # (channels, positions) of the input and every layer
        for index, shape in enumerate(self.shapes):
            below = self.sizes[-1][1]
            if shape.kernel > below + 2 * shape.padding:
                raise ParameterError(f"kernels[{index}]", shape.kernel, f"must fit the {below} positions below")
            self.sizes.append((shape.channels, shape.positions(below)))
        pairs = list(zip(self.sizes, self.shapes, strict=False))
        self.feed_forward = _parameters((shape.channels, below, shape.kernel) for (below, _), shape in pairs)
        self.recurrent = _parameters((s.channels, s.channels, s.recurrent_kernel) for s in self.shapes)
        channels, positions = self.sizes[-1]
        self.readout_weight = torch.nn.Parameter(torch.zeros(classes, channels * positions))

    def initialise(self, noise: Noise, sigma_u: float, rate: float, alpha: float) -> None:
        """Draw weights in the fluctuation-driven regime, readout weights with s.d. 1 / sqrt(fan-in).

        Args:
            noise: where they come from; two streams for each layer and one for the readout, from ``noise.stream`` on.
            sigma_u, rate, alpha: see :func:`sgtheory.networks.recurrent_fluctuation_driven_std`.
        """
        streams = itertools.count(noise.stream)
        with torch.no_grad():
            for weight, recurrent in zip(self.feed_forward, self.recurrent, strict=True):
                fan_in, fan_in_within = weight[0].numel(), recurrent[0].numel()
                stds = recurrent_fluctuation_driven_std(sigma_u, fan_in, fan_in_within, rate, alpha, self.neuron)
                for w, std in zip((weight, recurrent), stds, strict=True):
                    stream = next(streams)
                    if w.numel():
                        w.copy_(normal_weights(w.shape, std, noise.at(stream=stream)))
            w = self.readout_weight
            w.copy_(normal_weights(w.shape, w.shape[1] ** -0.5, noise.at(stream=next(streams))))

    def weights(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Name and weights of all connections from the input up: feed-forward, recurrent of each layer; readout."""
        named = []
        for layer, (weight, recurrent) in enumerate(zip(self.feed_forward, self.recurrent, strict=True), start=1):
            named.append((f"hidden{layer}", weight))
            if recurrent.numel():
                named.append((f"hidden{layer} recurrent", recurrent))
        return [*named, ("readout", self.readout_weight)]

    def forward(self, inputs: torch.Tensor, escape: EscapeFunction, noise: Noise):
        """Readout potentials [batch, time, class] and spike counts [batch, channel, position] of each layer.

        Args:
            inputs: spikes, uint8 [batch, time, input].
            escape: how the neurons spike: the network can be run in another mode than it was trained in.
            noise: layer l takes stream ``noise.stream + l``.
        """
        return spiking_network(inputs, *self.parts(escape), noise, self.backend, self.recompute)

    def activity(self, inputs: torch.Tensor, escape: EscapeFunction, noise: Noise):
        """Readout potentials [batch, time, class] and spikes of each layer, uint8 [batch, time, channel * position]."""
        return network_activity(inputs, *self.parts(escape), noise, self.backend)

    def parts(self, escape: EscapeFunction):
        """Layers, weights, recurrent weights, readout and its weights, as :func:`sgtheory.lif.spiking_network` takes
        them; ``escape`` is how the neurons spike."""
        layers = [Layer(self.neuron, self.surrogate, escape, s.stride, s.padding) for s in self.shapes]
        recurrent = [w if w.numel() else None for w in self.recurrent]
        return layers, list(self.feed_forward), recurrent, self.readout, self.readout_weight


def _parameters(shapes) -> torch.nn.ParameterList:
    return torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(shape)) for shape in shapes)
