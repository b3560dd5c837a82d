"""Event-driven products and filters against dense arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgtheory.lif import filter_cascade, weight_gradient, weighted_spikes


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 30), st.integers(1, 30), st.floats(0, 1))
def test_event_driven_products_are_matrix_products(batch, steps, pre, post, density):
    rng = np.random.default_rng(0)
    spikes = (rng.random((batch, steps, pre)) < density).astype(np.uint8)
    weight, gradient = rng.standard_normal((pre, post)), rng.standard_normal((batch, steps, post))
    out, out_weight = np.full((batch, steps, post), np.nan), np.full((pre, post), np.nan)
    weighted_spikes(spikes, weight, out)
    weight_gradient(spikes, gradient, out_weight)
    np.testing.assert_allclose(out, spikes @ weight, atol=1e-12)
    np.testing.assert_allclose(out_weight, np.einsum("bti,bto->io", spikes, gradient), atol=1e-12)


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("fast", [0.8, 0.9])
def test_filter_is_a_convolution_and_reversed_its_transpose(lag, fast):
    steps, slow, gain = 25, 0.9, 0.3
    k = np.arange(steps - lag)
    response = k * slow ** np.maximum(k - 1, 0) if fast == slow else (slow**k - fast**k) / (slow - fast)
    impulse = np.concatenate([np.zeros(lag), gain * response])
    matrix = np.array([[impulse[n - m] if n >= m else 0 for m in range(steps)] for n in range(steps)])
    signal = np.random.default_rng(0).standard_normal((3, steps, 4))
    out = np.full_like(signal, np.nan)
    filter_cascade(signal, slow, fast, gain, lag, False, out)
    np.testing.assert_allclose(out, matrix @ signal, atol=1e-12)
    filter_cascade(signal, slow, fast, gain, lag, True, out)
    np.testing.assert_allclose(out, matrix.T @ signal, atol=1e-12)
