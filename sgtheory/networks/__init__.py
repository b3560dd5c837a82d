"""Networks of the paper: initialisation in the fluctuation-driven regime."""

from sgtheory.networks._initialisation import fluctuation_driven_std, normal_weights

__all__ = ["fluctuation_driven_std", "normal_weights"]
