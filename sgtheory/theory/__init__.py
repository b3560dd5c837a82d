"""The theory as computations: nets small enough for exact answers, and every gradient estimator against them.

Everything is float64 and reproducible from a seed.
"""

from sgtheory.theory._estimators import (
    BinaryConcrete,
    Estimator,
    Exact,
    FiniteDifferences,
    Quality,
    ScoreFunction,
    SmoothedStochAD,
    StochAD,
    SurrogateGradient,
    measure,
)
from sgtheory.theory._perceptron import (
    Objective,
    PerceptronNet,
    first_output,
    pattern_probabilities,
    random_objective,
    spike_patterns,
    surrogate_spike,
)
from sgtheory.theory._stochad import (
    StochasticDerivative,
    bernoulli_derivative,
    right_share,
    smoothed_bernoulli,
    stochastic_derivative,
)

__all__ = [
    "BinaryConcrete",
    "Estimator",
    "Exact",
    "FiniteDifferences",
    "Objective",
    "PerceptronNet",
    "Quality",
    "ScoreFunction",
    "SmoothedStochAD",
    "StochAD",
    "StochasticDerivative",
    "SurrogateGradient",
    "bernoulli_derivative",
    "first_output",
    "measure",
    "pattern_probabilities",
    "random_objective",
    "right_share",
    "smoothed_bernoulli",
    "spike_patterns",
    "stochastic_derivative",
    "surrogate_spike",
]
