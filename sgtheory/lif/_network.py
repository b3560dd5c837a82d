"""A stack of LIF layers with a readout as one operation."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass

import torch

from sgtheory.errors import ParameterError, convert, require_count, require_kind, require_number
from sgtheory.lif._layer import (
    IMPLEMENTATIONS,
    checked_backend,
    refuse_transforms,
    require_finite,
    within_limits,
    without_autocast,
)
from sgtheory.lif._noise import Noise
from sgtheory.lif._state import State
from sgtheory.neurons import EscapeFunction, LIFParameters, Step, SurrogateDerivative


@dataclass(frozen=True)
class Layer:
    """A spiking layer without its weights.

    Args:
        parameters: time constants, reset, delay; tensors among them hold a number for each channel.
        surrogate: what passes errors back.
        escape: how it spikes.
        stride: of the convolution from the layer below.
        padding: of the convolution from the layer below, zeros.

    Raises:
        ParameterError: naming the parameter that is out of range or of another class.
    """

    parameters: LIFParameters
    surrogate: SurrogateDerivative
    escape: EscapeFunction
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        require_kind(LIFParameters, parameters=self.parameters)
        require_kind(SurrogateDerivative, surrogate=self.surrogate)
        require_kind(EscapeFunction, escape=self.escape)
        require_count(stride=self.stride)
        require_count(0, padding=self.padding)
        convert(self, int, "stride", "padding")

    def positions(self, below: int, kernel: int) -> int:
        """Length of the layer over a layer of length ``below``."""
        return (below + 2 * self.padding - kernel) // self.stride + 1


@dataclass(frozen=True)
class Readout:
    """Units that integrate and never spike: parameters, whose tensors hold a number for each unit, and U[0].

    Raises:
        ParameterError: if one of them is something else.
    """

    parameters: LIFParameters
    initial: float = -1e-3

    def __post_init__(self) -> None:
        require_kind(LIFParameters, parameters=self.parameters)
        require_number(initial=self.initial)
        convert(self, float, "initial")


@without_autocast
def spiking_network(
    inputs: torch.Tensor,
    layers: Sequence[Layer],
    weights: Sequence[torch.Tensor],
    recurrent: Sequence[torch.Tensor | None],
    readout: Readout,
    readout_weight: torch.Tensor,
    noise: Noise | None = None,
    backend: str = "auto",
    recompute: bool = False,
    state: Sequence[State] | None = None,
) -> tuple[torch.Tensor, list[torch.Tensor]] | tuple[torch.Tensor, list[torch.Tensor], list[State]]:
    """Spikes through convolutional LIF layers to readout units (Section 8.4.2).

    Layer l draws its noise from stream ``noise.stream + l``. Each layer is :func:`sgtheory.lif.lif` of the convolution
    of the spikes below, the readout :func:`sgtheory.lif.leaky_readout` of the weighted spikes of the last layer.

    Args:
        inputs: spikes, uint8, 0 or 1, [batch, time, channel, position] or [batch, time, position] for one channel. They
            have no gradient.
        layers: from the input up.
        weights: for each layer [post, pre, kernel]; a dense layer has a kernel as long as the layer below.
        recurrent: for each layer [channel, channel, odd kernel], or None.
        readout: time constants and initial potential of the readout.
        readout_weight: [unit, channel * position] of the last layer, channel-major as ``torch.flatten`` gives it.
        noise: as in :func:`sgtheory.lif.lif`.
        backend: as in :func:`sgtheory.lif.lif`. The compiled backend runs blocks of samples through all layers and
            stores potentials once, spikes as events.
        recompute: do not store potentials and spikes but compute them again for the backward pass: a tenth more time,
            memory that does not grow with the number of samples (compiled backend).
        state: where to start from, one for each layer and one for the readout; ``[State()] * (len(layers) + 1)`` at the
            beginning of a sequence that is computed in pieces.

    Returns:
        potentials: U[1] ... U[time] of the readout units, [batch, time, unit], differentiable.
        counts: spikes of each neuron summed over time, one [batch, channel, position] for each layer, differentiable.
        state: after the last step, if ``state`` was given.

    Raises:
        ParameterError: for inputs or weights of the wrong type, shape or device, for missing noise, and on the CPU also
            for weights that are not finite and inputs other than 0 and 1.
        UserError: under a transform of torch.func, but for the reference backend.
    """
    require_kind(torch.Tensor, inputs=inputs)
    require_kind(Readout, readout=readout)
    chosen = checked_backend(inputs, backend)
    refuse_transforms(chosen)
    inputs, shapes, noise = _checked(inputs, layers, weights, recurrent, readout, readout_weight, noise)
    run = IMPLEMENTATIONS[within_limits(backend, chosen, _as_layers(shapes, recurrent, readout_weight))].network
    arguments = inputs, layers, weights, recurrent, readout, readout_weight
    if state is None:
        return run(*arguments, noise, shapes, True, recompute)
    starts = _starts(state, inputs, shapes, readout, readout_weight)
    noise = noise.at(first_step=noise.first_step + state[0].step)
    potentials, counts, ends = run(*arguments, noise, shapes, True, recompute, starts)
    return potentials, counts, [s.after(inputs.shape[1], end) for s, end in zip(state, ends, strict=True)]


def _starts(state, inputs, shapes, readout, readout_weight) -> list[list[torch.Tensor]]:
    """The values of the states of every layer and of the readout."""
    of_step = [*shapes[1:], (len(readout_weight),)]
    if not isinstance(state, Sized) or len(state) != len(of_step):
        raise ParameterError("state", type(state), f"must be a list of {len(of_step)}, for each layer and the readout")
    for index, one in enumerate(state):
        require_kind(State, **{f"state[{index}]": one})
        if one.step != state[0].step:
            raise ParameterError(f"state[{index}].step", one.step, f"must be {state[0].step} like that of state[0]")
    initial = [0.0] * (len(of_step) - 1) + [readout.initial]
    steps = [readout_weight.new_empty((len(inputs), *shape)) for shape in of_step]
    return [one.values(step, start) for one, step, start in zip(state, steps, initial, strict=True)]


@torch.no_grad()
@without_autocast
def network_activity(
    inputs: torch.Tensor,
    layers: Sequence[Layer],
    weights: Sequence[torch.Tensor],
    recurrent: Sequence[torch.Tensor | None],
    readout: Readout,
    readout_weight: torch.Tensor,
    noise: Noise | None = None,
    backend: str = "auto",
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The spikes that :func:`spiking_network` counts, for rasters and statistics.

    Args:
        inputs: as there, and so are the other arguments.

    Returns:
        potentials: U[1] ... U[time] of the readout units, [batch, time, unit].
        spikes: uint8, one [batch, time, channel * position] for each layer, channel-major.

    Raises:
        ParameterError: as there.
    """
    require_kind(torch.Tensor, inputs=inputs)
    require_kind(Readout, readout=readout)
    chosen = checked_backend(inputs, backend)
    refuse_transforms(chosen)
    inputs, shapes, noise = _checked(inputs, layers, weights, recurrent, readout, readout_weight, noise)
    run = IMPLEMENTATIONS[within_limits(backend, chosen, _as_layers(shapes, recurrent, readout_weight))].network
    return run(inputs, layers, weights, recurrent, readout, readout_weight, noise, shapes, False, False)


