"""What a spiking neuron is made of: LIF parameters, escape functions, surrogate derivatives.

All of them are small frozen objects. An escape function decides how a neuron spikes (forward pass), a surrogate
derivative how an error passes through the spike (backward pass); they are handed to a layer independently, so
two layers can differ, and one network can be evaluated in the other neuron mode without being changed.
"""

from sgtheory.neurons._escape import ErfEscape, EscapeFunction, ExponentialEscape, SigmoidEscape, Step
from sgtheory.neurons._lif import LIFParameters
from sgtheory.neurons._surrogate import (
    EscapeDerivative,
    MultilayerSpiker,
    RectifiedLinear,
    ScaledSigmoidDerivative,
    ScaledSuperSpike,
    SigmoidDerivative,
    StraightThrough,
    SuperSpike,
    SurrogateDerivative,
    surrogate_spike,
)

__all__ = [
    "ErfEscape",
    "EscapeDerivative",
    "EscapeFunction",
    "ExponentialEscape",
    "LIFParameters",
    "MultilayerSpiker",
    "RectifiedLinear",
    "ScaledSigmoidDerivative",
    "ScaledSuperSpike",
    "SigmoidDerivative",
    "SigmoidEscape",
    "Step",
    "StraightThrough",
    "SuperSpike",
    "SurrogateDerivative",
    "surrogate_spike",
]
