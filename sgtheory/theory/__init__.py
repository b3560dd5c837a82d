"""The theory as computations: nets small enough for exact answers, and every gradient estimator against them.

Everything is float64 and reproducible from a seed.
"""

__all__ = []
