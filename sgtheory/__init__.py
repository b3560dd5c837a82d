"""Surrogate gradient learning in spiking neural networks against stochastic automatic differentiation.

Reproduces Gygax & Zenke, "Elucidating the theoretical underpinnings of surrogate gradient learning in
spiking neural networks", Neural Computation 37(5):886-925, 2025. Equations, sections, tables and figures have the
numbers of the preprint, arXiv 2404.14964.
"""

import os
import sys

# Threads of OpenMP that spin while they wait make a busy machine ten times slower. This is read when PyTorch is
# imported; sgtheory.threads sees to a PyTorch that was imported before. A setting of the user goes first.
TOLD_TOO_LATE = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
