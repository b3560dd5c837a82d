"""SMORMS3, the optimiser of the paper's classification task, beside those of PyTorch."""

import torch

from sgtheory.errors import require_choice, require_positive


class SMORMS3(torch.optim.Optimizer):
    """Squared mean over root mean squared cubed (S. Funk, 2015), as the paper uses it (Section 8.4.2).

    Element by element, with gradient h, from m = 1 and g = g2 = 0::

        r = 1 / (m + 1);  g = (1 - r) g + r h;  g2 = (1 - r) g2 + r h^2
        x = g^2 / (g2 + eps);  m = 1 + m (1 - x);  w = w - h min(lr, x) / (sqrt(g2) + eps)

    Args:
        params: as for any optimiser of PyTorch.
        lr: upper bound of the step, relative to the root mean square of the gradient.
        eps: against division by zero.

    Raises:
        ParameterError: if lr or eps is not a finite number above 0.
    """

    def __init__(self, params, lr: float = 1e-3, eps: float = 1e-16):
        require_positive(lr=lr, eps=eps)
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        """One update of all parameters that have a gradient; returns the loss of ``closure``, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, eps = group["lr"], group["eps"]
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                if not state:
                    state |= {"mem": torch.ones_like(w), "g": torch.zeros_like(w), "g2": torch.zeros_like(w)}
                mem, g, g2 = state["mem"], state["g"], state["g2"]
                r = 1 / (mem + 1)
                g.lerp_(w.grad, r)
                g2.lerp_(w.grad.square(), r)
                x = g.square() / (g2 + eps)
                mem.mul_(1 - x).add_(1)
                w.sub_(w.grad * x.clamp(max=lr) / (g2.sqrt() + eps))
        return loss


OPTIMISERS = {"smorms3": SMORMS3, "sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def make_optimiser(name: str, parameters, learning_rate: float) -> torch.optim.Optimizer:
    """One of :data:`OPTIMISERS` with its own defaults but for the learning rate.

    Raises:
        ParameterError: for an unknown name or a learning rate that is not above 0.
    """
    require_choice(tuple(OPTIMISERS), optimiser=name)
    require_positive(learning_rate=learning_rate)
    return OPTIMISERS[name](parameters, lr=learning_rate)
