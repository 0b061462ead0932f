"""The levels of one setting side by side, each with its mean and its difference from the reference level."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import PAIRING_KEYS, inactive_settings, varying_settings, with_companions_folded
from analysis.metrics import LOWER_IS_BETTER, METRICS, Metric
from analysis.statistics.paired import compare, holm, reference_level

Cell = tuple[Any, ...]
ROUNDING = 1e-12
"""Means that differ by less are equal."""
TEST_COLUMNS = ["difference", "low", "high", "effect", "p"]


def ablation(
    members: pd.DataFrame,
    factor: str,
    reference: str | None = None,
    metrics: Sequence[Metric] = METRICS,
    marginal: bool = False,
    partial: bool = False,
) -> pd.DataFrame:
    """Return every level of a factor with its mean over seeds and its paired difference from the reference level.

    Args:
        members: rows of `members`, one for each member.
        factor: the setting.
        reference: the level that the others are compared with; by default `none` where there is one, else the first.
        metrics: the metrics that are tabulated.
        marginal: take all cells of the other settings at once, rather than cell by cell. The unit is then the seed with
            its mean over the cells, in the means as in the tests. A seed that lacks a cell which another seed has is
            left out.
        partial: leave out members that have no partner instead of refusing them.

    Returns:
        A row for each metric, cell and level: `metric`; the other settings that vary, unless `marginal`; the level
        under the factor's name; `mean` and `sd` (n - 1) over `n` seeds; `excluded` members that failed or diverged;
        `best`; for all levels but the reference the columns of `paired.compare`: `reference`, `pairs`, `difference`,
        `low`, `high`, `effect`, `p` and `alternative`; and `p_holm` over all rows. Levels that tie are best together,
        unless all do. With `marginal` no level is best where levels have results in different cells, for their means
        can't be compared.

    Raises:
        BadInputError: as in `paired.compare`.
    """
    tested = compare(members, factor, reference, partial=partial, metrics=metrics)
    members = with_companions_folded(members, factor)
    levels = sorted(members[factor].unique().tolist())
    base = reference_level(factor, levels, reference)
    others = [name for name in varying_settings(members) if name != factor]
    strata = [] if marginal else others
    tests = _tests(tested, strata, marginal)
    ordered = [base, *(level for level in levels if level != base)]
    of_level = {
        level: _Level(members[members[factor] == level], strata, inactive_settings(factor, level)) for level in ordered
    }
    shared = [name for name in others if not any(name in inactive_settings(factor, level) for level in levels)]
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        for cell in sorted({cell for _, cell, _ in tests}):
            known = {level: of_level[level].in_cell(cell).dropna(subset=metric.column) for level in ordered}
            means = {level: _means(known[level][[*PAIRING_KEYS, metric.column]], marginal) for level in ordered}
            comparable = len({frozenset(part[shared].itertuples(index=False)) for part in known.values()}) == 1
            best = _best([row["mean"] for row in means.values()], metric) if comparable or not marginal else set()
            labels = {"metric": metric.column, **dict(zip(strata, cell, strict=True))}
            for level in ordered:
                counts = {
                    "excluded": int((of_level[level].in_cell(cell)["status"] != "ok").sum()),
                    "best": means[level]["mean"] in best,
                }
                test = tests.get((metric.column, cell, level), {})
                rows.append({**labels, factor: level, **means[level], **counts, **test})
    table = pd.DataFrame(rows)
    table[TEST_COLUMNS] = table[TEST_COLUMNS].astype(float)
    table.insert(list(table.columns).index("p") + 1, "p_holm", holm(table["p"]))
    return table.assign(pairs=table["pairs"].astype("Int64"))


def _tests(tested: pd.DataFrame, strata: list[str], marginal: bool) -> Mapping[tuple[Any, Cell, Any], dict[str, Any]]:
    """Return the tests of each cell by metric, cell and arm; where `marginal`, those over all cells.

    `tested` is what `paired.compare` gives, where the test over all cells is the last of each metric and arm.
    """
    chosen: dict[tuple[Any, Cell, Any], dict[str, Any]] = {}
    for (metric, arm), rows in tested.groupby(["metric", "arm"], sort=False):
        last = len(rows) - 1
        wanted = rows.iloc[last:] if marginal else rows.iloc[: max(last, 1)]
        for row in wanted.astype(object).to_dict("records"):
            values = {
                "reference": row["reference"],
                "pairs": row["n"],
                **{name: row[name] for name in (*TEST_COLUMNS, "alternative")},
            }
            chosen[metric, tuple(row[name] for name in strata), arm] = values
    return chosen


class _Level:
    """The members of one level by their cells; a setting that is inactive at the level tells none apart."""

    def __init__(self, members: pd.DataFrame, strata: list[str], inactive: set[str]) -> None:
        self.positions = [position for position, name in enumerate(strata) if name not in inactive]
        keys = [strata[position] for position in self.positions]
        self.empty = members.iloc[:0]
        self.cells: dict[Cell, pd.DataFrame] = dict(iter(members.groupby(keys))) if keys else {(): members}

    def in_cell(self, cell: Cell) -> pd.DataFrame:
        """Return the members of a cell, which may be none."""
        return self.cells.get(tuple(cell[position] for position in self.positions), self.empty)


def _means(known: pd.DataFrame, marginal: bool) -> dict[str, Any]:
    """Return mean, standard deviation and number of the last column's values, or of each seed's mean over its cells."""
    values = known.iloc[:, -1]
    if marginal:
        streams = known.groupby(PAIRING_KEYS)[known.columns[-1]]
        values = streams.mean()[streams.size() == streams.size().max()]
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), "n": len(values)}


def _best(means: Sequence[float], metric: Metric) -> set[float]:
    """Return the best of the means that are known, and what differs from it by rounding alone; none where all tie."""
    known = np.array(means)[np.isfinite(means)]
    if len(known) < 2 or np.ptp(known) < ROUNDING:
        return set()
    best = known.min() if metric.column in LOWER_IS_BETTER else known.max()
    return set(known[np.abs(known - best) < ROUNDING].tolist())
