"""Records as tables: each cell's mean and standard deviation over its seeds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import isnan

import pandas as pd
from rich.table import Table

from analysis.cells import level, varying
from analysis.claims import VERDICTS, Entry
from analysis.hypotheses import Finding
from analysis.metrics import METRICS
from study.record import Results

SIGNS = {"greater": ">", "less": "<", "two-sided": "≠"}
"""The hypothesis of a test, between the names of its arms."""
LABELS = {metric.column: metric.label for metric in METRICS}


def summary(members: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of each metric over the members of each cell.

    Args:
        members: rows of `members`, one a member.

    Returns:
        One row a cell, in the order of its settings: the settings that vary, `<metric>_mean` and `<metric>_sd` (n - 1;
        missing for one member), `n`, the members with results, and `excluded`, those that failed or diverged.
    """
    settings = varying(members) or ["norm"]
    cells = members.groupby(settings, sort=True)
    columns = [metric.column for metric in METRICS]
    means = cells[columns].mean().add_suffix("_mean")
    deviations = cells[columns].std(ddof=1).add_suffix("_sd")
    counts = cells["status"].agg(
        n=lambda status: (status == "ok").sum(), excluded=lambda status: (status != "ok").sum()
    )
    return pd.concat([means, deviations, counts], axis=1).reset_index()


def summary_table(table: pd.DataFrame, title: str) -> Table:
    """A summary as a terminal shows it."""
    shown = Table(title=title, title_justify="left")
    settings = [name for name in table.columns if not name.endswith(("_mean", "_sd")) and name not in ("n", "excluded")]
    _columns(shown, settings, [*LABELS.values(), "n", "excluded"])
    for _, row in table.astype(object).iterrows():  # a row of numbers alone would turn its counts into floats
        metrics = [_mean_sd(row[f"{column}_mean"], row[f"{column}_sd"]) for column in LABELS]
        shown.add_row(*(level(row[name]) for name in settings), *metrics, str(row["n"]), str(row["excluded"]))
    return shown


def comparison_table(table: pd.DataFrame, title: str) -> Table:
    """A comparison as a terminal shows it."""
    shown = Table(title=title, title_justify="left")
    names = ["metric", "arm", "reference"]
    tested = ["n", "difference", "low", "high", "effect", "p", "p_holm", "alternative", "excluded"]
    settings = [name for name in table.columns if name not in (*names, *tested)]
    _columns(
        shown, ["metric", "arms", *settings], ["n", "difference", "95% interval", "d", "p", "p (Holm)", "excluded"]
    )
    for _, row in table.iterrows():
        shown.add_row(
            LABELS[row["metric"]],
            f"{level(row['arm'])} {SIGNS[row['alternative']]} {level(row['reference'])}",
            *("all" if pd.isna(row[name]) else level(row[name]) for name in settings),
            str(row["n"]),
            _signed(row["difference"]),
            "-" if isnan(row["low"]) else f"[{row['low']:+.3f}, {row['high']:+.3f}]",
            "-" if isnan(row["effect"]) else f"{row['effect']:.1f}",
            _p(row["p"]),
            _p(row["p_holm"]),
            str(row["excluded"]),
        )
    return shown


def audit_table(table: pd.DataFrame, title: str) -> Table:
    """Attacks by cell and group as a terminal shows them."""
    shown = Table(title=title, title_justify="left")
    rates = {"balanced_acc": "balanced accuracy", "tpr_at_1e2fpr": "TPR at 1% FPR", "tpr_at_1e3fpr": "at 0.1%"}
    rates |= {"tpr_at_0fp": "at zero"}
    numbers = ["auc", "low", "high", *rates, "targets", "n_in", "n_out"]
    settings = [name for name in table.columns if name not in numbers]
    _columns(shown, settings, ["AUC [95% interval]", *rates.values(), "targets", "IN", "OUT"])
    for _, row in table.astype(object).iterrows():
        shown.add_row(
            *(level(row[name]) for name in settings),
            "-" if pd.isna(row["auc"]) else f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            *("-" if pd.isna(row[name]) else f"{row[name] * 100:.2f}%" for name in rates),
            *(str(row[name]) for name in ("targets", "n_in", "n_out")),
        )
    return shown


