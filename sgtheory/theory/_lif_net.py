"""Networks of LIF neurons with escape noise as nets of random spikes: one group for every layer in every step.

In this view each estimator of :mod:`sgtheory.theory` works on them as it does on perceptrons.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from sgtheory.errors import require_count, require_positive
from sgtheory.metrics import PSPKernel
from sgtheory.neurons import EscapeFunction, LIFParameters, SigmoidEscape
from sgtheory.theory._checks import require_sizes, require_tensor
from sgtheory.theory._perceptron import BernoulliNet, Objective

LIF_NEURON = LIFParameters(tau_mem=10e-3, tau_syn=5e-3, dt=1e-3)
RATE_PATHS = 64  # from which a firing rate is found


@dataclass(frozen=True)
class LIFNet(BernoulliNet):
    """Layers of LIF neurons with escape noise over ``steps`` time steps (Section 5, Eqs 18-23).

    The parameters are one vector [..., n_parameters]: for every layer W [post, pre] row by row, and then for a
    recurrent one V [post, pre]. Leading dimensions are a batch of nets. Group ``step * layers + layer`` has the spikes
    of one layer in one step.

    Args:
        sizes: number of inputs, then of the neurons of every layer; the last layer is the output.
        steps: number of time steps.
        neurons: of all layers. ``reset_gradient`` says whether back-propagation passes through the reset.
        escape: firing probability in a step.
        recurrent: whether the neurons of each hidden layer are connected to each other.
        reset_share: what back-propagation takes of the derivative of the reset: 1 is attached, 0 detached; None: as
            ``neurons`` says.

    Raises:
        ParameterError: if there are fewer than two sizes, if a size or ``steps`` is not a positive whole number, or if
            neurons adapt or differ.
    """

    sizes: tuple[int, ...]
    steps: int
    neurons: LIFParameters = field(default_factory=LIFParameters)
    escape: EscapeFunction = field(default_factory=SigmoidEscape)
    recurrent: bool = False
    reset_share: float | None = None

    def __post_init__(self):
        require_sizes(sizes=self.sizes)
        require_count(steps=self.steps)
        self.neurons.require_numbers("a LIFNet")
        self.neurons.require_no_adaptation("a LIFNet")

    @property
    def groups(self):
        return self.sizes[1:] * self.steps

    @property
    def owners(self) -> list[tuple[int, bool]]:
        """Of every weight matrix, in the order of the parameters: the layer, and whether it is recurrent."""
        last = len(self.sizes) - 2
        return [
            (layer, within)
            for layer in range(last + 1)
            for within in ((False, True) if self.recurrent and layer < last else (False,))
        ]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """[post, pre] of every weight matrix."""
        return [(self.sizes[layer + 1], self.sizes[layer + within]) for layer, within in self.owners]

    @property
    def n_parameters(self) -> int:
        return sum(post * pre for post, pre in self.shapes)

    @property
    def exact_passes(self) -> float:
        """Passes through the net that :meth:`Objective.expectation` costs."""
        return 2.0**self.units

    def matrices(self, parameters: torch.Tensor) -> list[torch.Tensor]:
        """The weight matrices [..., post, pre] of :attr:`shapes`, as views into ``parameters``."""
        parts = parameters.split([post * pre for post, pre in self.shapes], dim=-1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def run(self, parameters, x, spike):
        """Spikes of every group for the input spikes ``x`` [..., steps, inputs]; see :func:`sgtheory.lif.lif`."""
        p, a_m, a_s = self.neurons, self.neurons.membrane_decay, self.neurons.synaptic_decay
        attached = float(p.reset_gradient == "attached") if self.reset_share is None else self.reset_share
        weights = [[None, None] for _ in self.sizes[1:]]
        for (layer, within), matrix in zip(self.owners, self.matrices(parameters), strict=True):
            weights[layer][within] = matrix
        driven = torch.einsum("...oi,...ti->t...o", weights[0][0], x)
        zeros = [torch.zeros_like(w[..., 0]) for w, _ in weights]  # [..., post]
        potential, current = list(zeros), list(zeros)
        on_the_way = [deque([zero] * p.delay) for zero in zeros]
        path = []
        for step in range(self.steps):
            spikes = [spike(step * len(weights) + layer, u - p.threshold) for layer, u in enumerate(potential)]
            path += spikes
            for layer, (forward, within) in enumerate(weights):
                s, u = spikes[layer], potential[layer]
                arriving = driven[step] if layer == 0 else _times(forward, spikes[layer - 1])
                on_the_way[layer].append(arriving if within is None else arriving + _times(within, s))
                # the number is that of 1 - s, the derivative `attached` times that of 1 - s
                keep = 1 - s if attached == 1 else 1 - s.detach() - attached * (s - s.detach())
                if p.reset == "next":
                    potential[layer] = (a_m * u + (1 - a_m) * current[layer]) * keep
                else:
                    potential[layer] = a_m * u * keep + (1 - a_m) * current[layer]
                current[layer] = a_s * current[layer] + on_the_way[layer].popleft()
        return path


def _times(weights: torch.Tensor, spikes: torch.Tensor) -> torch.Tensor:
    return torch.einsum("...oi,...i->...o", weights, spikes)


@dataclass(frozen=True)
class VanRossumLoss:
    """Eq 25 step by step: l[n] = mean over neurons of 1/2 (alpha * (S - target))[n]^2; the distance is their sum.

    Args:
        kernel: alpha.
        target: spikes, [..., steps, outputs], float64.
    """

    kernel: PSPKernel
    target: torch.Tensor

    def __call__(self, spikes: torch.Tensor) -> torch.Tensor:
        """The loss in every step, [..., steps], of ``spikes`` [..., steps, outputs]."""
        require_tensor(..., *self.target.shape[-2:], spikes=spikes)
        steps = self.target.shape[-2]
        alpha = torch.from_numpy(self.kernel.samples(steps))
        lag = torch.arange(steps)[:, None] - torch.arange(steps)
        filtered = (alpha[lag.clamp(min=0)] * (lag >= 0)) @ (spikes - self.target)
        return 0.5 * filtered.square().mean(-1)


@dataclass(frozen=True)
class SpikeCountLoss:
    """Cross-entropy of the softmax of the spike counts, all of it in the last step.

    Args:
        target: 1 for the output neuron of the right class, else 0, [..., outputs], float64.
    """

    target: torch.Tensor

    def __call__(self, spikes: torch.Tensor) -> torch.Tensor:
        """The loss in every step, [..., steps], of ``spikes`` [..., steps, outputs]."""
        last = -(self.target * spikes.sum(-2).log_softmax(-1)).sum(-1, keepdim=True)
        return torch.cat([torch.zeros_like(spikes[..., 1:, 0]), last], -1)


@dataclass(frozen=True)
class LIFObjective(Objective):
    """E[L], the expected loss of a network of LIF neurons with escape noise, as a function of its weights.

    Args:
        net: the network.
        parameters: where the gradient is taken, [n_parameters] or [n, n_parameters], float64.
        x: input spikes, [steps, inputs], float64; or [n, 1, steps, inputs], one for each set of parameters.
        output: the loss in every step [..., steps] of output spikes [..., steps, outputs], such as
            :class:`VanRossumLoss`; what it says of a step must not depend on later spikes. L is the sum over steps.
    """

    net: LIFNet
    output: Callable[[torch.Tensor], torch.Tensor] = field(kw_only=True)

    def _shapes(self):
        return {"parameters": (..., self.net.n_parameters), "x": (..., self.net.steps, self.net.sizes[0])}

    def with_reset_share(self, share: float) -> "LIFObjective":
        """The same, where back-propagation takes ``share`` of the derivative of the reset."""
        return replace(self, net=replace(self.net, reset_share=share))

    def output_spikes(self, path) -> torch.Tensor:
        """[..., steps, outputs]."""
        return torch.stack(path[len(self.net.sizes) - 2 :: len(self.net.sizes) - 1], dim=-2)

    def value(self, path):
        return self.output(self.output_spikes(path)).sum(-1)

    def consequences(self, path):
        """The loss from the step on in which the output neurons can first be different.

        A spike changes the potential of the next layer two steps later, or three with a delay.
        """
        to_go = self.output(self.output_spikes(path)).flip(-1).cumsum(-1).flip(-1)
        to_go = torch.cat([to_go, torch.zeros_like(to_go[..., :1])], dim=-1)
        depth, lag = len(self.net.sizes) - 1, 2 + self.net.neurons.delay
        first = [step + lag * (depth - 1 - layer) for step in range(self.net.steps) for layer in range(depth)]
        return [to_go[..., min(step, self.net.steps)] for step in first]

    def expectation(self, parameters=None):
        """Exact E[L] at ``parameters`` [..., n_parameters] by enumeration of all paths; differentiable.

        Raises:
            UserError: if neurons times steps are more than 18.
        """
        parameters = self.parameters if parameters is None else parameters
        path, _ = self.paths()
        probability = self.log_likelihood(parameters[..., None, :], path).sum(0).exp()
        return probability @ self.value(path)


def side_by_side(objectives: list[LIFObjective]) -> LIFObjective:
    """One objective with the parameters, the input and the target of each, for as many estimates as there are.

    Net and loss are those of the first.
    """
    output = objectives[0].output
    targets = torch.stack([objective.output.target for objective in objectives])[:, None]
    return replace(
        objectives[0],
        parameters=torch.stack([objective.parameters for objective in objectives]),
        x=torch.stack([objective.x for objective in objectives])[:, None],
        output=replace(output, target=targets),
    )


def random_lif_objective(
    sizes: tuple[int, ...],
    steps: int,
    beta: float,
    seed: int,
    *,
    neurons: LIFParameters = LIF_NEURON,
    recurrent: bool = False,
    rate: float = 0.05,
) -> LIFObjective:
    """A random network of LIF neurons with sigmoid escape noise and the van Rossum distance to random targets.

    The kernel of the distance has the time constants 10 and 5 ms and eps0 = 1, whatever ``neurons`` have.

    Feed-forward weights are normal with mean 1 / pre and s.d. 1 / sqrt(pre), recurrent ones with mean 0 and half the
    s.d., all times a factor for each layer with which the layer fires at the wanted rate. Input and target are Poisson
    spikes at that rate, but at least one in ten steps for the input.

    Args:
        sizes: inputs, neurons of every layer.
        steps: number of time steps.
        beta: steepness of the escape noise (1 / unit of U).
        seed: of weights, input and target.
        neurons: of all layers.
        recurrent: see :class:`LIFNet`.
        rate: mean firing probability in a step; that of a neuron without input, p(-theta), is the least that a layer
            can have.

    Raises:
        ParameterError: naming the argument that is out of range.
    """
    require_positive(rate=rate)
    net = LIFNet(tuple(sizes), steps, neurons, SigmoidEscape(beta), recurrent)
    rng = torch.Generator().manual_seed(seed)
    parameters = torch.empty(net.n_parameters, dtype=torch.float64)
    x = (torch.rand(steps, sizes[0], generator=rng, dtype=torch.float64) < max(rate, 0.1)).double()
    target = (torch.rand(steps, sizes[-1], generator=rng, dtype=torch.float64) < rate).double()
    for matrix, (_, within) in zip(net.matrices(parameters), net.owners, strict=True):
        pre = matrix.shape[-1]
        matrix.normal_(0 if within else 1 / pre, (0.5 if within else 1) / pre**0.5, generator=rng)
    uniforms = net.uniforms((RATE_PATHS,), rng)
    for layer in range(len(sizes) - 1):
        mine = [m for m, (of_layer, _) in zip(net.matrices(parameters), net.owners, strict=True) if of_layer == layer]
        unscaled = [m.clone() for m in mine]
        low, high = 0.0, 200.0
        for _ in range(18):
            middle = (low + high) / 2
            for m, one in zip(mine, unscaled, strict=True):
                m.copy_(middle * one)
            fired = torch.stack(net.simulate(parameters, x, uniforms)[layer :: len(sizes) - 1]).mean()
            low, high = (low, middle) if fired > rate else (middle, high)
    kernel = PSPKernel(10e-3, 5e-3, neurons.dt, eps0=1.0)
    return LIFObjective(net, parameters, x, output=VanRossumLoss(kernel, target))
