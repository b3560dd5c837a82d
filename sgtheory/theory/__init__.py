"""The theory as computations: nets small enough for exact answers, and every gradient estimator against them.

Everything is float64 and reproducible from a seed.
"""

from sgtheory.theory._agreement import Agreement, agreement, relative_error, squared_norm
from sgtheory.theory._alignment import SPIKE_TIME_NEURON, DiscreteNets, SpikingNet, cosine, sign_agreement
from sgtheory.theory._chain_rule import chain_rule_derivatives, perceptron_chain
from sgtheory.theory._estimators import (
    BinaryConcrete,
    Estimator,
    Exact,
    FiniteDifferences,
    Jumps,
    Quality,
    ScoreFunction,
    SmoothedStochAD,
    StochAD,
    SurrogateGradient,
    measure,
)
from sgtheory.theory._lif_net import LIF_NEURON, LIFNet, LIFObjective, VanRossumLoss, random_lif_objective
from sgtheory.theory._line_integral import Circulation, Loop, circulation, riemann_sum
from sgtheory.theory._loop_nets import (
    FieldNet,
    RelaxedPerceptronNet,
    SigmoidNet,
    SpikeMatchingNet,
    StochasticPerceptronNet,
)
from sgtheory.theory._loops import (
    SPIKE_MATCHING_NEURON,
    TABLE_NETS,
    TABLE_SURROGATES,
    LoopIntegralSettings,
    build_loop,
    build_net,
    conservative_fields,
    differs_from_zero,
    integrate_loop,
    loop_integral,
)
from sgtheory.theory._perceptron import (
    Objective,
    PerceptronNet,
    first_output,
    pattern_probabilities,
    random_objective,
    spike_patterns,
)
from sgtheory.theory._rtrl import ForwardSensitivities, back_propagation_through_time, real_time_recurrent_learning
from sgtheory.theory._sigmoid_net import gradient_field, relaxed_spike, sigmoid_net
from sgtheory.theory._spike_times import (
    SpikeTrain,
    psp_overlap,
    simulate_events,
    spike_time_derivatives,
    synaptic_kernel,
    van_rossum,
)
from sgtheory.theory._stochad import (
    StochasticDerivative,
    bernoulli_derivative,
    right_share,
    smoothed_bernoulli,
    stochastic_derivative,
)

__all__ = [
    "LIF_NEURON",
    "SPIKE_MATCHING_NEURON",
    "SPIKE_TIME_NEURON",
    "TABLE_NETS",
    "TABLE_SURROGATES",
    "Agreement",
    "BinaryConcrete",
    "Circulation",
    "DiscreteNets",
    "Estimator",
    "Exact",
    "FieldNet",
    "FiniteDifferences",
    "ForwardSensitivities",
    "Jumps",
    "LIFNet",
    "LIFObjective",
    "Loop",
    "LoopIntegralSettings",
    "Objective",
    "PerceptronNet",
    "Quality",
    "RelaxedPerceptronNet",
    "ScoreFunction",
    "SigmoidNet",
    "SmoothedStochAD",
    "SpikeMatchingNet",
    "SpikeTrain",
    "SpikingNet",
    "StochAD",
    "StochasticDerivative",
    "StochasticPerceptronNet",
    "SurrogateGradient",
    "VanRossumLoss",
    "agreement",
    "back_propagation_through_time",
    "bernoulli_derivative",
    "build_loop",
    "build_net",
    "chain_rule_derivatives",
    "circulation",
    "conservative_fields",
    "cosine",
    "differs_from_zero",
    "first_output",
    "gradient_field",
    "integrate_loop",
    "loop_integral",
    "measure",
    "pattern_probabilities",
    "perceptron_chain",
    "psp_overlap",
    "random_lif_objective",
    "random_objective",
    "real_time_recurrent_learning",
    "relative_error",
    "relaxed_spike",
    "riemann_sum",
    "right_share",
    "sigmoid_net",
    "sign_agreement",
    "simulate_events",
    "smoothed_bernoulli",
    "spike_patterns",
    "spike_time_derivatives",
    "squared_norm",
    "stochastic_derivative",
    "synaptic_kernel",
    "van_rossum",
]
