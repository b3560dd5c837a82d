"""Layers and networks as graphs of the Neuromorphic Intermediate Representation (NIR), and back.

NIR (Pedersen et al. 2024) describes neurons by differential equations. Here a neuron is :class:`nir.CubaLIF`, a readout
unit :class:`nir.CubaLI`, and x are the weighted spikes::

    tau_syn dI/dt = -I + w_in x
    tau_mem dU/dt = -U + r I

In steps of dt, by exponential Euler with x and I constant within a step, this is Eqs 18, 19 and 23 for

    r = 1 / (1 - a_m),  w_in = (1 - a_m) / (1 - a_s),  a_m = exp(-dt / tau_mem),  a_s = exp(-dt / tau_syn)

A program that steps by Euler has the same decays for tau' = step / (1 - a) (``euler_step``). Importers of such programs
want r = tau_mem' / step and w_in = tau_syn' / step, so that U and its threshold are those of here over 1 - a_m.
What NIR cannot say is in the metadata of each node. Needs the package ``nir``, the extra of that name.
"""

import dataclasses
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import nir
import numpy as np
import torch

from sgtheory import neurons
from sgtheory.errors import ParameterError, UserError, first_line, require_kind, require_positive
from sgtheory.lif import LIF, Layer, Readout
from sgtheory.neurons import EscapeFunction, LIFParameters, Step, SurrogateDerivative

WEIGHTS = (nir.Linear, nir.Affine, nir.Conv1d)
KNOWN = (nir.Input, nir.Output, nir.Flatten, nir.Delay, nir.CubaLIF, nir.CubaLI, *WEIGHTS)
ADAPTATION = ("adaptation", "tau_adaptation")
ROUNDING = 1e-9  # of a factor that is 1, and of a delay that is a whole number of steps


class Network(NamedTuple):
    """What :func:`sgtheory.lif.spiking_network` takes: ``spiking_network(inputs, *network, noise)``."""

    layers: list[Layer]
    weights: list[torch.Tensor]
    recurrent: list[torch.Tensor | None]
    readout: Readout
    readout_weight: torch.Tensor


def layers_to_nir(
    model: LIF | torch.nn.Sequential, positions: int | None = None, euler_step: float | None = None
) -> nir.NIRGraph:
    """The graph of a :class:`sgtheory.lif.LIF` layer, or of several in a row.

    Args:
        model: one layer, or a ``torch.nn.Sequential`` of layers.
        positions: of the input, where the first layer is a convolution.
        euler_step: for a program that steps by Euler: the length of its steps (s), which need not be dt. By default
            the time constants are those of the layers.

    Raises:
        ParameterError: for another model, or if ``positions`` is missing.
        UserError: if the layers do not fit each other.

    Warns once of what NIR cannot say: escape noise, thresholds that adapt, and the silent step after a spike of
    ``reset="next"``.
    """
    layers = [model] if isinstance(model, LIF) else list(model) if isinstance(model, torch.nn.Sequential) else []
    if not layers or not all(isinstance(layer, LIF) for layer in layers):
        raise ParameterError("model", type(model), "must be a LIF layer or a torch.nn.Sequential of LIF layers")
    shape: tuple[int, ...] = (layers[0].weight.shape[1],)
    if layers[0].kernel is not None:
        if positions is None:
            raise ParameterError("positions", None, "must be given, since the first layer is a convolution")
        shape = (*shape, positions)
    stages = [(Layer(m.neuron, m.surrogate, m.escape, m.stride, m.padding), m.weight, m.recurrent) for m in layers]
    return _write(shape, stages, None, euler_step)


