"""Bars for each level of a setting, the arms side by side."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.cells import CELL_SETTINGS, varying_settings
from analysis.figures.names import NORM_NAMES, RESULT_NAMES, display_level, display_levels, ordered_levels, percent
from analysis.figures.panels import (
    NARROW_PANEL,
    Panel,
    Spread,
    add_legend,
    arms,
    format_as_percent,
    label_empty_panel,
    label_outer_axes,
    legend_notes,
    mark_gap,
    panel_grid,
    spread,
    unit_name,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, HATCHES, theme
from study.errors import BadInputError
from study.settings import DEFAULTS

ARMS_WIDTH = 0.8
"""The share of a level's place that its arms take together."""
LABEL_CHARACTERS = 22
"""The most characters in a line of a cell's name beside its bar."""
MIXTURE = ("corruption", "ood", "k")
"""The settings that say which samples of D' are atypical."""


def long_form(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows once for each result column, its name as `result` and its value as `value`.

    Rows without corrupted samples have no memorization and are left out of its part.
    """
    parts = [rows.assign(result=column, value=rows[column].astype(float)) for column in columns]
    return pd.concat([part[(part["result"] != "mem_acc") | (part["k"] > 0)] for part in parts], ignore_index=True)


def bar_chart(rows: pd.DataFrame, x: str, columns: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()) -> Figure:
    """Draw results by the levels of a setting, the arms side by side (Fig. 3, 11 and 20).

    Args:
        rows: the members to draw.
        x: the setting on the x axis, or `mixture`, a column with what `mixture_label` gives.
        columns: the results, with a panel each where there are several.
        notes: further notes of the legend.

    Raises:
        BadInputError: no member has a result.
    """
    long = long_form(rows, columns)
    if long["value"].isna().all():
        raise BadInputError("none of its members gave a result.")
    drawn = ("norm", *MIXTURE) if x == "mixture" else ("norm", x)
    by = [name for name in varying_settings(rows) if name not in drawn] + ["result"] * (len(columns) > 1)
    with theme():
        # A mixture's labels stand level, each with a line for the amount and one for the kind; many others are slanted.
        narrow = 2.8 if x == "mixture" else 2.3 if rows[x].nunique() > 3 else NARROW_PANEL
        across = "result" if len(columns) > 1 else "k"
        figure, panels = panel_grid(long, by, across, share=len(columns) == 1, narrow=narrow)
        for panel in panels:
            _arm_bars(panel, x, with_heights=len(panels) == 1)
        if len(columns) == 1:
            label_outer_axes(panels)
        handles = [Patch(label=NORM_NAMES[norm], **bar_style(norm)) for norm in arms(rows)]
        add_legend(figure, handles, [*legend_notes(rows), *notes])
    return figure


def _arm_bars(panel: Panel, x: str, with_heights: bool) -> None:
    """Draw a bar for each level and arm."""
    axes, column = panel.axes, panel.rows["result"].iloc[0]
    levels = ordered_levels(x, panel.rows[x]) if x != "mixture" else list(dict.fromkeys(panel.rows[x]))
    norms = arms(panel.rows)
    is_auc = column == "mia_auc"
    panel.set_labels("", RESULT_NAMES[column])
    axes.set(ylim=(0, 1.12 if with_heights else 1.04), xlim=(-0.6, len(levels) - 0.4))
    axes.grid(visible=False, axis="x")
    slant: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(levels) > 2 and x != "mixture" else {}
    axes.set_xticks(range(len(levels)), [display_level(x, level) for level in levels], **slant)
    axes.set_yticks(np.linspace(0, 1, 6))
    if is_auc:
        axes.axhline(0.5, color="#888888", linewidth=0.8)
    else:
        format_as_percent(axes.yaxis)
    if panel.rows["value"].isna().all():
        label_empty_panel(panel)
        return
    width = ARMS_WIDTH / len(norms)
    for number, norm in enumerate(norms):
        arm = panel.rows[panel.rows["norm"] == norm]
        spreads = {level: spread(arm[arm[x] == level], "value") for level in levels if (arm[x] == level).any()}
        places = [levels.index(level) + (number - (len(norms) - 1) / 2) * width for level in spreads]
        texts = [
            at_level.describe(
                f"{panel.name}, {NORM_NAMES[norm]}, {display_level(x, level)}".replace("\n", " "),
                unit_name(arm),
                plain=is_auc,
            )
            for level, at_level in spreads.items()
        ]
        looks = [bar_style(norm)] * len(spreads)
        draw_bars(axes, places, list(spreads.values()), looks, 0.92 * width, texts, 1 if with_heights else None)


def draw_bars(
    axes: Axes,
    places: Sequence[float],
    spreads: Sequence[Spread],
    looks: Sequence[Mapping[str, Any]],
    width: float,
    texts: Sequence[str],
    digits: int | None = None,
) -> None:
    """Draw bars with their standard deviation, or the mark of a gap.

    Args:
        axes: the panel's axes.
        places: where the bars stand on the x axis.
        spreads: their heights and standard deviations.
        looks: their colors and hatching.
        width: the width of each.
        texts: their tooltips.
        digits: the digits after the point of the percentage above each; None writes none.
    """
    for place, height, look, text in zip(places, spreads, looks, texts, strict=True):
        if height.gap:
            mark_gap(axes, place, height.gap, look["facecolor"], text)
            continue
        axes.bar(place, height.mean, width, **look)
        axes.errorbar(place, height.mean, height.sd, color="black", capsize=3, linewidth=1, linestyle="none")
        add_tooltips(axes, [place], [height.mean], [text])
        if digits is not None:
            top = height.mean + (0 if np.isnan(height.sd) else height.sd)
            axes.text(
                place, top + 0.015, percent(height.mean, digits).rstrip("%"), ha="center", va="bottom", fontsize=7
            )


def cell_bars(rows: pd.DataFrame, columns: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()) -> Figure:
    """Draw a result as a lying bar for each cell, named by what tells it from most others: the arms of a confirmation.

    Args:
        rows: the members to draw.
        columns: the results, with a panel each where there are several.
        notes: further notes of the legend.

    Raises:
        BadInputError: no member has a result.
    """
    long = long_form(rows, columns)
    if long["value"].isna().all():
        raise BadInputError("none of its members gave a result.")
    by = [name for name in ("architecture", "dataset") if rows[name].nunique() > 1]
    names = _cell_names(rows, [name for name in CELL_SETTINGS if name not in by and rows[name].nunique() > 1])
    by += ["result"] * (len(columns) > 1)
    height = 0.8 + 0.3 * long.assign(name=long["cell"].map(names)).groupby(by or "dataset")["name"].nunique().max()
    with theme():
        figure, panels = panel_grid(long, by, share=False, size=(4.6, height), narrow=3.0)
        for panel in panels:
            _lying_bars(panel, names)
        handles = [Patch(label=NORM_NAMES[norm], **bar_style(norm)) for norm in arms(rows)]
        add_legend(figure, handles, [*legend_notes(rows), *notes])
    return figure


def _cell_names(rows: pd.DataFrame, settings: Sequence[str]) -> dict[str, str]:
    """Return the name in words of each cell: what it has another level of than most others have, or else its norm.

    Args:
        rows: the members.
        settings: the settings that vary within a panel.
    """
    cells = rows.drop_duplicates("cell")
    # Of levels that are as common the default is taken, which a study's arms are changes of.
    usual = {
        name: max(dict.fromkeys(cells[name]), key=lambda level: ((cells[name] == level).sum(), level == DEFAULTS[name]))
        for name in settings
    }
    names = {}
    for cell in cells.to_dict("records"):
        changed = [name for name in settings if cell[name] != usual[name]]
        names[cell["cell"]] = display_levels(cell, changed or ["norm"])
    return names


def _lying_bars(panel: Panel, names: Mapping[str, str]) -> None:
    """Draw a bar for each cell of a panel, the first on top, with its height beside it."""
    axes, column = panel.axes, panel.rows["result"].iloc[0]
    cells = [cell for cell in names if (panel.rows["cell"] == cell).any()]
    axes.set(xlim=(0, 1.18), xticks=np.linspace(0, 1, 6), ylim=(len(cells) - 0.4, -0.6))
    axes.set_yticks(range(len(cells)), [textwrap.fill(names[cell], LABEL_CHARACTERS) for cell in cells])
    axes.grid(visible=False, axis="y")
    panel.set_labels(RESULT_NAMES[column], "")
    is_auc = column == "mia_auc"
    if not is_auc:
        format_as_percent(axes.xaxis)
    for place, cell in enumerate(cells):
        of_cell = panel.rows[panel.rows["cell"] == cell]
        look, length = bar_style(of_cell["norm"].iloc[0]), spread(of_cell, "value")
        text = length.describe(f"{panel.name}, {names[cell]}", unit_name(of_cell), plain=is_auc)
        if length.gap:
            axes.text(0.02, place, length.gap, color=look["facecolor"], va="center", fontsize=8)
            continue
        axes.barh(place, length.mean, ARMS_WIDTH, **look)
        axes.errorbar(length.mean, place, xerr=length.sd, color="black", capsize=3, linewidth=1, linestyle="none")
        add_tooltips(axes, [length.mean], [place], [text])
        end = length.mean + (0 if np.isnan(length.sd) else length.sd)
        told = f"{length.mean:.3f}" if is_auc else percent(length.mean, 1)
        axes.text(end + 0.02, place, told, ha="left", va="center", fontsize=7)


def bar_style(norm: str) -> dict[str, Any]:
    """Return the color and the hatching of an arm's bars."""
    return {"facecolor": COLORS[norm], "hatch": HATCHES[norm], "edgecolor": "white", "linewidth": 0}


def mixture_label(row: Mapping[Any, Any]) -> str:
    """Return the tick label of a row's atypical samples: how many there are and of which kind."""
    words = {"label": "flipped", "ood": "added", "natural": "natural"}
    return "clean" if row["k"] == 0 else f"{percent(row['k'])}\n{words[row['corruption']]}"
