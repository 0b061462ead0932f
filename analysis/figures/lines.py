"""The kinds of plots that the paper's figures are made of: networks in, a figure out.

All take rows of `members`, with those that were planned and have no record as `load.with_missing` gives them: each
level and each panel that they ask for is there, with a result or with a mark that there is none.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from analysis.cells import level, varying
from analysis.figures.bars import long_form
from analysis.figures.panels import (
    CLEAN,
    Panel,
    Spread,
    arm_handles,
    arms,
    beside,
    counted,
    fill_gap,
    group_handles,
    in_percent,
    laid_out,
    line_of,
    mark_gap,
    matching_settings,
    outer_labels,
    say_gaps,
    shown,
    spaced,
    spread,
    unit,
    usable_rows,
)
from analysis.figures.svg import hover
from analysis.figures.theme import COLORS, MARKERS, MEASURES, NAMES, theme
from analysis.load import Loaded
from analysis.metrics import Metric
from analysis.statistics.curves import curves
from study.errors import BadInputError
from study.record.results import Results

if TYPE_CHECKING:
    pass


ATTACK = "lira_online"
BESIDE = 0.8
"""How much of the place of a level the arms take together."""


# Results against a setting (Fig. 1, 13 and 15 to 19) ------------------------------------------------------------------
def against(x: str, rows: pd.DataFrame, measures: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()) -> Figure:
    """Results against a setting: an arm a line, and whatever else varies in panels of its own.

    A mean over what varies would look like a result.
    """
    if rows.empty or rows[list(measures)].isna().all(axis=None):
        raise BadInputError("there is no member with corrupted samples to draw.")
    long = long_form(rows, measures)
    by = [name for name in varying(rows) if name not in ("norm", x)] + ["measure"] * (len(measures) > 1)
    with theme():
        figure, panels = laid_out(long, by)
        for panel in panels:
            _arm_lines(panel, x)
            if len(measures) > 1:
                panel.axes.set_ylabel("accuracy")
        if x == "k":
            panels[0].axes.set_xticks(spaced(rows["k"]))  # for all panels, which share their axes
            in_percent(panels[0].axes.xaxis)
        else:
            panels[0].axes.set_xscale("log", base=2)
            panels[0].axes.set_xticks(sorted(set(rows[x])), [level(value) for value in sorted(set(rows[x]))])
            panels[0].axes.xaxis.set_minor_locator(NullLocator())
        outer_labels(panels)
        beside(figure, arm_handles(arms(rows)), [*counted(rows), *notes])
    return figure


def _arm_lines(panel: Panel, x: str) -> None:
    axes, measure = panel.axes, panel.rows["measure"].iloc[0]
    names = {"k": "corrupted fraction k"}
    axes.set(xlabel=names.get(x, x.replace("_", " ")), ylabel=MEASURES[measure], ylim=(-0.04, 1.04))
    in_percent(axes.yaxis)
    axes.grid(visible=False, axis="x")
    if panel.rows["value"].isna().all():
        fill_gap(panel)
        return
    norms = arms(panel.rows)
    each_arm: dict[str, Any] = {"hue": "norm", "style": "norm", "palette": COLORS, "markers": MARKERS, "legend": False}
    known = panel.rows.dropna(subset="value")
    sns.scatterplot(known, x=x, y="value", alpha=0.3, s=18, linewidth=0, ax=axes, **each_arm)
    axes.set(xlabel=names.get(x, x.replace("_", " ")), ylabel=MEASURES[measure])
    for line, norm in enumerate(norms):
        arm = panel.rows[panel.rows["norm"] == norm]
        found = {at: spread(arm[arm[x] == at], "value") for at in sorted(set(arm[x]))}
        texts = [each.told(f"{panel.name}, {NAMES[norm]}, {shown(x, at)}", unit(arm)) for at, each in found.items()]
        means, deviations = ([getattr(each, name) for each in found.values()] for name in ("mean", "sd"))
        axes.errorbar(list(found), means, deviations, capsize=3, marker=MARKERS[norm], markersize=5, **line_of(norm))
        hover(axes, found, means, texts)
        for (at, each), text in zip(found.items(), texts, strict=True):
            if each.gap:
                mark_gap(axes, at, each.gap, COLORS[norm], text, line)


# Loss over epochs (Fig. 2 and 10) -------------------------------------------------------------------------------------
LOSSES = (Metric("mem_loss", "loss, corrupted", "less"), Metric("clean_loss", "loss, clean", "less"))


def losses(loaded: Loaded, results: Results, rows: pd.DataFrame, across: str, notes: Sequence[str]) -> Figure:
    """Loss over epochs of corrupted and clean samples, an arm a colour and a marker."""
    recorded = usable_rows(rows, "mem_loss")
    table = curves(replace(loaded, members=recorded), results, LOSSES)
    by = [name for name in varying(rows) if name != "norm"]
    # The table doesn't have what all that are recorded share, though those that are missing may not.
    table = table.assign(**{name: recorded[name].iloc[0] for name in (*by, "norm") if name not in table})
    with theme():
        figure, panels = laid_out(rows, by, across)
        means = table[[f"{loss.column}_mean" for loss in LOSSES]].to_numpy(np.float64)
        positive = means[means > 0]
        logarithmic = len(positive) > 0 and positive.max() > 30 * positive.min()
        low = float(positive.min()) / 2 if logarithmic else 0.0
        for panel in panels:
            _loss_lines(panel, matching_settings(table, panel.rows, by), low)
            panel.axes.set(xlabel="epoch", ylabel="loss", yscale="log" if logarithmic else "linear")
            panel.axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.axes.yaxis.set_minor_formatter(NullFormatter())
        panels[0].axes.set_ylim(low, float(positive.max(initial=1e-9)) * (2 if logarithmic else 1.1))
        outer_labels(panels)
        beside(
            figure,
            [*arm_handles(arms(rows), dashes=False), *group_handles()],
            [*counted(rows, ["mean, band: sd"]), *notes],
        )
    return figure


def _loss_lines(panel: Panel, table: pd.DataFrame, low: float) -> None:
    say_gaps(panel)
    for number, norm in enumerate(arms(table)):
        arm = table[table["norm"] == norm]
        color, every = COLORS[norm], max(1, len(arm) // 6)
        for loss, dashes in zip(LOSSES, ((None, None), CLEAN["dashes"]), strict=True):
            mean, sd = (arm[f"{loss.column}_{name}"].to_numpy(np.float64) for name in ("mean", "sd"))
            where = (number * every // 3 % every, every)
            look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 4, "markevery": where, "linewidth": 1.3}
            panel.axes.plot(arm["epoch"], mean, color=color, dashes=dashes, **look)
            band = np.nan_to_num(sd)
            panel.axes.fill_between(
                arm["epoch"], np.maximum(mean - band, low), mean + band, color=color, alpha=0.18, linewidth=0
            )
            told = arm.iloc[_few(len(arm))]
            texts = [
                Spread(row[f"{loss.column}_mean"], row[f"{loss.column}_sd"], row["n"]).told(
                    f"{panel.name}, {NAMES[norm]}, epoch {row['epoch']}, {loss.label}", unit(panel.rows), plain=True
                )
                for row in told.to_dict("records")
            ]
            hover(panel.axes, told["epoch"], told[f"{loss.column}_mean"], texts)


def _few(count: int, most: int = 12) -> list[int]:
    """The places of the first, the last and some between."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
