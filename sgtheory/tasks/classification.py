"""Classification of spike trains by a recurrent convolutional spiking network (Section 8.4.2, Fig 7)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgtheory import metrics
from sgtheory.data import open_dataset
from sgtheory.errors import (
    ParameterError,
    UserError,
    require_choice,
    require_count,
    require_positive,
    require_word,
    under,
)
from sgtheory.files import atomic_path, user_path
from sgtheory.lif import Noise
from sgtheory.networks import ConvShape, ConvSNN
from sgtheory.neurons import LIFParameters, Step, SurrogateDerivative
from sgtheory.optimisers import make_optimiser
from sgtheory.tasks._batches import Batch, Loader
from sgtheory.tasks._classification_losses import LOSSES, regulariser
from sgtheory.tasks._classification_replay import Replay

# streams of noise; a network takes one for each layer when it runs, and more when it is initialised
INITIAL, TRAINING, VALIDATION, TEST, OTHER_MODE, REPEATED, SHOWN = range(100, 800, 100)
TRIALS_SHOWN = 30


@dataclass
class ClassificationSettings:
    """The ``task`` section; every key is explained in conf/task/classification.yaml."""

    name: str
    duration: float
    steps: int | None
    channels: list[int]
    kernels: list[int]
    strides: list[int]
    paddings: list[int]
    recurrent_kernels: list[int]
    readout_tau_mem: float
    readout_tau_syn: float
    sigma_u: float
    initial_rate: float
    alpha: float
    escape: Any
    loss: str
    upper_strength: float
    upper_count: float
    lower_strength: float
    lower_count: float
    regularise: str
    optimiser: str
    learning_rate: float
    batch_size: int
    validation_fraction: float
    split_seed: int
    training_samples: int | None
    test_samples: int | None
    measure_every: int
    fano_trials: int
    fano_window: float
    fano_sample: int
    recompute: bool
    replay: str | None

    def __post_init__(self):
        require_positive(
            duration=self.duration,
            readout_tau_mem=self.readout_tau_mem,
            readout_tau_syn=self.readout_tau_syn,
            sigma_u=self.sigma_u,
            initial_rate=self.initial_rate,
            learning_rate=self.learning_rate,
            fano_window=self.fano_window,
        )
        require_count(batch_size=self.batch_size, measure_every=self.measure_every, fano_trials=self.fano_trials)
        for name in ("steps", "training_samples", "test_samples"):
            if getattr(self, name) is not None:
                require_count(**{name: getattr(self, name)})
        for name in ("upper_strength", "upper_count", "lower_strength", "lower_count"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ParameterError(name, getattr(self, name), "must be a finite number, 0 or more")
        if not 0 < self.validation_fraction < 1:
            raise ParameterError("validation_fraction", self.validation_fraction, "must be above 0 and below 1")
        require_word(split_seed=self.split_seed)
        if not 0 < self.alpha <= 1:
            raise ParameterError("alpha", self.alpha, "must be above 0 and at most 1")
        require_choice(tuple(LOSSES), loss=self.loss)
        require_choice(("layer", "channel", "neuron"), regularise=self.regularise)
        if not self.channels:
            raise ParameterError("channels", self.channels, "must have an entry for each of at least one layer")
        for name in ("kernels", "strides", "paddings", "recurrent_kernels"):
            if len(getattr(self, name)) != len(self.channels):
                raise ParameterError(name, getattr(self, name), f"must have {len(self.channels)} entries like channels")
        self.shapes()

    def shapes(self) -> list[ConvShape]:
        """The convolutional layers from the input up."""
        columns = (self.channels, self.kernels, self.strides, self.paddings, self.recurrent_kernels)
        shapes = []
        for layer, row in enumerate(zip(*columns, strict=True)):
            try:
                shapes.append(ConvShape(*row))
            except ParameterError as error:  # the lists have the names of their entries in the plural
                name = f"{error.name.removesuffix('s')}s[{layer}]"
                raise ParameterError(name, error.value, error.allowed) from None
        return shapes

    def time_steps(self, dt: float) -> int:
        """Number of steps of ``dt`` seconds in a sample."""
        return self.steps or round(self.duration / dt)

    def network(
        self, inputs: int, classes: int, neuron: LIFParameters, surrogate: SurrogateDerivative, backend: str = "auto"
    ) -> ConvSNN:
        """The network of Table 3, or what was made of it, before its weights are drawn."""
        readout = LIFParameters(self.readout_tau_mem, self.readout_tau_syn, neuron.dt, delay=neuron.delay)
        return ConvSNN(inputs, self.shapes(), classes, neuron, readout, surrogate, backend, self.recompute)

    def initialise(self, network: ConvSNN, seed: int) -> None:
        """Draw the initial weights of ``network``."""
        network.initialise(Noise(seed, stream=INITIAL), self.sigma_u, self.initial_rate, self.alpha)


class Classification:
    """The task as the runner sees it: state, one pass over the training set, and what is measured.

    Order of the samples and noise are functions of seed, epoch and update; weights, the state of the optimiser and the
    position within the epoch are the whole state. ``report``, if set, is called between batches with the fraction of
    the epoch that is done, and may raise to stop there.
    """

    Settings = ClassificationSettings
    fastest_device = "cuda"
    may_be_nan = frozenset({"fano", "fano_step"})  # undefined when nothing spikes
    added_to_state = frozenset({"best"})  # not in checkpoints of early versions

    def __init__(self, context):
        self.settings: ClassificationSettings = context.settings
        s, p = self.settings, context.neuron.parameters
        self.noise, self.seed = Noise(context.seed), context.seed
        self.device = torch.device(context.trainer.device)
        stochastic, deterministic = s.escape["hidden"], Step()
        self.own_mode = context.neuron.mode
        pair = (stochastic, deterministic)
        self.escape, self.other_escape = pair if self.own_mode == "escape_noise" else pair[::-1]
        self.dt = p.dt
        self.steps = s.time_steps(p.dt)
        if not self.steps:
            raise ParameterError("task.duration", s.duration, f"must be at least one time step, {p.dt:g} s")
        self.loader = Loader(self.steps, p.dt, s.duration, self.device)
        self.report: Callable[[float], None] = lambda fraction: None

        def network(inputs, classes):
            return s.network(inputs, classes, p, context.surrogate, context.trainer.backend).to(self.device)

        if s.replay:
            self.replay = Replay(user_path(s.replay), network, self.escape, self.noise, self.objective)
            return
        self.window = max(1, round(s.fano_window / p.dt))
        if self.window > self.steps:
            raise ParameterError("task.fano_window", s.fano_window, f"must be at most {self.steps * p.dt:g} s")
        if not context.data:
            raise UserError("data is empty: say which data set, for example data=auto")
        with under("data"):
            self.data = open_dataset(progress=context.progress, **context.data)
        self.classes = len(self.data.train.keys)
        if self.data.validation is None:
            self.training, self.validation = self.data.train.split(s.validation_fraction, s.split_seed)
            self.validated = self.data.train
            if not len(self.training):
                allowed = f"of {len(self.data.train)} samples of {self.data.name} none is left to train on"
                raise ParameterError("task.validation_fraction", s.validation_fraction, allowed)
        else:
            self.validated = self.data.validation
            self.training, self.validation = np.arange(len(self.data.train)), np.arange(len(self.validated))
        self.test = np.arange(len(self.data.test))
        for name, indices in (("training", self.training), ("test", self.test)):
            wanted = getattr(s, f"{name}_samples")
            if wanted is not None and wanted > len(indices):
                raise ParameterError(f"task.{name}_samples", wanted, f"must be at most {len(indices)}")
        if s.training_samples:
            chosen = np.random.default_rng(s.split_seed).permutation(self.training)[: s.training_samples]
            self.training = np.sort(chosen)
        self.test = self.test[: s.test_samples]
        if not 0 <= s.fano_sample < len(self.test):
            raise ParameterError("task.fano_sample", s.fano_sample, f"must be from 0 to {len(self.test) - 1}")
        with under("task"):
            self.network = network(self.data.train.channels, self.classes)
            self.optimiser = make_optimiser(s.optimiser, self.network.parameters(), s.learning_rate)
        with under("neuron"):
            s.initialise(self.network, self.seed)
        self.done = _Sums()
        self.best: dict | None = self._weights_of(epoch=0, accuracy=-1.0)  # in validation; None: not known

    @property
    def description(self) -> str:
        """What is learnt, for the first line of the log."""
        weights = sum(w.numel() for w in self.network.parameters())
        text = (
            f"{self.data.name}: {len(self.training)} training, {len(self.validation)} validation and {len(self.test)} "
            f"test samples of {self.classes} classes, {self.steps} steps of {1e3 * self.dt:g} ms; {weights} weights"
        )
        return f"{text} ({self.data.note})" if self.data.note else text

    def state(self) -> dict:
        """Weights, the optimiser, the position within the epoch and the best weights so far, as tensors and numbers."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "done": vars(self.done).copy(),
            **({} if self.best is None else {"best": self.best}),
        }

    def restore(self, state: dict) -> None:
        """Take over what :meth:`state` returned."""
        self.network.load_state_dict(state["network"])
        if state["optimiser"]["param_groups"] != self.optimiser.state_dict()["param_groups"]:
            raise ValueError("its optimiser has other settings")
        self.optimiser.load_state_dict(state["optimiser"])
        expected = self._optimiser_state()
        for w, values in self.optimiser.state.items():
            shapes = {key: getattr(value, "shape", None) for key, value in values.items()}
            if shapes != {key: w.shape if shape == (1,) else shape for key, shape in expected.items()}:
                raise ValueError("its optimiser is of another network")
        self.best = state.get("best")
        self.done = _Sums(**state["done"])
        if not 0 <= self.done.batches <= len(self._batches(0)):
            raise ValueError(f"it is within an epoch after {self.done.batches} batches")

    def _optimiser_state(self) -> dict[str, torch.Size | None]:
        """What the optimiser keeps for a single weight: shapes by name."""
        weight = torch.nn.Parameter(torch.zeros(1))
        weight.grad = torch.zeros(1)
        optimiser = make_optimiser(self.settings.optimiser, [weight], self.settings.learning_rate)
        optimiser.step()
        return {key: getattr(value, "shape", None) for key, value in optimiser.state[weight].items()}

    def start(self) -> list[tuple[str, str, float]]:
        """What the network does before training."""
        return self._validate(0) + self._measure_variability(0)

    def epoch(self, epoch: int) -> list[tuple[str, str, float]]:
        """One pass over the training set in random order, goes on where it stopped; then validation."""
        batches = self._batches(epoch)
        first = self.done.batches
        for index, batch in enumerate(self.loader.batches(self.data.train, batches[first:]), start=first):
            finite = self._update(batch, draw=epoch * len(batches) + index)
            if not (math.isfinite(self.done.loss) and finite):
                rows = [(metric, "training", value) for metric, value in self.done.means().items()]
                seen = not all(math.isfinite(value) for _, _, value in rows)
                return rows if seen else [*rows, ("weights", "training", math.nan)]
            self.report((index + 1) / len(batches))
        rows = [(metric, "training", value) for metric, value in self.done.means().items()]
        self.done = _Sums()
        rows += self._validate(epoch + 1)
        accuracy = {row[:2]: row[2] for row in rows}["accuracy", "validation"]
        if self.best and accuracy > self.best["accuracy"]:
            self.best = self._weights_of(epoch + 1, accuracy)
        if (epoch + 1) % self.settings.measure_every == 0:
            rows += self._measure_variability(epoch + 1)
        return rows

    def _weights_of(self, epoch: int, accuracy: float) -> dict:
        """A copy of the weights, and when and how good they were."""
        weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        return {"epoch": epoch, "accuracy": accuracy, "weights": weights}

    def _is_finite(self) -> torch.Tensor:
        """Whether weights and optimiser are: spikes, and so the loss, hide NaN, since a neuron does not fire for it."""
        kept = [value for state in self.optimiser.state.values() for value in state.values()]
        tensors = [w.detach() for w in self.network.parameters()] + [k for k in kept if torch.is_tensor(k) and k.ndim]
        return torch.cat([tensor.flatten() for tensor in tensors]).isfinite().all()

    def _batches(self, epoch: int) -> list[np.ndarray]:
        order = np.random.default_rng((self.seed, epoch)).permutation(self.training)
        return np.split(order, range(self.settings.batch_size, len(order), self.settings.batch_size))

    def _update(self, batch: Batch, draw: int) -> bool:
        """Change the weights once; returns whether they are finite."""
        noise = self.noise.at(stream=TRAINING, draw=draw, samples=batch.samples)
        potentials, counts = self.network(batch.inputs, self.escape, noise)
        loss, penalty, answers = self.objective(potentials, counts, batch.labels)
        self.optimiser.zero_grad(set_to_none=True)
        (loss + penalty).backward()
        self.optimiser.step()
        *measured, finite = _numbers(loss, penalty, (answers == batch.labels).sum(), self._is_finite())
        self.done.add(len(batch), *measured)
        return bool(finite)

    def objective(self, potentials, counts, labels) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss and activity penalty (Eqs 26-29), means over the samples, and the answers [batch]."""
        s = self.settings
        scores = LOSSES[s.loss](potentials)
        loss = torch.nn.functional.cross_entropy(scores, labels)
        penalty = regulariser(
            counts, s.regularise, (s.upper_strength, s.upper_count), (s.lower_strength, s.lower_count)
        )
        return loss, penalty, scores.argmax(dim=1)

    def _batch(self, data, indices) -> Batch:
        """Some samples as one batch."""
        (batch,) = self.loader.batches(data, [np.asarray(indices)])
        return batch

    @torch.no_grad()
    def _evaluate(self, data, indices, escape, noise) -> tuple["_Sums", list[float], np.ndarray]:
        """Means over samples, mean spike count of each layer's neurons, and the answer to each sample."""
        sums, total, answered = _Sums(), [0.0] * len(self.network.shapes), []
        parts = np.split(indices, range(self.settings.batch_size, len(indices), self.settings.batch_size))
        for batch in self.loader.batches(data, parts):
            potentials, counts = self.network(batch.inputs, escape, noise.at(samples=batch.samples))
            loss, penalty, answers = self.objective(potentials, counts, batch.labels)
            in_layers = [count.mean(dim=(1, 2)).sum() for count in counts]
            *measured, right = _numbers(loss, penalty, *in_layers, (answers == batch.labels).sum())
            sums.add(len(batch), *measured[:2], right)
            total = [t + count for t, count in zip(total, measured[2:], strict=True)]
            answered.append(answers)
        return sums, [t / len(indices) for t in total], torch.cat(answered).cpu().numpy()

    def _validate(self, epoch: int) -> list[tuple[str, str, float]]:
        noise = self.noise.at(stream=VALIDATION, draw=epoch)
        sums, counts, _ = self._evaluate(self.validated, self.validation, self.escape, noise)
        means = sums.means()
        rows = [(metric, "validation", means[metric]) for metric in ("loss", "accuracy")]
        rates = [count / (self.steps * self.dt) for count in counts]
        return rows + [("rate", f"hidden{layer}", rate) for layer, rate in enumerate(rates, start=1)]

    def _measure_variability(self, epoch: int) -> list[tuple[str, str, float]]:
        """Loss and accuracy in the other neuron mode, and Fano factors if spiking is stochastic."""
        noise = self.noise.at(stream=OTHER_MODE, draw=epoch)
        means = self._evaluate(self.validated, self.validation, self.other_escape, noise)[0].means()
        rows = [(f"{metric}_other_mode", "validation", means[metric]) for metric in ("loss", "accuracy")]
        if self.own_mode == "escape_noise":
            noise = self.noise.at(stream=REPEATED, draw=epoch)
            _, activity = self._repeat(self.settings.fano_trials, noise)
            for layer, spikes in enumerate(activity, start=1):
                trials = spikes.cpu().numpy()
                rows.append(("fano", f"hidden{layer}", metrics.fano_factor(trials, self.window)))
                rows.append(("fano_step", f"hidden{layer}", metrics.fano_factor(trials)))
        return rows

    def _repeat(self, trials: int, noise: Noise):
        """Readout potentials and spikes of each layer in repeated trials of one test sample."""
        one = self._batch(self.data.test, [self.test[self.settings.fano_sample]])
        return self.network.activity(one.inputs.expand(trials, -1, -1), self.escape, noise)

    def finish(self, epochs: int) -> tuple[list[tuple[str, str, float]], dict[str, np.ndarray]]:
        """Test in both neuron modes, and activity for the figures."""
        arrays = {
            "data_name": np.array(self.data.name),
            "class_names": np.array(self.data.train.keys),
            "training_samples": np.array(len(self.training)),
            "validation_samples": np.array(len(self.validation)),
            "test_samples": np.array(len(self.test)),
        }
        rows = [] if epochs % self.settings.measure_every == 0 else self._measure_variability(epochs)
        tested, confusions, correct = self._test(epochs)
        rows, arrays = rows + tested, arrays | confusions | self._rasters(correct)
        if self.best and self.best["epoch"]:
            last = self._weights_of(epochs, 0.0)
            self.network.load_state_dict(self.best["weights"])
            tested, _, _ = self._test(epochs)
            self.network.load_state_dict(last["weights"])
            rows += [(f"{m}_best_validation", layer, value) for m, layer, value in tested if m.startswith("accuracy")]
            rows.append(("epoch_best_validation", "validation", float(self.best["epoch"])))
        return rows, arrays

    def _test(self, epochs: int) -> tuple[list[tuple[str, str, float]], dict[str, np.ndarray], np.ndarray]:
        """Loss and accuracy in both neuron modes, confusion [true class, answer], and which answers are right.

        Accuracy also of the samples by speakers whom the training set has, and of those by others. The last result is
        of the network's own mode. ``epochs``, for which it was trained, chooses the noise.
        """
        rows, confusions, right = [], {}, []
        labels, groups = self.data.test.labels[self.test], self._speaker_groups()
        for suffix, escape, stream in (("", self.escape, TEST), ("_other_mode", self.other_escape, OTHER_MODE)):
            noise = self.noise.at(stream=stream, draw=epochs + 1)
            sums, _, answers = self._evaluate(self.data.test, self.test, escape, noise)
            rows += [(f"{metric}{suffix}", "test", sums.means()[metric]) for metric in ("loss", "accuracy")]
            right.append(correct := answers == labels)
            rows += [(f"accuracy{suffix}", f"test_{name}", float(correct[group].mean())) for name, group in groups]
            confusion = np.zeros((self.classes, self.classes), np.int64)
            np.add.at(confusion, (labels, answers), 1)
            confusions[f"confusion{suffix}"] = confusion
        return rows, confusions, right[0]

    def _speaker_groups(self) -> list[tuple[str, np.ndarray]]:
        """Which test samples are by speakers who are heard in training, and which are not, where both are there."""
        speakers = self.data.test.speakers[self.test]
        heard = np.isin(speakers, self.data.train.speakers[self.training])
        groups = [("known_speakers", heard), ("new_speakers", ~heard)]
        return groups if (speakers >= 0).all() and heard.any() and not heard.all() else []

    def _rasters(self, correct: np.ndarray) -> dict[str, np.ndarray]:
        """Two test samples of different classes, and one neuron of each layer in repeated trials of one sample.

        The samples are the first of all classes and the first of any other class that the network answers rightly
        (``correct``), if there are any.
        """
        labels, order = self.data.test.labels[self.test], np.argsort(~correct, kind="stable")
        shown = order[[0, np.argmax(labels[order] != labels[order[0]])]]
        noise = self.noise.at(stream=SHOWN, samples=torch.from_numpy(shown))
        inputs = self._batch(self.data.test, self.test[shown]).inputs
        potentials, activity = self.network.activity(inputs, self.escape, noise)
        arrays = {"samples": self.test[shown], "labels": labels[shown], "input": inputs.cpu().numpy()}
        arrays["readout"] = potentials.detach().cpu().numpy()
        arrays |= {f"hidden{layer}": spikes.cpu().numpy() for layer, spikes in enumerate(activity, start=1)}
        _, repeated = self._repeat(TRIALS_SHOWN, self.noise.at(stream=REPEATED))
        means = [spikes.sum(dim=1, dtype=torch.float32).mean(dim=0) for spikes in repeated]
        typical = [int((mean - self.settings.upper_count).abs().argmin()) for mean in means]
        trials = [spikes[:, :, neuron] for spikes, neuron in zip(repeated, typical, strict=True)]
        arrays["trials"] = torch.stack(trials, dim=-1).cpu().numpy()
        arrays["trials_neurons"], arrays["trials_layers"] = np.array(typical), np.arange(1, len(typical) + 1)
        return arrays

    def save(self, directory: Path) -> None:
        """Write weights.npz: the trained weights as w0, w1, ... in the layout and order that ``task.replay`` takes."""
        weights = {f"w{i}": w.detach().cpu().numpy() for i, (_, w) in enumerate(self.network.weights())}
        with atomic_path(directory / "weights.npz") as path:
            np.savez_compressed(path, **weights)

    def load_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Take over weights as :meth:`save` has written them.

        Raises:
            ValueError: if they are not those of this network.
        """
        _load(self.network, weights)

    @staticmethod
    def graph(context, weights: dict[str, np.ndarray], inputs: int, euler_step: float | None):
        """The trained network for other programs, see :func:`sgtheory.nir.network_to_nir`.

        Args:
            context: of the run.
            weights: as :meth:`save` has written them.
            inputs: number of input channels.
            euler_step: see there.

        Raises:
            ValueError: if the weights are not those of this network.
        """
        from sgtheory.nir import network_to_nir  # the package nir need not be installed

        neuron, last = context.neuron, len(weights) - 1
        classes = len(weights[f"w{last}"]) if f"w{last}" in weights else 1
        network = context.settings.network(inputs, classes, neuron.parameters, context.surrogate)
        _load(network, weights)
        escape = context.settings.escape["hidden"] if neuron.mode == "escape_noise" else Step()
        return network_to_nir((1, inputs), *network.parts(escape), euler_step)

    def summary(self, rows) -> str:
        """Where the run stands, for a progress line."""
        values = {(metric, layer): value for metric, layer, value in rows}
        parts = [
            f"{what} {values['accuracy', what]:.3f}"
            for what in ("training", "validation", "test")
            if ("accuracy", what) in values
        ]
        return f"accuracy {', '.join(parts)}"


def _load(network: ConvSNN, weights: dict[str, np.ndarray]) -> None:
    named = {f"w{i}": w for i, (_, w) in enumerate(network.weights())}
    expected = {name: list(w.shape) for name, w in named.items()}
    if (given := {name: list(w.shape) for name, w in weights.items()}) != expected:
        raise ValueError(f"it has weights {given}, and this network has {expected}")
    with torch.no_grad():
        for name, w in named.items():
            w.copy_(torch.from_numpy(weights[name]))


def _numbers(*values: torch.Tensor) -> list[float]:
    """Scalars by one copy to the host, for which a GPU is waited for."""
    return torch.stack([value.to(torch.float32) for value in values]).cpu().tolist()


@dataclass
class _Sums:
    """Sums over samples, so that batches of different size weigh as they should."""

    batches: int = 0
    samples: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    regulariser: float = 0.0

    def add(self, samples: int, loss: float, penalty: float, correct: float) -> None:
        """A batch: number of samples, mean loss and penalty, and how many answers were correct."""
        self.batches += 1
        self.samples += samples
        self.loss += samples * loss
        self.regulariser += samples * penalty
        self.accuracy += int(correct)

    def means(self) -> dict[str, float]:
        return {name: getattr(self, name) / max(self.samples, 1) for name in ("loss", "accuracy", "regulariser")}
