"""Time constants of each neuron, learnt or the same for all: a small recurrent network on spoken digits in both modes.

    python scripts/time_constants.py data/shd
    python scripts/time_constants.py data/shd seeds=3 epochs=10 samples=2000

128 recurrent neurons and a readout (700 channels, 2 ms steps, 0.7 s) start from the same weights with tau_mem = 20 ms
and tau_syn = 10 ms. "Learnt" are the logarithms of both for every neuron, with Adam beside the weights (the question
of Perez-Nieves et al. 2021, doi:10.1038/s41467-021-26022-3). Prints the test accuracy after the last epoch.
"""

import statistics
import sys

import torch
from scipy.stats import t

from sgtheory.command import parse, report_errors
from sgtheory.data import open_dataset
from sgtheory.errors import UserError
from sgtheory.lif import Layer, Noise, Readout, spiking_network
from sgtheory.networks import normal_weights, recurrent_fluctuation_driven_std
from sgtheory.neurons import LIFParameters, SigmoidEscape, Step, SuperSpike

ARGUMENTS = {"DATA_DIR": "folder with shd_train.h5 and shd_test.h5"}
SETTINGS = {"seeds=3": "networks of each kind", "epochs=10": "of training", "samples=2000": "to train on"}
STEPS, DT, HIDDEN, BATCH = 350, 2e-3, 128, 64
START = {"tau_mem": 20e-3, "tau_syn": 10e-3}  # s
MODES = {"deterministic": Step(), "stochastic": SigmoidEscape(10.0)}


class Network:
    """One recurrent layer under a leaky readout; ``learn`` makes time constants of the neurons leaves."""

    def __init__(self, mode: str, learn: bool, seed: int, channels: int, classes: int):
        self.escape, self.noise = MODES[mode], Noise(seed)
        start = LIFParameters(**START, dt=DT)
        std, recurrent_std = recurrent_fluctuation_driven_std(1.0, channels, HIDDEN, 15.0, 0.9, start)
        shapes = {"weight": (HIDDEN, 1, channels), "recurrent": (HIDDEN, HIDDEN, 1), "readout": (classes, HIDDEN)}
        scales = std, recurrent_std, HIDDEN**-0.5
        self.weights = [
            normal_weights(shape, scale, self.noise.at(stream=stream)).requires_grad_()
            for stream, (shape, scale) in enumerate(zip(shapes.values(), scales, strict=True))
        ]
        self.logarithms = {
            name: torch.full((HIDDEN,), tau).log_().requires_grad_() for name, tau in START.items() if learn
        }
        groups = [{"params": self.weights, "lr": 1e-3}, {"params": [*self.logarithms.values()], "lr": 1e-2}]
        self.optimiser = torch.optim.Adam([group for group in groups if group["params"]])

    def time_constants(self) -> dict[str, torch.Tensor]:
        """In seconds, those that are learnt."""
        return {name: logarithm.exp() for name, logarithm in self.logarithms.items()}

    def __call__(self, data, indices: torch.Tensor, noise: Noise) -> tuple[torch.Tensor, torch.Tensor]:
        """Maximum over time of the readout [batch, class], and spikes of the neurons [batch, neuron]."""
        inputs = torch.from_numpy(data.bin(indices.numpy(), STEPS, DT))
        layer = Layer(LIFParameters(**{**START, **self.time_constants()}, dt=DT), SuperSpike(10.0), self.escape)
        weight, recurrent, last = self.weights
        readout = Readout(LIFParameters(**START, dt=DT))
        potentials, (counts,) = spiking_network(
            inputs, [layer], [weight], [recurrent], readout, last, noise.at(stream=10, samples=indices)
        )
        return potentials.amax(dim=1), counts.flatten(1)

    def train(self, data, labels: torch.Tensor, samples: int, epochs: int) -> None:
        """On the first ``samples`` of a random order."""
        generator = torch.Generator().manual_seed(self.noise.seed)
        chosen = torch.randperm(len(data), generator=generator)[:samples]
        updates = 0
        for _ in range(epochs):
            for batch in chosen[torch.randperm(len(chosen), generator=generator)].split(BATCH):
                scores, _ = self(data, batch, self.noise.at(draw=updates))
                loss = torch.nn.functional.cross_entropy(scores, labels[batch])
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                updates += 1

    @torch.no_grad()
    def test(self, data, labels: torch.Tensor) -> tuple[float, float]:
        """Accuracy, and rate of the neurons (Hz)."""
        right, spikes = 0, 0.0
        for batch in torch.arange(len(data)).split(4 * BATCH):
            scores, counts = self(data, batch, self.noise.at(draw=2**31))
            right += int((scores.argmax(dim=1) == labels[batch]).sum())
            spikes += float(counts.sum())
        return right / len(data), spikes / (len(data) * HIDDEN * STEPS * DT)


def main(arguments: list[str]) -> None:
    (folder,), given = parse(__doc__, ARGUMENTS, SETTINGS, arguments)
    for key, value in given.items():
        least = 2 if key == "seeds" else 1
        if not value.isdecimal() or int(value) < least:
            raise UserError(f"{key}={value} is not a whole number of at least {least}")
    seeds, epochs, samples = (int(given.get(*setting.split("="))) for setting in SETTINGS)
    data = open_dataset("shd", folder)
    labels = [torch.as_tensor(part.labels) for part in (data.train, data.test)]
    print(
        f"{data.name}: {min(samples, len(data.train))} samples to train on, {len(data.test)} to test, {epochs} epochs"
    )
    for mode in MODES:
        accuracies = {}
        for learn in (False, True):
            for seed in range(1, seeds + 1):
                net = Network(mode, learn, seed, data.train.channels, len(data.train.keys))
                net.train(data.train, labels[0], samples, epochs)
                accuracy, rate = net.test(data.test, labels[1])
                accuracies[learn, seed] = accuracy
                spread = "".join(
                    f", {name} {tau.quantile(0.1) * 1e3:.1f} to {tau.quantile(0.9) * 1e3:.1f} ms"
                    for name, tau in net.time_constants().items()
                )
                kind = "learnt" if learn else "equal"
                print(f"{mode}, {kind}, seed {seed}: {accuracy:.3f}, {rate:.0f} Hz{spread}", flush=True)
        gains = [accuracies[True, seed] - accuracies[False, seed] for seed in range(1, seeds + 1)]
        mean, width = statistics.mean(gains), t.ppf(0.975, seeds - 1) * statistics.stdev(gains) / seeds**0.5
        interval = f"{mean - width:+.3f} to {mean + width:+.3f}"
        print(f"{mode}: learnt minus equal {mean:+.3f} (95 % interval {interval}, t, n = {seeds})", flush=True)


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