def _as_layers(shapes, recurrent, readout_weight):
    """Inputs without memory and recurrent weights of each layer of a network, the readout the last of them."""
    of_units = [*shapes[1:], (len(readout_weight),)]
    for shape, within in zip(of_units, [*recurrent, None], strict=True):
        yield torch.empty((1, 1, *shape), dtype=readout_weight.dtype, device="meta"), within


def _checked(inputs, layers, weights, recurrent, readout, readout_weight, noise):
    """Inputs with channels, the shapes of all layers, and noise."""
    if inputs.ndim == 3:
        inputs = inputs.unsqueeze(2)
    if inputs.ndim != 4 or inputs.dtype != torch.uint8 or not inputs.shape[1]:
        given = f"{inputs.dtype} of shape {list(inputs.shape)}"
        raise ParameterError("inputs", given, "must be uint8 of shape [batch, time, channel, position], time > 0")
    once = inputs[:1] if inputs.stride(0) == 0 else inputs
    if once.device.type == "cpu" and once.numel() and (largest := int(once.max())) > 1:
        raise ParameterError("inputs", largest, "must be spikes, 0 or 1")
    for name, value in {"layers": layers, "weights": weights, "recurrent": recurrent}.items():
        if not isinstance(value, Sized):
            raise ParameterError(name, type(value), "must be a list with one entry for each layer")
    require_kind(torch.Tensor, readout_weight=readout_weight)
    if noise is not None:
        require_kind(Noise, noise=noise)
    if not layers or not len(layers) == len(weights) == len(recurrent):
        given = [len(layers), len(weights), len(recurrent)]
        raise ParameterError("layers, weights, recurrent", given, "must have one entry for each of at least one layer")
    for index, (layer, weight, within) in enumerate(zip(layers, weights, recurrent, strict=True)):
        require_kind(Layer, **{f"layers[{index}]": layer})
        require_kind(torch.Tensor, **{f"weights[{index}]": weight})
        if within is not None:
            require_kind(torch.Tensor, **{f"recurrent[{index}]": within})
        if noise is None and not isinstance(layer.escape, Step):
            name = type(layer.escape).__name__
            raise ParameterError("noise", None, f"must be given for {name} of layers[{index}], which is random")
    shapes = _shapes(inputs, layers, weights, recurrent, readout_weight)
    _check_numbers(inputs, layers, weights, recurrent, readout, readout_weight)
    return inputs, shapes, noise or Noise(seed=0)


