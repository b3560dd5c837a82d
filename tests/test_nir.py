"""Graphs of the Neuromorphic Intermediate Representation: there and back, what they mean, and other programs."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir

from sgtheory.errors import UserError
from sgtheory.lif import LIF, Layer, Noise, Readout, lif, network_activity, spiking_network
from sgtheory.neurons import (
    ErfEscape,
    EscapeDerivative,
    ExponentialEscape,
    LIFParameters,
    SigmoidDerivative,
    SigmoidEscape,
    Step,
    StraightThrough,
    SuperSpike,
)
from sgtheory.training import CONF, export, identity, load_run, prepare, run_task

nir = pytest.importorskip("nir")
from sgtheory.nir import layers_from_nir, layers_to_nir, network_from_nir, network_to_nir  # noqa: E402

NEXT = LIFParameters(tau_mem=9e-3, tau_syn=4e-3, dt=1e-3, reset="next", reset_gradient="attached", delay=1)
SAME = LIFParameters(tau_mem=20e-3, tau_syn=20e-3, dt=1e-3, threshold=0.7, reset="same")
READOUT = Readout(LIFParameters(tau_mem=0.1, tau_syn=5e-3, dt=1e-3, delay=1), initial=-0.2)

pytestmark = pytest.mark.filterwarnings("ignore:NIR cannot say")


def stack(convolutions: bool, first=NEXT, second=SAME) -> torch.nn.Sequential:
    torch.manual_seed(0)
    kernels = [{"kernel": 5, "stride": 2, "padding": 1}, {"kernel": 3}] if convolutions else [{}, {}]
    model = torch.nn.Sequential(
        LIF(2 if convolutions else 20, 6, first, EscapeDerivative(ErfEscape(0.3)), SigmoidEscape(5.0),
            recurrent=3 if convolutions else 1, **kernels[0]),
        LIF(6, 5, second, StraightThrough(), ExponentialEscape(), **kernels[1]),
    )  # fmt: skip
    for layer in model:
        layer.weight.data *= 8
    return model


def run(model, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Spikes of every layer, each with noise that is given."""
    spikes = []
    for stream, layer in enumerate(model):
        inputs = layer(inputs, Noise(seed=3, stream=stream))
        spikes.append(inputs)
    return spikes


def through_file(graph, folder):
    nir.write(folder / "graph.nir", graph)
    return nir.read(folder / "graph.nir")


@pytest.mark.parametrize("convolutions", [False, True])
def test_layers_come_back_to_the_same_spikes(tmp_path, convolutions):
    model = stack(convolutions)
    again = layers_from_nir(through_file(layers_to_nir(model, positions=12 if convolutions else None), tmp_path))
    inputs = (torch.rand(4, 60, *((2, 12) if convolutions else (20,))) < 0.1).float()
    for before, after, a, b in zip(run(model, inputs), run(again, inputs), model, again, strict=True):
        assert before.mean() > 0.02
        assert torch.equal(before, after)
        assert (a.neuron, a.surrogate, a.escape) == (b.neuron, b.surrogate, b.escape)


EACH = {
    "tau_mem": torch.linspace(5e-3, 25e-3, 6),
    "tau_syn": torch.linspace(20e-3, 3e-3, 6),
    "threshold": torch.linspace(0.3, 1.2, 6),
}


@pytest.mark.parametrize("convolutions", [False, True])
def test_neurons_that_differ_come_back_one_by_one(tmp_path, convolutions):
    """Numbers for each neuron or channel, learnt ones as they are now."""
    torch.manual_seed(3)
    p = LIFParameters(**EACH | {"threshold": 1.0}, dt=1e-3, reset="same")
    shape = {"kernel": 5} if convolutions else {}
    model = torch.nn.Sequential(LIF(4, 6, p, SuperSpike(), learn=["threshold", "tau_mem"], recurrent=1, **shape))
    model[0].log_threshold.data = EACH["threshold"].log()
    model[0].weight.data *= 5
    again = layers_from_nir(through_file(layers_to_nir(model, positions=9 if convolutions else None), tmp_path))
    inputs = (torch.rand(3, 60, *((4, 9) if convolutions else (4,))) < 0.2).float()
    before, after = model(inputs), again(inputs)
    assert before.mean() > 0.02
    assert torch.equal(before, after)
    graph = layers_to_nir(model, positions=9 if convolutions else None)
    if convolutions:
        graph.nodes["layer1"].tau_mem[2, 3] *= 2
        with pytest.raises(UserError, match="layer1: tau_mem must be the same at all positions of a channel"):
            layers_from_nir(graph)


