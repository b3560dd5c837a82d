"""NaN, infinity and extreme numbers: in layers, networks, metrics and training."""

import itertools
import math

import numpy as np
import pytest
import torch
from number_cases import (
    BROKEN,
    EXTREME,
    KINDS,
    NAN,
    NEURONS,
    OPTIONS,
    PARAMETERS,
    assert_the_same_is_made_of,
    layer,
    leaves_of,
    network,
    run,
)
from small_tasks import small_task

from sgtheory import metrics
from sgtheory.errors import ParameterError, UserError
from sgtheory.lif import (
    Noise,
    filter_cascade,
    leaky_readout,
    lif,
    network_activity,
    simulate,
    spiking_network,
    weight_gradient,
    weighted_spikes,
)
from sgtheory.networks import psp_energy
from sgtheory.neurons import (
    ErfEscape,
    EscapeDerivative,
    EscapeFunction,
    ExponentialEscape,
    LIFParameters,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    SuperSpike,
)
from sgtheory.training import load_checkpoint, run_task

ESCAPES = (Step(), SigmoidEscape(10.0), ExponentialEscape(), ErfEscape())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["input", "gradient"])
def test_broken_numbers_mean_the_same_and_stay_in_their_sample(kind, place):
    for i, (value, options) in enumerate(itertools.product((*BROKEN, *EXTREME), OPTIONS)):
        neuron = NEURONS[i * 3 % 4 if value in EXTREME else (i + i // 8) % 4]
        if value in EXTREME and i % 4:
            continue
        if abs(value) > 1e38 and (place == "gradient" or isinstance(neuron[1], SigmoidDerivative)):
            continue  # overflows, or meets a derivative that underflows, in sums whose order is free
        assert_the_same_is_made_of(layer(kind, place, value), "cpu", options, neuron)


@pytest.mark.parametrize("reset", ["next", "same"])
def test_an_infinite_gradient_meets_the_zero_of_a_reset(reset):
    inputs, recurrent = torch.full((1, 12, 2), 20.0), torch.zeros(2, 2)
    for step in range(2, 12):
        gradient = torch.zeros(inputs.shape)
        gradient[0, step, 0] = math.inf
        spikes, _, expected, _ = run("reference", inputs, recurrent, gradient, (reset, "detached", 0), NEURONS[0])
        found = run("cpu", inputs, recurrent, gradient, (reset, "detached", 0), NEURONS[0])[2]
        assert torch.equal(expected.isfinite(), found.isfinite())
        assert not expected.isfinite().all()
    assert spikes.sum() > 4


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("recurrent", [None, torch.eye(2)])
def test_a_neuron_does_not_fire_for_nan_and_says_so_in_its_gradient(escape, backend, recurrent):
    inputs = torch.full((1, 20, 2), 50.0)
    inputs[0, 5, 0] = NAN
    inputs.requires_grad_()
    spikes, potential = lif(inputs, PARAMETERS, SuperSpike(), escape, Noise(0), recurrent, backend)
    assert spikes[0, :7, 0].sum() > 1
    assert not spikes[0, 7:, 0].any()
    assert potential[0, 7:, 0].isnan().all()
    assert spikes[0, 7:, 1].sum() > 4
    spikes.sum().backward()
    assert inputs.grad[0, :, 0].isnan().any()


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda e: type(e).__name__)
def test_escape_functions_of_extreme_potentials(escape):
    x = torch.tensor([-math.inf, -1e38, -1e4, -1e-45, 0.0, 1e-45, 1e4, 1e38, math.inf])
    p, derivative = escape.value(x), escape.derivative(x)
    assert bool((p.diff() >= 0).all())
    assert (float(p[0]), float(p[-1])) == (0, 1)
    assert bool(((derivative >= 0) & derivative.isfinite()).all())
    assert bool((EscapeDerivative(escape).derivative(x, None) == derivative).all())


class Overflowing(EscapeFunction):
    """A sigmoid as one writes it down."""

    def value(self, x):
        return torch.exp(x) / (1 + torch.exp(x))


def test_a_probability_that_is_nan_is_refused():
    """The search for its inverse would take NaN for "does not fire", and half of the thresholds would be wrong."""
    for backend in ("reference", "cpu"):
        with pytest.raises(ParameterError, match=r"Overflowing.value = nan: must be a probability for x = -2\*\*20"):
            lif(torch.zeros(1, 2, 3), PARAMETERS, SuperSpike(), Overflowing(), Noise(0), backend=backend)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda v: SigmoidEscape(v), "beta"),
        (lambda v: SuperSpike(v), "beta"),
        (lambda v: ExponentialEscape(p0=min(v, 1 / v)), "p0"),
        (lambda v: ExponentialEscape(delta_u=v), "delta_u"),
        (lambda v: ErfEscape(v), "sigma"),
        (lambda v: LIFParameters(tau_mem=v), "tau_mem"),
        (lambda v: LIFParameters(dt=v), "dt"),
        (lambda v: LIFParameters(threshold=-max(v, 1 / v)), "threshold"),
    ],
)
@pytest.mark.parametrize("value", [1e39, 1e-39])
def test_parameters_that_float32_cannot_hold_are_refused(make, name, value):
    with pytest.raises(ParameterError, match=rf"^{name} = "):
        make(value)


