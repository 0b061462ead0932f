"""The tables of robustness and of the panel: each takes numbers and returns them with the cells that a person reads."""

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from analysis.figures.names import NORM_NAMES
from analysis.report.output import Table
from analysis.report.tables import METRIC_LABELS, interval_text, p_text
from analysis.statistics.panel import LENSES
from analysis.statistics.robustness import (
    FAIL,
    IMAGES_TOLERATED,
    LOSS_TOLERATED,
    NOT_MEASURED,
    PERTURBATION,
    controls,
    failures,
    judge,
    strengths,
)
from study.settings import format_value

NAMES = {"pgd": "PGD", "fgsm": "FGSM", "bim": "BIM", "noise": "Gaussian noise", "uniform": "uniform noise"}
"""The perturbations whose name is no plain word."""
STATISTICS = {"batch_statistics": "of each batch", "new_statistics": "estimated anew"}
FLAT = 0.01
"""The share of images without a usable gradient beyond which a note says so."""


def robustness_tables(rows: pd.DataFrame, members: pd.DataFrame, sweep: str) -> list[Table]:
    """Return the tables of a sweep's robustness: accuracies, sanity checks if they were made, and controls likewise.

    Args:
        rows: what `robustness.robustness_rows` gives.
        members: all members of the sweep.
        sweep: its name.
    """
    found = [robustness_table(strengths(rows, members), f"{sweep}: accuracy under noise and attacks")]
    verdicts = judge(rows, members)
    if (verdicts["verdict"] != NOT_MEASURED).any():
        found.append(checks_table(verdicts, f"{sweep}: are the attacks sound?"))
    else:
        found[0].notes.append("Whether the attacks are sound was not measured; robustness=pixel checks it.")
    of_batch = controls(rows, members)
    if len(of_batch):
        found.append(controls_table(of_batch, f"{sweep}: test accuracy of batch norm with other statistics"))
    return found


def robustness_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `robustness.strengths` gives as a table."""
    settings = _settings(data, PERTURBATION)
    left = ["suite", "perturbation", "strength", *settings]
    table = Table(title, data, left, ["clean", "accuracy [95% interval]", "share of clean", "n", "images", "excluded"])
    for row in data.astype(object).to_dict("records"):
        strength = f"{row['epsilon']:.4g}" if pd.isna(row["severity"]) else f"severity {row['severity']:.0f}"
        table.add_row(
            *(row["suite"], perturbation_text(row), strength, *(format_value(row[name]) for name in settings)),
            *(_number(row["clean_acc"]), _with_interval(row, "acc"), _with_interval(row, "kept")),
            *(str(row["n"]), "-" if pd.isna(row["images"]) else f"{row['images']:.0f}", str(row["excluded"])),
        )
    flat = data[data["flat"] > FLAT]
    if len(flat):
        table.notes.append(
            f"up to {flat['flat'].max():.1%} of the images have no usable float32 gradient under an attack; the exact "
            "direction was taken all the same."
        )
    moved = data[data["moved"] > 0]
    if len(moved):
        names = sorted({perturbation_text(row) for row in moved.to_dict("records")})
        table.notes.append(
            f"{'; '.join(names)}: the clip moves values farther than epsilon, so that it is no attack of that size."
        )
    return table


def perturbation_text(row: Mapping[Any, Any]) -> str:
    """Return a perturbation in words, such as `PGD linf, 20 steps`; its strength is not in them."""
    parts = [" ".join(part for part in (NAMES.get(row["perturbation"], row["perturbation"]), row["ball"]) if part)]
    if row["steps"] > 1:
        parts.append(f"{row['steps']:.0f} steps")
    if row["restarts"] > 1:
        parts.append(f"{row['restarts']:.0f} restarts")
    if row["loss"] == "margin":
        parts.append("of the margin")
    if row["suite"] == "paper2019" and not pd.isna(row["clip_low"]):
        parts.append(f"in [{row['clip_low']:g}, {row['clip_high']:g}]")
    if row["split"] not in ("", "test"):
        parts.append(f"on {row['split']}")
    return ", ".join(parts)


def checks_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `robustness.judge` gives as a table; a check that fails is a warning below it."""
    settings = _settings(data, ("check", "verdict", "sentence"))
    table = Table(title, data, [*settings, "must hold", "verdict", "accuracies"], [])
    for row in data.to_dict("records"):
        table.add_row(
            *(format_value(row[name]) for name in settings), row["check"], row["verdict"], str(row["sentence"])
        )
    table.notes += failures(data)
    failed, judged = (data["verdict"] == FAIL).sum(), (data["verdict"] != NOT_MEASURED).sum()
    table.notes.append(
        f"{failed} of {judged} checks fail. A stronger attack may leave {IMAGES_TOLERATED:.1%} of the images more, and "
        f"climbing the margin {LOSS_TOLERATED:.0%} fewer; the accuracies are means over members."
    )
    return table


