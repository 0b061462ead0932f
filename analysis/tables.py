"""Records as tables: each cell's mean and standard deviation over its seeds."""

from collections.abc import Iterable
from math import isnan

import pandas as pd
from rich.table import Table

from analysis import tradeoff
from analysis.cells import level, varying
from analysis.metrics import METRICS
from analysis.tradeoff import Tuning

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


# The tuned regularizer ------------------------------------------------------------------------------------------------


def tuned_table(tuning: Tuning, title: str) -> Table:
    """The front and its references as a terminal shows them."""
    table = tradeoff.front_table(tuning)
    shown = Table(title=title, title_justify="left")
    settings = ["setting", "alpha"] + (["lr"] if table["lr"].nunique() > 1 else [])
    measured = {**tradeoff.OBJECTIVE_LABELS, "test_acc": "test", "mia_auc": "test MIA AUC", "clean_acc": "clean"}
    _columns(shown, settings, [*measured.values(), ""])
    for place, (_, row) in enumerate(table.iterrows()):
        shown.add_row(
            *("-" if pd.isna(row[name]) else level(row[name]) for name in settings),
            *(f"{row[name]:.3f}" for name in measured),
            "recommended" if row["recommended"] else "",
            end_section=place + 1 < len(table) and pd.isna(table["alpha"].iloc[place + 1]) and pd.notna(row["alpha"]),
        )
    return shown


def arms_table(tuning: Tuning, title: str) -> Table:
    """What each arm buys and costs on fresh seeds: its mean, and below it the paired difference from norm=batch."""
    shown = Table(title=title, title_justify="left", show_lines=True)
    _columns(shown, ["arm"], [*(LABELS[metric] for metric in tradeoff.BOUGHT), "n", "excluded"])
    for _, row in tradeoff.arms(tuning).astype(object).iterrows():
        named = f"{row['arm'] or 'norm=batch'}{' (recommended)' if row['recommended'] else ''}"
        cells = (
            f"{_mean_sd(row[f'{metric}_mean'], row[f'{metric}_sd'])}\n{_gain(row, metric)}"
            for metric in tradeoff.BOUGHT
        )
        shown.add_row(named, *cells, str(row["n"]), str(row["excluded"]))
    return shown


def _gain(row: pd.Series, metric: str) -> str:
    difference, low, high = (row.get(f"{metric}_{name}", float("nan")) for name in ("difference", "low", "high"))
    if pd.isna(difference):
        return ""
    return f"{difference:+.3f}" if pd.isna(low) else f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]"


def recommendation(tuning: Tuning) -> str:
    """What to choose under the budget, in a sentence."""
    budget = f"at most {tuning.max_loss:g} below norm=batch's validation accuracy of {tuning.accuracy:.3f}"
    if tuning.usable.empty:
        return "Nothing is recommended: no searched setting gave a result."
    if isnan(tuning.accuracy):
        return "Nothing is recommended: norm=batch gave no result on the search's seeds to be held against."
    best = tuning.recommended
    if best is None:
        nearest = tuning.usable["val_acc"].max()
        return f"Nothing is recommended: no searched setting is {budget}; the nearest has {nearest:.3f}."
    held = tradeoff.reference_means(tuning).set_index("norm").loc["batch"]
    means = ", ".join(
        f"{label} {best[name]:.3f} (norm=batch {held[name]:.3f})" for name, label in tradeoff.OBJECTIVE_LABELS.items()
    )
    return f"Recommended, with {budget}: {tuning.recommended_arm}; {means}."


def searches(tuning: Tuning) -> str:
    """What each search dominates, in a sentence, after as many trials as both have."""
    table = tradeoff.hypervolumes(tuning).set_index(["search", "trials"])["hypervolume"]
    point = ", ".join(f"{name} {value:.3f}" for name, value in tradeoff.worst(tuning).items())
    counts = {"TPE": len(tuning.searched), "random": len(tuning.random)}
    shared = min(count for count in counts.values() if count)
    told = ", ".join(f"{name} {table[(name, shared)]:.3g}" for name, count in counts.items() if count)
    missing = "" if counts["random"] else "; there is no random search to hold it against"
    return (
        f"Hypervolume after {shared} trial{'s' * (shared != 1)}: {told}, before the reference point {point}{missing}."
    )
