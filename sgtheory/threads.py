"""How many threads compute, and how work is divided among them.

The threads are Python's, which sleep while they wait, and kernels release the interpreter's lock. Those of OpenMP spin,
and make a machine that does something else as well ten times slower.
"""

import ctypes
import importlib
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

import sgtheory

SMALL = 2**16  # numbers that one thread computes in less time than it takes to wake another, about 0.05 ms


@cache
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


class _Help:
    """Work that another thread may take part in, until the one that needs it is ready."""

    __slots__ = ("begun", "ended", "error", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work, self.error = work, None
        self.begun, self.ended = threading.Lock(), threading.Lock()
        self.ended.acquire()

    def give(self) -> None:
        """What the other thread does: nothing if it comes too late."""
        if self.begun.acquire(blocking=False):
            try:
                self.work()
            except BaseException as error:
                self.error = error
            finally:
                self.ended.release()

    def end(self) -> None:
        """Wait for the other thread if it has begun, and raise its error."""
        if not self.begun.acquire(blocking=False):
            self.ended.acquire()
            if self.error is not None:
                raise self.error


class _Helpers:
    """Threads that wait for something to help with. A queue costs a fifth of the time of an executor's futures, which
    for small layers is half of the whole. They are made when they are needed, and anew in a process that was forked."""

    wanted: queue.SimpleQueue
    number: int
    lock: threading.Lock

    @classmethod
    def renew(cls) -> None:
        cls.wanted, cls.number, cls.lock = queue.SimpleQueue(), 0, threading.Lock()

    @classmethod
    def ask(cls, help: _Help) -> None:
        if cls.number < cores() - 1:
            with cls.lock:
                cls.number += 1
            threading.Thread(target=cls._wait, args=(cls.wanted,), name="sgtheory", daemon=True).start()
        cls.wanted.put(help)

    @staticmethod
    def _wait(wanted: queue.SimpleQueue) -> None:
        while True:
            wanted.get().give()


_Helpers.renew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Helpers.renew)


def _together(work: Callable[[], None], most: int) -> None:
    """Run ``work`` on as many threads as ``torch.set_num_threads`` allows, ``most`` at most, this one among them.

    What a thread has not begun when this one is ready is not begun at all: ``work`` takes what is left of something.
    """
    helps = [_Help(work) for _ in range(min(torch.get_num_threads(), most) - 1)]
    for help in helps:
        _Helpers.ask(help)
    try:
        work()
    finally:
        for help in helps:
            help.end()


def share_tasks(kernel: Callable, tasks: int, size: int, *arguments: object) -> None:
    """``kernel(first, last, *arguments)`` for ranges that make up ``range(tasks)``, each on one thread.

    What it computes for a task must not depend on the range that the task is in.

    Args:
        kernel: compiled, without the interpreter's lock.
        tasks: how many there are.
        size: numbers that all of them compute; where they are few, one thread is faster alone.
    """
    parts = min(torch.get_num_threads(), tasks) if size > SMALL else 1
    if parts <= 1:
        kernel(0, tasks, *arguments)
        return
    bounds = itertools.pairwise([tasks * k // parts for k in range(parts + 1)])

    def work() -> None:
        for first, last in bounds:
            kernel(first, last, *arguments)

    _together(work, parts)


@cache
def blas():
    """The BLAS libraries of the process, looked up once; scipy's is the one that compiled matrix products call."""
    from threadpoolctl import ThreadpoolController  # what runs on a GPU alone does without

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
