"""A layer of LIF neurons with weights, as a torch module."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from sgtheory.errors import ParameterError, UserError, is_whole, require_choice, require_count, require_kind
from sgtheory.lif._convolution import convolve
from sgtheory.lif._graphs import outside_graphs
from sgtheory.lif._layer import DETERMINISTIC, lif
from sgtheory.lif._noise import Noise
from sgtheory.lif._state import State
from sgtheory.neurons import EscapeFunction, LIFParameters, Step, SurrogateDerivative

EVALUATION = 2**31  # the first draw of calls in evaluation mode


class LIF(torch.nn.Module):
    """Weights and LIF neurons: ``spikes = layer(inputs)``.

    Dense by default; with ``kernel`` a convolution along positions.

    Args:
        pre: input neurons, or input channels.
        post: neurons, or channels.
        parameters: time constants, reset, delay. Tensors among them, with a number for each neuron or channel, become
            buffers of the layer.
        surrogate: what passes errors back.
        escape: how the neurons spike; deterministic by default.
        kernel: length of the feed-forward kernel; None is a dense layer.
        stride, padding: of the feed-forward convolution.
        recurrent: None, or for a dense layer 1, or the odd length of the recurrent kernel.
        backend: see :func:`lif`.
        learn: which of ``"tau_mem"``, ``"tau_syn"``, ``"threshold"``, ``"adaptation"`` and ``"tau_adaptation"`` are
            learnt, for each neuron or channel, from those of ``parameters`` on. The layer's parameters are their
            logarithms, such as ``log_tau_mem`` (of seconds): what is learnt stays positive and changes by factors.
        noise: seed, stream and first draw of the layer's own noise. By default, seed and stream are two random words of
            PyTorch's generator, so that layers differ and ``torch.manual_seed`` repeats all of them.

    Weights are drawn from N(0, 1 / fan-in) with PyTorch's generator; :mod:`sgtheory.networks` has the initialisation of
    the paper. They act on the synaptic current (Eq 19).

    Escape noise belongs to the neuron: it is there in evaluation mode, too. Each call takes the next draw. Calls in
    evaluation mode count their draws apart from 2**31 on, so that what is evaluated between two updates does not change
    the training. ``state_dict`` holds seed, stream and both counts: a model that is loaded goes on with the same noise.
    A deep copy draws the same noise as the original.

    Raises:
        ParameterError: for a recurrent kernel that does not fit, tensors of another size, a threshold or adaptation
            that is not positive and to be learnt, or noise that names samples or a draw of evaluation.
    """

    def __init__(
        self,
        pre: int,
        post: int,
        parameters: LIFParameters,
        surrogate: SurrogateDerivative,
        escape: EscapeFunction = DETERMINISTIC,
        kernel: int | None = None,
        stride: int = 1,
        padding: int = 0,
        recurrent: int | None = None,
        backend: str = "auto",
        noise: Noise | None = None,
        learn: Sequence[str] = (),
    ) -> None:
        super().__init__()
        require_count(pre=pre, post=post, stride=stride)
        if kernel is not None:
            require_count(kernel=kernel)
        require_count(0, padding=padding)
        require_kind(LIFParameters, parameters=parameters)
        require_kind(SurrogateDerivative, surrogate=surrogate)
        require_kind(EscapeFunction, escape=escape)
        parameters.require_neurons(post, torch.device("cpu"))
        for name in learn:
            require_choice(parameters.MAY_DIFFER, learn=name)
            if not bool((torch.as_tensor(value := getattr(parameters, name)) > 0).all()):
                raise ParameterError(name, value, "must be positive to be learnt")
        fits = is_whole(recurrent) and (recurrent == 1 or (kernel is not None and recurrent > 0 and recurrent % 2))
        if recurrent is not None and not fits:
            raise ParameterError("recurrent", recurrent, "must be None, 1 for a dense layer, or an odd kernel length")
        if noise is not None and noise.samples is not None:
            raise ParameterError("noise", noise, "must name no samples here: batches differ")
        if noise is not None and noise.draw >= EVALUATION:
            raise ParameterError("noise.draw", noise.draw, "must be below 2**31: from there on evaluation draws")
        self.surrogate, self.escape, self.backend = surrogate, escape, backend
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.weight = self._drawn(post, pre, *(() if kernel is None else (kernel,)))
        self.recurrent: torch.nn.Parameter | None = None
        if recurrent is not None:
            self.recurrent = self._drawn(post, post, *(() if kernel is None else (recurrent,)))
        # without gradients, as a deep copy refuses tensors of a graph: they go to what is learnt
        own = {name: value.detach().clone() for name, value in parameters.tensors.items()}
        self._given, self._learnt = replace(parameters, **own), tuple(n for n in parameters.MAY_DIFFER if n in learn)
        for name in self._learnt:
            start = torch.as_tensor(getattr(parameters, name), dtype=self.weight.dtype).detach()
            self.register_parameter(f"log_{name}", torch.nn.Parameter(start.log().expand(post).clone()))
        for name in self._fixed:
            self.register_buffer(name, own[name].clone())
        words = torch.randint(2**32, (2,)).tolist()  # drawn in any case: other weights do not depend on it
        self._noise = Noise(*words) if noise is None else noise
        self._evaluations = 0

    @staticmethod
    def _drawn(*shape: int) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.randn(shape) / math.sqrt(math.prod(shape[1:])))

    @property
    def _fixed(self) -> list[str]:
        return [name for name in self._given.tensors if name not in self._learnt]

    @property
    @outside_graphs
    def neuron(self) -> LIFParameters:
        """Time constants, threshold and the rest as they are now; gradients go back to what is learnt."""
        learnt = {name: getattr(self, f"log_{name}").exp() for name in self._learnt}
        return replace(self._given, **learnt, **{name: getattr(self, name) for name in self._fixed})

    def forward(
        self, inputs: torch.Tensor, noise: Noise | None = None, state: State | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, State]:
        """Spikes [batch, time, post] from inputs [batch, time, pre], or with positions as the last axis of both.

        Args:
            inputs: of the type of the weights, or spikes as whole numbers (uint8) or truth values.
            noise: in place of the layer's own, which then stays where it is.
            state: as in :func:`lif`; the state after the last step is then returned as well. With escape noise, the
                pieces of a sequence need ``noise``, the same for all: the layer's own is another draw in every call.

        Raises:
            ParameterError: for a state without noise where there is escape noise.
            UserError: for a call of checkpointing within the backward pass, which would take another draw.
        """
        require_kind(torch.Tensor, inputs=inputs)
        if inputs.ndim != (3 if self.kernel is None else 4) or inputs.shape[2] != self.weight.shape[1]:
            allowed = "[batch, time, {}]" if self.kernel is None else "[batch, time, {}, position]"
            raise ParameterError("inputs", list(inputs.shape), f"must be {allowed.format(self.weight.shape[1])}")
        if not inputs.is_floating_point():
            inputs = inputs.to(self.weight.dtype)
        if self.kernel is None:
            weighted = inputs @ self.weight.T
        else:
            weighted = convolve(inputs, self.weight, self.stride, self.padding)
        if noise is None and not isinstance(self.escape, Step):
            if state is not None:
                raise ParameterError("noise", None, "must be given with a state, the same for all pieces of a sequence")
            noise = self._next_noise()
        neuron = self.neuron, self.surrogate, self.escape
        spikes, _, *after = lif(weighted, *neuron, noise, self.recurrent, self.backend, potential=False, state=state)
        return (spikes, *after) if after else spikes

    @outside_graphs  # a graph would be compiled for every draw
    def _next_noise(self) -> Noise:
        if torch._C._current_graph_task_id() != -1:  # as checkpointing asks whether it is in a backward pass
            raise UserError("a checkpointed layer must be given its noise, to draw the same numbers again")
        if self.training:
            noise = self._noise
            self._noise = noise.at(draw=(noise.draw + 1) % EVALUATION)
        else:
            noise = self._noise.at(draw=EVALUATION + self._evaluations)
            self._evaluations = (self._evaluations + 1) % EVALUATION
        return noise

    def get_extra_state(self) -> torch.Tensor:
        """Seed, stream, and the numbers of the next draws in training and evaluation, for ``state_dict``."""
        noise = self._noise
        return torch.tensor([noise.seed, noise.stream, noise.draw, self._evaluations])

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Go on with the noise that :meth:`get_extra_state` returned."""
        seed, stream, draw, self._evaluations = state.tolist()
        self._noise = Noise(seed, stream, draw)

    def extra_repr(self) -> str:
        """What the layer is, for ``print(model)``."""
        post, pre, *kernel = self.weight.shape
        shown = [str(pre), str(post)]
        if kernel:
            shown.append(f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}")
        if self.recurrent is not None:
            shown.append(f"recurrent={self.recurrent.shape[-1] if kernel else 1}")
        if self._learnt:
            shown.append(f"learn={self._learnt}")
        return ", ".join([*shown, f"{self._given}", f"{self.surrogate}", f"{self.escape}", f"backend={self.backend!r}"])