def test_time_steps_that_would_fill_the_memory_are_refused():
    with pytest.raises(ParameterError, match=r"^dt = 1e-12: must be at least"):
        psp_energy(LIFParameters(20e-3, 10e-3, 1e-12))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("number", BROKEN)
@pytest.mark.parametrize("which", range(4))
def test_weights_that_are_not_finite_are_refused(backend, number, which):
    """They would do nothing where spikes are added, and make everything NaN where zeros are multiplied."""
    arguments = network()
    with torch.no_grad():
        leaves_of(arguments)[which].view(-1)[-1] = number
    name = (r"weights\[0\]", r"weights\[1\]", r"recurrent\[0\]", "readout_weight")[which]
    for compute in (spiking_network, network_activity):
        with pytest.raises(ParameterError, match=rf"^{name} = '1 of \d+ numbers not finite': must be finite"):
            compute(*arguments, backend=backend)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda x: 2 * x, "inputs = 2: must be spikes, 0 or 1"),
        (0, lambda x: x.float(), "inputs = .*uint8"),
        (1, lambda layers: layers[:1], "must have one entry for each of at least one layer"),
        (2, lambda weights: [w.double() for w in weights], r"weights\[0\] = 'torch.float64 on cpu': must be torch.flo"),
        (2, lambda weights: [weights[0][..., :0], weights[1]], r"weights\[0\] = \[3, 2, 0\]"),
        (3, lambda v: [v[0].to("meta"), None], r"recurrent\[0\] = 'torch.float32 on meta': must be .* on cpu"),
        (3, lambda v: [v[0].sum(), None], r"recurrent\[0\] = \[\]"),
        (5, lambda w: w.half(), "readout_weight = 'torch.float16': must be float32 or float64"),
        (6, lambda noise: None, "noise = None: must be given for SigmoidEscape"),
        (6, lambda noise: Noise(0, samples=torch.tensor([0.0, 1.0, 2.0])), "samples = 'torch.float32': must be whole"),
    ],
)
def test_a_network_refuses_in_one_sentence(backend, position, change, message):
    arguments = network()
    arguments[position] = change(arguments[position])
    with pytest.raises(ParameterError, match=message) as error:
        spiking_network(*arguments, backend=backend)
    assert "\n" not in str(error.value)


def test_a_network_without_layers_is_refused():
    arguments = network()
    arguments[1:4] = [], [], []
    with pytest.raises(ParameterError, match="at least one layer"):
        spiking_network(*arguments)


