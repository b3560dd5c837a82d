"""What the theory cannot use is refused in one sentence that names it, and never silently computed with."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgtheory.errors import ParameterError
from sgtheory.neurons import LIFParameters, SigmoidDerivative, SigmoidEscape, SuperSpike
from sgtheory.theory import (
    SPIKE_TIME_NEURON,
    DiscreteNets,
    LIFNet,
    LoopIntegralSettings,
    PerceptronNet,
    ScoreFunction,
    SpikingNet,
    agreement,
    back_propagation_through_time,
    bernoulli_derivative,
    chain_rule_derivatives,
    cosine,
    measure,
    pattern_probabilities,
    psp_overlap,
    random_lif_objective,
    random_objective,
    real_time_recurrent_learning,
    relative_error,
    right_share,
    sigmoid_net,
    sign_agreement,
    simulate_events,
    spike_patterns,
    spike_time_derivatives,
    squared_norm,
    stochastic_derivative,
    van_rossum,
)


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


TIMES, CHANNELS = np.array([1e-3, 2e-3]), np.array([0, 1])
W_IN, W_REC = np.full((2, 3), 2.0), np.zeros((3, 3))
OBJECTIVE = random_objective((2, 2, 1), beta=2.0, seed=0)
LAYER = (torch.zeros(5, 2, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64), torch.zeros(3, 3).double())
NEURON, SURROGATE = LIFParameters(), SuperSpike(10.0)


def events(times=TIMES, channels=CHANNELS, w_in=W_IN, w_rec=W_REC, duration=0.01, **more):
    return simulate_events(times, channels, w_in, w_rec, SPIKE_TIME_NEURON, duration, **more)


def settings(**changed):
    return lambda: LoopIntegralSettings(**changed)


WRONG = {
    "units": lambda: spike_patterns(-1),
    "units: many": lambda: spike_patterns(40),
    "units: of p": lambda: pattern_probabilities(torch.full((25,), 0.5, dtype=torch.float64)),
    "p: float32": lambda: pattern_probabilities(torch.tensor([0.5])),
    "p: above 1": lambda: pattern_probabilities(double(1.2)),
    "p: NaN": lambda: pattern_probabilities(double(float("nan"))),
    "p: list": lambda: pattern_probabilities([0.5]),
    "p: negative": lambda: bernoulli_derivative(double(-0.1), double(0)),
    "spikes: shape": lambda: bernoulli_derivative(double(0.1, 0.2), double(0)),
    "spikes: 2": lambda: bernoulli_derivative(double(0.1), double(2)),
    "combination": lambda: right_share("both", double(0.5)),
    "sizes": lambda: PerceptronNet((3,)),
    "sizes: number": lambda: PerceptronNet(3),
    "sizes: text": lambda: LIFNet("32", 5),
    "escape: class": lambda: PerceptronNet((3, 1), SigmoidEscape),
    "threshold: text": lambda: PerceptronNet((3, 1), threshold="1"),
    "steps: half": lambda: random_lif_objective((2, 2), 2.5, 5.0, 0),
    "rate: negative": lambda: random_lif_objective((2, 2), 3, 5.0, 0, rate=-0.1),
    "spikes: loss": lambda: random_lif_objective((2, 2), 3, 5.0, 0).output(torch.zeros(4, 2, dtype=torch.float64)),
    "paths: half": lambda: ScoreFunction(paths=1.5),
    "samples": lambda: measure(ScoreFunction(), OBJECTIVE, samples=1),
    "seed": lambda: measure(ScoreFunction(), OBJECTIVE, seed=-1),
    "gradient": lambda: measure(ScoreFunction(), OBJECTIVE, gradient=double(1.0)),
    "n: none": lambda: stochastic_derivative(OBJECTIVE, 0, torch.Generator()),
    "rng: seed": lambda: stochastic_derivative(OBJECTIVE, 3, 0),
    "directions: shape": lambda: stochastic_derivative(OBJECTIVE, 3, torch.Generator(), double(1, 2)),
    "sizes: no chain": lambda: chain_rule_derivatives(OBJECTIVE),
    "weights: four": lambda: sigmoid_net(torch.zeros(4).double(), 1.0, SigmoidEscape(1.0), SigmoidDerivative(1.0)),
    "estimates: one": lambda: squared_norm(double(1, 2)[None]),
    "estimates: vector": lambda: relative_error(double(1, 2)),
    "reference: shape": lambda: agreement(torch.zeros(3, 2).double(), torch.zeros(3, 1).double()),
    "b: shape": lambda: cosine(np.zeros((2, 3, 1)), np.zeros((2, 1, 3))),
    "a: axes": lambda: sign_agreement(np.zeros(2), np.zeros(2)),
    "input_channels: negative": lambda: events(channels=np.array([0, -1])),
    "input_channels: beyond": lambda: events(channels=np.array([0, 2])),
    "input_channels: fewer": lambda: events(channels=np.array([0])),
    "input_channels: halves": lambda: events(channels=np.array([0.5, 1.0])),
    "input_times: NaN": lambda: events(times=np.array([1e-3, np.nan])),
    "input_times: list": lambda: events(times=[1e-3, 2e-3]),
    "input_weights: shape": lambda: events(w_in=np.zeros((2, 2))),
    "recurrent_weights: not square": lambda: events(w_rec=np.zeros((3, 2))),
    "input_weights: infinite": lambda: events(w_in=np.full((2, 3), np.inf)),
    "duration": lambda: events(duration=np.nan),
    "max_spikes": lambda: events(max_spikes=0),
    "input_channels: derivatives": lambda: spike_time_derivatives(
        events(), TIMES, np.array([0, -1]), W_IN, W_REC, SPIKE_TIME_NEURON
    ),
    "s: two axes": lambda: psp_overlap(np.zeros((2, 2)), TIMES, SPIKE_TIME_NEURON),
    "t: infinite": lambda: van_rossum(TIMES, np.array([np.inf]), SPIKE_TIME_NEURON),
    "sizes: of a net": lambda: SpikingNet.random((2, 0, 1), 0.1, 0),
    "duration: of a net": lambda: SpikingNet.random((2, 1, 1), -0.1, 0),
    "number of nets": lambda: DiscreteNets([], 1e-3),
    "dt": lambda: DiscreteNets([SpikingNet.random((2, 1, 1), 0.1, 0)], -1e-3),
    "input_weights: rtrl": lambda: real_time_recurrent_learning(LAYER[0], LAYER[1].T, LAYER[2], NEURON, SURROGATE),
    "thresholds": lambda: real_time_recurrent_learning(*LAYER, NEURON, SURROGATE, thresholds=double(0)),
    "error": lambda: back_propagation_through_time(double(0), *LAYER, NEURON, SURROGATE),
    "steps": settings(steps=2.5),
    "net_seed": settings(net_seed=-1),
    "plane_seed": settings(plane_seed="1"),
    "layers": settings(layers=3),
    "max_points": settings(max_points="many"),
    "x": settings(x="1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_refused_by_name(case):
    with pytest.raises(ParameterError) as error:
        WRONG[case]()
    assert case.split(":")[0] in error.value.name
    assert "\n" not in str(error.value)


@given(p=st.lists(st.floats(allow_nan=True), max_size=6))
def test_pattern_probabilities_are_probabilities_or_refused(p):
    if p and all(0 <= value <= 1 for value in p):
        found = pattern_probabilities(double(*p))
        assert len(found) == 2 ** len(p)
        assert ((found >= 0) & (found <= 1)).all()
        torch.testing.assert_close(found.sum(), double(1.0)[0])
    elif p:
        with pytest.raises(ParameterError, match="p = "):
            pattern_probabilities(double(*p))


@given(
    times=st.lists(st.floats(-1, 1) | st.just(float("nan")), max_size=5),
    channels=st.lists(st.integers(-3, 5), max_size=5),
)
def test_events_of_any_kind_are_simulated_in_order_or_refused(times, channels):
    right = len(times) == len(channels) and np.isfinite(times).all() and all(0 <= c < 2 for c in channels)
    arrays = np.array(times, dtype=float), np.array(channels, dtype=int)
    if right:
        found = events(*arrays, duration=0.1)
        assert (np.diff(found.times) >= 0).all()
        assert ((found.times > min(times, default=0)) & (found.times <= 0.1)).all()
    else:
        with pytest.raises(ParameterError, match="input_"):
            events(*arrays, duration=0.1)
