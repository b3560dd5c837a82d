"""Tasks that train in a fraction of a second."""

from sgtheory.training import expand, prepare

SMALL = {
    "spike_matching": (
        *("task.hidden=21", "task.inputs=13", "task.target.rows=17", "task.target.steps=30"),
        *("task.measure_every=2", "task.measure_trials=3"),
    ),
    "classification": (
        *("data=randman", "data.classes=3", "data.units=12", "data.train=60", "data.test=20", "task.channels=[6,5]"),
        *("task.kernels=[5,3]", "task.strides=[2,1]", "task.paddings=[1,0]", "task.recurrent_kernels=[3,0]"),
        *("task.duration=0.12", "task.batch_size=20", "task.fano_trials=12", "task.measure_every=2", "task.sigma_u=4"),
    ),
}


def small_task(name: str, *overrides: str):
    """The task of a configuration."""
    (config,) = expand([f"task={name}", *SMALL[name], *overrides])
    return prepare(config)[0]
