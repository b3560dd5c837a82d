"""Gradient estimators under one interface, and their measured quality (Sections 2, 3.2, 7).

They work on nets of perceptrons and on networks of LIF neurons, but for :class:`StochAD`, which needs perceptrons, and
:class:`ShrunkScoreFunction`, which needs LIF neurons. What is out of range raises a
:class:`sgtheory.errors.ParameterError` that names it.

An estimator turns an :class:`Objective` into random vectors that should be close to its exact gradient.
:func:`measure` finds bias, variance, cosine and sign agreement of any of them. Where an estimate is a function of the
path alone, these are exact sums over all paths; otherwise they are means over samples with a stated standard error.

The cost of an estimate is counted in passes through the net: one evaluation of every unit, forward or backward.
"""

import itertools
from dataclasses import dataclass, field

import torch

from sgtheory.errors import ParameterError, require_choice, require_count, require_positive, require_word
from sgtheory.neurons import SurrogateDerivative, surrogate_spike
from sgtheory.theory._checks import require_tensor
from sgtheory.theory._perceptron import Objective, Path, PerceptronNet, log_likelihood
from sgtheory.theory._stochad import Combination, smoothed_bernoulli, stochastic_derivative, triple_of

RUNS_AT_ONCE = 4096  # bounds the memory
MAX_SUPPORT_UNITS = 14  # beyond that, samples are cheaper than all 2**units paths


class Estimator:
    """A gradient estimator. A subclass defines :meth:`sample` and :meth:`cost`."""

    def sample(self, objective: Objective, n: int, rng: torch.Generator) -> torch.Tensor:
        """``n`` independent estimates, [n, n_parameters]."""
        raise NotImplementedError

    def support(self, objective: Objective) -> tuple[torch.Tensor, torch.Tensor] | None:
        """All values that the estimate can take, [M, n_parameters], and their probabilities, [M]; None if unknown."""
        return None

    def cost(self, net: PerceptronNet) -> float:
        """Passes through the net per estimate."""
        raise NotImplementedError


@dataclass(frozen=True)
class _PathEstimator(Estimator):
    """An estimate from the spikes of a path alone, averaged over independent paths."""

    paths: int = field(default=1, kw_only=True)

    def __post_init__(self):
        require_count(paths=self.paths)

    def on_paths(self, objective: Objective, path: Path) -> torch.Tensor:
        """The estimate on each path of a batch, [n, n_parameters].

        Args:
            objective: what is estimated.
            path: spikes of every group, [n, units], or [n, paths, units] for averages over ``paths`` of them.
        """
        raise NotImplementedError

    def sample(self, objective, n, rng):
        net = objective.net
        path = net.simulate(objective.parameters[..., None, :], objective.x, net.uniforms((n, self.paths), rng))
        return self.on_paths(objective, path)

    def support(self, objective):
        if self.paths > 1 or objective.net.units > MAX_SUPPORT_UNITS:
            return None
        path, probability = objective.paths()
        return self.on_paths(objective, path), probability

    def cost(self, net):
        return 2.0 * self.paths