def network_to_nir(
    shape: tuple[int, int],
    layers: Sequence[Layer],
    weights: Sequence[torch.Tensor],
    recurrent: Sequence[torch.Tensor | None],
    readout: Readout,
    readout_weight: torch.Tensor,
    euler_step: float | None = None,
) -> nir.NIRGraph:
    """The graph of what :func:`sgtheory.lif.spiking_network` computes.

    Args:
        shape: (channels, positions) of the input.
        layers, weights, recurrent, readout, readout_weight: as there.
        euler_step: as in :func:`layers_to_nir`.

    Raises:
        UserError: if the weights do not fit each other.

    Warns as :func:`layers_to_nir` does, and of the initial potential of the readout.
    """
    return _write(shape, list(zip(layers, weights, recurrent, strict=True)), (readout, readout_weight), euler_step)


def layers_from_nir(
    graph: nir.NIRGraph,
    surrogate: SurrogateDerivative | None = None,
    escape: EscapeFunction | None = None,
    dt: float | None = None,
    euler_step: float | None = None,
) -> torch.nn.Sequential:
    """LIF layers from a graph that ends in spikes.

    Args:
        graph: an Input; for each layer weights (Linear, Conv1d, Affine without bias), perhaps a Delay of one step, and
            CubaLIF neurons, perhaps with weights that lead back to them; an Output.
        surrogate: of all layers; by default what the metadata of each name.
        escape: likewise, and deterministic where they name none.
        dt: time step (s) where the metadata have none.
        euler_step: steps (s) of the program that the graph comes from, if that steps by Euler and the metadata do not
            say so.

    Returns:
        A ``torch.nn.Sequential`` of :class:`sgtheory.lif.LIF`, each with a noise of its own.

    Raises:
        UserError: naming the node that cannot be computed, and why.

    What :func:`layers_to_nir` wrote without ``euler_step`` spikes as before, to the bit, given the same noise.
    """
    _, stages, readout = _read(graph, surrogate, escape, dt, euler_step)
    if readout is not None:
        raise UserError("the graph ends in a readout: network_from_nir takes it")
    if len({weight.ndim for _, weight, _ in stages}) != 1:
        raise UserError("the layers of the graph must be all dense or all convolutions, and at least one")
    return torch.nn.Sequential(*(_module(*stage) for stage in stages))


def network_from_nir(
    graph: nir.NIRGraph,
    surrogate: SurrogateDerivative | None = None,
    escape: EscapeFunction | None = None,
    dt: float | None = None,
    euler_step: float | None = None,
) -> Network:
    """A network from a graph that ends in weights and CubaLI units.

    Args and errors are those of :func:`layers_from_nir`. A dense layer becomes a convolution whose kernel is as long as
    the layer below; an input without channels has positions.
    """
    shape, stages, readout = _read(graph, surrogate, escape, dt, euler_step)
    if readout is None or not stages:
        raise UserError("the graph does not end in CubaLI units over a layer: layers_from_nir takes it")
    shape = shape if len(shape) == 2 else (1, *shape)
    weights, recurrent = [], []
    for layer, weight, within in stages:
        try:
            weight = weight if weight.ndim == 3 else weight.reshape(-1, *shape)
        except RuntimeError:
            raise UserError(f"weights {list(weight.shape)} do not fit {shape} neurons below") from None
        weights.append(weight)
        recurrent.append(within.unsqueeze(2) if within is not None and within.ndim == 2 else within)
        shape = (len(weight), layer.positions(shape[1], weight.shape[2]))
    return Network([layer for layer, _, _ in stages], weights, recurrent, *readout)


def _write(shape, stages, readout, euler_step) -> nir.NIRGraph:
    """The graph of (layer, weight, recurrent weight) in turn, from the input up, and of the readout with its weight."""
    if euler_step is not None:
        require_positive(euler_step=euler_step)
    writer = _Writer(shape, euler_step)
    try:
        for stage in stages:
            writer.add_layer(*stage)
        if readout is not None:
            writer.add_readout(*readout)
        graph = writer.graph()
    except (ValueError, AssertionError) as error:  # of nir, which compares the shapes
        raise UserError(f"the weights do not fit each other: {first_line(error)}") from None
    if writer.unsaid:
        unsaid = ", ".join(sorted(writer.unsaid))
        warnings.warn(f"NIR cannot say: {unsaid}; other programs do not read it in the metadata", stacklevel=3)
    return graph


