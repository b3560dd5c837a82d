"""The leaky integrate-and-fire core: one operation, several backends, one meaning.

:func:`lif` is the operation, :class:`LIF` a layer with weights, :func:`spiking_network` a stack of layers with a
readout. :func:`simulate`, :func:`weighted_spikes`, :func:`weight_gradient` and :func:`filter_cascade` are pieces of the
CPU backend, on numpy arrays and without autograd, for learning rules that are not back-propagation.
"""

from sgtheory.lif._layer import BACKENDS, leaky_readout, lif
from sgtheory.lif._module import LIF
from sgtheory.lif._network import Layer, Readout, network_activity, spiking_network
from sgtheory.lif._noise import Noise
from sgtheory.lif.cpu.memory import empty_cache
from sgtheory.lif.cpu.operators import simulate
from sgtheory.lif.cpu.synapses import filter_cascade, weight_gradient, weighted_spikes
from sgtheory.lif.cuda.backend import cuda_available

__all__ = [
    "BACKENDS",
    "LIF",
    "Layer",
    "Noise",
    "Readout",
    "cuda_available",
    "empty_cache",
    "filter_cascade",
    "leaky_readout",
    "lif",
    "network_activity",
    "simulate",
    "spiking_network",
    "weight_gradient",
    "weighted_spikes",
]