def test_weights_changed_before_the_backward_pass_are_noticed():
    arguments = network()
    potentials, _ = spiking_network(*arguments, backend="cpu")
    with torch.no_grad():
        arguments[2][1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        potentials.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recurrent": torch.tensor(1.0)}, "recurrent"),
        ({"recurrent": torch.full((5, 5), NAN)}, "recurrent = '25 of 25 numbers not finite'"),
        ({"recurrent": torch.zeros(5, 5, device="meta")}, "recurrent = 'meta': must be on the device of inputs, cpu"),
        ({"inputs": torch.zeros(3, 4, 5, dtype=torch.float16)}, "float32 or float64"),
        ({"inputs": torch.zeros(3, 4, 5, dtype=torch.bool)}, "float32 or float64"),
        ({"inputs": torch.zeros(3, 4, 5, device="meta"), "backend": "cpu"}, "needs inputs on that device"),
        ({"noise": Noise(0, samples=torch.tensor([0, 1]))}, "samples = .2.: must hold one index for each of 3"),
    ],
)
def test_a_layer_refuses_in_one_sentence(arguments, message):
    inputs = arguments.pop("inputs", torch.zeros(3, 4, 5))
    with pytest.raises(ParameterError, match=message):
        lif(inputs, PARAMETERS, SuperSpike(), SigmoidEscape(), **{"noise": Noise(0), **arguments})


def test_a_readout_refuses_channels():
    with pytest.raises(ParameterError, match=r"must have the shape \[batch, time, unit\]"):
        leaky_readout(torch.zeros(1, 2, 3, 4), PARAMETERS)


def test_metrics_of_nothing_are_nan():
    for shape in ((0, 10, 3), (4, 10, 0)):
        spikes = np.zeros(shape, np.uint8)
        target = np.zeros(shape[1:], np.uint8)
        kernel = metrics.PSPKernel(10e-3, 5e-3, 1e-3)
        assert math.isnan(metrics.fano_factor(spikes, 3))
        assert math.isnan(metrics.firing_rate(spikes, 1e-3))
        assert all(map(math.isnan, metrics.isi_statistics(spikes, 1e-3)))
        for distances in (metrics.l2_distance(spikes, target), metrics.van_rossum_distance(spikes, target, kernel)):
            assert distances.shape == shape[:1]
            assert np.isnan(distances).all()


def test_metrics_of_one_step_one_trial_and_constant_firing():
    spikes = np.ones((1, 1, 1), np.uint8)
    kernel = metrics.PSPKernel.sampled(10e-3, 5e-3, 1e-3, 1, endpoint=True)
    assert metrics.fano_factor(spikes) == 0
    assert metrics.firing_rate(spikes, 1e-3) == 1000
    assert all(map(math.isnan, metrics.isi_statistics(spikes, 1e-3)))
    assert metrics.van_rossum_distance(spikes, np.zeros((1, 1), np.uint8), kernel).tolist() == [0]
    assert metrics.isi_statistics(np.ones((2, 9, 3), np.uint8), 1e-3) == (1e-3, 0)
    for window in (0, 2):
        with pytest.raises(ParameterError, match=r"window = .: must be in 1 \.\.\. 1 steps"):
            metrics.fano_factor(spikes, window)


def test_metrics_refuse_a_target_of_another_size():
    """Compiled code would read beyond its end."""
    spikes, kernel = np.zeros((2, 9, 3), np.uint8), metrics.PSPKernel(10e-3, 5e-3, 1e-3)
    for shape in ((8, 3), (9, 2), (3,)):
        with pytest.raises(ParameterError, match=r"^target = "):
            metrics.l2_distance(spikes, np.zeros(shape, np.uint8))
        with pytest.raises(ParameterError, match=r"^target = "):
            metrics.van_rossum_distance(spikes, np.zeros(shape, np.uint8), kernel)


