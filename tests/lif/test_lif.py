"""The LIF operation: the equations, gradients of the definition, and the compiled backend against the definition."""

import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sgtheory.errors import ParameterError
from sgtheory.lif import Noise, leaky_readout, lif
from sgtheory.lif import _reference as reference
from sgtheory.neurons import (
    ErfEscape,
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
    SurrogateDerivative,
)

RESETS, GRADIENTS, DELAYS = ("next", "same"), ("attached", "detached"), (0, 1)
OPTIONS = list(itertools.product(RESETS, GRADIENTS, DELAYS))
ESCAPES = (Step(), SigmoidEscape(10.0), ExponentialEscape(), ErfEscape())
SURROGATES = (
    SuperSpike(10.0),
    ScaledSuperSpike(5.0),
    SigmoidDerivative(7.0),
    ScaledSigmoidDerivative(7.0),
    RectifiedLinear(2.0),
    StraightThrough(),
    MultilayerSpiker(),
)


class Cauchy(EscapeFunction):
    """An escape function that no kernel knows."""

    def value(self, x):
        return 0.5 + torch.atan(10 * x) / math.pi


class Gaussian(SurrogateDerivative):
    """A surrogate derivative that no kernel knows."""

    def derivative(self, x, spikes):
        return torch.exp(-(x**2))


def parameters(reset="next", reset_gradient="detached", delay=0, **values) -> LIFParameters:
    return LIFParameters(10e-3, 5e-3, 1e-3, reset=reset, reset_gradient=reset_gradient, delay=delay, **values)


def spikes_in(shape, rate=0.1, weight=6.0, seed=0, dtype=torch.float32):
    return weight * (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).to(dtype)


def run(inputs, *args, gradient_seed=1, **kwargs):
    """Spikes, potential and the gradient for the inputs of a random linear function of both."""
    inputs = inputs.clone().requires_grad_()
    spikes, potential = lif(inputs, *args, **kwargs)
    generator = torch.Generator().manual_seed(gradient_seed)
    of_spikes, of_potential = torch.randn((2, *spikes.shape), generator=generator, dtype=spikes.dtype)
    (spikes * of_spikes + potential * of_potential).sum().backward()
    return spikes.detach(), potential.detach(), inputs.grad


