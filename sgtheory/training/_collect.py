"""The runs in a folder as one table: a row for each configuration, statistics over its seeds."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy  # which loads its parts when they are used

from sgtheory.errors import ParameterError, UserError
from sgtheory.training._config import fingerprint
from sgtheory.training._metrics import find_metric
from sgtheory.training._records import CONFIG, FINISHED, RECORDS, diverged_in, read_config, read_records

TASK, SEED, CONTENTS = "task.name", "seed", "contents."  # the last one: checksums of files that a setting names
VALUES = ("run", "metric", "layer", "value")
STATISTICS = ("n", "mean", "sd", "ci95_low", "ci95_high")


@dataclass(frozen=True)
class Collection:
    """Runs of one task.

    Args:
        task: its name.
        settings: index run; a column for each setting that distinguishes runs.
        seeds: index run.
        values: one row for each finished run, metric and layer: columns run, metric, layer, value.
        unfinished: names of runs that are not finished, or have diverged.
        copies: names of finished runs that repeat another one, and are left out.
    """

    task: str
    settings: pd.DataFrame
    seeds: pd.Series
    values: pd.DataFrame
    unfinished: list[str]
    copies: list[str]

    def summary(self, by: list[str] | None = None) -> pd.DataFrame:
        """Number, mean, s.d. and Student's 95 % confidence interval over the finished runs of each configuration.

        Args:
            by: the settings that make a configuration, by default all that differ; those that do not differ change
                nothing.

        Returns:
            Long form: a row for each configuration, metric and layer, columns the settings, ``finished`` and
            ``unfinished`` (numbers of runs), metric, layer, n, mean, sd, ci95_low, ci95_high. Values that are not a
            number do not count; of a single value there is no s.d., and of a configuration without a finished run only
            the numbers of runs.
        """
        settings = self.settings[[key for key in self.settings if by is None or key in by]]
        keys = [TASK, *settings]
        runs = settings.assign(**{TASK: self.task, "done": ~self.settings.index.isin(self.unfinished)})
        counts = runs.groupby(keys, dropna=False).done.agg(finished="sum", unfinished=lambda done: (~done).sum())
        rows = self.values.join(runs, on="run").groupby([*keys, "metric", "layer"], dropna=False).value
        table = rows.agg(n="count", mean="mean", sd="std").reset_index()
        half = scipy.stats.t.ppf(0.975, np.maximum(table.n - 1, 1)) * table.sd / np.sqrt(table.n)
        table = table.assign(ci95_low=table["mean"] - half, ci95_high=table["mean"] + half)
        table = counts.reset_index().merge(table, how="left", on=keys).fillna({"n": 0}).astype({"n": int})
        return table.sort_values([*keys, "metric", "layer"])


def widen(summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each configuration, with columns METRIC_LAYER_STATISTIC, from a long :meth:`Collection.summary`."""
    keys = [c for c in summary.columns if c not in ("metric", "layer", *STATISTICS)]
    parts = [summary[keys].drop_duplicates()]
    for (metric, layer), rows in summary.groupby(["metric", "layer"], sort=False):
        names = {name: "_".join(filter(None, (metric, layer, name))) for name in STATISTICS}
        parts.append(rows[[*keys, *STATISTICS]].rename(columns=names))
    wide = parts[0]
    for part in parts[1:]:
        wide = wide.merge(part, how="left", on=keys)
    return wide.astype({name: "Int64" for name in wide if name.endswith("_n")})


def companions(settings: pd.DataFrame) -> dict[str, list[str]]:
    """Settings that tell runs apart, and for each the others that vary together with it, one to one."""
    groups: dict[tuple, list[str]] = {}
    for key in settings:
        groups.setdefault(tuple(pd.factorize(settings[key], use_na_sentinel=False)[0]), []).append(key)
    return {keys[0]: keys[1:] for keys in groups.values()}


def collect(folder: Path, metrics: list[str] = (), layers: list[str] = (), at: str = "last") -> list[Collection]:
    """The runs in a folder and the folders in it, a collection for each task.

    Args:
        folder: where runs are.
        metrics, layers: which ones; empty: all.
        at: ``last`` value; ``best`` value, the smallest or largest, as the metric is defined; ``mean:K``, the mean of
            what was recorded in the last K epochs.

    Raises:
        UserError: if there are no runs, no such metric or not so many epochs, or naming a file that cannot be read.
    """
    if not (at in ("last", "best") or re.fullmatch(r"mean:[1-9]\d*", at)):
        raise ParameterError("--at", at, "must be last, best or mean:K for the last K epochs")
    folder = Path(folder)
    paths = sorted(path.parent for path in folder.rglob(CONFIG))
    if not paths:
        raise UserError(f"there are no runs in {folder}" if folder.is_dir() else f"there is no folder {folder}")
    configs = {str(path.relative_to(folder)): read_config(path) for path in paths}
    tasks: dict[str, dict[str, dict]] = {}
    for run, config in configs.items():
        tasks.setdefault(config["task"]["name"], {})[run] = config
    found = [_collect_task(folder, task, runs, at) for task, runs in tasks.items()]
    return _choose(found, metrics, layers, at)


