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
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                self._update(weights, group["lr"], group["eps"])
        return loss

    def _update(self, weights: list[torch.Tensor], lr: float, eps: float) -> None:
        """All weights in each operation: a GPU is given 18 operations, however many weights there are."""
        for w in weights:
            if not self.state[w]:
                self.state[w] |= {"mem": torch.ones_like(w), "g": torch.zeros_like(w), "g2": torch.zeros_like(w)}
        mem, g, g2 = ([self.state[w][name] for w in weights] for name in ("mem", "g", "g2"))
        h = [w.grad for w in weights]
        r = torch._foreach_add(mem, 1)
        torch._foreach_reciprocal_(r)
        torch._foreach_lerp_(g, h, r)
        torch._foreach_lerp_(g2, torch._foreach_mul(h, h), r)
        x = torch._foreach_mul(g, g)
        torch._foreach_div_(x, torch._foreach_add(g2, eps))
        forgotten = torch._foreach_neg(x)
        torch._foreach_add_(forgotten, 1)
        torch._foreach_mul_(mem, forgotten)
        torch._foreach_add_(mem, 1)
        torch._foreach_clamp_max_(x, lr)
        torch._foreach_mul_(x, h)
        root = torch._foreach_sqrt(g2)
        torch._foreach_add_(root, eps)
        torch._foreach_div_(x, root)
        torch._foreach_sub_(weights, x)


OPTIMISERS = {"smorms3": SMORMS3, "sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def make_optimiser(name: str, parameters, learning_rate: float) -> torch.optim.Optimizer:
    """One of :data:`OPTIMISERS` with its own defaults but for the learning rate.

    Raises:
        ParameterError: for an unknown name or a learning rate that is not above 0.
    """
    require_choice(tuple(OPTIMISERS), optimiser=name)
    require_positive(learning_rate=learning_rate)
    return OPTIMISERS[name](parameters, lr=learning_rate)
