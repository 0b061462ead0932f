"""Influence and margins over the epochs of training, measured and as the theory has them (Eq. 11, A.2)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.cells import varying_settings
from analysis.figures.panels import (
    Panel,
    add_legend,
    arm_handles,
    arms,
    label_gaps,
    label_outer_axes,
    legend_notes,
    line_style,
    panel_grid,
    usable_rows,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, MARKERS, theme
from analysis.load import Loaded
from analysis.statistics.amplification import log_over_equation
from analysis.statistics.mechanism import by_epoch, paired_curves, predicted_margins
from study.errors import BadInputError
from study.record.results import Results
from study.theory import log_influence_ratio

EQUATION: dict[str, Any] = {"color": "#555555", "linewidth": 1.3, "dashes": (4, 2), "marker": "o", "markersize": 4}
EQUATION |= {"markerfacecolor": "white"}
"""The look of a prediction."""
EQUAL_MARGINS: dict[str, Any] = {"color": "#555555", "linewidth": 1.2, "dashes": (1, 1)}


def influence_over_epochs(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """Draw the ratio of the arms' influence over epochs, beside that of Eq. 11 and (gamma/sigma)^2.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        rows: the members to draw.

    Raises:
        BadInputError: no pair of members was measured.
    """
    points = by_epoch(_pairs(loaded, results, rows)).rename(columns={"gamma_over_sigma_arm": "ratio"})
    ratios = [
        pd.Series(
            {
                # The median sample's ratio: over Eq. 11 without its margins and its gamma/sigma, and then with both.
                "measured": log_over_equation(_at_margins_0(row), 1.0),
                "equation": float(np.median(log_influence_ratio(row["ratio"], row["margins_arm"], row["margins_ref"]))),
                "equal": 2 * np.log(row["ratio"]),
            }
        )
        for _, row in points.iterrows()
    ]
    points = points.join(pd.DataFrame(ratios, index=points.index))
    with theme():
        last = int(points["measured_epoch"].max())
        figure = _epoch_panels(rows, points, _ratio_lines, last, "influence, batch over none")
        measured = Line2D([], [], label="measured", color=COLORS["batch"], marker=MARKERS["batch"])
        equation = Line2D([], [], label="Eq. 11", **EQUATION)
        equal = Line2D([], [], label="(γ/σ)²", **EQUAL_MARGINS)
        notes = legend_notes(rows, ["median sample,", "geometric mean", "and range"])
        add_legend(figure, [measured, equation, equal], notes)
    return figure


def margins_over_epochs(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """Draw the mean margin of S_out over epochs, and batch norm's as A.2 predicts it from the other arm's.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        rows: the members to draw.

    Raises:
        BadInputError: no pair of members was measured.
    """
    pairs = _pairs(loaded, results, rows)
    last = max(int(curve.epochs[-1]) for side in ("curve_arm", "curve_ref") for curve in pairs[side])
    with theme():
        figure = _epoch_panels(rows, pairs, _margin_lines, last, "mean margin of S_out")
        equation = Line2D([], [], label="batch norm\nby Eq. 28, 29", **EQUATION)
        memorized = Line2D([], [], label="memorized", **EQUAL_MARGINS)
        handles = [*arm_handles(arms(rows[rows["norm"].isin(("batch", "none"))]), dashes=False), equation, memorized]
        add_legend(figure, handles, legend_notes(rows, ["mean and range"]))
    return figure


def _epoch_panels(
    rows: pd.DataFrame, table: pd.DataFrame, draw: Callable[[Panel, pd.DataFrame], None], last: int, label: str
) -> Figure:
    """Return a figure of a panel for each cell, in which that part of a table is drawn over the epochs.

    Args:
        rows: the members of the figure.
        table: what is drawn, with the settings of its cells.
        draw: draws a cell's part of it.
        last: the last epoch.
        label: what is drawn, in words.
    """
    by = [name for name in varying_settings(rows) if name != "norm"]
    figure, panels = panel_grid(rows, by)
    for panel in panels:
        label_gaps(panel)
        draw(panel, table[_same_cell(table, panel.rows, by)])
        _epoch_axis(panel, last)
        panel.set_labels("epoch", label)
    label_outer_axes(panels)
    return figure


def _pairs(loaded: Loaded, results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    pairs = paired_curves(loaded.sweep, usable_rows(rows, "mem_acc"), results)
    if pairs.empty:
        raise BadInputError("no pair of norm=batch and norm=none was measured; --set mechanism=10 records it.")
    return pairs


def _at_margins_0(row: pd.Series) -> pd.Series:
    """Return a row whose margins are all 0, at which the sigmoids of Eq. 11 cancel."""
    zeros = {f"margins_{side}": np.zeros_like(row[f"margins_{side}"]) for side in ("arm", "ref")}
    return pd.Series({**row, **zeros})


def _same_cell(table: pd.DataFrame, rows: pd.DataFrame, by: list[str]) -> pd.Series:
    """Return which rows of a table have the levels of `by` that occur in `rows`."""
    same = pd.Series(True, index=table.index)
    for name in by:
        same &= table[name].isin(set(rows[name]))
    return same


def _epoch_axis(panel: Panel, last: int) -> None:
    """Have the epochs lie as they are measured, in geometric steps beside 0, with some ticks up to the last."""
    axes = panel.axes
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.set_xticks([0, *(tick for tick in (1, 3, 10, 30, 100, 300, 1000) if tick <= last)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda epoch, _: f"{epoch:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(-0.1, 1.2 * last)


def _ratio_lines(panel: Panel, points: pd.DataFrame) -> None:
    """Draw the measured and the predicted ratios by epoch."""
    panel.axes.set_yscale("log")
    if points.empty:
        return
    of_epoch = points.groupby("measured_epoch")[["measured", "equation", "equal"]]
    middle, least, most = (of_epoch.agg(how).map(np.exp) for how in ("mean", "min", "max"))
    axes, counts = panel.axes, of_epoch.size()
    epochs = middle.index.to_numpy()
    axes.plot(epochs, middle["equal"], **EQUAL_MARGINS)
    axes.plot(epochs, middle["equation"], **EQUATION)
    axes.plot(epochs, middle["measured"], marker=MARKERS["batch"], markersize=5, **line_style("batch"))
    axes.fill_between(epochs, least["measured"], most["measured"], color=COLORS["batch"], alpha=0.2, linewidth=0)
    texts = [
        f"{panel.name}, epoch {epoch}: x{middle['measured'][epoch]:.3g} (x{least['measured'][epoch]:.3g} to "
        f"x{most['measured'][epoch]:.3g}, n = {counts[epoch]}), Eq. 11 x{middle['equation'][epoch]:.3g}, "
        f"(γ/σ)² x{middle['equal'][epoch]:.3g}"
        for epoch in epochs
    ]
    add_tooltips(axes, epochs, middle["measured"], texts)


def _margin_lines(panel: Panel, pairs: pd.DataFrame) -> None:
    """Draw each arm's mean margin by epoch, and batch norm's as it is predicted."""
    panel.axes.axhline(0, **EQUAL_MARGINS)
    if pairs.empty:
        return
    sides = {"batch": "curve_arm", "none": "curve_ref"}
    for norm, side in sides.items():
        curves = [pd.Series(curve.margin, index=curve.epochs) for curve in pairs[side]]
        table = pd.concat(curves, axis=1, join="inner")  # some may have converged before others
        middle, epochs = table.mean(axis=1), table.index.to_numpy()
        look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 5, "color": COLORS[norm], "linewidth": 1.5}
        panel.axes.plot(epochs, middle, **look)
        panel.axes.fill_between(
            epochs, table.min(axis=1), table.max(axis=1), color=COLORS[norm], alpha=0.18, linewidth=0
        )
        texts = [f"{panel.name}, norm={norm}, epoch {epoch}: mean margin {middle[epoch]:.3g}" for epoch in epochs]
        add_tooltips(panel.axes, epochs, middle, texts)
    predicted = pd.concat(
        [
            pd.Series(predicted_margins(pair["curve_arm"], pair["curve_ref"]), index=pair["curve_arm"].epochs)
            for _, pair in pairs.iterrows()
        ],
        axis=1,
        join="inner",
    )
    # It begins where the margins of all seeds have been at their lowest; a seed may have no prediction at all.
    mean = predicted.dropna(axis=1, how="all").mean(axis=1, skipna=False)
    panel.axes.plot(mean.index.to_numpy(), mean, **EQUATION)
