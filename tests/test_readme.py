"""The Python in the README runs as written and does what it says."""

import re

import torch
from conftest import ROOT


def test_the_example_of_the_core_learns():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    torch.manual_seed(0)
    scope = {}
    exec(code, scope)
    assert abs(float(scope["spikes"].detach().mean()) / scope["neuron"].dt - 40) < 5
    assert float(scope["loss"].detach()) < 150  # from 1500
