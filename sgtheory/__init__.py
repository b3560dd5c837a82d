"""Surrogate gradient learning in spiking neural networks against stochastic automatic differentiation.

Reproduces Gygax & Zenke, "Elucidating the theoretical underpinnings of surrogate gradient learning in
spiking neural networks", Neural Computation 37(5):886-925, 2025.
"""

__version__ = "0.1.0"
