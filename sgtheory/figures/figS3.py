"""Figure S3: smoothed left and right stochastic derivatives of one sample of a perceptron (Appendix B)."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from sgtheory.claims import Claim
from sgtheory.figures._output import COLOURS, caption, panel_letter
from sgtheory.neurons import SigmoidDerivative, SigmoidEscape
from sgtheory.theory import bernoulli_derivative

ROUTES = {
    "right": ("#B5483A", "right"),
    "left": ("#6B4C9A", "left"),
    "matched": (COLOURS["escape_noise"], "(1 - p) right + p left"),
}


def _smoothed(escape: SigmoidEscape, x: torch.Tensor, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Smoothed stochastic derivatives of the spikes with respect to U, same shape as ``spikes``."""
    p = escape.value(x).expand_as(spikes)
    return {route: bernoulli_derivative(p, spikes, route).smoothed(spikes) * escape.derivative(x) for route in ROUTES}


def measure(
    beta: float = 10.0,
    threshold: float = 1.0,
    points: int = 121,
    samples: int = 400,
    seed: int = 1,
) -> dict:
    """Smoothed derivatives for one random number per potential, for one random number for all, and on average.

    Args:
        beta: steepness of the escape noise (1 / unit of U).
        threshold: firing threshold (unit of U).
        points: number of membrane potentials.
        samples: spikes per potential for the averages.
        seed: of the random numbers.
    """
    rng = torch.Generator().manual_seed(seed)
    escape = SigmoidEscape(beta)
    x = torch.linspace(-0.6, 0.6, points, dtype=torch.float64)
    p = escape.value(x)
    uniforms = torch.rand(samples, points, generator=rng, dtype=torch.float64)
    spikes = (uniforms < p).double()
    coupled = (0.4 < p).double()
    all_samples = _smoothed(escape, x, spikes)
    surrogate = SigmoidDerivative(beta).derivative(x, None)
    mean = {route: value.mean(0) for route, value in all_samples.items()}
    error = {route: value.std(0) / samples**0.5 for route, value in all_samples.items()}
    z = {route: (mean[route] - surrogate) / error[route] for route in ("right", "left")}
    inside = {route: float((value.abs() < 1.96)[error[route] > 0].double().mean()) for route, value in z.items()}

    # Exact: right is beta p where S = 0, left is beta (1 - p) where S = 1, matched is beta p (1 - p) always.
    closed_form = {
        "right": beta * p * (1 - spikes),
        "left": beta * (1 - p) * spikes,
        "matched": surrogate.expand_as(spikes),
    }
    difference = {route: float((all_samples[route] - closed_form[route]).abs().max()) for route in ROUTES}
    expectation = (1 - p) * _smoothed(escape, x, torch.zeros(1, points, dtype=torch.float64))["right"][0]
    return {
        "scale": f"{points} potentials, {samples} spikes at each",
        "beta": beta,
        "threshold": threshold,
        "samples": samples,
        "potential": threshold + x,
        "surrogate": surrogate,
        "one_sample": {"spikes": spikes[0], **{route: value[0] for route, value in all_samples.items()}},
        "coupled_sample": {"spikes": coupled, **_smoothed(escape, x, coupled)},
        "mean": mean,
        "error": error,
        "inside_the_band": inside,
        "difference_to_closed_form": difference,
        "expectation_to_surrogate": float((expectation - surrogate).abs().max()),
    }


def claims(numbers: dict) -> list[Claim]:
    """C12: smoothed derivatives of one sample, and their combination."""
    difference, inside, samples = numbers["difference_to_closed_form"], numbers["inside_the_band"], numbers["samples"]
    points, of_expectation = len(numbers["potential"]), numbers["expectation_to_surrogate"]
    coverage_sd = (0.95 * 0.05 / points) ** 0.5
    return [
        Claim(
            "C12",
            "Smoothed derivatives of one sample: right beta p if S = 0 else 0, left beta (1 - p) if S = 1 else 0, and"
            " (1 - p) right + p left equals the surrogate derivative whatever the outcome",
            f"largest difference over {samples} samples x {points} potentials: right {difference['right']:.1e}, left"
            f" {difference['left']:.1e}, combination to surrogate {difference['matched']:.1e}; expectation of the right"
            f" one to the surrogate {of_expectation:.1e}; means of right and left inside"
            f" their 95 % band at {100 * inside['right']:.0f} % and {100 * inside['left']:.0f} % of the potentials",
            f"0 up to rounding (< 1e-12); 95 % inside the band, within 3 s.d. of {100 * coverage_sd:.1f} %",
            max(difference.values()) < 1e-12
            and of_expectation < 1e-12
            and min(inside.values()) > 0.95 - 3 * coverage_sd,
            decides=f"largest difference {max(difference.values()):.1e}",
            source="Appendix B and Figure S3, preprint",
            choice="nothing",
            settles="nothing: it is an identity",
        )
    ]


def draw(numbers: dict):
    """One sample per potential; one random number for all potentials; the average over samples."""
    figure = plt.figure(figsize=(6.7, 2.9))
    above = figure.subfigures()
    panels = above.subplots(1, 3, sharey=True)
    u = np.asarray(numbers["potential"])
    titles = ("a sample for each potential", "one random number for all", f"mean of {numbers['samples']} samples")
    for letter, axes, title in zip("ABC", panels, titles, strict=True):
        axes.plot(u, numbers["surrogate"], color="k", linewidth=2.6, label="surrogate derivative")
        axes.set_title(title)
        axes.set(xlabel="membrane potential U", xlim=(u[0], u[-1]))
        axes.axvline(numbers["threshold"], color="0.6", linewidth=0.6, linestyle=":")
        panel_letter(axes, letter)
    for axes, sample in zip(panels[:2], (numbers["one_sample"], numbers["coupled_sample"]), strict=True):
        for route, (colour, label) in ROUTES.items():
            if axes is panels[0] and route != "matched":
                axes.plot(u, sample[route], ".", color=colour, label=label)
            else:
                axes.plot(u, sample[route], color=colour, label=label, linewidth=1)
    for route, (colour, _) in ROUTES.items():
        mean, error = np.asarray(numbers["mean"][route]), 1.96 * np.asarray(numbers["error"][route])
        panels[2].fill_between(u, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0)
        panels[2].plot(u, mean, color=colour, linewidth=0.9)
    panels[0].set_ylabel("derivative of S with respect to U")
    above.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    caption(figure, numbers["scale"], "Dotted: threshold", "Bands: 95 % intervals")
    return figure