def controls_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `robustness.controls` gives as a table."""
    settings = _settings(data, ("statistics", "clean_acc", "acc", "difference", "low", "high", "n"))
    table = Table(
        title, data, [*settings, "statistics"], ["with its own", "accuracy", "difference", "95% interval", "n"]
    )
    for row in data.to_dict("records"):
        name = STATISTICS.get(row["statistics"], row["statistics"])
        numbers = (_number(row["clean_acc"]), _number(row["acc"]), f"{row['difference']:+.3f}", interval_text(row))
        table.add_row(*(format_value(row[name]) for name in settings), name, *numbers, str(row["n"]))
    return table


def _settings(data: pd.DataFrame, others: Any) -> list[str]:
    """Return the settings that tell rows apart: the first columns, up to one that is no setting."""
    first = min(list(data.columns).index(name) for name in others)
    return list(data.columns[:first])


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"


def _with_interval(row: Mapping[Any, Any], name: str) -> str:
    ends = "" if pd.isna(row[f"{name}_low"]) else f" [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
    return f"{_number(row[name])}{ends}"


# The panel ------------------------------------------------------------------------------------------------------------


def panel_tables(data: pd.DataFrame, title: str) -> list[Table]:
    """Return what `panel.panel` gives as two tables: the means, an arm a row, and the differences."""
    means = Table(f"{title}: means [95% intervals]", data, ["norm"], [*map(_heading, LENSES), "n", "excluded"])
    for norm, rows in data.groupby("norm", sort=False):
        by_metric = {row["metric"]: row for row in rows.to_dict("records")}
        means.add_row(
            NORM_NAMES[str(norm)],
            *(_panel_cell(by_metric[metric.column]) for metric in LENSES),
            str(rows["n"].max()),
            str(rows["excluded"].max()),
        )
    others = data[data["reference"].notna()]
    reference = others["reference"].iloc[0] if len(others) else ""
    right = ["difference", "95% interval", "d", "p", "p (Holm)", "n"]
    tests = Table(f"{title}: less {NORM_NAMES.get(reference, reference)}, paired", others, ["metric", "norm"], right)
    for metric in LENSES:
        for row in others[others["metric"] == metric.column].to_dict("records"):
            numbers = ("-" if isnan(row[name]) else f"{row[name]:+.3f}" for name in ("difference",))
            effect = "-" if isnan(row["effect"]) else f"{row['effect']:.1f}"
            ps = (p_text(row[name]) for name in ("p", "p_holm"))
            tests.add_row(
                *(METRIC_LABELS[metric.column], NORM_NAMES[row["norm"]], *numbers, interval_text(row), effect, *ps),
                str(row["n"]),
            )
    tests.notes.append("p (Holm) is corrected over the panel, all arms and metrics that were measured.")
    return [means, tests]


def _heading(metric: Any) -> str:
    return str(METRIC_LABELS[metric.column])


def _panel_cell(row: Mapping[Any, Any]) -> str:
    if not row["measured"]:
        return NOT_MEASURED
    ends = "" if isnan(row["mean_low"]) else f" [{row['mean_low']:.3f}, {row['mean_high']:.3f}]"
    return f"{_number(row['mean'])}{ends}"