def difference_table(table: pd.DataFrame, title: str) -> Table:
    """Differences between the AUCs of two arms as a terminal shows them."""
    shown = Table(title=title, title_justify="left")
    numbers = ["difference", "low", "high", "targets"]
    settings = [name for name in table.columns if name not in (*numbers, "arm", "reference")]
    _columns(shown, ["arms", *settings], ["difference [95% interval]", "targets"])
    for _, row in table.astype(object).iterrows():
        shown.add_row(
            f"{row['arm']} - {row['reference']}",
            *(level(row[name]) for name in settings),
            "-" if pd.isna(row["low"]) else f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            str(row["targets"]),
        )
    return shown


def _columns(table: Table, left: Iterable[str], right: Iterable[str]) -> None:
    """Where the terminal is too narrow, cells go on in a second line rather than lose their end."""
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", overflow="fold")


def _mean_sd(mean: float, deviation: float) -> str:
    if isnan(mean):
        return "-"
    return f"{mean:.3f}" if isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def _signed(value: float) -> str:
    return "-" if isnan(value) else f"{value:+.3f}"


def _p(value: float) -> str:
    return "-" if isnan(value) else f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def amplification_table(table: pd.DataFrame, title: str) -> Table:
    """Predicted and measured amplification as a terminal shows it."""
    shown = Table(title=title, title_justify="left")
    numbers = ["predicted", "measured_out", "measured_in"]
    settings = [name for name in table.columns if name not in (*numbers, "n")]
    _columns(shown, settings, ["(gamma/sigma)^2", "measured on S_out", "measured on S_in", "n"])
    for _, row in table.iterrows():
        values = ("-" if isnan(row[name]) else f"{row[name]:.3g}" for name in numbers)
        shown.add_row(*(level(row[name]) for name in settings), *values, f"{row['n']:.0f}")
    return shown


def claims_table(entries: Sequence[Entry]) -> Table:
    """The numbers of a ledger as a terminal shows them."""
    shown = Table()
    _columns(shown, ["claim", "verdict"], ["n", "effect", "95% interval", "p (Holm)", "the paper's"])
    for entry in entries:
        found, claim = entry.finding, entry.claim
        shown.add_row(
            claim.id,
            entry.verdict,
            "-" if found is None else str(found.n),
            "-" if found is None else _effect(found.effect, claim.ratio),
            "-" if found is None or found.low is None else _interval(found, claim.ratio),
            "-" if entry.p_holm is None else _p(entry.p_holm),
            _papers(entry),
        )
    return shown


def claim_note(entry: Entry, results: Results) -> str:
    """What a claim says, on what its verdict rests, and how it would be run."""
    claim, found = entry.claim, entry.finding
    told = f"{claim.id} ({claim.place}): {claim.says}\n  "
    if found is None:
        return f"{told}not run: {claim.command(results)}"
    return told + "; ".join([f"{entry.verdict}: {entry.found}", *found.notes])


def claims_count(entries: Sequence[Entry]) -> str:
    """How many claims have each verdict."""
    counts = Counter(entry.verdict for entry in entries)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)


def _effect(value: float | None, ratio: bool) -> str:
    if value is None:
        return "-"
    return f"x{value:.3g}" if ratio else f"{value:+.3f}"


def _interval(found: Finding, ratio: bool) -> str:
    return f"[{_effect(found.low, ratio)}, {_effect(found.high, ratio)}]"


def _papers(entry: Entry) -> str:
    claim = entry.claim
    if claim.paper is None:
        return "-" if claim.paper_p is None else f"p = {claim.paper_p:g}"
    return " ".join([_effect(claim.paper, claim.ratio), entry.position]).strip()
