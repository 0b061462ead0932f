"""Bars, an arm beside the other, for each level of a setting."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.cells import varying
from analysis.figures.panels import (
    Panel,
    Spread,
    arms,
    beside,
    counted,
    fill_gap,
    in_percent,
    laid_out,
    mark_gap,
    ordered,
    outer_labels,
    percent,
    shown,
    spread,
    unit,
)
from analysis.figures.svg import hover
from analysis.figures.theme import COLORS, HATCHES, MEASURES, NAMES, theme
from study.errors import BadInputError

if TYPE_CHECKING:
    pass


MIXTURE = ("corruption", "ood", "k")
"""The settings that say what is atypical in D'."""


def long_form(rows: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """The rows once for each result, which is their `value`; where nothing is corrupted nothing can be memorized."""
    parts = [rows.assign(measure=name, value=rows[name].astype(float)) for name in measures]
    return pd.concat([part[(part["measure"] != "mem_acc") | (part["k"] > 0)] for part in parts], ignore_index=True)


# Bars by network (Fig. 3 and 11), and by cell (Fig. 20) ---------------------------------------------------------------
def bars(rows: pd.DataFrame, x: str, measures: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()) -> Figure:
    """Results by the levels of a column, the arms side by side."""
    long = long_form(rows, measures)
    if long["value"].isna().all():
        raise BadInputError("none of its members gave a result.")
    drawn = ("norm", *MIXTURE) if x == "mixture" else ("norm", x)
    by = [name for name in varying(rows) if name not in drawn] + ["measure"] * (len(measures) > 1)
    with theme():
        across = "measure" if len(measures) > 1 else "k"
        figure, panels = laid_out(long, by, across, share=len(measures) == 1, size=(3.6, 3.0))
        for panel in panels:
            _arm_bars(panel, x, named=len(panels) == 1)
        if len(measures) == 1:
            outer_labels(panels)
        handles = [Patch(label=NAMES[norm], **bar_style(norm)) for norm in arms(rows)]
        beside(figure, handles, [*counted(rows), *notes])
    return figure


def _arm_bars(panel: Panel, x: str, named: bool) -> None:
    axes, measure = panel.axes, panel.rows["measure"].iloc[0]
    levels = ordered(x, panel.rows[x]) if x != "mixture" else list(dict.fromkeys(panel.rows[x]))
    norms = arms(panel.rows)
    auc = measure == "mia_auc"
    axes.set(ylabel=MEASURES[measure], ylim=(0, 1.12 if named else 1.04), xlim=(-0.6, len(levels) - 0.4))
    axes.grid(visible=False, axis="x")
    aslant: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(levels) > 2 and x != "mixture" else {}
    axes.set_xticks(range(len(levels)), [shown(x, each) for each in levels], **aslant)
    axes.set_yticks(np.linspace(0, 1, 6))
    if auc:
        axes.axhline(0.5, color="#888888", linewidth=0.8)
    else:
        in_percent(axes.yaxis)
    if panel.rows["value"].isna().all():
        fill_gap(panel)
        return
    width = 0.8 / len(norms)
    for number, norm in enumerate(norms):
        arm = panel.rows[panel.rows["norm"] == norm]
        found = {at: spread(arm[arm[x] == at], "value") for at in levels if (arm[x] == at).any()}
        places = [levels.index(at) + (number - (len(norms) - 1) / 2) * width for at in found]
        texts = [
            each.told(f"{panel.name}, {NAMES[norm]}, {shown(x, at)}".replace("\n", " "), unit(arm), plain=auc)
            for at, each in found.items()
        ]
        draw_bars(axes, places, list(found.values()), [bar_style(norm)] * len(found), 0.92 * width, texts, named)


def draw_bars(
    axes: Axes,
    places: Sequence[float],
    found: Sequence[Spread],
    looks: Sequence[Mapping[str, Any]],
    width: float,
    texts: Sequence[str],
    named: bool,
) -> None:
    """Bars with their standard deviation, their text for the mouse and, where `named`, their height in percent."""
    for place, each, look, text in zip(places, found, looks, texts, strict=True):
        if each.gap:
            mark_gap(axes, place, each.gap, look["facecolor"], text)
            continue
        axes.bar(place, each.mean, width, **look)
        axes.errorbar(place, each.mean, each.sd, color="black", capsize=3, linewidth=1, linestyle="none")
        hover(axes, [place], [each.mean], [text])
        if named:
            top = each.mean + (0 if np.isnan(each.sd) else each.sd)
            axes.text(place, top + 0.015, percent(each.mean, 1).rstrip("%"), ha="center", va="bottom", fontsize=7)


def bar_style(norm: str) -> dict[str, Any]:
    """Return the color and the hatching of an arm's bars."""
    return {"facecolor": COLORS[norm], "hatch": HATCHES[norm], "edgecolor": "white", "linewidth": 0}


def mixture(row: Mapping[Any, Any]) -> str:
    """What is atypical in D', as a tick has it."""
    words = {"label": "flipped", "ood": "added", "natural": "natural"}
    return "clean" if row["k"] == 0 else f"{percent(row['k'])}\n{words[row['corruption']]}"
