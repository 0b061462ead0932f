"""Lines, an arm each: a result against a setting, and losses over epochs.

All figures of this folder take rows of `members` with those that were planned and have no record, as
`load.with_missing` gives them: each level and each panel that was planned is there, with a result or with a mark that
there is none.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from analysis.cells import varying_settings
from analysis.figures.bars import long_form
from analysis.figures.names import NORM_NAMES, RESULT_NAMES, display_level, display_setting
from analysis.figures.panels import (
    CLEAN,
    Panel,
    Spread,
    add_legend,
    arm_handles,
    arms,
    format_as_percent,
    group_handles,
    label_empty_panel,
    label_gaps,
    label_outer_axes,
    legend_notes,
    line_style,
    mark_gap,
    matching_settings,
    non_overlapping_ticks,
    panel_grid,
    spread,
    unit_name,
    usable_rows,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, MARKERS, theme
from analysis.load import Loaded
from analysis.metrics import Metric
from analysis.statistics.curves import curves
from study.errors import BadInputError
from study.record.results import Results
from study.settings import format_value

LOSSES = (Metric("mem_loss", "loss, corrupted", "less"), Metric("clean_loss", "loss, clean", "less"))

# Results against a setting (Fig. 1, 13 and 15 to 19) ------------------------------------------------------------------


def lines_against(
    x: str, rows: pd.DataFrame, columns: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()
) -> Figure:
    """Draw results against a setting: an arm a line, and a panel for each combination of the other settings that vary.

    No mean is taken over another setting, for it would look like a result.

    Args:
        x: the setting on the x axis.
        rows: the members to draw.
        columns: the results, with a panel each where there are several.
        notes: further notes of the legend.

    Raises:
        BadInputError: no member has a result.
    """
    if rows.empty or rows[list(columns)].isna().all(axis=None):
        raise BadInputError("there is no member with corrupted samples to draw.")
    long = long_form(rows, columns)
    by = [name for name in varying_settings(rows) if name not in ("norm", x)] + ["result"] * (len(columns) > 1)
    with theme():
        figure, panels = panel_grid(long, by)
        for panel in panels:
            _arm_lines(panel, x)
            if len(columns) > 1:
                panel.set_labels(display_setting(x), "accuracy")
        if x == "k":
            panels[0].axes.set_xticks(
                non_overlapping_ticks(rows["k"], panels)
            )  # for all panels, which share their axes
            format_as_percent(panels[0].axes.xaxis)
        else:
            panels[0].axes.set_xscale("log", base=2)
            panels[0].axes.set_xticks(sorted(set(rows[x])), [format_value(value) for value in sorted(set(rows[x]))])
            panels[0].axes.xaxis.set_minor_locator(NullLocator())
        label_outer_axes(panels)
        add_legend(figure, arm_handles(arms(rows)), [*legend_notes(rows), *notes])
    return figure


def _arm_lines(panel: Panel, x: str) -> None:
    """Draw each arm's mean and standard deviation at each level, and every member as a faint point."""
    axes, column = panel.axes, panel.rows["result"].iloc[0]
    axes.set(ylim=(-0.04, 1.04))
    panel.set_labels(display_setting(x), RESULT_NAMES[column])
    format_as_percent(axes.yaxis)
    axes.grid(visible=False, axis="x")
    if panel.rows["value"].isna().all():
        label_empty_panel(panel)
        return
    by_arm: dict[str, Any] = {"hue": "norm", "style": "norm", "palette": COLORS, "markers": MARKERS, "legend": False}
    known = panel.rows.dropna(subset="value")
    sns.scatterplot(known, x=x, y="value", alpha=0.3, s=18, linewidth=0, ax=axes, **by_arm)
    panel.set_labels(display_setting(x), RESULT_NAMES[column])  # seaborn has written its own
    for number, norm in enumerate(arms(panel.rows)):
        arm = panel.rows[panel.rows["norm"] == norm]
        spreads = {level: spread(arm[arm[x] == level], "value") for level in sorted(set(arm[x]))}
        texts = [
            at_level.describe(f"{panel.name}, {NORM_NAMES[norm]}, {display_level(x, level)}", unit_name(arm))
            for level, at_level in spreads.items()
        ]
        means, deviations = ([getattr(at_level, name) for at_level in spreads.values()] for name in ("mean", "sd"))
        look: dict[str, Any] = {"capsize": 3, "marker": MARKERS[norm], "markersize": 5, **line_style(norm)}
        axes.errorbar(list(spreads), means, deviations, **look)
        add_tooltips(axes, spreads, means, texts)
        for (level, at_level), text in zip(spreads.items(), texts, strict=True):
            if at_level.gap:
                mark_gap(axes, level, at_level.gap, COLORS[norm], text, number)


