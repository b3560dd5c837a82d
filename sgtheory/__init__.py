"""Surrogate gradient learning in spiking neural networks against stochastic automatic differentiation.

Reproduces Gygax & Zenke, "Elucidating the theoretical underpinnings of surrogate gradient learning in
spiking neural networks", Neural Computation 37(5):886-925, 2025.
"""

import os

# Threads of OpenMP that spin while they wait make a busy machine ten times slower. Read when PyTorch is imported, so it
# has no effect on a PyTorch that was imported before; a setting of the user goes first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
