"""Descent of small spiking networks along any gradient estimator, as Figures E5 and E6 do it."""

from dataclasses import replace

import numpy as np
import torch

from sgtheory.theory import LIFObjective

AT_ONCE = 1000  # paths of an evaluation that are simulated together


def expected_losses(objective: LIFObjective, paths: int, seed: int) -> np.ndarray:
    """E[L] at each of the n sets of parameters, from the same random numbers for every call; mean and standard error,
    [2, n]."""
    net, rng = objective.net, torch.Generator().manual_seed(seed)
    count = len(objective.parameters)
    values = []
    for _ in range(-(-paths // AT_ONCE)):
        uniforms = net.uniforms((count, AT_ONCE), rng)
        values.append(objective.value(net.simulate(objective.parameters[:, None], objective.x, uniforms)))
    values = torch.cat(values, 1)
    return torch.stack([values.mean(1), values.std(1) / values.shape[1] ** 0.5]).numpy()


def descend(
    objective, estimator, updates, rates, rng, observe=lambda update, objective: None, samples=1
) -> LIFObjective:
    """Adam along an estimator, with learning rates that fall to zero as a cosine; all sets of parameters at once.

    Args:
        objective: where to start, with n sets of parameters.
        estimator: of the gradients.
        updates: number of them.
        rates: learning rates; each is for an equal part of the sets, in their order.
        rng: source of the randomness.
        observe: called with the number of the update and the objective before each.
        samples: so many sets in a row, each with an input of its own, are one network and share their mean gradient.
    """
    parts = [part.clone().requires_grad_() for part in objective.parameters[::samples].chunk(len(rates))]
    optimiser = torch.optim.Adam([{"params": [p], "lr": rate} for p, rate in zip(parts, rates, strict=True)])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)

    def here():
        return replace(objective, parameters=torch.cat(parts).detach().repeat_interleave(samples, 0))

    for update in range(updates):
        now = here()
        observe(update, now)
        estimate = estimator.sample(now, len(now.parameters), rng)
        gradients = estimate.unflatten(0, (-1, samples)).mean(1)
        for part, gradient in zip(parts, gradients.chunk(len(rates)), strict=True):
            part.grad = gradient.clone()
        optimiser.step()
        schedule.step()
    return here()
