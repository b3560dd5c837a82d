"""Surrogate gradients of a LIF layer forward in time: the recursion of Section 5 (Eqs 15-17)."""

from collections import deque
from dataclasses import dataclass

import torch

from sgtheory.lif import Noise, lif
from sgtheory.neurons import EscapeFunction, LIFParameters, Step, SurrogateDerivative
from sgtheory.theory._checks import require_tensor

DETERMINISTIC = Step()


@dataclass(frozen=True)
class ForwardSensitivities:
    """A LIF layer and the derivatives of its spikes with respect to all of its weights, step by step.

    The weights are one vector: input weights [pre, neurons] row by row, then recurrent weights [from, to] row by row.

    Attributes:
        spikes: S[n], [time, neurons].
        potential: U[n], [time, neurons].
        spike_derivatives: dS[n] / dw by Eq 16, [time, neurons, weights].
    """

    spikes: torch.Tensor
    potential: torch.Tensor
    spike_derivatives: torch.Tensor


def _require_layer(input_spikes, input_weights, recurrent_weights):
    require_tensor(None, None, input_spikes=input_spikes, recurrent_weights=recurrent_weights)
    neurons = len(recurrent_weights)
    require_tensor(neurons, neurons, recurrent_weights=recurrent_weights)
    require_tensor(input_spikes.shape[1], neurons, input_weights=input_weights)


def real_time_recurrent_learning(
    input_spikes: torch.Tensor,
    input_weights: torch.Tensor,
    recurrent_weights: torch.Tensor,
    parameters: LIFParameters,
    surrogate: SurrogateDerivative,
    thresholds: torch.Tensor | None = None,
) -> ForwardSensitivities:
    """Simulate a recurrent LIF layer and carry the derivatives of its state along, without back-propagation.

    With x[n] = sum_j W_j S_pre_j[n] + sum_k V_k S_k[n], and sigma' the surrogate derivative at U[n] - theta::

        dS[n]/dw   = sigma' dU[n]/dw                                                             Eq 16
        dI[n+1]/dw = a_s dI[n]/dw + dx[n]/dw                                                     Eq 15
        dU[n+1]/dw = (1 - S[n]) (a_m dU[n]/dw + (1 - a_m) dI[n]/dw)
                     - (a_m U[n] + (1 - a_m) I[n]) sigma' dU[n]/dw       reset "next"            Eqs 15, 17
        dU[n+1]/dw = (1 - S[n]) a_m dU[n]/dw + (1 - a_m) dI[n]/dw
                     - a_m U[n] sigma' dU[n]/dw                          reset "same" (Eq 23)

    The last term of each is left out if the reset is detached. This equals back-propagation through time, with neurons
    x weights numbers in place of a history. With the matched surrogate and the reset attached it is the smoothed
    stochastic derivative of the layer along the path of spikes that was taken (Section 5).

    Args:
        input_spikes: [time, pre], float64.
        input_weights: W, [pre, neurons].
        recurrent_weights: V, [neurons, neurons], from row to column.
        parameters: time constants, reset, ``reset_gradient`` and delay.
        surrogate: sigma'.
        thresholds: random thresholds q, S[n] = [U[n] - theta > q[n]], [time, neurons]; 0 (deterministic) by default.

    Raises:
        ParameterError: if an array is not float64, its shape does not fit the others, or neurons adapt or differ.
    """
    _require_layer(input_spikes, input_weights, recurrent_weights)
    parameters.require_numbers("the recursion forward in time")
    parameters.require_no_adaptation("the recursion forward in time")
    if thresholds is not None:
        require_tensor(len(input_spikes), len(recurrent_weights), thresholds=thresholds)
    steps, pre = input_spikes.shape
    neurons = len(recurrent_weights)
    a_m, a_s = parameters.membrane_decay, parameters.synaptic_decay
    attached = parameters.reset_gradient == "attached"
    q = input_spikes.new_zeros(steps, neurons) if thresholds is None else thresholds
    own_weights = torch.eye(neurons, dtype=input_spikes.dtype)[:, None, :]  # weight [i, j] acts on neuron j alone

    u = current = input_spikes.new_zeros(neurons)
    du = di = input_spikes.new_zeros(neurons, (pre + neurons) * neurons)
    on_the_way = deque((current, di) for _ in range(parameters.delay))
    spikes, potential, derivatives = [], [], []
    for n in range(steps):
        s = (u - parameters.threshold > q[n]).to(u.dtype)
        ds = surrogate.derivative(u - parameters.threshold, s)[:, None] * du
        spikes.append(s)
        potential.append(u)
        derivatives.append(ds)

        sources = torch.cat([input_spikes[n], s])
        arriving = sources @ torch.cat([input_weights, recurrent_weights])
        d_arriving = (own_weights * sources[:, None]).flatten(1) + recurrent_weights.T @ ds
        on_the_way.append((arriving, d_arriving))
        arriving, d_arriving = on_the_way.popleft()

        keep = (1 - s)[:, None]
        if parameters.reset == "next":
            kept = a_m * u + (1 - a_m) * current
            du = keep * (a_m * du + (1 - a_m) * di) - attached * kept[:, None] * ds
            u = kept * (1 - s)
        else:
            du = keep * a_m * du + (1 - a_m) * di - attached * a_m * u[:, None] * ds
            u = a_m * u * (1 - s) + (1 - a_m) * current
        current, di = a_s * current + arriving, a_s * di + d_arriving
    return ForwardSensitivities(torch.stack(spikes), torch.stack(potential), torch.stack(derivatives))


def back_propagation_through_time(
    error: torch.Tensor,
    input_spikes: torch.Tensor,
    input_weights: torch.Tensor,
    recurrent_weights: torch.Tensor,
    parameters: LIFParameters,
    surrogate: SurrogateDerivative,
    escape: EscapeFunction = DETERMINISTIC,
    noise: Noise | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The derivatives of :func:`real_time_recurrent_learning`, backwards through :func:`sgtheory.lif.lif`.

    Args:
        error: dL / dS, [time, neurons].
        escape, noise: as in :func:`sgtheory.lif.lif`.
        The others: as in :func:`real_time_recurrent_learning`.

    Returns:
        S [time, neurons], and dL / dw for all weights, [weights].

    Raises:
        ParameterError: if an array is not float64 or its shape does not fit the others.
    """
    _require_layer(input_spikes, input_weights, recurrent_weights)
    require_tensor(len(input_spikes), len(recurrent_weights), error=error)
    weights = [w.detach().requires_grad_() for w in (input_weights, recurrent_weights)]
    arriving = (input_spikes @ weights[0])[None]
    spikes, _ = lif(arriving, parameters, surrogate, escape, noise, weights[1].T, backend="reference", potential=False)
    gradients = torch.autograd.grad((spikes[0] * error).sum(), weights)
    return spikes[0].detach(), torch.cat([g.flatten() for g in gradients])