# Loss over epochs (Fig. 2 and 10) -------------------------------------------------------------------------------------


def loss_curves(loaded: Loaded, results: Results, rows: pd.DataFrame, across: str, notes: Sequence[str]) -> Figure:
    """Draw the losses of corrupted and clean samples over epochs, an arm a colour and a marker.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        rows: the members to draw.
        across: the setting whose levels are the columns of panels.
        notes: further notes of the legend.

    Raises:
        BadInputError: no member has a loss.
    """
    recorded = usable_rows(rows, "mem_loss")
    table = curves(replace(loaded, members=recorded), results, LOSSES)
    by = [name for name in varying_settings(rows) if name != "norm"]
    # A setting that all recorded members share is no column of the table; members without a record may differ in it.
    table = table.assign(**{name: recorded[name].iloc[0] for name in (*by, "norm") if name not in table})
    with theme():
        figure, panels = panel_grid(rows, by, across)
        means = table[[f"{loss.column}_mean" for loss in LOSSES]].to_numpy(np.float64)
        positive = means[means > 0]
        logarithmic = len(positive) > 0 and positive.max() > 30 * positive.min()
        low = float(positive.min()) / 2 if logarithmic else 0.0
        for panel in panels:
            _loss_lines(panel, matching_settings(table, panel.rows, by), low)
            panel.set_labels("epoch", "loss")
            panel.axes.set_yscale("log" if logarithmic else "linear")
            panel.axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.axes.yaxis.set_minor_formatter(NullFormatter())
        panels[0].axes.set_ylim(low, float(positive.max(initial=1e-9)) * (2 if logarithmic else 1.1))
        label_outer_axes(panels)
        add_legend(
            figure,
            [*arm_handles(arms(rows), dashes=False), *group_handles()],
            [*legend_notes(rows, ["mean, band: sd"]), *notes],
        )
    return figure


def _loss_lines(panel: Panel, table: pd.DataFrame, low: float) -> None:
    """Draw each arm's mean losses with a band of one standard deviation, which is cut off at `low`."""
    label_gaps(panel)
    for number, norm in enumerate(arms(table)):
        arm = table[table["norm"] == norm]
        color, step = COLORS[norm], max(1, len(arm) // 6)
        for loss, dashes in zip(LOSSES, ((None, None), CLEAN["dashes"]), strict=True):
            mean, sd = (arm[f"{loss.column}_{name}"].to_numpy(np.float64) for name in ("mean", "sd"))
            marked = (number * step // 3 % step, step)  # the arms' markers don't lie on one another
            look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 4, "markevery": marked, "linewidth": 1.3}
            panel.axes.plot(arm["epoch"], mean, color=color, dashes=dashes, **look)
            band = np.nan_to_num(sd)
            panel.axes.fill_between(
                arm["epoch"], np.maximum(mean - band, low), mean + band, color=color, alpha=0.18, linewidth=0
            )
            points = arm.iloc[_evenly_spaced(len(arm))]
            texts = [
                Spread(row[f"{loss.column}_mean"], row[f"{loss.column}_sd"], row["n"]).describe(
                    f"{panel.name}, {NORM_NAMES[norm]}, epoch {row['epoch']}, {loss.label}",
                    unit_name(panel.rows),
                    plain=True,
                )
                for row in points.to_dict("records")
            ]
            add_tooltips(panel.axes, points["epoch"], points[f"{loss.column}_mean"], texts)


def _evenly_spaced(count: int, most: int = 12) -> list[int]:
    """Return the positions of the first, the last and some between of `count` values, `most` in all."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
