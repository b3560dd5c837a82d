"""The leaky integrate-and-fire core: one operation, several backends, one meaning.

:func:`lif` is the operation, :class:`LIF` a layer with weights, :func:`spiking_network` a stack of layers with a
readout. For learning rules that are not back-propagation there are pieces of the CPU backend, on numpy arrays:
:func:`simulate`, :func:`weighted_spikes`, :func:`weight_gradient`, :func:`filter_cascade` and
:func:`mean_surrogate_error`; :func:`spike_product` is a product with spikes under autograd.
"""

from sgtheory.lif._layer import BACKENDS, leaky_readout, lif
from sgtheory.lif._module import LIF
from sgtheory.lif._network import Layer, Readout, network_activity, spiking_network
from sgtheory.lif._noise import Noise
from sgtheory.lif._state import State
from sgtheory.lif.cpu.memory import empty_cache
from sgtheory.lif.cpu.synapses import (
    filter_cascade,
    mean_surrogate_error,
    simulate,
    spike_product,
    weight_gradient,
    weighted_spikes,
)
from sgtheory.lif.cuda.backend import cuda_available

__all__ = [
    "BACKENDS",
    "LIF",
    "Layer",
    "Noise",
    "Readout",
    "State",
    "cuda_available",
    "empty_cache",
    "filter_cascade",
    "leaky_readout",
    "lif",
    "mean_surrogate_error",
    "network_activity",
    "simulate",
    "spike_product",
    "spiking_network",
    "weight_gradient",
    "weighted_spikes",
]