@pytest.mark.parametrize(("reset", "delay"), list(itertools.product(RESETS, DELAYS)))
def test_the_equations_by_hand(reset, delay):
    """Eqs 18, 19, 20, 23 with plain Python numbers."""
    p = parameters(reset, delay=delay)
    x = spikes_in((40,), rate=0.4, weight=5.0, dtype=torch.float64).tolist()
    current, potential = [0.0], [0.0]
    spikes = []
    for n in range(len(x)):
        spikes.append(float(potential[n] > 1))
        arriving = x[n - delay] if n >= delay else 0.0
        leak, drive = math.exp(-0.1) * potential[n], (1 - math.exp(-0.1)) * current[n]
        potential.append((leak + drive) * (1 - spikes[n]) if reset == "next" else leak * (1 - spikes[n]) + drive)
        current.append(math.exp(-0.2) * current[n] + arriving)
    got, u = lif(torch.tensor(x, dtype=torch.float64).view(1, -1, 1), p, SuperSpike(), backend="reference")
    assert got[0, :, 0].tolist() == spikes
    assert 3 < sum(spikes) < 37
    torch.testing.assert_close(u[0, :, 0], torch.tensor(potential[:-1], dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.fixture
def smooth_spikes(monkeypatch):
    """Replace the spike of the definition by the smooth function whose true derivative the surrogate is."""

    class Smooth(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, surrogate):
            ctx.save_for_backward(x)
            ctx.surrogate = surrogate
            return surrogate.value(x)

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return gradient * ctx.surrogate.derivative(x, None), None

    def smooth(x, spikes, derivative):
        return Smooth.apply(x, derivative.__self__)

    monkeypatch.setattr(reference, "surrogate_spike", smooth)


@pytest.mark.usefixtures("smooth_spikes")
@pytest.mark.parametrize(("reset", "delay"), list(itertools.product(RESETS, DELAYS)))
@pytest.mark.parametrize("shape", [(2, 7, 3), (1, 5, 3, 4)])
def test_gradients_of_the_definition_against_finite_differences(reset, delay, shape):
    """With the smooth stand-in for the spike the gradient is a true one, for recurrent weights, time constants and
    thresholds as well."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = (3, 3) if len(shape) == 3 else (3, 3, 5)
    recurrent = torch.randn(kernel, generator=generator, dtype=torch.float64, requires_grad=True)

    neurons = [(low + low * torch.rand(3, generator=generator, dtype=torch.float64)) for low in (8e-3, 4e-3, 0.5)]
    leaves = inputs, recurrent, *(tensor.requires_grad_() for tensor in neurons)

    def f(x, v, tau_mem, tau_syn, threshold, reset_gradient="attached"):
        p = LIFParameters(tau_mem, tau_syn, 1e-3, threshold, reset, reset_gradient, delay)
        return lif(x, p, SigmoidDerivative(2.0), recurrent=v, backend="reference")

    assert torch.autograd.gradcheck(f, leaves)
    # negative control: without the reset term it is not the gradient
    assert not torch.autograd.gradcheck(lambda *args: f(*args, "detached"), leaves, raise_exception=False)


@pytest.mark.parametrize(("reset", "reset_gradient", "delay"), OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_equals_definition(reset, reset_gradient, delay, dtype):
    """All options: spikes and potentials to the bit, gradients to rounding."""
    p = parameters(reset, reset_gradient, delay)
    inputs = spikes_in((2, 70, 70), dtype=dtype)  # more steps than two segments of the backward pass
    tolerance = 2e-6 if dtype == torch.float32 else 1e-14
    cases = [(ESCAPES[0], s) for s in SURROGATES] + [(e, SURROGATES[0]) for e in ESCAPES[1:]]
    for escape, surrogate in [*cases, (Cauchy(), Gaussian())]:
        s, u, g = run(inputs, p, surrogate, escape, Noise(5, 1, 2), backend="reference")
        s_cpu, u_cpu, g_cpu = run(inputs, p, surrogate, escape, Noise(5, 1, 2), backend="cpu")
        assert torch.equal(s, s_cpu)
        assert torch.equal(u, u_cpu)
        assert 0.01 < float(s.mean()) < 0.6
        assert float((g - g_cpu).abs().max()) <= tolerance * float(g.abs().max())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(3, 40), st.integers(1, 600), st.sampled_from(OPTIONS), st.integers(0, 2**32 - 1))
@example(1, 5, 1300, OPTIONS[0], 3)  # more neurons than one block
def test_compiled_equals_definition_at_any_size(batch, steps, neurons, options, seed):
    inputs = spikes_in((batch, steps, neurons), rate=0.5, seed=seed % 1000)
    args = (parameters(*options), SuperSpike(), SigmoidEscape(5.0), Noise(seed))
    for a, b in zip(run(inputs, *args, backend="reference"), run(inputs, *args, backend="cpu"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_wrong_constant_is_noticed():
    """Negative control for the comparisons above: another time constant, seed or surrogate differs."""
    inputs = spikes_in((2, 30, 70))
    s, u, g = run(inputs, parameters(), SuperSpike(10.0), SigmoidEscape(), Noise(1))
    for p, surrogate, noise in (
        (LIFParameters(10.01e-3, 5e-3, 1e-3), SuperSpike(10.0), Noise(1)),
        (parameters(), SuperSpike(10.0), Noise(2)),
        (parameters(), SuperSpike(10.01), Noise(1)),
    ):
        s2, u2, g2 = run(inputs, p, surrogate, SigmoidEscape(), noise)
        assert not (torch.equal(s, s2) and torch.equal(u, u2) and torch.allclose(g, g2, rtol=1e-5))


def test_shared_input_of_trials_is_expanded_without_copies():
    current = spikes_in((1, 40, 60)).requires_grad_()
    args = (parameters("same"), SigmoidDerivative(), SigmoidEscape(), Noise(3))
    spikes, _ = lif(current.expand(4, -1, -1), *args)
    spikes.sum().backward()
    repeated = current.detach().repeat(4, 1, 1).requires_grad_()
    lif(repeated, *args)[0].sum().backward()
    torch.testing.assert_close(current.grad[0], repeated.grad.sum(dim=0), rtol=1e-5, atol=1e-6)
    assert not torch.equal(spikes[0], spikes[1])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_potential_is_returned_if_asked_for(backend):
    args = (spikes_in((2, 40, 60)), parameters(), SuperSpike(), SigmoidEscape(), Noise(3))
    spikes, potential = lif(*args, backend=backend)
    assert potential.shape == spikes.shape
    alone, nothing = lif(*args, backend=backend, potential=False)
    assert nothing is None
    assert torch.equal(alone, spikes)


@pytest.mark.parametrize("surrogate", [SuperSpike(), Gaussian()])
def test_the_backward_pass_can_be_repeated(surrogate):
    """It computes potentials again, and leaves what it needs as it was; what is returned may be overwritten."""
    inputs = spikes_in((2, 40, 60)).requires_grad_()
    spikes, _ = lif(inputs, parameters("next", "attached"), surrogate, SigmoidEscape(), Noise(3), potential=False)
    weights = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(0))
    first, second = (torch.autograd.grad(spikes, inputs, weights, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    with torch.no_grad():
        inputs.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(spikes, inputs, weights)


def test_silent_and_tonic_layers():
    for drive, silent_steps in ((0.0, 20), (100.0, 2)):
        inputs = torch.full((1, 20, 5), drive)
        for backend in ("reference", "cpu"):
            s, u, g = run(inputs, parameters("same"), SuperSpike(), backend=backend)
            assert bool((s.sum(dim=1) == 20 - silent_steps).all())
            assert torch.isfinite(u).all()
            assert torch.isfinite(g).all()


def test_the_number_of_threads_does_not_change_the_result():
    inputs = spikes_in((8, 50, 700))
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(run(inputs, parameters(), SuperSpike(), SigmoidEscape(), Noise(1), backend="cpu"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_readout_by_the_closed_form():
    """One input spike of size 1 at step 0 and a start at -1: sums of exponentials."""
    p = LIFParameters(tau_mem=20e-3, tau_syn=5e-3, dt=1e-3)
    inputs = torch.zeros(1, 30, 1, dtype=torch.float64)
    inputs[0, 0] = 1
    a_m, a_s = p.membrane_decay, p.synaptic_decay
    m = torch.arange(1, 31, dtype=torch.float64)
    expected = -(a_m**m) + (1 - a_m) * (a_m ** (m - 1) - a_s ** (m - 1)) / (a_m - a_s)
    torch.testing.assert_close(leaky_readout(inputs, p, initial=-1.0)[0, :, 0], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("inputs", "kwargs", "message"),
    [
        (torch.zeros(3, 4), {}, "shape"),
        (torch.zeros(3, 0, 4), {}, "time > 0"),
        (torch.zeros(3, 4, 5, dtype=torch.int32), {}, "float32 or float64"),
        (torch.zeros(3, 4, 5), {"backend": "gpu"}, "backend"),
        (torch.zeros(3, 4, 5), {"escape": SigmoidEscape()}, "noise"),
        (torch.zeros(3, 4, 5), {"recurrent": torch.zeros(5, 4)}, "recurrent"),
        (torch.zeros(3, 4, 5, 6), {"recurrent": torch.zeros(5, 5, 4)}, "odd kernel"),
    ],
)
def test_wrong_inputs_get_one_sentence(inputs, kwargs, message):
    with pytest.raises(ParameterError, match=message):
        lif(inputs, parameters(), SuperSpike(), **kwargs)
