"""A task for tests of sweeps: records the threads of its run, and waits in its third epoch for a file."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sgtheory.lif import lif
from sgtheory.neurons import LIFParameters, SuperSpike


class Waiting:
    may_be_nan = frozenset()

    @dataclass
    class Settings:
        name: str
        go: str

    def __init__(self, context):
        self.go, self.value = Path(context.settings.go), torch.tensor(float(context.seed), dtype=torch.float64)

    def state(self):
        return {"value": self.value}

    def restore(self, state):
        self.value = state["value"]

    def epoch(self, n):
        while n == 2 and not self.go.exists():
            time.sleep(0.01)
            self.report(0.5)
        self.value = torch.sin(self.value * 1.3 + n)
        return [("value", "", float(self.value))]

    def report(self, fraction):
        """Replaced by the runner."""

    def finish(self, epochs):
        lif(torch.zeros(1, 2, 1), LIFParameters(tau_mem=0.02, tau_syn=0.01, dt=0.001), SuperSpike(beta=10.0))
        return [("threads", "torch", torch.get_num_threads())], {}

    def save(self, directory):
        pass

    def summary(self, rows):
        return ""
