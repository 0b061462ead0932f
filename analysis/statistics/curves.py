"""Training curves: the mean over the members of each cell at each of its epochs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.cells import varying_settings
from analysis.load import KEY, Loaded
from analysis.metrics import METRICS, Metric
from study.errors import BadInputError
from study.record.results import Results
from study.record.schema import SCHEMAS


def curves(loaded: Loaded, results: Results, metrics: Sequence[Metric] = METRICS) -> pd.DataFrame:
    """Return mean and standard deviation of each metric over the members of each cell, at every evaluated epoch.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        metrics: the metrics; those that are measured at the end alone, such as `mia_auc`, are left out.

    Returns:
        A row for each cell and epoch, in order: the settings that vary, `epoch`, `<metric>_mean` and `<metric>_sd`
        (n - 1; missing for one member), `n` (the members with results) and `excluded` (those that failed or diverged).

    Raises:
        BadInputError: none of the metrics has a curve, a member with results has none, or one has an epoch twice.
    """
    columns = [metric.column for metric in metrics if metric.column in SCHEMAS["epochs"].names]
    if not columns:
        raise BadInputError(
            f"{', '.join(metric.column for metric in metrics)} has no curve: it is measured at the end."
        )
    settings = varying_settings(loaded.members) or ["norm"]
    cells = loaded.members.groupby(settings, sort=True)
    ok = (loaded.members["status"] == "ok").to_numpy()
    points = results.read(loaded.sweep, "epochs", [*KEY, "epoch", *columns])
    member = _members(points, loaded.members)
    epoch = points["epoch"].to_numpy().astype(np.int64)
    _check(loaded, member, epoch, ok)
    wanted = (member >= 0) & ok[member]
    # Groups by one number are many times faster than groups by the settings.
    longest = int(epoch.max(initial=0)) + 1
    point = (cells.ngroup().to_numpy()[member] * longest + epoch)[wanted]
    values = pd.DataFrame({name: points[name].to_numpy()[wanted] for name in columns}, copy=False)
    groups = values.groupby(point, sort=True)
    table = pd.concat([groups.mean().add_suffix("_mean"), groups.std(ddof=1).add_suffix("_sd")], axis=1)
    at, table = np.divmod(table.index.to_numpy(), longest), table.assign(n=groups.size()).reset_index(drop=True)
    named = cells.size().reset_index()[settings].iloc[at[0]].reset_index(drop=True)
    excluded = (pd.Series(~ok).groupby(cells.ngroup().to_numpy()).sum()).to_numpy()[at[0]]
    return pd.concat([named.assign(epoch=at[1]), table.assign(excluded=excluded)], axis=1)


def _members(points: pa.Table, members: pd.DataFrame) -> np.ndarray:
    """Return the position of each point's member among the members, or -1 where it is none of them: int64 [points]."""
    trials = pa.chunked_array(points["trial"].chunks, pa.string()).dictionary_encode().combine_chunks()
    known = {trial: number for number, trial in enumerate(trials.dictionary.to_pylist())}
    number = points["member"].to_numpy().astype(np.int64)
    of_member = members["member"].to_numpy().astype(np.int64)
    width = 1 + max(number.max(initial=0), of_member.max(initial=0))
    places = np.full(len(known) * width + 1, -1)
    trial = np.array([known.get(name, -1) for name in members["trial"]])
    recorded = trial >= 0
    places[trial[recorded] * width + of_member[recorded]] = np.flatnonzero(recorded)
    of_points: np.ndarray = places[trials.indices.to_numpy().astype(np.int64) * width + number]
    return of_points


def _check(loaded: Loaded, member: np.ndarray, epoch: np.ndarray, ok: np.ndarray) -> None:
    """Refuse a member with results that has no curve, and one that has an epoch twice."""
    known = member >= 0
    lacking = ok & (np.bincount(member[known], minlength=len(ok)) == 0)
    longest = int(epoch.max(initial=0)) + 1
    twice = np.flatnonzero(np.bincount(member[known] * longest + epoch[known]) > 1) // longest
    for places, wrong in ((np.flatnonzero(lacking), "no curve"), (np.unique(twice), "an epoch twice in their curve")):
        if len(places):
            trial, number = loaded.members.iloc[places[0]][KEY]
            raise BadInputError(f"{loaded.sweep}: {len(places)} members have {wrong}, such as {trial}/{number}.")
