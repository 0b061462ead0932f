"""The panel: what each kind of normalization costs in memorization, privacy and robustness, side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import varying_settings
from analysis.metrics import ALL_METRICS, Metric
from analysis.statistics.means import mean_over_seeds
from analysis.statistics.paired import compare, reference_level

LENSES: tuple[Metric, ...] = tuple(
    next(metric for metric in ALL_METRICS if metric.column == column)
    for column in (
        *("mem_acc", "mia_auc", "grad_norm_out", "noise_acc", "pgd_linf_acc", "pgd_l2_acc", "corruption_error"),
        "test_acc",
    )
)
"""The metrics of the panel, a column each."""


def panel(
    members: pd.DataFrame, reference: str | None = None, partial: bool = False, lenses: Sequence[Metric] = LENSES
) -> pd.DataFrame:
    """Return the mean of each metric in each arm over all cells, and its paired difference from the reference.

    Args:
        members: rows of `members`, with at least two norms.
        reference: the norm that the others are compared with; by default `none` where there is one, else the first.
        partial: leave out members that have no partner instead of refusing them.
        lenses: the metrics.

    Returns:
        A row for each arm, the reference first, and metric: `norm`, `metric`; `mean` with its 95% interval `mean_low`
        to `mean_high` over `n` seeds, or models where all share one D'; `excluded` members that failed or diverged;
        `measured`, whether any member of any arm has the metric. For all arms but the reference `reference`,
        `difference`, `low`, `high`, `effect`, `p`, `alternative`, and `p_holm`, corrected over the panel.

    Raises:
        BadInputError: there is one norm, or none of that name, or a member has no partner.
    """
    levels = sorted(members["norm"].unique().tolist())
    base = reference_level("norm", levels, reference)
    strata = [name for name in varying_settings(members) if name != "norm"]
    known = [metric for metric in lenses if members[metric.column].notna().any()]
    tests = _tests(compare(members, "norm", reference, None, partial, known)) if known else {}
    rows: list[dict[str, Any]] = []
    for norm in (base, *(level for level in levels if level != base)):
        arm = members[members["norm"] == norm]
        for metric in lenses:
            mean = mean_over_seeds(arm, metric.column, strata=strata)
            numbers = {"mean": mean.mean, "mean_low": mean.low, "mean_high": mean.high, "n": mean.n}
            excluded = int((arm["status"] != "ok").sum())
            labels = {"norm": norm, "metric": metric.column, "measured": metric in known}
            rows.append({**labels, **numbers, "excluded": excluded, **tests.get((norm, metric.column), {})})
    table = pd.DataFrame(rows)
    wanted = ["reference", "alternative", "difference", "low", "high", "effect", "p", "p_holm"]
    return table.reindex(columns=[*(name for name in table.columns if name not in wanted), *wanted]).astype(
        dict.fromkeys(wanted[2:], np.float64)
    )


def _tests(compared: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the test over all cells by arm and metric, the last of each."""
    columns = ["reference", "alternative", "difference", "low", "high", "effect", "p", "p_holm"]
    last = compared.groupby(["arm", "metric"], sort=False).tail(1)
    return {(row["arm"], row["metric"]): {name: row[name] for name in columns} for row in last.to_dict("records")}
