"""Escape functions and surrogate derivatives: values, derivatives, inverses, refusals."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from sgtheory.errors import ParameterError
from sgtheory.lif import Noise, lif
from sgtheory.neurons import (
    ErfEscape,
    EscapeDerivative,
    EscapeFunction,
    ExponentialEscape,
    LIFParameters,
    MultilayerSpiker,
    RectifiedLinear,
    ScaledSigmoidDerivative,
    ScaledSuperSpike,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    StraightThrough,
    SuperSpike,
)
from sgtheory.neurons.logarithm import log_ratio

X = torch.linspace(-1.5, 1.5, 601, dtype=torch.float64) + 1e-4  # no kink falls on a point
SMOOTH_ESCAPES = (SigmoidEscape(7.0), ExponentialEscape(), ExponentialEscape(0.1, 0.5), ErfEscape(0.3))
SURROGATES = (
    SuperSpike(10.0),
    ScaledSuperSpike(10.0),
    SigmoidDerivative(10.0),
    ScaledSigmoidDerivative(10.0),
    RectifiedLinear(3.0),
    StraightThrough(),
    EscapeDerivative(ErfEscape()),
)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_a_surrogate_is_the_derivative_of_its_value(surrogate):
    h = 1e-5
    numeric = (surrogate.value(X + h) - surrogate.value(X - h)) / (2 * h)
    torch.testing.assert_close(surrogate.derivative(X, None), numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("surrogate", "peak", "area"),
    [
        (SuperSpike(10.0), 1, 0.2),
        (ScaledSuperSpike(10.0), 10, 2),
        (SigmoidDerivative(10.0), 2.5, 1),
        (ScaledSigmoidDerivative(10.0), 0.25, 0.1),
        (RectifiedLinear(10.0), 1, 0.1),
    ],
)
def test_peaks_and_areas(surrogate, peak, area):
    assert float(surrogate.derivative(torch.zeros((), dtype=torch.float64), None)) == pytest.approx(peak)
    far = torch.tensor([-1e9, 1e9], dtype=torch.float64)
    low, high = surrogate.value(far)
    assert float(high - low) == pytest.approx(area, rel=1e-6)


def test_multilayer_spiker_is_the_spike_and_no_derivative():
    spikes = torch.tensor([0.0, 1.0])
    assert torch.equal(MultilayerSpiker().derivative(torch.tensor([0.3, -0.2]), spikes), spikes)
    with pytest.raises(NotImplementedError, match="MultilayerSpiker"):
        MultilayerSpiker().value(spikes)


@pytest.mark.parametrize("escape", SMOOTH_ESCAPES, ids=repr)
def test_an_escape_function_is_a_probability_with_its_derivative_and_inverse(escape):
    p = escape.value(X)
    assert bool((p >= 0).all())
    assert bool((p <= 1).all())
    assert bool((p.diff() >= 0).all())
    torch.testing.assert_close(escape.derivative(X), EscapeFunction.derivative(escape, X), rtol=1e-12, atol=1e-12)
    inside = (p > 1e-6) & (p < 1 - 1e-6)
    torch.testing.assert_close(escape.quantile(p[inside]), X[inside], rtol=0, atol=1e-9)
    torch.testing.assert_close(EscapeFunction.quantile(escape, p[inside]), X[inside], rtol=0, atol=1e-9)


def test_the_default_inverse_of_a_bounded_probability_is_infinite_outside():
    class Lazy(EscapeFunction):
        def value(self, x):
            return 0.25 + 0.5 * torch.sigmoid(x)

    q = Lazy().quantile(torch.tensor([0.1, 0.5, 0.9]))
    assert q.tolist() == [-math.inf, pytest.approx(0, abs=1e-6), math.inf]
    assert q.dtype == torch.float32


def test_step_is_the_limit_of_the_sigmoid():
    torch.testing.assert_close(SigmoidEscape(1e6).value(X), Step().value(X))
    assert Step().value(torch.zeros(1)).item() == 0


def test_logarithm_is_accurate_in_both_tails():
    r = (torch.arange(0, 2**23, 101) + 0.5) * 2.0**-23
    exact = torch.logit(r.to(torch.float64))
    r = r.to(torch.float32)
    assert float((log_ratio(r, 1 - r) - exact).abs().max()) < 1.5e-6
    torch.testing.assert_close(log_ratio(r, 1 - r), -log_ratio(1 - r, r), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cls", [SuperSpike, ScaledSuperSpike, SigmoidDerivative, RectifiedLinear, SigmoidEscape])
@pytest.mark.parametrize("beta", [0, -1.0, math.inf, math.nan, "steep", True])
def test_steepness_must_be_positive(cls, beta):
    with pytest.raises(ParameterError, match="beta"):
        cls(beta)


@pytest.mark.parametrize(
    "bad",
    [
        {"tau_mem": 0.0},
        {"tau_syn": -1e-3},
        {"dt": math.nan},
        {"threshold": math.inf},
        {"reset": "soon"},
        {"reset_gradient": "maybe"},
        {"delay": 2},
    ],
)
def test_lif_parameters_are_checked(bad):
    (name,) = bad
    with pytest.raises(ParameterError, match=name):
        LIFParameters(**bad)


@pytest.mark.parametrize("bad", [{"p0": 0.0}, {"p0": 1.5}, {"delta_u": -1.0}])
def test_exponential_escape_is_checked(bad):
    with pytest.raises(ParameterError, match=next(iter(bad))):
        ExponentialEscape(**bad)


WHOLE = (np.int8, np.uint16, np.int64, int)
REAL = (np.float16, np.float32, np.float64, float, Fraction)


@pytest.mark.parametrize("kind", REAL)
def test_numbers_of_any_kind_are_converted_once(kind):
    value = kind(0.25)
    made = [
        LIFParameters(tau_mem=value, tau_syn=value, dt=value, threshold=value, adaptation=value, tau_adaptation=value),
        SigmoidEscape(value),
        ErfEscape(value),
        ExponentialEscape(value, value),
        *(cls(value) for cls in (SuperSpike, ScaledSuperSpike, SigmoidDerivative, RectifiedLinear)),
    ]
    for neuron in made:
        for number in vars(neuron).values():
            assert type(number) in (float, int, str)
            assert number == 0.25 or type(number) is not float
    assert made[1] == SigmoidEscape(0.25)


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_numbers_of_any_kind_are_converted_once(kind):
    noise = Noise(seed=kind(3), stream=kind(4), draw=kind(5))
    assert [type(v) for v in (noise.seed, noise.stream, noise.draw)] == [int] * 3
    assert LIFParameters(delay=kind(1)) == LIFParameters(delay=1)
    assert type(LIFParameters(delay=kind(1)).delay) is int
    inputs = torch.ones(1, 5, 2)
    expected = lif(inputs, LIFParameters(delay=1), SuperSpike(10.0), SigmoidEscape(5.0), Noise(3, 4, 5))[1]
    found = lif(inputs, LIFParameters(delay=kind(1)), SuperSpike(kind(10)), SigmoidEscape(kind(5)), noise)[1]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("value", [True, "1", None, 1j, np.bool_(True), np.array([1.0, 2.0]), np.nan])
def test_what_is_no_number_is_refused(value):
    for make in (
        lambda v: LIFParameters(tau_mem=v),
        lambda v: LIFParameters(threshold=v),
        lambda v: LIFParameters(delay=v),
        SigmoidEscape,
        SuperSpike,
        lambda v: Noise(seed=v),
    ):
        with pytest.raises(ParameterError):
            make(value)
    assert LIFParameters(delay=1.0) == LIFParameters(delay=1)
    with pytest.raises(ParameterError, match=r"delay = 0.5: must be one of 0, 1"):
        LIFParameters(delay=0.5)