def test_a_kernel_that_is_zero_everywhere_is_refused():
    with pytest.raises(ParameterError, match=r"tau_syn = 0\.01: must differ from tau_mem"):
        metrics.PSPKernel(10e-3, 10e-3, 1e-3)


def test_pieces_of_the_backend_refuse_arrays_that_do_not_fit():
    spikes, weight, out = np.zeros((2, 9, 8), np.uint8), np.zeros((8, 3)), np.zeros((2, 9, 3))
    for call in (
        lambda: weighted_spikes(spikes, weight[:7], out),
        lambda: weighted_spikes(spikes, weight, out[:, :8]),
        lambda: weight_gradient(spikes, out[:1], weight),
        lambda: weight_gradient(spikes, out, weight[:, :2]),
        lambda: filter_cascade(out, 0.9, 0.8, 1.0, 1, False, out[:, :5].copy()),
        lambda: simulate(out[:, :5], PARAMETERS, Step(), Noise(0), np.empty((2, 9, 3)), np.empty((2, 9, 3), np.uint8)),
        lambda: simulate(out, PARAMETERS, Step(), Noise(0), np.empty((2, 9, 2)), np.empty((2, 9, 3), np.uint8)),
    ):
        with pytest.raises(ValueError, match=r"must be|same shape|shape of"):
            call()


@pytest.mark.parametrize(("backend", "optimiser"), [("reference", "sgd"), ("cpu", "sgd"), ("cpu", "adam")])
def test_classification_that_explodes_ends_with_its_last_checkpoint(backend, optimiser, tmp_path):
    """Also where the loss is finite, because no neuron fires for NaN."""
    task = small_task(
        "classification", f"task.optimiser={optimiser}", f"trainer.backend={backend}", "task.learning_rate=1e-3"
    )
    explode_in_epoch(1, task, lambda: task.optimiser.param_groups[0].update(lr=1e38))
    assert_ends_with_the_last_checkpoint(task, tmp_path)


def test_nan_in_hidden_weights_hides_from_the_loss_but_not_from_the_runner(tmp_path):
    task = small_task("classification", "task.optimiser=sgd", "task.learning_rate=1e-3")

    def spoil():
        task.network.feed_forward[0].register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(0), NAN))

    explode_in_epoch(1, task, spoil)
    rows = assert_ends_with_the_last_checkpoint(task, tmp_path)
    assert all(math.isfinite(value) for metric, _, value in rows if metric != "weights")


@pytest.mark.parametrize(("rule", "rate"), [("likelihood", 1e38), ("likelihood", 1e300), ("surrogate", 1e300)])
def test_spike_matching_that_explodes_ends_with_its_last_checkpoint(rule, rate, tmp_path):
    task = small_task("spike_matching", f"task.output_rule={rule}")
    rates = task.settings.learning_rate if rule == "likelihood" else task.settings.surrogate_learning_rate

    def explode():
        rates.hidden = rates.output = rate

    explode_in_epoch(1, task, explode)
    rows = assert_ends_with_the_last_checkpoint(task, tmp_path)
    assert all(math.isfinite(v) for metric, _, v in rows if metric != "weights" and metric not in task.may_be_nan)


def explode_in_epoch(number, task, explode):
    epoch, task.seen = task.epoch, []

    def exploding(n):
        if n == number:
            explode()
        task.seen.append(epoch(n))
        return task.seen[-1]

    task.epoch = exploding


def assert_ends_with_the_last_checkpoint(task, directory):
    with pytest.raises(UserError, match=r"(loss|weights) is not a finite number in epoch \d: try a smaller"):
        run_task(task, 6, directory / "run", {}, checkpoint_every=0.0)
    epoch, state = load_checkpoint(directory / "run")
    assert epoch == len(task.seen) - 1
    weights = state["network"].values() if "network" in state else (state["w0"], state["w1"])
    assert all(bool(w.isfinite().all()) for w in weights)
    return task.seen[-1]
