"""How many threads compute, and how work is divided among them."""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import torch
from threadpoolctl import ThreadpoolController

from sgtheory.errors import UserError


def use_threads(number: int) -> None:
    """Compute with so many threads, or as many as there are."""
    number = min(number, numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(number)  # first, since numba sets the number of OpenMP's threads when it starts its own
    torch.set_num_threads(number)


class _Forked:
    """Whether this process was forked from one whose threads had computed: OpenMP's do not survive that."""

    computed = forked = False

    @classmethod
    def in_child(cls) -> None:
        cls.forked = cls.computed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Forked.in_child)


def use_torch_threads() -> None:
    """Let the kernels use as many threads as ``torch.set_num_threads`` allows.

    Raises:
        UserError: in a process that was forked after kernels had run, where they would hang or end the process.
    """
    if _Forked.forked:
        raise UserError(
            "this process was forked after sgtheory had computed with threads, which do not survive a fork: start "
            "processes by 'spawn' or 'forkserver', or before anything is computed"
        )
    _Forked.computed = True
    threads = torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    if torch.get_num_threads() != threads:  # when numba starts its threads, it sets the number of OpenMP's
        torch.set_num_threads(threads)


@cache
def blas() -> ThreadpoolController:
    """The BLAS libraries of the process, looked up once; scipy's is the one that compiled matrix products call."""
    importlib.import_module("scipy.linalg.cython_blas")
    return ThreadpoolController()


def run_blocks(function: Callable, items: Iterable) -> list:
    """``function`` of every item, on as many threads as ``torch.set_num_threads`` allows, each with one BLAS thread."""
    use_torch_threads()
    with blas().limit(limits=1, user_api="blas"):
        if torch.get_num_threads() == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(function, items))


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b by one thread: how a library divides sums among several depends on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return a @ b
    finally:
        torch.set_num_threads(threads)


def map_threads(function: Callable, *arguments: Iterable) -> Iterator:
    """``map(function, *arguments)`` in order, by one thread for each core; closing it leaves what was not begun."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = ThreadPoolExecutor(cores)
    try:
        yield from threads.map(function, *arguments)
    finally:
        threads.shutdown(cancel_futures=True)
