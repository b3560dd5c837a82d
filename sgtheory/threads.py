"""How many threads compute, and how work is divided among them.

The threads are Python's, which sleep while they wait, and kernels release the interpreter's lock. Those of OpenMP spin,
and make a machine that does something else as well ten times slower.
"""

import ctypes
import importlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

import sgtheory


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stop_spinning() -> None:
    """Let the threads of an OpenMP that was loaded before it could be told otherwise wait without spinning.

    libgomp gives up spinning when a process has more of its threads than there are processors. So one thread of Python
    calls it for as many as that makes, which do nothing (``free(NULL)``), and then waits for ever with them.
    """
    try:
        library = ctypes.CDLL(None)
        parallel, nothing = library.GOMP_parallel, ctypes.cast(library.free, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):  # another OpenMP, or another system
        return
    ready, never = threading.Event(), threading.Event()

    def wait() -> None:
        parallel(nothing, None, ctypes.c_uint(cores() + 1), ctypes.c_uint(0))
        ready.set()
        never.wait()

    threading.Thread(target=wait, name="sgtheory: OpenMP", daemon=True).start()
    ready.wait()


if sgtheory.TOLD_TOO_LATE:
    _stop_spinning()


def use_threads(number: int) -> None:
    """Compute with so many threads, or as many as there are processors."""
    torch.set_num_threads(min(number, cores()))


class _Helpers:
    """The threads that help the one that computes; made when they are needed, and anew in a process that was forked."""

    pool: ThreadPoolExecutor

    @classmethod
    def renew(cls) -> None:
        cls.pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sgtheory")


_Helpers.renew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Helpers.renew)


def _together(work: Callable[[], None], most: int) -> None:
    """Run ``work`` on as many threads as ``torch.set_num_threads`` allows, ``most`` at most, this one among them.

    What a thread has not begun when this one is ready is not begun at all: ``work`` takes what is left of something.
    """
    helpers = [_Helpers.pool.submit(work) for _ in range(min(torch.get_num_threads(), most) - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def share_tasks(kernel: Callable, tasks: int, *arguments: object) -> None:
    """``kernel(first, last, *arguments)`` for ranges that make up ``range(tasks)``, each on one thread.

    What it computes for a task must not depend on the range that the task is in.
    """
    parts = min(torch.get_num_threads(), tasks)
    if parts <= 1:
        kernel(0, tasks, *arguments)
        return
    bounds = itertools.pairwise([tasks * k // parts for k in range(parts + 1)])

    def work() -> None:
        for first, last in bounds:
            kernel(first, last, *arguments)

    _together(work, parts)


@cache
def blas() -> ThreadpoolController:
    """The BLAS libraries of the process, looked up once; scipy's is the one that compiled matrix products call."""
    importlib.import_module("scipy.linalg.cython_blas")
    return ThreadpoolController()


def run_blocks(function: Callable, items: Iterable) -> list:
    """``function`` of every item, on as many threads as ``torch.set_num_threads`` allows, each with one BLAS thread."""
    items = list(items)
    results = [None] * len(items)
    left = enumerate(items)

    def work() -> None:
        for i, item in left:
            results[i] = function(item)

    with blas().limit(limits=1, user_api="blas"):
        _together(work, len(items))
    return results


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
    threads = ThreadPoolExecutor(cores())
    try:
        yield from threads.map(function, *arguments)
    finally:
        threads.shutdown(cancel_futures=True)
