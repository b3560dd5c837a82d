"""trainer.device=auto: what it takes, how the run is named, and what it says."""

import pytest
from hydra import compose, initialize_config_dir

from sgtheory.training import CONF, _config, find_run, start


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


CLASSIFICATION = ("task=classification", "data=randman")


@pytest.mark.parametrize(
    ("overrides", "without", "with_gpu"),
    [
        (CLASSIFICATION, "cpu", "cuda"),
        ((*CLASSIFICATION, "trainer.backend=cpu"), "cpu", "cpu"),
        ((*CLASSIFICATION, "trainer.device=cpu"), "cpu", "cpu"),
        (("task=spike_matching",), "cpu", "cpu"),
        (("task=spike_matching", "trainer.backend=cuda"), "cpu", "cuda"),
        (("task=loop_integral",), "cpu", "cpu"),
    ],
)
def test_the_device_is_the_faster_one_for_the_task(overrides, without, with_gpu, monkeypatch):
    """It names the run as if it had been given, and a sweep has one run at a time on a GPU."""
    for available, expected in (((False, "no GPU"), without), ((True, ""), with_gpu)):
        monkeypatch.setattr(_config, "cuda_available", lambda answer=available: answer)
        config = composed(*overrides)
        device, reason = _config.choose_device(config)
        assert device == expected
        assert reason
        assert find_run(config) == find_run(composed(*overrides, f"trainer.device={expected}"))
        assert _config.runs_at_once(config) == (1 if expected == "cuda" else -1)


def test_a_run_says_where_it_computes_and_why(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(_config, "cuda_available", lambda: (False, "PyTorch finds no CUDA device"))
    small = ("task.target.rows=10", "task.target.steps=20", "trainer.epochs=1", "logger=none")
    with caplog.at_level("INFO", "sgtheory"):
        start(composed(*small), tmp_path / "run")
    assert "computes on device cpu (there is no GPU to use: PyTorch finds no CUDA device)" in caplog.text
