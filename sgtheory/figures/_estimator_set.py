"""The estimators that Figs 3 and E1 compare, each with its label and colour."""

from sgtheory.neurons import SigmoidDerivative, StraightThrough
from sgtheory.theory import (
    BinaryConcrete,
    Estimator,
    FiniteDifferences,
    ScoreFunction,
    SmoothedStochAD,
    StochAD,
    SurrogateGradient,
)

LABELS = {
    "finite_differences": "finite differences, independent",
    "finite_differences_coupled": "finite differences, coupled",
    "score_function": "score function",
    "score_function_baseline": "score function with baseline",
    "stochad_pruned": "unbiased stochAD, one alternative",
    "stochad": "unbiased stochAD, all alternatives",
    "concrete": "binary concrete",
    "concrete_straight_through": "binary concrete, straight-through",
    "straight_through": "straight-through, identity",
    "surrogate_deterministic": "surrogate, deterministic path",
    "smoothed": "surrogate = smoothed stochAD",
}
COLOURS = {
    "finite_differences": "0.55",
    "finite_differences_coupled": "0.25",
    "score_function": "#B5483A",
    "score_function_baseline": "#E08E79",
    "stochad_pruned": "#5B8C3E",
    "stochad": "#2F5E1A",
    "concrete": "#6B4C9A",
    "concrete_straight_through": "#A993C9",
    "straight_through": "#C77CA8",
    "surrogate_deterministic": "#008CA5",
    "smoothed": "#EBB400",
}


def estimators(beta: float, epsilon: float, temperature: float) -> dict[str, Estimator]:
    """One of each; ``beta`` matches the surrogate to the escape noise of the net."""
    return {
        "finite_differences": FiniteDifferences(epsilon),
        "finite_differences_coupled": FiniteDifferences(epsilon, coupled=True),
        "score_function": ScoreFunction(),
        "score_function_baseline": ScoreFunction(baseline=True, paths=2),
        "stochad_pruned": StochAD(),
        "stochad": StochAD(prune=False),
        "concrete": BinaryConcrete(temperature),
        "concrete_straight_through": BinaryConcrete(temperature, straight_through=True),
        "straight_through": SurrogateGradient(StraightThrough()),
        "surrogate_deterministic": SurrogateGradient(SigmoidDerivative(beta), path="deterministic"),
        "smoothed": SmoothedStochAD(),
    }
