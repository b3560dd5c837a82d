"""Both tasks on the CPU and on the pretended device: the same records, and few copies. Run by test_tasks.py."""

import sys

import pretended

from sgtheory.training import expand, prepare

CLASSIFICATION = (
    *("task=classification", "data=randman", "data.train=30", "data.test=10", "data.classes=3", "task.batch_size=12"),
    *("task.steps=6", "task.duration=0.012", "task.channels=[4,8]", "task.kernels=[5,3]", "task.strides=[2,2]"),
    *("task.paddings=[0,1]", "task.recurrent_kernels=[3,3]", "task.fano_trials=4", "task.fano_window=4e-3"),
    *("task.measure_every=1", "task.sigma_u=6"),
)
SPIKE_MATCHING = (
    *("task=spike_matching", "task.target.rows=12", "task.target.steps=10", "task.inputs=12", "task.hidden=12"),
    *("task.measure_trials=2", "task.measure_every=1", "task.sigma_u=3"),
)


def records(overrides):
    """All that a run of one epoch measures, and the task."""
    (config,) = expand([*overrides, "logger=none", "trainer.epochs=1"])
    task, trainer = prepare(config)
    print(trainer.device)
    started = task.start() if hasattr(task, "start") else []
    return [*started, *task.epoch(0), *task.finish(1)[0]], task, trainer.device


def main(mode, name):
    overrides = (*(CLASSIFICATION if name == "classification" else SPIKE_MATCHING), f"neuron={mode}")
    if name == "surrogate":
        overrides += ("task.output_rule=surrogate", "task.loss=van_rossum")
    expected, _, _ = records((*overrides, "trainer.device=cpu"))
    pretended.pretend()
    found, task, device = records((*overrides, f"trainer.device={'auto' if name == 'classification' else 'cuda'}"))
    assert device == "cuda"
    for (metric, layer, value), (*same, other) in zip(expected, found, strict=True):
        assert [metric, layer] == same
        assert value == other or abs(value - other) <= 1e-5 * abs(value) or value != value, (
            metric,
            layer,
            value,
            other,
        )
    if name != "classification":
        return
    assert any(value > 0 for metric, _, value in found if metric == "rate")
    task.restore(task.state())
    batch = task._batches(1)[0]
    pretended.to_device.clear()
    pretended.to_host.clear()
    task._update(batch, 3)
    assert sum(pretended.to_host.values()) <= 1  # the loss, with all that is recorded
    assert task._is_finite()
    print(pretended.to_device, pretended.to_host)
    assert sum(pretended.to_device.values()) <= 4  # inputs, their conversion, labels, indices of the samples
    assert sum(pretended.to_host.values()) <= 2  # and whether the weights are finite


main(*sys.argv[1:])
