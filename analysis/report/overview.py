"""The panel over both papers: what batch norm costs and what it buys, sweep by sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.load import Loaded
from analysis.report.output import Table
from analysis.report.tables import METRIC_LABELS, interval_text
from analysis.report.words import listed
from analysis.statistics.panel import LENSES, panel
from study.errors import BadInputError

ARM, REFERENCE = "batch", "none"


def overview(all_records: Sequence[Loaded]) -> pd.DataFrame:
    """Return batch norm less none in each metric of the panel, in each sweep that has both.

    Args:
        all_records: the records of the sweeps. A member without partner is left out, for the sweep's own table says so.

    Returns:
        A row for each sweep and metric that was measured in it: `sweep`, `dataset`, `architecture`, `metric`,
        `difference` with `low` and `high`, `n`, and `p_holm`, corrected over the sweep's panel.
    """
    parts: list[pd.DataFrame] = []
    for loaded in all_records:
        try:
            found = panel(loaded.members, REFERENCE, partial=True)
        except BadInputError:  # it has one norm, or not these
            continue
        labels = {name: listed(loaded.members[name]) for name in ("dataset", "architecture")}
        measured = found[(found["norm"] == ARM) & found["difference"].notna()]
        numbers = measured[["metric", "difference", "low", "high", "n", "p_holm"]]
        parts.append(numbers.assign(sweep=loaded.sweep, **labels))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def overview_table(all_records: Sequence[Loaded]) -> Table | None:
    """Return the panel over all sweeps, a sweep a row; None where none has both arms."""
    data = overview(all_records)
    if data.empty:
        return None
    lenses = [metric.column for metric in LENSES if (data["metric"] == metric.column).any()]
    left = ["sweep", "dataset", "architecture"]
    table = Table(
        "Batch norm less none, means over cells", data, left, [*(METRIC_LABELS[name] for name in lenses), "n"]
    )
    for key, rows in data.groupby(left, sort=False):
        by_metric = {row["metric"]: row for row in rows.to_dict("records")}
        cells = [_cell(by_metric[name]) if name in by_metric else "" for name in lenses]
        table.add_row(*map(str, key), *cells, str(rows["n"].max()))
    table.notes.append(
        "Differences are paired over seeds, or over models where all share one D', with 95% intervals. An empty cell "
        "was not measured. Which of them are sure after correction is said in each sweep's own part."
    )
    return table


def _cell(row: Mapping[Any, Any]) -> str:
    """Return a difference with its interval."""
    return f"{row['difference']:+.3f} {interval_text(row)}"
