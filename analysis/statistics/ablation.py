"""What one setting does: its levels side by side, each with its mean, and its difference from the reference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import STREAMS, silenced, varying
from analysis.metrics import LOWER_IS_BETTER, METRICS, Metric
from analysis.statistics.paired import compare, holm, reference_level

Cell = tuple[Any, ...]
ROUNDING = 1e-12
TESTED = ["difference", "low", "high", "effect", "p"]


def ablation(
    members: pd.DataFrame,
    factor: str,
    reference: str | None = None,
    metrics: Sequence[Metric] = METRICS,
    marginal: bool = False,
    partial: bool = False,
) -> pd.DataFrame:
    """Every level of a factor, with its mean over seeds and its paired difference from the reference level.

    Args:
        members: rows of `members`, one a member.
        factor: a setting.
        reference: the level to hold the others against; by default `none`, else the first in order.
        metrics: what is tabulated.
        marginal: over all cells of the other settings at once, rather than cell by cell. The unit is then the seed with
            its mean over the cells, in the means as in the tests; a seed that lacks a cell which another has is left
            out.
        partial: leave out members that have no partner instead of refusing them.

    Returns:
        A row for each metric, cell and level: `metric`, the other settings that vary unless `marginal`, the level under
        the factor's name, `mean` and `sd` (n - 1) over `n` seeds, `excluded` members that failed or diverged, `best`,
        and for other levels than the reference those columns of `compare`: `reference`, `pairs`, `difference`, `low`,
        `high`, `effect`, `p` and `alternative`, with `p_holm` over all rows. Levels that tie are best together, unless
        all do;
        with `marginal` none is where levels have results in different cells, whose means can't be held against each
        other.

    Raises:
        BadInputError: as `compare`.
    """
    tested = compare(members, factor, reference, partial=partial, metrics=metrics)
    levels = sorted(members[factor].unique().tolist())
    held = reference_level(factor, levels, reference)
    others = [name for name in varying(members) if name != factor]
    strata = [] if marginal else others
    tests = _tests(tested, strata, marginal)
    arms = [held, *(at for at in levels if at != held)]
    seen = {at: _Level(members[members[factor] == at], strata, silenced(factor, at)) for at in arms}
    shared = [name for name in others if not any(name in silenced(factor, at) for at in levels)]
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        for cell in sorted({cell for _, cell, _ in tests}):
            known = {at: seen[at].of(cell).dropna(subset=metric.column) for at in arms}
            each = {at: _means(known[at][[*STREAMS, metric.column]], marginal) for at in arms}
            comparable = len({frozenset(found[shared].itertuples(index=False)) for found in known.values()}) == 1
            best = _best([row["mean"] for row in each.values()], metric) if comparable or not marginal else set()
            named = {"metric": metric.column, **dict(zip(strata, cell, strict=True))}
            for at in arms:
                counts = {
                    "excluded": int((seen[at].of(cell)["status"] != "ok").sum()),
                    "best": each[at]["mean"] in best,
                }
                rows.append({**named, factor: at, **each[at], **counts, **tests.get((metric.column, cell, at), {})})
    table = pd.DataFrame(rows)
    table[TESTED] = table[TESTED].astype(float)
    table.insert(list(table.columns).index("p") + 1, "p_holm", holm(table["p"]))
    return table.assign(pairs=table["pairs"].astype("Int64"))


def _tests(tested: pd.DataFrame, strata: list[str], marginal: bool) -> Mapping[tuple[Any, Cell, Any], dict[str, Any]]:
    """The tests of each cell by metric, cell and arm, or those over all cells, which come last of each arm's."""
    chosen: dict[tuple[Any, Cell, Any], dict[str, Any]] = {}
    for (metric, arm), rows in tested.groupby(["metric", "arm"], sort=False):
        last = len(rows) - 1
        wanted = rows.iloc[last:] if marginal else rows.iloc[: max(last, 1)]
        for row in wanted.astype(object).to_dict("records"):
            values = {
                "reference": row["reference"],
                "pairs": row["n"],
                **{name: row[name] for name in (*TESTED, "alternative")},
            }
            chosen[metric, tuple(row[name] for name in strata), arm] = values
    return chosen


class _Level:
    """The members of one level by their cells; a setting that the level switches off tells none apart."""

    def __init__(self, members: pd.DataFrame, strata: list[str], silent: set[str]) -> None:
        self.places = [place for place, name in enumerate(strata) if name not in silent]
        keys = [strata[place] for place in self.places]
        self.none = members.iloc[:0]
        self.cells: dict[Cell, pd.DataFrame] = dict(iter(members.groupby(keys))) if keys else {(): members}

    def of(self, cell: Cell) -> pd.DataFrame:
        """Those of one cell; none where there is no such."""
        return self.cells.get(tuple(cell[place] for place in self.places), self.none)


def _means(known: pd.DataFrame, marginal: bool) -> dict[str, Any]:
    """Mean, spread and number of the last column's values, or of each stream's mean over all its cells."""
    values = known.iloc[:, -1]
    if marginal:
        streams = known.groupby(STREAMS)[known.columns[-1]]
        values = streams.mean()[streams.size() == streams.size().max()]
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), "n": len(values)}


def _best(means: Sequence[float], metric: Metric) -> set[float]:
    """The best of those means that there are, with what differs from it by mere rounding; none where all tie."""
    known = np.array(means)[np.isfinite(means)]
    if len(known) < 2 or np.ptp(known) < ROUNDING:
        return set()
    best = known.min() if metric.column in LOWER_IS_BETTER else known.max()
    return set(known[np.abs(known - best) < ROUNDING].tolist())