def _collect_task(folder: Path, task: str, runs: dict[str, dict], at: str) -> Collection:
    prints = {run: fingerprint(config) for run, config in runs.items()}
    unfinished = [
        run for run in runs if not (folder / run / FINISHED).is_file() or diverged_in(folder / run) is not None
    ]
    first = {prints[run]: run for run in reversed(runs) if run not in unfinished}
    copies = [run for run in runs if run not in unfinished and first[prints[run]] != run]
    kept = {run: config for run, config in runs.items() if run not in copies}
    seeds = pd.Series({run: config[SEED] for run, config in kept.items()})
    values = [_values(folder / run, run, task, at) for run in kept if run not in unfinished]
    values = pd.concat([pd.DataFrame(columns=VALUES).astype({"value": float}), *values], ignore_index=True)
    return Collection(task, _differing(kept, seeds), seeds, values, unfinished, copies)


def _values(directory: Path, run: str, task: str, at: str) -> pd.DataFrame:
    """One value for each metric and layer of a run."""
    frame = read_records(directory / RECORDS).sort_values("epoch")
    epochs = int(at.partition(":")[2] or 1)
    if len(frame) and epochs > (there := int(frame.epoch.max()) + 1):
        raise ParameterError("--at", at, f"{run} has {there} epochs, the one before training counted")
    rows = []
    for (metric, layer), values in frame.set_index("epoch").groupby(["metric", "layer"]).value:
        if at == "best":
            if better := getattr(find_metric(task, metric, layer), "best", None):
                rows.append((run, metric, layer, values.agg(better)))
        else:
            rows.append((run, metric, layer, values[values.index > values.index[-1] - epochs].mean()))
    return pd.DataFrame(rows, columns=VALUES)


def _differing(runs: dict[str, dict], seeds: pd.Series) -> pd.DataFrame:
    """The settings that are not the same in all runs, but for the seed and what always equals it."""
    flat = pd.DataFrame.from_dict({run: _flatten(config) for run, config in runs.items()}, orient="index", dtype=object)
    flat = _with_names_of_files(flat)
    columns = {key: _comparable(flat[key]) for key in sorted(flat.columns) if key != SEED}
    differ = {
        key: c for key, c in columns.items() if c.nunique(dropna=False) > 1 and _values_of(c) != _values_of(seeds)
    }
    return pd.DataFrame(differ, index=flat.index)


def _with_names_of_files(flat: pd.DataFrame) -> pd.DataFrame:
    """Files by name, with digits of their content, and by whole paths, only where names are not enough."""
    columns = {key: flat[key] for key in flat if not key.startswith(CONTENTS)}
    for key in flat.columns.difference(columns):
        setting, digits = key.removeprefix(CONTENTS), " " + flat[key].str[:8].fillna("")
        paths = flat[setting].fillna("").astype(str) if setting in flat else pd.Series("", flat.index)
        names = paths.map(os.path.basename)
        labels = (names, names + digits, paths + digits)
        columns[setting] = next(label.str.strip() for label in labels if label.nunique() == (paths + digits).nunique())
    return pd.DataFrame(columns)


def _values_of(column: pd.Series) -> list:
    return column.astype(object).where(column.notna(), None).tolist()  # NA is not equal or unequal to anything


def _flatten(config: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _comparable(values: pd.Series) -> pd.Series:
    """Numbers stay numbers; anything else becomes text, so that it can be grouped and sorted."""
    if values.map(lambda v: v is None or (isinstance(v, (int, float)) and not isinstance(v, bool))).all():
        return pd.to_numeric(values).convert_dtypes()
    missing = values.map(lambda v: isinstance(v, float) and np.isnan(v))
    return values.map(lambda v: v if isinstance(v, str) else json.dumps(v)).mask(missing, "")


def _choose(found: list[Collection], metrics: list[str], layers: list[str], at: str) -> list[Collection]:
    """Only the metrics and layers asked for; collections without any of them are left out."""
    recorded = pd.concat([collection.values for collection in found])
    for option, column, names in (("--metric", "metric", metrics), ("--layer", "layer", layers)):
        if recorded.size and (unknown := [name for name in names if name not in set(recorded[column])]):
            known = ", ".join(sorted(filter(None, set(recorded[column])))) or "nothing"
            what = f"{column}s with a best value" if at == "best" else f"{column}s"
            raise UserError(f"{option} {unknown[0]}: the {what} of these runs are {known}")
    if not metrics and not layers:
        return found
    chosen = []
    for c in found:
        wanted = (c.values.metric.isin(metrics) | (not metrics)) & (c.values.layer.isin(layers) | (not layers))
        if wanted.any() or c.values.empty:
            chosen.append(Collection(c.task, c.settings, c.seeds, c.values[wanted], c.unfinished, c.copies))
    if not chosen:
        raise UserError(f"--metric {' '.join(metrics)} is not measured in --layer {' '.join(layers)}")
    return chosen