@pytest.mark.parametrize("adaptation", [0.5, torch.linspace(0, 1, 6)])
def test_thresholds_that_adapt_come_back_by_the_metadata(tmp_path, adaptation):
    p = dataclasses.replace(SAME, adaptation=adaptation, tau_adaptation=0.03)
    with pytest.warns(UserWarning, match="NIR cannot say: thresholds that adapt"):
        graph = layers_to_nir(LIF(4, 6, p, SuperSpike()))
    (layer,) = layers_from_nir(through_file(graph, tmp_path))
    assert layer.neuron.tau_adaptation == 0.03
    assert torch.equal(torch.as_tensor(layer.neuron.adaptation).float(), torch.as_tensor(adaptation))


def network(dense=False) -> tuple:
    torch.manual_seed(1)
    layers = [Layer(NEXT, SuperSpike(3.0), SigmoidEscape(4.0), 2, 1), Layer(SAME, SigmoidDerivative(), Step())]
    weights = [4 * torch.randn(3, 1, 10 if dense else 5), 2 * torch.randn(4, 3, 1 if dense else 4)]
    if dense:
        layers[0] = dataclasses.replace(layers[0], stride=1, padding=0)
    positions = 1 if dense else 3
    return layers, weights, [torch.randn(3, 3, 1 if dense else 3), None], READOUT, torch.randn(2, 4 * positions)


def test_a_network_comes_back_to_the_same_bits(tmp_path):
    parts = network()
    again = network_from_nir(through_file(network_to_nir((1, 14), *parts), tmp_path))
    assert (list(again.layers), again.readout) == (parts[0], READOUT)
    inputs = (torch.rand(5, 50, 14) < 0.1).to(torch.uint8)
    before, after = spiking_network(inputs, *parts, Noise(2)), spiking_network(inputs, *again, Noise(2))
    assert torch.equal(before[0], after[0])
    for a, b in zip(before[1], after[1], strict=True):
        assert a.sum() > 20
        assert torch.equal(a, b)


def test_dense_layers_become_convolutions_over_all_that_is_below():
    parts = network(dense=True)
    graph = network_to_nir((1, 10), *parts)
    given = {"layer1_weight": parts[1][0], "layer1_recurrent": parts[2][0], "layer2_weight": parts[1][1]}
    for name, weight in given.items():
        graph.nodes[name] = nir.Linear(weight.flatten(1).numpy())
    graph.nodes["input"] = nir.Input(np.array([10]))
    again = network_from_nir(graph)
    for found, weight in zip([again.weights[0], again.recurrent[0], again.weights[1]], given.values(), strict=True):
        assert torch.equal(found, weight)


@pytest.mark.parametrize("euler_step", [None, 1e-4])
def test_the_equations_that_the_graph_means(euler_step):
    """Potentials of a layer from the fields of its node alone, stepped as docs/nir.md says."""
    p = dataclasses.replace(SAME, tau_mem=12e-3)
    torch.manual_seed(2)
    layer = LIF(7, 3, p, SuperSpike()).double()
    layer.weight.data *= 3
    inputs = (torch.rand(1, 80, 7) < 0.2).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is nothing that NIR cannot say
        nodes = layers_to_nir(layer, euler_step=euler_step).nodes
    node, x = nodes["layer1"], inputs[0].numpy() @ nodes["layer1_weight"].weight.T
    if euler_step is None:
        synapse, membrane = (1 - np.exp(-p.dt / tau) for tau in (node.tau_syn, node.tau_mem))
    else:
        synapse, membrane = euler_step / node.tau_syn, euler_step / node.tau_mem
    current, u, expected = np.zeros(3), np.zeros(3), []
    for n in range(80):
        expected.append(u)
        u = np.where(u > node.v_threshold, node.v_reset, u)
        u = u + membrane * (node.v_leak - u + node.r * current)
        current = current + synapse * (-current + node.w_in * x[n])
    _, potential = lif(inputs @ layer.weight.T, p, SuperSpike())
    expected = np.array(expected)
    assert (expected > node.v_threshold).sum() > 5
    unit = p.threshold / node.v_threshold
    assert np.abs(potential.detach().numpy()[0] - unit * expected).max() < 1e-12


