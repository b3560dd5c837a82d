"""The task that integrates a surrogate gradient around a closed loop; see :func:`sgtheory.theory.loop_integral`."""

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sgtheory.errors import ParameterError, under
from sgtheory.theory import LoopIntegralSettings, build_loop, build_net, differs_from_zero, loop_integral

log = logging.getLogger("sgtheory")
ROW = ("points", "circulation", "error", "true_circulation", "true_error")  # of the table of refinement
RESULT = (*ROW, "variation", "true_variation", "converged")
LINE_INTERVAL = 5.0  # seconds between lines of progress


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C ends the program here and now: inside an integral there is nothing to save."""
    try:
        collected = signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not in the main thread, which alone receives signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, collected)


class LoopIntegral:
    """The task as the runner sees it: one epoch, which trains nothing and computes :func:`loop_integral`.

    Everything follows from the settings, so that an interrupted run starts again.
    """

    Settings = LoopIntegralSettings
    may_be_nan = frozenset()

    def __init__(self, context):
        self.settings: LoopIntegralSettings = context.settings
        self.surrogate, self.neuron = context.surrogate, context.neuron.parameters
        if context.neuron.mode != "deterministic":
            allowed = "must be deterministic; task.net=stochastic_perceptron is the net with escape noise"
            raise ParameterError("neuron.mode", context.neuron.mode, allowed)
        if context.trainer.epochs != 1:
            raise ParameterError("trainer.epochs", context.trainer.epochs, "must be 1, as nothing is trained")
        if context.trainer.device != "cpu":
            raise ParameterError("trainer.device", context.trainer.device, "must be cpu for this task")
        with under("task"):
            build_loop(self.settings, build_net(self.settings, self.neuron).n_parameters)
        self.result: dict = {}

    def state(self) -> dict:
        """What was computed."""
        return {"result": self.result}

    def restore(self, state: dict) -> None:
        """Take over what :meth:`state` returned."""
        result = state["result"]
        rows = [{key: value for key, value in result.items() if key != "table"}, *result.get("table", ())]
        keys = (RESULT, ROW, *[ROW] * len(rows))
        if result and (
            len(rows) < 2
            or any(row.keys() != set(expected) for row, expected in zip(rows, keys, strict=False))
            or not all(isinstance(value, int | float) for row in rows for value in row.values())
        ):
            raise ValueError("it does not hold the result of an integral")
        self.result = result

    def epoch(self, epoch: int) -> list[tuple[str, str, float]]:
        """Integrate; a line of progress every few seconds."""
        last = time.monotonic()

        def after_round(row):
            nonlocal last
            if time.monotonic() - last > LINE_INTERVAL:
                last = time.monotonic()
                worst = float(row["error"].max())
                log.info("%d points, error %.0e, wanted %.0e", row["points"], worst, self.settings.tolerance)

        with ended_by_signals():
            self.result = loop_integral(self.settings, self.surrogate, self.neuron, after_round)
        return [(metric, "", value) for metric, value in self.result.items() if metric != "table"]

    def finish(self, epochs: int) -> tuple[list[tuple[str, str, float]], dict[str, np.ndarray]]:
        """No more rows; integrals and errors over the number of points, for every round of refinement."""
        table = self.result["table"]
        return [], {f"refinement_{key}": np.array([row[key] for row in table]) for key in table[0]}

    def save(self, directory: Path) -> None:
        """No other files."""

    def summary(self, rows) -> str:
        """The result in one line."""
        r = self.result
        if differs_from_zero(r["circulation"], r["error"], r["variation"]):
            verdict = "not the gradient of any function"
        elif r["variation"] > 0:
            verdict = "zero within its error: a gradient as far as this loop can tell"
        else:
            verdict = (
                "but the surrogate gradient is zero everywhere on this loop: task.centre or task.net_seed moves it"
            )
        if not r["converged"]:
            verdict += f" (error {self.settings.tolerance:g} not reached with {self.settings.max_points} points)"
        return (
            f"circulation {r['circulation']:.4g} ± {r['error']:.0e}"
            f" (true gradient {r['true_circulation']:.0e} ± {r['true_error']:.0e}), {verdict}"
        )