class _Writer:
    """Nodes and edges, from the input up."""

    def __init__(self, shape: tuple[int, ...], euler_step: float | None):
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(shape))}
        self.edges: list[tuple[str, str]] = []
        self.below, self.shape, self.euler_step = "input", tuple(shape), euler_step
        self.layers = 0
        self.unsaid: set[str] = set()

    def add_layer(self, layer: Layer, weight: torch.Tensor, recurrent: torch.Tensor | None) -> None:
        self.layers += 1
        name, p = f"layer{self.layers}", layer.parameters
        said = {"reset": p.reset, "reset_gradient": p.reset_gradient}
        said |= {"surrogate": _described(layer.surrogate), "escape": _described(layer.escape)}
        if p.adaptive:
            said |= {key: _number_or_array(getattr(p, key)) for key in ADAPTATION}
            self.unsaid.add("thresholds that adapt")
        target = self._add(
            name, self._weight(weight, layer.stride, layer.padding), nir.CubaLIF, p, said,
            v_threshold=p.threshold, v_reset=0.0,
        )  # fmt: skip
        if recurrent is not None:
            self._connect(name, f"{name}_recurrent", self._weight(recurrent, 1, recurrent.shape[-1] // 2), target)
        if not isinstance(layer.escape, Step):
            self.unsaid.add("escape noise")
        if p.reset == "next":
            self.unsaid.add("the silent step after a spike (reset next)")

    def add_readout(self, readout: Readout, weight: torch.Tensor) -> None:
        self.nodes["flatten"] = nir.Flatten({"input": np.array(self.shape)}, start_dim=0, end_dim=-1)
        self.edges.append((self.below, "flatten"))
        self.below = "flatten"
        self._add("readout", self._weight(weight), nir.CubaLI, readout.parameters, {"initial": readout.initial})
        if readout.initial:
            self.unsaid.add("the initial potential of the readout")

    def graph(self) -> nir.NIRGraph:
        self.nodes["output"] = nir.Output(np.array(self.shape))
        return nir.NIRGraph(self.nodes, [*self.edges, (self.below, "output")])

    def _weight(self, weight: torch.Tensor, stride: int = 1, padding: int = 0) -> nir.NIRNode:
        values = weight.detach().cpu().numpy()
        if values.ndim == 2:
            return nir.Linear(values)
        if values.ndim != 3 or len(self.shape) != 2 or values.shape[1] != self.shape[0]:
            raise ValueError(f"weights {list(values.shape)} over {list(self.shape)} neurons")
        return nir.Conv1d(self.shape[1], values, stride, padding, 1, 1, np.zeros(len(values), values.dtype))

    def _connect(self, source: str, name: str, weight: nir.NIRNode, target: str) -> None:
        self.nodes[name] = weight
        self.edges += [(source, name), (name, target)]

    def _add(self, name: str, weight: nir.NIRNode, kind: type, p: LIFParameters, said: dict, **fields) -> str:
        """Neurons over those below; returns the node that their connections lead to."""
        shape = tuple(map(int, weight.output_type["output"]))
        target = f"{name}_delay" if p.delay else name
        self._connect(self.below, f"{name}_weight", weight, target)
        if p.delay:
            self.nodes[target] = nir.Delay(np.full(shape, self.euler_step or p.dt))
            self.edges.append((target, name))
        given = fields | {"tau_mem": p.tau_mem, "tau_syn": p.tau_syn, "v_leak": 0.0}
        arrays = {field: _of_all_neurons(value, shape) for field, value in given.items()}
        membrane, synapse = (_decrement(p.dt, arrays[tau]) for tau in ("tau_mem", "tau_syn"))
        arrays |= {"r": 1 / membrane, "w_in": membrane / synapse}
        if self.euler_step is not None:
            arrays |= {"tau_mem": self.euler_step / membrane, "tau_syn": self.euler_step / synapse}
            said = said | {"euler_step": float(self.euler_step)}
            if kind is nir.CubaLIF:
                arrays |= {"w_in": 1 / synapse, "v_threshold": arrays["v_threshold"] / membrane}
        self.nodes[name] = kind(**arrays, metadata={"dt": p.dt} | said)
        self.below, self.shape = name, shape
        return target


def _decrement(dt: float, tau: np.ndarray) -> np.ndarray:
    """1 - exp(-dt / tau)."""
    return -np.expm1(-dt / tau)


def _number_or_array(value: float | torch.Tensor) -> float | np.ndarray:
    return value.detach().double().cpu().numpy() if isinstance(value, torch.Tensor) else float(value)


def _of_all_neurons(value: float | torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """One number, or one for each neuron or channel, as an array of the shape of the layer."""
    values = np.array(_number_or_array(value))
    return np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


def _one_or_each(values: np.ndarray) -> float | torch.Tensor:
    """A number if all are equal."""
    return float(values[0]) if (values == values[0]).all() else torch.from_numpy(values)


def _described(function: SurrogateDerivative | EscapeFunction) -> dict[str, Any]:
    """Class and numbers of a function of this package; the name alone of any other."""
    cls: Any = type(function)
    if getattr(neurons, cls.__name__, None) is not cls:
        return {"class": f"{cls.__module__}.{cls.__qualname__}"}
    values = {field.name: getattr(function, field.name) for field in dataclasses.fields(cls)}
    values = {name: _described(v) if isinstance(v, EscapeFunction) else v for name, v in values.items()}
    return {"class": cls.__name__} | values


def _built(described: object, kind: type, key: str):
    """The function that :func:`_described` has described; no other class is ever called."""
    values = dict(described) if isinstance(described, Mapping) else {}
    name = values.pop("class", None)
    cls = getattr(neurons, name) if name in neurons.__all__ else None
    if not (isinstance(cls, type) and issubclass(cls, kind) and dataclasses.is_dataclass(cls)):
        raise UserError(f"{key} = {name!r:.80} is no {kind.__name__} of sgtheory.neurons: give an object in its place")
    values |= {k: _built(v, EscapeFunction, f"{key}.{k}") for k, v in values.items() if isinstance(v, Mapping)}
    try:
        return cls(**values)
    except (TypeError, ParameterError) as error:
        raise UserError(f"{key}: {first_line(error)}") from None


def _read(graph, surrogate, escape, dt, euler_step):
    """Shape of the input, (layer, weight, recurrent weight) in turn, and the readout with its weight or None."""
    require_kind(nir.NIRGraph, graph=graph)
    reader = _Reader(graph, surrogate, escape, dt, euler_step)
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(inputs) != 1:
        raise UserError(f"the graph has {len(inputs)} inputs, and must have one")
    shape = tuple(map(int, graph.nodes[inputs[0]].output_type["output"]))
    stages: list[tuple] = []
    forward, _ = reader.paths(inputs[0])
    while isinstance(graph.nodes[name := forward[-1]], nir.CubaLIF):
        if len(stages) == len(graph.nodes):
            raise UserError(f"the layers lead in a circle through node {name}")
        onward, back = reader.paths(name)
        stages.append(reader.layer(forward, back))
        forward = onward
    readout = None
    if isinstance(graph.nodes[name], nir.CubaLI):
        readout = reader.readout(forward)
        forward, _ = reader.paths(name)
    if len(forward) != 1:
        raise UserError(f"node {forward[0]} leads to node {name}, which must be the output and follow neurons")
    return shape, stages, readout


class _Reader:
    """Neurons of a graph and the weights between them."""

    def __init__(self, graph, surrogate, escape, dt, euler_step):
        self.nodes, self.surrogate, self.escape = graph.nodes, surrogate, escape
        self.steps = {"dt": dt, "euler_step": euler_step}
        for name, node in self.nodes.items():
            if not isinstance(node, KNOWN):
                known = ", ".join(cls.__name__ for cls in KNOWN)
                raise UserError(f"node {name} is a {type(node).__name__}, and must be one of {known}")
        self.after = defaultdict(list)
        for source, target in graph.edges:
            if source not in self.nodes or target not in self.nodes:
                raise UserError(f"the edge from {source} to {target} leads to a node that is not there")
            self.after[source].append(target)

    def paths(self, name: str) -> tuple[list[str], list[str]]:
        """Nodes after ``name`` as far as the next neurons or the output, and those of its way back to itself."""
        paths = [self._path(after) for after in self.after[name]]
        forward = [path for path in paths if path[-1] != name]
        back = [path for path in paths if path[-1] == name]
        if len(forward) != 1 or len(back) > 1:
            raise UserError(f"node {name} must lead to one layer, and to itself at most once: {self.after[name]}")
        return forward[0], back[0] if back else []

    def _path(self, name: str) -> list[str]:
        names = [name]
        while not isinstance(self.nodes[name], nir.CubaLIF | nir.CubaLI | nir.Output):
            if len(self.after[name]) != 1 or len(names) > len(self.nodes):
                raise UserError(f"node {name} must lead to one node, and on to neurons: {self.after[name]}")
            (name,) = self.after[name]
            names.append(name)
        return names

    def layer(self, forward: list[str], back: list[str]) -> tuple[Layer, torch.Tensor, torch.Tensor | None]:
        """A layer, its weights, and those of its way back."""
        name = forward[-1]
        said, values, gain = self._neurons(forward)
        values |= {key: said[key] for key in ("reset", "reset_gradient") if key in said}
        for key in said.keys() & ADAPTATION:
            each = isinstance(said[key], np.ndarray) and said[key].dtype == np.float64
            values[key] = torch.from_numpy(said[key]) if each else said[key]
        values = {"reset": "same", "threshold": _one_or_each(self._field(name, "v_threshold") / gain)} | values
        surrogate, escape = self.surrogate, self.escape
        if surrogate is None:
            surrogate = _built(said.get("surrogate"), SurrogateDerivative, f"{name}.surrogate")
        if escape is None:
            escape = _built(said["escape"], EscapeFunction, f"{name}.escape") if "escape" in said else Step()
        weight, stride, padding = self._weight(forward)
        within = None
        if back:
            within, *geometry = self._weight(back)
            kernel = within.shape[2] if within.ndim == 3 else 1
            if within.ndim != weight.ndim or geometry != [1, kernel // 2] or not kernel % 2:
                raise UserError(f"node {back[0]} leads back to {name}, and must keep its shape")
            if self._delay(back) != self._delay(forward):
                raise UserError(f"all connections to {name} must have the same delay")
        return Layer(self._parameters(name, values), surrogate, escape, stride, padding), weight, within

    def readout(self, path: list[str]) -> tuple[Readout, torch.Tensor]:
        """The readout and its weights."""
        said, values, gain = self._neurons(path)
        weight, _, _ = self._weight(path)
        if weight.ndim != 2:
            raise UserError(f"node {path[-1]} must be connected by Linear or Affine weights")
        scaled = weight * torch.from_numpy(gain).to(weight.dtype).unsqueeze(1)
        return Readout(self._parameters(path[-1], values), said.get("initial", 0.0)), scaled

    def _parameters(self, name: str, values: dict) -> LIFParameters:
        try:
            return LIFParameters(**values)
        except ParameterError as error:
            raise ParameterError(f"{name}.{error.name}", error.value, error.allowed) from None

    def _neurons(self, path: list[str]) -> tuple[Mapping, dict[str, Any], np.ndarray]:
        """Metadata and parameters of the neurons at the end of a path, and their U in units of the U of here."""
        name = path[-1]
        said = self.nodes[name].metadata
        steps = self.steps | {key: said[key] for key in self.steps if key in said}
        dt, euler_step = steps["dt"], steps["euler_step"]
        if dt is None:
            raise UserError(f"node {name} does not say its time step: give dt")
        require_positive(**{f"{name}.{key}": value for key, value in steps.items() if value is not None})
        taus = {key: self._field(name, key) for key in ("tau_mem", "tau_syn")}
        for key, tau in taus.items():
            for value in (tau.min(), tau.max()):
                require_positive(**{f"{name}.{key}": float(value)})
        if euler_step is not None:
            if euler_step >= min(tau.min() for tau in taus.values()):
                raise UserError(f"node {name} has a time constant that is not longer than euler_step = {euler_step:g}")
            taus = {key: -dt / np.log1p(-euler_step / tau) for key, tau in taus.items()}
        for field in {"v_leak", "v_reset"} & {field.name for field in dataclasses.fields(self.nodes[name])}:
            if (value := self._field(name, field)).any():
                raise ParameterError(f"{name}.{field}", float(value[value != 0][0]), "must be 0")
        delay = self._delay(path) / (dt if euler_step is None else euler_step)
        if min(abs(delay), abs(delay - 1)) > ROUNDING:
            raise UserError(f"node {name} has a delay of {delay:g} steps, and must have none or one")
        gain = self._field(name, "r") * self._field(name, "w_in") * _decrement(dt, taus["tau_syn"])
        gain[abs(gain - 1) < ROUNDING] = 1.0
        return said, {**{key: _one_or_each(tau) for key, tau in taus.items()}, "dt": dt, "delay": round(delay)}, gain

    def _field(self, name: str, field: str) -> np.ndarray:
        """A field of a node for each of its neurons or channels."""
        values = np.atleast_1d(np.asarray(getattr(self.nodes[name], field), np.float64))
        values = values.reshape(len(values), -1)
        if not np.array_equal(values, np.broadcast_to(values[:, :1], values.shape), equal_nan=True):
            raise UserError(f"node {name}: {field} must be the same at all positions of a channel")
        return values[:, 0].copy()

    def _delay(self, path: list[str]) -> float:
        """Delays along a path (s), the same for all neurons."""
        delays = [self._field(name, "delay") for name in path if isinstance(self.nodes[name], nir.Delay)]
        if any((delay != delay[0]).any() for delay in delays):
            raise UserError(f"node {path[-1]}: the delay must be the same for all neurons")
        return float(sum(delay[0] for delay in delays))

    def _weight(self, path: list[str]) -> tuple[torch.Tensor, int, int]:
        """Weights, stride and padding of the connection along a path."""
        names = [name for name in path if isinstance(self.nodes[name], WEIGHTS)]
        if len(names) != 1:
            raise UserError(f"the way to node {path[-1]} must lead through weights once, not {len(names)} times")
        node, geometry = self.nodes[names[0]], (1, 0)
        if isinstance(node, nir.Conv1d):
            geometry = node.stride, node.padding
            if isinstance(node.padding, str) or (node.dilation, node.groups) != (1, 1):
                raise UserError(f"node {names[0]} must have padding in numbers, no dilation and one group")
        if np.any(np.asarray(getattr(node, "bias", 0.0))):
            raise UserError(f"node {names[0]} has a bias, which layers of this package do not have")
        values = torch.as_tensor(np.asarray(node.weight))
        weight = values if values.dtype == torch.float64 else values.float()
        return weight, int(geometry[0]), int(geometry[1])


def _module(layer: Layer, weight: torch.Tensor, recurrent: torch.Tensor | None) -> LIF:
    post, pre, *kernel = weight.shape
    width = None if recurrent is None else recurrent.shape[2] if kernel else 1
    shape = {"kernel": kernel[0] if kernel else None, "stride": layer.stride, "padding": layer.padding}
    module = LIF(pre, post, layer.parameters, layer.surrogate, layer.escape, **shape, recurrent=width).to(weight.dtype)
    with torch.no_grad():
        module.weight.copy_(weight)
        if module.recurrent is not None:
            module.recurrent.copy_(recurrent)
    return module
