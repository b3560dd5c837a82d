"""The network of the classification task, and initialisation in the fluctuation-driven regime."""

from sgtheory.networks._conv_snn import ConvShape, ConvSNN
from sgtheory.networks._initialisation import (
    fluctuation_driven_std,
    normal_weights,
    psp_energy,
    recurrent_fluctuation_driven_std,
)

__all__ = [
    "ConvSNN",
    "ConvShape",
    "fluctuation_driven_std",
    "normal_weights",
    "psp_energy",
    "recurrent_fluctuation_driven_std",
]
