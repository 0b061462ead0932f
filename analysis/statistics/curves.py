"""Training curves: the mean over the members of each cell at each of its epochs."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.cells import varying_settings
from analysis.load import KEY, Loaded
from analysis.metrics import METRICS, Metric
from study.errors import BadInputError
from study.record.results import Results
from study.record.schema import SCHEMAS

MEMBERS_AT_ONCE = 2000
"""About how many members' curves are read at once."""


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
    of_member, names = cells.ngroup().to_numpy(), cells.size().reset_index()[settings]
    tables = []
    without: list[int] = []
    twice: list[int] = []
    parts = list(_some_cells(of_member))
    for at in parts:
        members = loaded.members.iloc[at]
        # To read all shards is faster than to choose among them, where all curves fit into memory.
        trials = members["trial"].unique() if len(parts) > 1 else None
        points = results.read(loaded.sweep, "epochs", [*KEY, "epoch", *columns], trials)
        member, epoch = _members(points, members), points["epoch"].to_numpy().astype(np.int64)
        ok = (members["status"] == "ok").to_numpy()
        for wrong, found in zip((without, twice), _wrong(member, epoch, ok), strict=True):
            wrong += at[found].tolist()
        tables.append(_means(points, columns, member, epoch, of_member[at], ok))
    _refuse(loaded, without, "no curve")
    _refuse(loaded, twice, "an epoch twice in their curve")
    table = pd.concat(tables, ignore_index=True)
    named = names.iloc[table.pop("cell").to_numpy()].reset_index(drop=True)
    return pd.concat([named, table], axis=1)


def _some_cells(of_member: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the positions of the members of some cells after another, so that not all curves are in memory at once.

    Args:
        of_member: the number of each member's cell, int64 [members].
    """
    order = np.argsort(of_member, kind="stable")
    first = np.flatnonzero(np.diff(of_member[order], prepend=-1))  # of each cell
    whole = first[np.flatnonzero(np.diff(first // MEMBERS_AT_ONCE, prepend=0))]
    yield from np.split(order, whole)


def _means(
    points: pa.Table, columns: Sequence[str], member: np.ndarray, epoch: np.ndarray, cell: np.ndarray, ok: np.ndarray
) -> pd.DataFrame:
    """Return a row for each cell and epoch: `cell`, its number, and what `curves` gives but for the settings.

    Args:
        points: rows of the table `epochs`.
        columns: the metrics.
        member: the position of each point's member, or -1, int64 [points].
        epoch: the epoch of each point, int64 [points].
        cell: the number of each member's cell, int64 [members].
        ok: whether a member has results, bool [members].
    """
    wanted = (member >= 0) & ok[member]
    # Groups by one number are many times faster than groups by the settings.
    longest = int(epoch.max(initial=0)) + 1
    point = (cell[member] * longest + epoch)[wanted]
    values = pd.DataFrame({name: points[name].to_numpy()[wanted] for name in columns}, copy=False)
    groups = values.groupby(point, sort=True)
    means = pd.concat([groups.mean().add_suffix("_mean"), groups.std(ddof=1).add_suffix("_sd")], axis=1)
    at = np.divmod(means.index.to_numpy(), longest)
    means = means.assign(n=groups.size()).reset_index(drop=True)
    means.insert(0, "cell", at[0])
    means.insert(1, "epoch", at[1])
    return means.assign(excluded=np.bincount(cell, weights=~ok).astype(np.int64)[at[0]])


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


def _wrong(member: np.ndarray, epoch: np.ndarray, ok: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the members with results that have no curve, and of those that have an epoch twice."""
    known = member >= 0
    without = ok & (np.bincount(member[known], minlength=len(ok)) == 0)
    longest = int(epoch.max(initial=0)) + 1
    twice = np.flatnonzero(np.bincount(member[known] * longest + epoch[known]) > 1) // longest
    return np.flatnonzero(without), np.unique(twice)


def _refuse(loaded: Loaded, places: Sequence[int], wrong: str) -> None:
    """Refuse curves that are wrong, naming the first of the members at these places."""
    if places:
        trial, number = loaded.members.iloc[min(places)][KEY]
        raise BadInputError(f"{loaded.sweep}: {len(places)} members have {wrong}, such as {trial}/{number}.")