def test_time_constants_of_eulers_method_are_read_back():
    model = stack(False, first=dataclasses.replace(NEXT, reset="same"))
    graph = layers_to_nir(model, euler_step=1e-4)
    assert [layer.neuron.delay for layer in layers_from_nir(graph)] == [1, 0]
    for node in graph.nodes.values():
        node.metadata = {}  # as of a program that says nothing
    again = layers_from_nir(graph, SuperSpike(), dt=1e-3, euler_step=1e-4)
    for layer, before in zip(again, model, strict=True):
        assert layer.escape == Step()
        for field in ("tau_mem", "tau_syn", "dt", "threshold"):
            assert getattr(layer.neuron, field) == pytest.approx(getattr(before.neuron, field), rel=1e-9)
        assert torch.equal(layer.weight, before.weight)
    graph.nodes["layer1"].r = 2 * graph.nodes["layer1"].r
    scaled = layers_from_nir(graph, SuperSpike(), dt=1e-3, euler_step=1e-4)[0]
    assert scaled.neuron.threshold == pytest.approx(model[0].neuron.threshold / 2)


def test_a_readout_has_our_unit_whatever_the_graph_has():
    graph = network_to_nir((1, 14), *network(), euler_step=1e-4)
    graph.nodes["readout"].w_in = 3 * graph.nodes["readout"].w_in
    torch.testing.assert_close(network_from_nir(graph).readout_weight, 3 * network()[-1])


def test_the_example_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "nir.md").read_text(), flags=re.S)
    exec(compile(code, "docs/nir.md", "exec"), {})


def test_what_nir_cannot_say_is_said_once():
    with pytest.warns(UserWarning, match="escape noise, the initial potential .*, the silent step") as said:
        network_to_nir((1, 14), *network())
    assert len(said) == 1
    assert said[0].filename == __file__


class Box(SuperSpike):
    """A surrogate of the user's own."""


def change(name, **fields):
    def apply(graph):
        for field, value in fields.items():
            setattr(graph.nodes[name], field, value)

    return apply


def metadata(name, **values):
    return lambda graph: graph.nodes[name].metadata.update(values)


def node(name, new):
    return lambda graph: graph.nodes.update({name: new})


def edges(*more, without=()):
    def apply(graph):
        graph.edges = [edge for edge in graph.edges if edge not in without] + list(more)

    return apply


