"""Code that torch.compile is to leave alone."""

from collections.abc import Callable
from functools import wraps

import torch


def outside_graphs(operation: Callable) -> Callable:
    """torch.compiler.disable, called when something is compiled: what it imports takes a second."""

    @wraps(operation)
    def run(*args):
        if torch.compiler.is_compiling():
            return torch.compiler.disable(operation)(*args)
        return operation(*args)

    return run
