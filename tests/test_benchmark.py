"""The benchmark script: cases can be built and run, and what is absent is named instead of failing."""

import inspect
import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from sgtheory.lif import cuda_available


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "scripts")
    import benchmark

    return benchmark


def test_every_case_has_arguments_that_fit_and_a_naive_case_before_it(benchmark):
    for cases in [*benchmark.CASES.values(), *benchmark.GPU_CASES.values()]:
        names = list(cases)
        for name, case in cases.items():
            inspect.signature(case.prepare).bind(**case.arguments)
            assert case.naive is None or names.index(case.naive) < names.index(name)
    for cases in benchmark.GPU_CASES.values():
        for case in cases.values():
            inspect.signature(case.prepare).bind(**case.arguments, device="cuda")


@pytest.mark.parametrize(
    ("suite", "name", "smaller"),
    [
        ("lif", "escape_noise", {"samples": 2, "steps": 5, "neurons": 10}),
        ("conv_snn", "deterministic, batch 50", {"samples": 2, "steps": 5}),
    ],
)
def test_a_case_is_measured(benchmark, monkeypatch, suite, name, smaller):
    monkeypatch.setattr(benchmark, "LEAST_SECONDS", 0)
    case = benchmark.CASES[suite][name]
    result = benchmark.measure(benchmark.Case(case.prepare, case.arguments | smaller), "cpu")
    assert 0 < result["p25_s"] <= result["median_s"] <= result["p75_s"]
    assert result["peak_mb"] > 0


def test_the_work_of_gpu_cases_runs_on_the_cpu(benchmark):
    for suite, cases in benchmark.GPU_CASES.items():
        for case in cases.values():
            smaller = {"samples": 2, "steps": 5} | ({"neurons": 10} if suite == "lif" else {})
            case.prepare(**case.arguments | smaller | {"backend": "auto"}, device="cpu")()


def test_other_packages_take_turns_with_this_one_and_those_that_are_not_there_are_named(benchmark, monkeypatch):
    turns = []
    cases = {
        name: benchmark.Case(lambda name: lambda: turns.append(name), {"name": name}, first, package=package)
        for name, first, package in (("ours", None, "numpy"), ("theirs", "ours", "torch"), ("other", "ours", "no_such"))
    }
    *measured, absent = results = benchmark.run_suite("peers", cases, None, "cpu")
    assert turns == ["ours", "theirs"] * 17
    assert [r["version"] for r in measured] == [version("numpy"), version("torch")]
    assert measured[0]["ratio"] is None
    assert measured[1]["ratio"][1] <= measured[1]["ratio"][0] <= measured[1]["ratio"][2]
    assert absent == {"case": "other", "not_installed": "no_such"}
    rows = benchmark.table("peers", results)
    assert list(rows.columns[1].cells)[-1] == "not installed"


@pytest.mark.parametrize("package", ["sgtheory", "snntorch", "norse", "spikingjelly"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_layers_of_other_packages_run(benchmark, package, recurrent):
    pytest.importorskip(package)
    sys.modules["benchmark_cases"].peer_layer(package, recurrent, samples=2, steps=4, neurons=5)()


@pytest.mark.skipif(cuda_available()[0] or torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_reason_is_said(script):
    done = script("benchmark.py", "lif", "--device", "cuda")
    assert done.returncode == 2
    assert cuda_available()[1] in done.stderr


def test_a_wrong_number_of_threads_is_refused_before_anything_is_timed(script):
    done = script("benchmark.py", "lif", "--threads", "0")
    assert done.returncode == 2
    assert "argument --threads: invalid choice: 0" in done.stderr


def test_one_case_prints_json(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "LEAST_SECONDS", 0)
    monkeypatch.setitem(benchmark.CASES["lif"], "nothing", benchmark.Case(lambda: int, once=True))
    monkeypatch.setattr("sys.argv", ["benchmark.py", "lif", "--case", "nothing"])
    benchmark.main()
    assert json.loads(capsys.readouterr().out)["median_s"] >= 0