def _check_numbers(inputs, layers, weights, recurrent, readout, readout_weight) -> None:
    """Weights must be finite, of one type, and where the inputs are; so must tensors among the parameters."""
    dtype = readout_weight.dtype
    if dtype not in (torch.float32, torch.float64):
        raise ParameterError("readout_weight", str(dtype), "must be float32 or float64")
    named = {"readout_weight": readout_weight}
    named |= {f"weights[{index}]": weight for index, weight in enumerate(weights)}
    named |= {f"recurrent[{index}]": weight for index, weight in enumerate(recurrent) if weight is not None}
    for index, (layer, weight) in enumerate(zip(layers, weights, strict=True)):
        layer.parameters.require_neurons(len(weight), inputs.device, f"layers[{index}].")
    readout.parameters.require_neurons(len(readout_weight), inputs.device, "readout.")
    for name, weight in named.items():
        if weight.dtype != dtype or weight.device != inputs.device:
            allowed = f"must be {dtype} on {inputs.device} like readout_weight and inputs"
            raise ParameterError(name, f"{weight.dtype} on {weight.device}", allowed)
        require_finite(name, weight)


def _shapes(inputs, layers, weights, recurrent, readout_weight) -> list[tuple[int, int]]:
    """(channels, positions) of the input and every layer."""
    shapes = [tuple(inputs.shape[2:])]
    for index, (layer, weight, within) in enumerate(zip(layers, weights, recurrent, strict=True)):
        channels, positions = shapes[-1]
        name = f"weights[{index}]"
        fits = weight.ndim == 3 and weight.shape[1] == channels and weight.numel()
        if not fits or layer.positions(positions, weight.shape[2]) < 1:
            below = f"{channels} channels and {positions} positions"
            raise ParameterError(name, list(weight.shape), f"must be [post, pre, kernel] and fit {below} below")
        post = weight.shape[0]
        if within is not None and (
            within.ndim != 3 or list(within.shape[:2]) != [post, post] or not within.shape[2] % 2
        ):
            allowed = f"must be None or [{post}, {post}, odd kernel]"
            raise ParameterError(f"recurrent[{index}]", list(within.shape), allowed)
        shapes.append((post, layer.positions(positions, weight.shape[2])))
    channels, positions = shapes[-1]
    if readout_weight.ndim != 2 or readout_weight.shape[1] != channels * positions:
        allowed = f"must be [unit, {channels * positions}]"
        raise ParameterError("readout_weight", list(readout_weight.shape), allowed)
    return shapes