def _beside(x: torch.Tensor, spikes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [n, 1, units] or [n, paths, units] and the spikes of a path, [n, units] or [n, paths, units], in one shape."""
    return torch.broadcast_tensors(x, spikes if spikes.ndim == 3 else spikes[:, None])


@dataclass(frozen=True)
class Exact(Estimator):
    """The gradient itself, by enumeration of all spike patterns of every layer."""

    def sample(self, objective, n, rng):
        return objective.gradient().expand(n, -1)

    def support(self, objective):
        return objective.gradient()[None], torch.ones(1, dtype=torch.float64)

    def cost(self, net):
        return 2.0 * net.exact_passes


@dataclass(frozen=True)
class SurrogateGradient(_PathEstimator):
    """Back-propagation with ``surrogate`` in place of dS/dU (Eq 3).

    Args:
        surrogate: surrogate derivative; ``StraightThrough()`` gives the identity straight-through estimator.
        path: ``"stochastic"`` draws the spikes from the net; ``"deterministic"`` takes the path of the hard
            threshold.
        paths: average over this many paths.
    """

    surrogate: SurrogateDerivative
    path: str = "stochastic"

    def __post_init__(self):
        super().__post_init__()
        require_choice(("stochastic", "deterministic"), path=self.path)

    def on_paths(self, objective, path):
        def spike(group, x):
            return surrogate_spike(*_beside(x, path[group]), self.surrogate.derivative)

        return objective.pathwise_gradient(spike, len(path[0]))

    def sample(self, objective, n, rng):
        if self.path == "deterministic":
            return self.support(objective)[0].expand(n, -1)
        return super().sample(objective, n, rng)

    def support(self, objective):
        if self.path == "deterministic":
            return self.on_paths(objective, objective.deterministic_path()), torch.ones(1, dtype=torch.float64)
        return super().support(objective)


@dataclass(frozen=True)
class SmoothedStochAD(_PathEstimator):
    """Back-propagation of smoothed stochastic derivatives (Section 3.2.2, Eq 1).

    In a network of LIF neurons the derivative of the reset belongs to it (Section 5): ``reset_gradient="attached"``.

    Args:
        combination: of the right and left derivative; ``"matched"`` is (1 - p) right + p left.
        paths: average over this many paths.
    """

    combination: Combination = "matched"

    def on_paths(self, objective, path):
        def spike(group, x):
            return smoothed_bernoulli(*_beside(objective.net.escape.value(x), path[group]), self.combination)

        return objective.pathwise_gradient(spike, len(path[0]))


@dataclass(frozen=True)
class StochAD(Estimator):
    """Unbiased forward-mode stochastic derivative, see :func:`sgtheory.theory.stochastic_derivative`."""

    combination: Combination = "matched"
    prune: bool = True
    coupled: bool = True

    def sample(self, objective, n, rng):
        return stochastic_derivative(
            objective, n, rng, combination=self.combination, prune=self.prune, coupled=self.coupled
        )

    def cost(self, net):
        if self.prune:
            return 2.0
        upstream = itertools.accumulate(net.sizes[1:-1], initial=0)
        return 1 + sum(before * units for before, units in zip(upstream, net.sizes[1:], strict=True)) / net.units


@dataclass(frozen=True)
class ScoreFunction(_PathEstimator):
    """f(S) d log P(S) / d parameters: the likelihood-ratio or REINFORCE estimator (Williams 1992). Unbiased.

    Where f is a sum over time, each spike is given the part that comes after it (:meth:`Objective.consequences`).

    Args:
        baseline: subtract from f the mean of f over the other paths of the same estimate (leave one out), which
            keeps it unbiased; needs ``paths`` of at least 2.
        paths: average over this many paths.
    """

    baseline: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.baseline and self.paths < 2:
            raise ParameterError("paths", self.paths, "must be at least 2 for a baseline from the other paths")

    def on_paths(self, objective, path):
        path = [spikes if spikes.ndim == 3 else spikes[:, None] for spikes in path]
        rewards = self._rewards(objective, path)
        return objective.gradients(lambda p: (rewards * objective.log_likelihood(p, path)).sum(0), len(path[0]))

    def on_each_path(self, objective: Objective, path: Path) -> torch.Tensor:
        """What each path of a ``path`` [n, paths, units] contributes to its average, [n, paths, n_parameters]."""
        n, paths = path[0].shape[:2]
        rewards = self._rewards(objective, path)
        parameters = objective.parameters[..., None, :].expand(n, paths, -1).clone().requires_grad_()
        value = (rewards * objective.log_likelihood(parameters, path)).sum()
        return torch.autograd.grad(value, parameters)[0]

    def _rewards(self, objective, path):
        """What each group of each path is credited with, [groups, n, paths]."""
        rewards = torch.stack(objective.consequences(path))
        if self.baseline:
            paths = rewards.shape[2]
            rewards = (rewards - rewards.mean(2, keepdim=True)) * (paths / (paths - 1))
        return rewards


@dataclass(frozen=True)
class _WithSurrogate(_PathEstimator):
    """The likelihood ratio with baseline, made better by back-propagation along the same paths."""

    surrogate: SurrogateDerivative
    paths: int = field(default=2, kw_only=True)

    def __post_init__(self):
        require_count(2, paths=self.paths)

    def cost(self, net):
        return 3.0 * self.paths


@dataclass(frozen=True)
class ControlledScoreFunction(_WithSurrogate):
    """The likelihood ratio with the surrogate gradient as control variate (after Gu et al. 2016). Unbiased.

    f(S) - E[f] is the sum over all spikes, in causal order, of D (S - p), where D = E[f | S = 1] - E[f | S = 0] given
    the spikes before (Doob's decomposition). The control is this sum with credits c, df/dS by back-propagation, in
    place of D. What it takes from the likelihood ratio is known, the sum of c dp, and is given back. To stay unbiased,
    each path has the mean credits of the other paths, and the coefficient of the control by regression on these.

    Args:
        surrogate: surrogate derivative.
        paths: average over this many paths, at least 2.
    """

    def on_paths(self, objective, path):
        share = 1 / (self.paths - 1)
        credit = [share * (c.sum(1, keepdim=True) - c) for c in self._credits(objective, path)]
        expected = objective.probabilities(objective.parameters[..., None, :], path)
        innovation = [(c * (s - p)).sum(-1) for c, s, p in zip(credit, path, expected, strict=True)]
        control = torch.stack(innovation).flip(0).cumsum(0).flip(0)  # of what comes after, as the rewards
        rewards = torch.stack(objective.consequences(path))  # [groups, n, paths]
        rewards = (rewards - rewards.mean(2, keepdim=True)) * self.paths * share
        explained, size = (rewards * control).sum(0), control.square().sum(0)
        others = [total.sum(1, keepdim=True) - total for total in (explained, size)]
        coefficient = torch.where(others[1] > 0, others[0] / others[1], 0.0)
        left = rewards - coefficient * control

        def controlled(parameters):
            probabilities = objective.probabilities(parameters, path)
            known = sum((c * p).sum(-1) for c, p in zip(credit, probabilities, strict=True))
            return (left * log_likelihood(probabilities, path)).sum(0) + coefficient * known

        return objective.gradients(controlled, len(path[0]))

    def _credits(self, objective, path):
        """df/dS of every spike of each path, back-propagated through all that follows; [n, paths, units] a group."""
        spikes = [torch.zeros_like(s, requires_grad=True) for s in path]

        def spike(group, x):
            return surrogate_spike(*_beside(x, path[group]), self.surrogate.derivative) + spikes[group]

        value = objective.value(objective.net.run(objective.parameters[..., None, :], objective.x, spike))
        return torch.autograd.grad(value.sum(), spikes, allow_unused=True, materialize_grads=True)


@dataclass(frozen=True)
class ShrunkScoreFunction(_WithSurrogate):
    """The likelihood ratio, shrunk towards the line along the surrogate gradient. Biased, with less variance. For
    networks of LIF neurons.

    For each weight matrix, u is the mean likelihood ratio over paths, s the mean surrogate gradient of the same paths,
    and r = u - c s what is left beside its projection c s (c >= 0). The estimate is c s + (1 - v / |r|^2) r with v the
    variance of u from its paths, and c s alone where v is larger: positive-part James-Stein.

    Args:
        surrogate: surrogate derivative.
        paths: average over this many paths, at least 2.
    """

    def on_paths(self, objective, path):
        unbiased = ScoreFunction(baseline=True, paths=self.paths).on_each_path(objective, path)
        surrogate = SurrogateGradient(self.surrogate).on_paths(objective, path)
        parts = [post * pre for post, pre in objective.net.shapes]
        pairs = zip(unbiased.split(parts, -1), surrogate.split(parts, -1), strict=True)
        return torch.cat([self._shrink(u, s) for u, s in pairs], -1)

    def _shrink(self, unbiased, surrogate):
        mean = unbiased.mean(1)
        variance = unbiased.var(1).sum(-1) / self.paths
        length = surrogate.square().sum(-1)
        along = (mean * surrogate).sum(-1).clamp(min=0)
        projection = torch.where(length > 0, along / length, 0.0)[:, None] * surrogate
        rest = mean - projection
        size = rest.square().sum(-1)
        kept = torch.where(size > variance, 1 - variance / size, 0.0)
        return projection + kept[:, None] * rest


@dataclass(frozen=True)
class Jumps(Estimator):
    """Unbiased stochastic derivatives by replay: what if one spike had been another?

    A spike S of the run, with firing probability p and weight w of its triple, has the credit w (f(Y) - f(S)), where Y
    is the run with that spike replaced and the same random numbers afterwards. The estimate is
    sum of credit dp / d parameters, along the spikes that happened. For ``"matched"`` the weights are 1 and -1, so
    that the credit is f(with the spike) - f(without it): the local expectation gradient (Titsias & Lázaro-Gredilla
    2015) with one run for each outcome.

    :class:`StochAD` finds the same forward in time, for perceptrons.

    Args:
        alternatives: number of spikes that are replaced, one at a time, drawn in proportion to ``|w| p'(U - theta)``;
            None: each of them once.
        combination: of the right and left derivative, see :func:`sgtheory.theory.right_share`.
        coupled: False: another run goes on with random numbers of its own.
    """

    alternatives: int | None = None
    combination: Combination = "matched"
    coupled: bool = True

    def __post_init__(self):
        if self.alternatives is not None:
            require_count(alternatives=self.alternatives)

    def sample(self, objective, n, rng):
        at_once = max(1, RUNS_AT_ONCE // (self.alternatives or objective.net.units))
        parts = [min(at_once, n - first) for first in range(0, n, at_once)]
        return torch.cat([self._sample(objective, part, rng) for part in parts])

    def _sample(self, objective, n, rng):
        net, potentials = objective.net, []
        uniforms = net.uniforms((n, 1), rng)

        def draw(group, x):
            potentials.append(x.expand_as(uniforms[group]))
            return (uniforms[group] < net.escape.value(x)).double()

        path = net.run(objective.parameters, objective.x, draw)
        x, spikes = torch.cat(potentials, -1)[:, 0], torch.cat(path, -1)[:, 0]  # [n, units]
        weight = triple_of(net.escape.value(x), spikes, self.combination).weight
        # nothing is replaced where the probability does not change, and where it rounds to 0 or 1
        size = (weight * net.escape.derivative(x)).abs()
        if self.alternatives is None:
            chosen, times = torch.arange(net.units).expand(n, -1), 1.0
        else:
            total = size.sum(-1, keepdim=True)
            possible = torch.where(total > 0, size, 1.0)
            chosen = torch.multinomial(possible, self.alternatives, replacement=True, generator=rng)
            drawn = size.gather(1, chosen)
            times = torch.where(drawn > 0, total / (self.alternatives * drawn), 0.0)
        value = objective.value(self._replay(objective, uniforms, chosen, rng))
        change = value - objective.value(path)  # [n, alternatives]
        credit = torch.zeros_like(spikes).scatter_add(1, chosen, change * times) * weight
        credits = [part[:, None] for part in credit.split(net.groups, -1)]

        def credited(parameters):
            probabilities = objective.probabilities(parameters, path)
            return sum((c * p).sum(-1) for c, p in zip(credits, probabilities, strict=True))

        return objective.gradients(credited, n)

    def _replay(self, objective, uniforms, chosen, rng):
        """Paths [n, alternatives] in which one spike each, ``chosen`` among all units, is another."""
        net = objective.net
        first = list(itertools.accumulate(net.groups, initial=0))

        def spike(group, x):
            random = uniforms[group]
            if not self.coupled:
                after = (chosen < first[group])[..., None]
                own = torch.rand(*chosen.shape, net.groups[group], generator=rng, dtype=torch.float64)
                random = torch.where(after, own, random)
            s = random < net.escape.value(x)
            return (s ^ (chosen[..., None] == torch.arange(first[group], first[group + 1]))).double()

        return net.run(objective.parameters, objective.x, spike)

    def cost(self, net):
        return 2.0 + (self.alternatives or net.units)


@dataclass(frozen=True)
class FiniteDifferences(Estimator):
    """(f(parameters + epsilon e_i) - f(parameters)) / epsilon for every parameter i, from one run each.

    Args:
        epsilon: size of the perturbation (unit of the parameters).
        coupled: both runs use the same random numbers; otherwise they are independent.
        central: (f(parameters + epsilon e_i) - f(parameters - epsilon e_i)) / (2 epsilon).
    """

    epsilon: float = 0.1
    coupled: bool = False
    central: bool = False

    def __post_init__(self):
        require_positive(epsilon=self.epsilon)

    def sample(self, objective, n, rng):
        net = objective.net

        def outputs(parameters, uniforms):
            return objective.value(net.simulate(parameters, objective.x, uniforms))

        step = self.epsilon * torch.eye(net.n_parameters, dtype=torch.float64)
        base = net.uniforms((n, 1 if self.coupled else net.n_parameters), rng)
        moved = base if self.coupled else net.uniforms((n, net.n_parameters), rng)
        start = objective.parameters - step if self.central else objective.parameters
        difference = outputs(objective.parameters + step, moved) - outputs(start, base)
        return difference / (2 * self.epsilon if self.central else self.epsilon)

    def cost(self, net):
        return net.n_parameters + 1.0 if self.coupled and not self.central else 2.0 * net.n_parameters


@dataclass(frozen=True)
class BinaryConcrete(Estimator):
    """Back-propagation through relaxed spikes: Gumbel-softmax for two classes (Maddison et al., Jang et al. 2017).

    A spike S = [r < p] becomes sigma((logit(p) - logit(r)) / temperature).

    Args:
        temperature: 0 would be the spike itself.
        straight_through: spikes stay binary in the forward pass and use the relaxed derivative in the backward pass.
    """

    temperature: float = 0.5
    straight_through: bool = False

    def __post_init__(self):
        require_positive(temperature=self.temperature)

    def sample(self, objective, n, rng):
        uniforms = objective.net.uniforms((n, 1), rng)

        def spike(group, x):
            p = objective.net.escape.value(x)
            # logit is infinite where p rounds to 0 or 1; there the relaxed spike does not depend on p any more.
            relaxed = torch.sigmoid((torch.logit(p, eps=1e-15) - torch.logit(uniforms[group])) / self.temperature)
            if self.straight_through:
                return relaxed + ((uniforms[group] < p).to(p.dtype) - relaxed).detach()
            return relaxed

        return objective.pathwise_gradient(spike, n)

    def cost(self, net):
        return 2.0


@dataclass(frozen=True)
class Quality:
    """How good an estimator is on an objective. g is the exact gradient, m the mean of the estimate.

    Attributes:
        gradient, mean, bias: g, m and m - g, [n_parameters].
        standard_error: of ``mean``, [n_parameters]; zero where all paths were enumerated.
        variance: of one estimate, [n_parameters].
        relative_bias: |m - g| / |g|.
        relative_sd: sqrt(sum of the variances) / |g|.
        cosine, sign_agreement: between m and g; the share of parameters with g != 0 where the sign is the same.
        sample_cosine, sample_sign_agreement: the same between one estimate and g, on average; an estimate of zero
            agrees with nothing.
        cost: passes through the net per estimate.
        samples: number of samples, 0 where all paths were enumerated.
    """

    gradient: torch.Tensor
    mean: torch.Tensor
    standard_error: torch.Tensor
    variance: torch.Tensor
    sample_cosine: float
    sample_sign_agreement: float
    cost: float
    samples: int

    @property
    def bias(self) -> torch.Tensor:
        return self.mean - self.gradient

    @property
    def relative_bias(self) -> float:
        return float(self.bias.norm() / self.gradient.norm())

    @property
    def relative_sd(self) -> float:
        return float(self.variance.sum().sqrt() / self.gradient.norm())

    @property
    def cosine(self) -> float:
        return float(_cosine(self.mean, self.gradient))

    @property
    def sign_agreement(self) -> float:
        return float(_sign_agreement(self.mean, self.gradient))


def _cosine(estimates, gradient):
    return torch.nn.functional.cosine_similarity(estimates, gradient, dim=-1, eps=1e-300)


def _sign_agreement(estimates, gradient):
    sensitive = gradient != 0
    return (estimates.sign() == gradient.sign())[..., sensitive].double().mean(-1)


def measure(
    estimator: Estimator, objective: Objective, samples: int = 4096, seed: int = 0, gradient: torch.Tensor | None = None
) -> Quality:
    """Bias, variance, cosine and sign agreement of ``estimator`` with the exact gradient of ``objective``.

    Exact for up to 14 units where the estimate is a function of one path; otherwise from ``samples`` estimates drawn
    with ``seed``. ``gradient`` is the exact gradient, if it is known already.

    Raises:
        ParameterError: if ``samples`` is not a whole number above 1, or ``gradient`` has another shape.
        UserError: if the net is too large for an exact gradient.
    """
    require_count(2, samples=samples)
    require_word(seed=seed)
    gradient = objective.gradient() if gradient is None else gradient
    require_tensor(objective.net.n_parameters, gradient=gradient)
    support = estimator.support(objective)
    if support is None:
        estimates = estimator.sample(objective, samples, torch.Generator().manual_seed(seed))
        weights = torch.full((samples,), 1 / samples, dtype=torch.float64)
    else:
        estimates, weights = support
    mean = weights @ estimates
    variance = weights @ (estimates - mean) ** 2
    if support is None:
        variance = variance * samples / (samples - 1)
    return Quality(
        gradient=gradient,
        mean=mean,
        standard_error=(variance / samples).sqrt() if support is None else torch.zeros_like(mean),
        variance=variance,
        sample_cosine=float(weights @ _cosine(estimates, gradient)),
        sample_sign_agreement=float(weights @ _sign_agreement(estimates, gradient)),
        cost=estimator.cost(objective.net),
        samples=samples if support is None else 0,
    )
