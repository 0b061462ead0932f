"""The ratio gamma/sigma along the layers of a network."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

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
from analysis.load import KEY, Loaded
from analysis.statistics.layers import last_and_first
from study.errors import BadInputError
from study.record.results import Results

SHOWN = ["ratio_median", "ratio_q05", "ratio_q95"]
START: dict[str, Any] = {
    **{"color": "#555555", "linewidth": 1.2, "dashes": (4, 2)},
    **{"marker": "o", "markerfacecolor": "white", "markersize": 4},
}
"""The look of what was there before training."""
MOST_NAMED_LAYERS = 8
"""With more layers, markers are smaller and only some depths have a tick."""


def layer_ratios(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """Draw gamma/sigma over the channels of each layer, at the end of training and before it (Fig. 7 and 9).

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        rows: the members to draw.

    Raises:
        BadInputError: no layer has a ratio.
    """
    usable = usable_rows(rows, "gamma_over_sigma")
    columns = [*KEY, "epoch", "layer", "depth", *SHOWN]
    ratios = results.read(loaded.sweep, "layers", columns, trials=set(usable["trial"])).to_pandas()
    last = last_and_first(ratios, ["ratio_median"])
    if last.empty:
        raise BadInputError("no layer has a ratio of gamma and sigma.")
    with theme():
        by = [name for name in varying_settings(rows) if name != "norm"]
        figure, panels = panel_grid(rows, by, share=rows["architecture"].nunique() == 1)
        for panel in panels:
            label_gaps(panel)
            panel.axes.axhline(1, color="#555555", linewidth=1.2, dashes=(1, 1))
            panel.set_labels("layer, from the input", "γ/σ")
            panel.axes.set_yscale("log")
            _layer_lines(panel, last.merge(panel.rows[[*KEY, "norm"]], on=KEY))
            panel.axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.axes.yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}")
            panel.axes.yaxis.set_minor_formatter(NullFormatter())
            panel.axes.margins(x=0.12, y=0.1)
        if rows["architecture"].nunique() == 1:
            label_outer_axes(panels)
        band = Patch(facecolor="#555555", alpha=0.2, label="5% to 95%\nof its channels")
        level_one = Line2D([], [], color="#555555", linewidth=1.2, dashes=(1, 1), label="γ/σ = 1")
        start = Line2D([], [], label="before training", **START) if last["ratio_median_start"].notna().any() else None
        notes = legend_notes(rows, ["median channel, median and range"])
        add_legend(figure, [*arm_handles(arms(rows)), band, *([start] if start else []), level_one], notes)
    return figure


def _layer_lines(panel: Panel, last: pd.DataFrame) -> None:
    """Draw each arm's median channel by layer, its median over members, and a band for 90% of the channels."""
    axes = panel.axes
    for norm in arms(last):
        layers = last[last["norm"] == norm].groupby("depth")
        middle, least, most = (layers[[*SHOWN, "ratio_median_start"]].agg(how) for how in ("median", "min", "max"))
        names, counts = layers["layer"].first(), layers.size()
        many = len(names) > MOST_NAMED_LAYERS
        depths = middle.index.to_numpy() + 1
        axes.fill_between(depths, middle["ratio_q05"], middle["ratio_q95"], color=COLORS[norm], alpha=0.2, linewidth=0)
        look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 3 if many else 5, "capsize": 3}
        ends = middle["ratio_median"] - least["ratio_median"], most["ratio_median"] - middle["ratio_median"]
        axes.plot(depths, middle["ratio_median_start"], **START)
        axes.errorbar(depths, middle["ratio_median"], ends, **look, **line_style(norm))
        texts = [
            f"{panel.name}, layer {depth} ({names[depth - 1]}): median γ/σ {middle['ratio_median'][depth - 1]:.3g}"
            f" ({least['ratio_median'][depth - 1]:.3g} to {most['ratio_median'][depth - 1]:.3g}, n = "
            f"{counts[depth - 1]}), before training {middle['ratio_median_start'][depth - 1]:.3g}, 5% to 95% of "
            f"channels: {middle['ratio_q05'][depth - 1]:.3g} to {middle['ratio_q95'][depth - 1]:.3g}"
            for depth in depths
        ]
        add_tooltips(axes, depths, middle["ratio_median"], texts)
        ticks = depths if not many else depths[:: -(-len(depths) // 6)]
        axes.set_xticks(ticks)
