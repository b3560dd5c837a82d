"""Spike-train matching: a spiking network learns to draw a picture with its spikes (Section 8.4.1, Fig 6)."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgtheory import metrics
from sgtheory.data import load_target
from sgtheory.errors import ParameterError, UserError, require_choice, require_count, require_positive, under
from sgtheory.files import atomic_path, user_path
from sgtheory.lif import LIF, Noise
from sgtheory.metrics import PSPKernel
from sgtheory.networks import fluctuation_driven_std, normal_weights
from sgtheory.neurons import Step
from sgtheory.reading import read_numbers
from sgtheory.tasks._updates import TwoLayers, back_propagation_update, likelihood_update

# streams of noise; two layers take two each
INPUT, WEIGHTS, TRAINING, MEASUREMENT, OTHER_MODE, LAST, COUNTS = 0, 2, 10, 20, 30, 40, 50
LAYERS = ("hidden", "output")
TRIALS_AT_ONCE = 20  # of many: bounds the memory


@dataclass
class TargetSettings:
    """Which picture, and how it becomes spikes: see :func:`sgtheory.data.load_target`."""

    image: str | None
    rows: int
    steps: int | None
    method: str
    threshold: float
    channel: str


@dataclass
class LearningRates:
    """Step sizes of plain gradient descent."""

    hidden: float
    output: float


@dataclass
class SpikeMatchingSettings:
    """The ``task`` section; every key is explained in conf/task/spike_matching.yaml."""

    name: str
    target: TargetSettings
    inputs: int
    hidden: int
    input_rate: float
    sigma_u: float
    escape: Any
    trials: int
    learning_rate: LearningRates
    surrogate_learning_rate: LearningRates
    output_rule: str
    loss: str
    eps0: float
    kernel_endpoint: bool
    measure_every: int
    measure_trials: int
    last_epochs: int
    last_trials: int
    fano_trials: int
    fano_window: float
    replay: str | None
    save_updates: int

    def __post_init__(self):
        require_count(
            inputs=self.inputs,
            hidden=self.hidden,
            trials=self.trials,
            measure_every=self.measure_every,
            measure_trials=self.measure_trials,
            fano_trials=self.fano_trials,
        )
        require_count(2, last_trials=self.last_trials)
        require_count(0, last_epochs=self.last_epochs, save_updates=self.save_updates)
        require_positive(input_rate=self.input_rate, sigma_u=self.sigma_u, eps0=self.eps0, fano_window=self.fano_window)
        require_choice(("likelihood", "surrogate"), output_rule=self.output_rule)
        require_choice(("l2", "van_rossum"), loss=self.loss)
        for section, layer in itertools.product(("learning_rate", "surrogate_learning_rate"), LAYERS):
            rate = getattr(getattr(self, section), layer)
            if not 0 <= rate < float("inf"):
                raise ParameterError(f"{section}.{layer}", rate, "must be a finite number, 0 or more")


class SpikeMatching:
    """The task as the runner sees it: state, one epoch, and what is measured.

    Weights, input and all randomness follow from the seed; nothing else is remembered between epochs, so weights
    and the number of the epoch are the whole state.
    """

    Settings = SpikeMatchingSettings
    fastest_device = "cpu"  # an epoch takes a millisecond there, and on a GPU 35 operations and 11 copies
    may_be_nan = frozenset({"fano", "fano_window", "isi_mean", "isi_cv"})  # undefined when nothing spikes

    def __init__(self, context):
        self.settings: SpikeMatchingSettings = context.settings
        self.neuron, self.surrogate = context.neuron, context.surrogate
        self.noise, self.epochs = Noise(context.seed), context.trainer.epochs
        stochastic = {name: self.settings.escape[name] for name in LAYERS}
        deterministic = dict.fromkeys(LAYERS, Step())
        pair = (stochastic, deterministic)
        self.escape, self.other_escape = pair if self.neuron.mode == "escape_noise" else pair[::-1]
        inputs, target, self.initial_weights = self._replayed() if self.settings.replay else self._generated()
        p = self.neuron.parameters
        if self.settings.output_rule == "likelihood":
            without = {
                "neurons that adapt": p.adaptive,
                "neuron.reset_gradient=attached": p.reset_gradient == "attached",
                "task.loss=van_rossum": self.settings.loss == "van_rossum",
            }
            for what, given in without.items():
                if given:
                    raise ParameterError("task.output_rule", "likelihood", f"must be surrogate for {what}")
        with under("neuron"):
            kernel = PSPKernel.sampled(
                p.tau_mem, p.tau_syn, p.dt, len(inputs), self.settings.kernel_endpoint, self.settings.eps0
            )
        self.network = TwoLayers(inputs, target, p, kernel, context.trainer.backend, context.trainer.device)
        self.weights = [w.copy() for w in self.initial_weights]
        self.updates: dict[str, list[np.ndarray]] = {}

    def _generated(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Input and target [time, neuron] and initial weights that the settings and the seed give."""
        s, p = self.settings, self.neuron.parameters
        with under("task.target"):
            picture = load_target(**vars(s.target))
        target = np.ascontiguousarray(picture.T, dtype=np.uint8)
        if s.input_rate * p.dt > 1:
            raise ParameterError("task.input_rate", s.input_rate, f"must be at most 1 / dt = {1 / p.dt:g} Hz")
        uniform = self.noise.at(stream=INPUT).uniform(1, range(len(target)), s.inputs)[0].numpy()
        inputs = (uniform < s.input_rate * p.dt).astype(np.uint8)
        sizes = (s.inputs, s.hidden, target.shape[1])
        weights = []
        for layer, (pre, post) in enumerate(itertools.pairwise(sizes)):
            std = fluctuation_driven_std(s.sigma_u, pre, s.input_rate, p.tau_mem, p.tau_syn)
            weights.append(normal_weights((pre, post), std, self.noise.at(stream=WEIGHTS + layer)).numpy())
        return inputs, target, weights

    def _replayed(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Input, target and weights from the arrays x, z, w0, w1 of a file."""
        path = user_path(self.settings.replay)
        arrays, names = read_numbers(path, "task.replay"), ("x", "z", "w0", "w1")
        if not arrays.keys() >= set(names):
            raise UserError(f"task.replay = {path} must be an .npz file with {', '.join(names)}")
        x, z, w0, w1 = (arrays[name].astype(np.float32) for name in names)
        x, z = (a[0] if a.ndim == 3 and len(a) == 1 else a for a in (x, z))
        shapes = f"x {list(x.shape)}, z {list(z.shape)}, w0 {list(w0.shape)}, w1 {list(w1.shape)}"
        if any(a.ndim != 2 or not a.size for a in (x, z, w0, w1)) or not (
            len(x) == len(z) and x.shape[1] == len(w0) and w0.shape[1] == len(w1) and w1.shape[1] == z.shape[1]
        ):
            expected = "x [time, in], z [time, out], w0 [in, hidden], w1 [hidden, out]"
            raise UserError(f"task.replay = {path} has {shapes}; the shapes must be {expected}")
        for name, array in (("x", x), ("z", z)):
            if not np.isin(array, (0, 1)).all():
                raise UserError(f"task.replay = {path}: {name} must hold spikes, 0 or 1")
        if not all(np.isfinite(w).all() for w in (w0, w1)):
            raise UserError(f"task.replay = {path}: w0 and w1 must be finite numbers")
        return x.astype(np.uint8), z.astype(np.uint8), [np.ascontiguousarray(w) for w in (w0, w1)]

    @property
    def description(self) -> str:
        """What is learnt, for the first line of the log."""
        dt, (steps, rows) = self.neuron.parameters.dt, self.network.target.shape
        source = self.settings.replay or self.settings.target.image or "the Radcliffe Camera"
        rate = metrics.firing_rate(self.network.target, dt)
        return f"target {source}: {rows} neurons x {steps} steps of {1e3 * dt:g} ms, {rate:.0f} Hz"

    def state(self) -> dict:
        """Weights, and the updates that will be written to updates.npz, as tensors."""
        kept = {name: torch.from_numpy(np.stack(values)) for name, values in self.updates.items()}
        return {"w0": torch.from_numpy(self.weights[0]), "w1": torch.from_numpy(self.weights[1]), "updates": kept}

    def restore(self, state: dict) -> None:
        """Take over what :meth:`state` returned."""
        self.weights = [state["w0"].numpy().copy(), state["w1"].numpy().copy()]
        self.updates = {name: list(values.numpy()) for name, values in state["updates"].items()}
        shapes = {"l2": (), "van_rossum": (), "dw0": self.weights[0].shape, "dw1": self.weights[1].shape}
        if self.updates and self.updates.keys() != {*shapes, "hidden_spikes", "output_spikes"}:
            raise ValueError(f"its updates are {', '.join(map(str, self.updates))}")
        for name, kept in self.updates.items():
            if not kept or kept[0].shape != shapes.get(name, kept[0].shape):
                raise ValueError(f"its updates {name} are not those of this network")

    def epoch(self, epoch: int) -> list[tuple[str, str, float]]:
        """Measure the network, then change its weights once."""
        s = self.settings
        noise = self.noise.at(stream=TRAINING, draw=epoch)
        activity = self.network.run(self.weights, self.escape, noise, s.trials)
        rows = self._measure(activity)
        if epoch % s.measure_every == 0:
            rows += self._measure_variability(epoch)
        if epoch == 0:
            rows += self._measure_counts(epoch)
        if epoch >= self.epochs - s.last_epochs:
            rows += self._measure_forms(epoch)
        if s.output_rule == "likelihood":
            directions = likelihood_update(self.network, activity, self.weights, self.surrogate)
        else:
            directions = back_propagation_update(
                self.network, self.weights, self.escape, self.surrogate, noise, s.trials, s.loss
            )
        rates = s.learning_rate if s.output_rule == "likelihood" else s.surrogate_learning_rate
        steps = (rates.hidden, rates.output)
        with np.errstate(over="ignore", invalid="ignore"):
            changes = [np.float32(step) * direction for step, direction in zip(steps, directions, strict=True)]
            self.weights = [w + change for w, change in zip(self.weights, changes, strict=True)]
        if not all(np.isfinite(w).all() for w in self.weights):  # spikes hide it: a neuron does not fire for NaN
            return [*rows, ("weights", "all", math.nan)]
        if epoch < s.save_updates:
            self._keep_update(changes, activity, rows)
        return rows

    def _measure(self, activity) -> list[tuple[str, str, float]]:
        dt = self.neuron.parameters.dt
        return [
            ("l2", "output", float(metrics.l2_distance(activity.output, self.network.target).mean())),
            ("van_rossum", "output", self._van_rossum(activity.output)),
            ("rate", "hidden", metrics.firing_rate(activity.hidden, dt)),
            ("rate", "output", metrics.firing_rate(activity.output, dt)),
        ]

    def _van_rossum(self, spikes: np.ndarray) -> float:
        return float(metrics.van_rossum_distance(spikes, self.network.target, self.network.kernel).mean())

    def _measure_variability(self, epoch: int) -> list[tuple[str, str, float]]:
        """Fano factors and inter-spike intervals, and the distances in the other neuron mode."""
        dt = self.neuron.parameters.dt
        rows = []
        trials = self.settings.measure_trials if self.neuron.mode == "escape_noise" else 1
        noise = self.noise.at(stream=MEASUREMENT, draw=epoch)
        activity = self.network.run(self.weights, self.escape, noise, trials)
        for layer in LAYERS:
            spikes = getattr(activity, layer)
            if self.neuron.mode == "escape_noise":
                rows.append(("fano", layer, metrics.fano_factor(spikes)))
                if layer == "output":
                    rows.append(("van_rossum_of_mean", layer, self._van_rossum(spikes.mean(axis=0, keepdims=True))))
            mean, variation = metrics.isi_statistics(spikes, dt)
            rows += [("isi_mean", layer, mean), ("isi_cv", layer, variation)]
        trials = 1 if self.neuron.mode == "escape_noise" else self.settings.measure_trials
        noise = self.noise.at(stream=OTHER_MODE, draw=epoch)
        other = self.network.run(self.weights, self.other_escape, noise, trials)
        return rows + [(f"{metric}_other_mode", layer, value) for metric, layer, value in self._measure(other)]

    def _measure_counts(self, epoch: int) -> list[tuple[str, str, float]]:
        """Fano factors of spike counts in a window, as Section 8.4.2 has them."""
        if self.neuron.mode != "escape_noise":
            return []
        s = self.settings
        window = max(1, round(s.fano_window / self.neuron.parameters.dt))
        if window > len(self.network.target):
            return []
        noise = self.noise.at(stream=COUNTS, draw=epoch)
        counts = {layer: metrics.SpikeCounts(window) for layer in LAYERS}
        for trials in torch.arange(s.fano_trials).split(TRIALS_AT_ONCE):
            activity = self.network.run(self.weights, self.escape, noise.at(samples=trials), len(trials))
            for layer in LAYERS:
                counts[layer].add(getattr(activity, layer))
        return [("fano_window", layer, counted.fano_factor) for layer, counted in counts.items()]

    def _measure_forms(self, epoch: int) -> list[tuple[str, str, float]]:
        """Van Rossum distances that answer differently whether a stochastic network matches as well as another one.

        Of single trials; of the output averaged over infinitely many, which the distances d_1 of single trials and d_k
        of the mean over k give as (k d_k - d_1) / (k - 1); and of the same weights without noise.
        """
        if self.neuron.mode != "escape_noise":
            return []
        k = self.settings.last_trials
        output = self.network.run(self.weights, self.escape, self.noise.at(stream=LAST, draw=epoch), k).output
        single, mean = self._van_rossum(output), self._van_rossum(output.mean(axis=0, keepdims=True))
        silent = self.network.run(self.weights, self.other_escape, self.noise, 1).output
        return [
            ("van_rossum_trials", "output", single),
            ("van_rossum_of_mean_corrected", "output", (k * mean - single) / (k - 1)),
            ("van_rossum_without_noise", "output", self._van_rossum(silent)),
        ]

    def _keep_update(self, changes, activity, rows) -> None:
        values = {metric: np.float64(value) for metric, _, value in rows[:2]}
        values |= {"dw0": changes[0], "dw1": changes[1]}
        if not self.updates:
            values |= {"hidden_spikes": activity.hidden, "output_spikes": activity.output}
        for name, value in values.items():
            self.updates.setdefault(name, []).append(value)

    def finish(self, epochs: int) -> tuple[list[tuple[str, str, float]], dict[str, np.ndarray]]:
        """Measure the network after ``epochs`` updates; rasters [time, neuron] before and after for the figures."""
        noise = self.noise.at(stream=TRAINING, draw=epochs)
        after = self.network.run(self.weights, self.escape, noise, self.settings.trials)
        before = self.network.run(self.initial_weights, self.escape, noise.at(draw=0), self.settings.trials)
        arrays = {"input": self.network.inputs, "target": self.network.target}
        for name, activity in (("before", before), ("after", after)):
            arrays |= {f"{layer}_{name}": getattr(activity, layer)[0] for layer in LAYERS}
        rows = self._measure(after) + self._measure_variability(epochs) + self._measure_counts(epochs)
        return rows, arrays

    def save(self, directory: Path) -> None:
        """Write updates.npz, if updates were asked for."""
        if self.updates:
            stacked = {name: np.stack(values) for name, values in self.updates.items()}
            stacked |= {name: stacked[name][0] for name in ("hidden_spikes", "output_spikes")}
            with atomic_path(directory / "updates.npz") as path:
                np.savez_compressed(path, **stacked)

    @staticmethod
    def graph(context, weights: dict[str, np.ndarray], inputs: int, euler_step: float | None):
        """The trained network for other programs, see :func:`sgtheory.nir.layers_to_nir`.

        Args:
            context: of the run.
            weights: w0 and w1 of :meth:`state`.
            inputs: number of input neurons.
            euler_step: see there.

        Raises:
            ValueError: if the weights are not those of such a network.
        """
        from sgtheory.nir import layers_to_nir  # the package nir need not be installed

        given = {name: list(w.shape) for name, w in weights.items()}
        hidden = context.settings.hidden
        if weights.keys() != {"w0", "w1"} or given["w0"] != [inputs, hidden] or given["w1"][:1] != [hidden]:
            raise ValueError(
                f"it has weights {given}, and this network has w0 [{inputs}, {hidden}], w1 [{hidden}, output]"
            )
        layers = []
        for name, w in zip(LAYERS, weights.values(), strict=True):
            escape = context.settings.escape[name] if context.neuron.mode == "escape_noise" else Step()
            layer = LIF(*w.shape, context.neuron.parameters, context.surrogate, escape)
            layer.weight.data = torch.from_numpy(w.T.copy())
            layers.append(layer)
        return layers_to_nir(torch.nn.Sequential(*layers), euler_step=euler_step)

    def summary(self, rows) -> str:
        """Where the run stands, for a progress line."""
        values = {(metric, layer): value for metric, layer, value in rows}
        return f"L2 {values['l2', 'output']:.2f}, van Rossum {values['van_rossum', 'output']:.3f}"