WRONG = {
    "layer1 is a LIF, and must be one of Input": node("layer1", nir.LIF(*np.ones((4, 6)))),
    r"layer1.tau_mem = nan: must be a finite number": change("layer1", tau_mem=np.r_[np.ones(5), np.nan]),
    r"layer1: the delay must be the same": change("layer1_delay", delay=np.r_[np.zeros(5), 1e-3]),
    r"layer1.tau_syn = 0.0: must be a finite number above 0": change("layer1", tau_syn=np.zeros(6)),
    r"layer1.v_reset = 0.5: must be 0": change("layer1", v_reset=np.full(6, 0.5)),
    r"layer1.threshold = .nan, nan.: must be from": change("layer1", v_threshold=np.full(6, np.nan)),
    r"layer1.reset = 'soft': must be one of next, same": metadata("layer1", reset="soft"),
    r"layer1.adaptation = 'much': must be a number": metadata("layer1", adaptation="much"),
    r"layer1.dt = 'a': must be a finite number above 0": metadata("layer1", dt="a"),
    r"layer1 has a time constant that is not longer than euler_step = 1": metadata("layer1", euler_step=1.0),
    r"layer1 has a delay of 3 steps": change("layer1_delay", delay=np.full(6, 3e-3)),
    r"must have the same delay": edges(("layer1_recurrent", "layer1"), without=[("layer1_recurrent", "layer1_delay")]),
    r"layer1.surrogate = 'os.system' is no SurrogateDer": metadata("layer1", surrogate={"class": "os.system"}),
    r"layer1.escape = 'SuperSpike' is no EscapeFunction": metadata("layer1", escape={"class": "SuperSpike"}),
    r"layer1.escape: beta = -1.0": metadata("layer1", escape={"class": "SigmoidEscape", "beta": -1.0}),
    r"layer1.escape: .*unexpected keyword": metadata("layer1", escape={"class": "SigmoidEscape", "colour": 1}),
    r"layer1_weight has a bias": node("layer1_weight", nir.Affine(np.ones((6, 20)), np.ones(6))),
    r"the graph has 2 inputs": node("other", nir.Input(np.array([3]))),
    r"leads to a node that is not there": edges(("layer1", "layer9")),
    r"layer1 must lead to one layer": edges(("layer1", "output")),
    r"layer1_weight must lead to one node": edges(without=[("layer1_weight", "layer1_delay")]),
    r"weights once, not 0 times": edges(("input", "layer1"), without=[("input", "layer1_weight")]),
    r"layer2_weight leads to node output": edges(("layer2_weight", "output"), without=[("layer2_weight", "layer2")]),
    r"the layers lead in a circle through": edges(("layer2", "layer1_weight"), without=[("layer2", "output")]),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_graph_that_cannot_be_computed_is_refused_in_one_sentence(sentence):
    graph = layers_to_nir(stack(False))
    WRONG[sentence](graph)
    with pytest.raises(UserError, match=sentence) as error:
        layers_from_nir(graph)
    assert "\n" not in str(error.value)


def test_wrong_arguments_are_refused_in_one_sentence():
    dense, convolutional, parts = stack(False), stack(True), network()
    for sentence, call in {
        "model = .*Linear.*: must be a LIF layer": lambda: layers_to_nir(torch.nn.Linear(2, 3)),
        "positions = None: must be given": lambda: layers_to_nir(convolutional),
        "euler_step = 0: must be": lambda: layers_to_nir(dense, euler_step=0),
        "the weights do not fit each other: ": lambda: layers_to_nir(torch.nn.Sequential(*dense[::-1])),
        "do not fit each other: weights .3, 1, 5. over .2, 14.": lambda: network_to_nir((2, 14), *parts),
        "graph = .*: must be an object of class NIRGraph": lambda: layers_from_nir({}),
        "the graph ends in a readout": lambda: layers_from_nir(network_to_nir((1, 14), *parts)),
        "does not end in CubaLI": lambda: network_from_nir(layers_to_nir(dense)),
        "layer1.surrogate = .*Box' is no SurrogateDerivative": lambda: layers_from_nir(
            layers_to_nir(LIF(2, 3, SAME, Box()))
        ),
    }.items():
        with pytest.raises(UserError, match=sentence):
            call()
    given = layers_from_nir(layers_to_nir(LIF(2, 3, SAME, Box())), surrogate=Box())
    assert isinstance(given[0].surrogate, Box)


SMALL = {
    "spike_matching": ("task.hidden=30", "task.target.rows=20", "task.target.steps=40", "task.sigma_u=3"),
    "classification": (
        *("data=randman", "data.classes=3", "data.units=12", "data.train=40", "data.test=20", "task.duration=0.1"),
        *("task.channels=[6,5]", "task.kernels=[5,3]", "task.strides=[2,1]", "task.paddings=[1,0]"),
        *("task.recurrent_kernels=[3,0]", "task.batch_size=20", "task.fano_trials=12", "task.sigma_u=4"),
    ),
}


def trained(folder, task: str):
    """A short run, and its network after the way to a file and back."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"task={task}", "trainer.epochs=2", *SMALL[task]])
    run_task(prepare(config)[0], 2, folder, identity(config), 1e9)
    export(folder, folder / "network.nir")
    return load_run(folder).rasters, nir.read(folder / "network.nir")


def test_a_run_of_spike_matching_is_exported(tmp_path):
    rasters, graph = trained(tmp_path, "spike_matching")
    hidden, output = run(layers_from_nir(graph), torch.from_numpy(rasters["input"])[None])
    assert rasters["output_after"].any()
    assert np.array_equal(hidden[0].detach().numpy(), rasters["hidden_after"])
    assert np.array_equal(output[0].detach().numpy(), rasters["output_after"])


def test_a_run_of_classification_is_exported_without_its_data(tmp_path):
    rasters, graph = trained(tmp_path, "classification")
    potentials, spikes = network_activity(torch.from_numpy(rasters["input"]), *network_from_nir(graph))
    assert np.array_equal(potentials.numpy(), rasters["readout"])
    for layer, found in enumerate(spikes, start=1):
        assert rasters[f"hidden{layer}"].any()
        assert np.array_equal(found.numpy(), rasters[f"hidden{layer}"])
    (tmp_path / "weights.npz").unlink()
    with pytest.raises(UserError, match=r"it has weights|has no weights"):
        export(tmp_path, tmp_path / "other.nir")
    assert not (tmp_path / "other.nir").exists()


IMPORTERS = {
    "norse": ("norse.torch", "from_nir", {"dt": 1e-4}),
    "snntorch": ("snntorch.import_nir", "import_from_nir", {}),  # has dt = 1e-4 built in
    "spikingjelly": ("spikingjelly.activation_based.nir_exchange", "import_from_nir", {"dt": 1e-4}),
}


def other_program(name: str):
    """What steps a graph in another program, spikes [time, neuron] in and out."""
    module, function, settings = IMPORTERS[name]
    load = getattr(pytest.importorskip(module), function)

    def steps(graph, inputs):
        net, state, spikes = load(graph, **settings), None, []
        for x in inputs:
            fired, state = net(x[None], state)
            spikes.append(fired[0].detach())
        return torch.stack(spikes)

    return steps


@pytest.mark.parametrize("program", ["snntorch", "spikingjelly"])
def test_convolutions_spike_in_other_programs_as_here(program):
    steps = other_program(program)
    model = stack(True, first=SAME)
    model[0].recurrent = None
    for layer in model:
        layer.escape = Step()
    inputs = (torch.rand(100, 2, 12) < 0.1).float()
    ours = model(inputs[None])[0].detach()
    assert ours.sum() > 50
    assert torch.equal(ours[4:], steps(layers_to_nir(model, positions=12, euler_step=1e-4), inputs)[:-4])


def test_neurons_that_differ_spike_in_norse_as_here():
    steps = other_program("norse")
    torch.manual_seed(4)
    model = torch.nn.Sequential(LIF(20, 6, LIFParameters(**EACH, dt=1e-3, reset="same"), SuperSpike()))
    model[0].weight.data *= 8
    inputs = (torch.rand(200, 20) < 0.1).float()
    ours = model(inputs[None])[0].detach()
    assert ours.sum() > 50
    assert torch.equal(ours[2:], steps(layers_to_nir(model, euler_step=1e-4), inputs)[:-2])


def test_a_network_of_snntorch_spikes_here_as_there():
    snntorch = pytest.importorskip("snntorch")
    write = pytest.importorskip("snntorch.export_nir").export_to_nir
    torch.manual_seed(6)
    stack = []
    for pre, post in ((20, 30), (30, 10)):
        decays, threshold = (torch.full((post,), decay) for decay in (0.8, 0.9)), torch.ones(post)
        settings = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
        stack += [torch.nn.Linear(pre, post, bias=False), snntorch.Synaptic(*decays, threshold, **settings)]
        stack[-2].weight.data *= 2
    theirs = torch.nn.Sequential(*stack)
    model = layers_from_nir(write(theirs, torch.zeros(1, 20), ignore_dims=[0]), SuperSpike(), dt=1e-3, euler_step=1e-4)
    for cell in stack[1::2]:
        cell.reset_mem()
    inputs = (torch.rand(200, 20) < 0.1).float()
    expected = torch.stack([theirs(x[None])[0] for x in inputs]).detach()
    assert expected.sum() > 300
    assert torch.equal(model(inputs[None])[0][4:], expected[:-4])


def learnt(parameters, recurrent) -> tuple[torch.nn.Sequential, torch.Tensor]:
    """Two layers that have learnt to fire at 40 Hz, and an input [time, neuron]."""
    torch.manual_seed(5)
    layers = [LIF(pre, post, parameters, SuperSpike(), recurrent=recurrent) for pre, post in ((30, 40), (40, 10))]
    model, inputs = torch.nn.Sequential(*layers), (torch.rand(1, 200, 30) < 0.05).float()
    for layer in model:
        layer.weight.data *= 5
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = (model(inputs).mean(dim=1) / parameters.dt - 40).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, inputs[0]


@pytest.mark.parametrize("program", IMPORTERS)
@pytest.mark.parametrize(
    ("reset", "recurrent", "equal"), [("same", None, True), ("next", None, False), ("same", 1, False)]
)
def test_other_programs_spike_as_docs_nir_says(program, reset, recurrent, equal):
    """Two steps earlier a layer; equal without recurrence for reset "same", whose rule is theirs."""
    steps = other_program(program)
    if program == "snntorch" and recurrent:
        pytest.skip("snntorch 1.0.0 cannot read a graph with recurrence")
    p = LIFParameters(tau_mem=10e-3, tau_syn=5e-3, dt=1e-3, reset=reset)
    model, inputs = learnt(p, recurrent)
    ours, theirs = model(inputs[None])[0].detach()[4:], steps(layers_to_nir(model, euler_step=1e-4), inputs)[:-4]
    differ = int((ours != theirs).sum())
    print(f"{program}, reset {reset}, {'' if recurrent else 'not '}recurrent: {int(ours.sum())} spikes, "
          f"{int(theirs.sum())} there, {differ} of {ours.numel()} numbers differ")  # fmt: skip
    assert ours.sum() > 50
    assert (differ == 0) is equal
