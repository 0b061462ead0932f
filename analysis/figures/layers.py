"""The ratio gamma/sigma along the layers of a network."""

from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.cells import varying
from analysis.figures.panels import (
    Panel,
    Spread,
    arm_handles,
    arms,
    beside,
    counted,
    laid_out,
    line_of,
    outer_labels,
    say_gaps,
    usable_rows,
)
from analysis.figures.svg import hover
from analysis.figures.theme import COLORS, MARKERS, theme
from analysis.load import KEY, Loaded
from study.errors import BadInputError
from study.record.results import Results

if TYPE_CHECKING:
    pass


MOST_NAMED_LAYERS = 8


# gamma/sigma by layer (Fig. 7 and 9) ----------------------------------------------------------------------------------
def layers(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """The distribution of gamma/sigma over the channels of each layer, at the end of training."""
    well = usable_rows(rows, "gamma_over_sigma")
    columns = [*KEY, "epoch", "layer", "depth", "ratio_median", "ratio_q05", "ratio_q95"]
    read = results.read(loaded.sweep, "layers", columns, trials=set(well["trial"])).to_pandas()
    last = read[read["epoch"] == read.groupby(KEY)["epoch"].transform("max")]
    if last.empty:
        raise BadInputError("no layer has a ratio of gamma and sigma.")
    with theme():
        by = [name for name in varying(rows) if name != "norm"]
        figure, panels = laid_out(rows, by, share=rows["architecture"].nunique() == 1)
        for panel in panels:
            say_gaps(panel)
            panel.axes.axhline(1, color="#555555", linewidth=1.2, dashes=(1, 1))
            panel.axes.set(ylabel="γ/σ", yscale="log", xlabel="layer, from the input")
            _layer_lines(panel, last.merge(panel.rows[[*KEY, "norm"]], on=KEY))
            panel.axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.axes.yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}")
            panel.axes.yaxis.set_minor_formatter(NullFormatter())
            panel.axes.margins(x=0.12, y=0.1)
        if rows["architecture"].nunique() == 1:
            outer_labels(panels)
        band = Patch(facecolor="#555555", alpha=0.2, label="5% to 95%\nof its channels")
        level_one = Line2D([], [], color="#555555", linewidth=1.2, dashes=(1, 1), label="γ/σ = 1")
        notes = counted(rows, ["median channel,", "mean ± sd"])
        beside(figure, [*arm_handles(arms(rows)), band, level_one], notes)
    return figure


def _layer_lines(panel: Panel, last: pd.DataFrame) -> None:
    axes = panel.axes
    for norm in arms(last):
        layers = last[last["norm"] == norm].groupby("depth")
        means = layers[["ratio_median", "ratio_q05", "ratio_q95"]].mean()
        deviation, names, counts = layers["ratio_median"].std(ddof=1), layers["layer"].first(), layers.size()
        many = len(names) > MOST_NAMED_LAYERS
        depths = means.index.to_numpy() + 1
        axes.fill_between(depths, means["ratio_q05"], means["ratio_q95"], color=COLORS[norm], alpha=0.2, linewidth=0)
        look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 3 if many else 5, "capsize": 3}
        axes.errorbar(depths, means["ratio_median"], deviation, **look, **line_of(norm))
        texts = [
            Spread(middle, sd, n).told(f"{panel.name}, layer {depth} ({name}): median γ/σ", plain=True)
            + f", 5% to 95% of channels: {low:.3g} to {high:.3g}"
            for depth, name, n, sd, (middle, low, high) in zip(
                depths, names, counts, deviation, means.to_numpy(), strict=True
            )
        ]
        hover(axes, depths, means["ratio_median"], texts)
        ticks = depths if not many else depths[:: -(-len(depths) // 6)]
        axes.set_xticks(ticks)
