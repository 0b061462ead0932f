"""What all figures share: panels and their titles, means with their spread, marks of gaps, legends and files."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, DASHES, MARKERS, NORM_NAMES, RESULT_NAMES, theme
from study.data.catalog import DATASETS
from study.errors import BadInputError
from study.networks.catalog import NETWORKS
from study.settings import format_value

PANEL = (3.6, 3.0)
"""Width and height of a panel in inches."""
SMALL_PANEL = (2.5, 2.2)
"""Width and height where more than two panels stand beside each other."""
LEGEND_WIDTH = 1.4
"""The width of the legend beside the panels, in inches."""
MOST_COLUMNS = 4
"""The most panels in a row."""
TITLE_LINE = 0.17
"""The height in inches that each further line of a title adds to a panel."""
CHARACTERS = 11
"""How many characters of a title fit into an inch."""
PRINTED_NAMES = {
    "architecture": {name: network.printed for name, network in NETWORKS.items()},
    "dataset": {name: dataset.printed for name, dataset in DATASETS.items()},
    "norm": NORM_NAMES,
    "result": RESULT_NAMES,
    "part": {**RESULT_NAMES, "log": "effect of alpha, log", "hinge": "effect of alpha, hinge"},
}
"""The names in print of the levels of a column, in the order in which figures show them."""
CORRUPTION_NAMES = {"label": "labels flipped", "ood": "images added", "natural": "natural outliers", "none": "clean"}
CLEAN: dict[str, Any] = {"dashes": (4, 2)}
"""The dashes of lines for clean samples, where an arm has a line for corrupted ones too."""
GAPS = {"no record": "x", "no result": "1"}
"""The markers of a level that was planned and has no record, and of one whose members all diverged or failed."""


# Panels ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes:
        axes: the axes that it is drawn on.
        rows: the members that it shows, with a row for each planned member that has no record.
        name: its title on one line.
        place: its row and its column in the grid.
    """

    axes: Axes
    rows: pd.DataFrame
    name: str
    place: tuple[int, int]


def panel_grid(
    rows: pd.DataFrame,
    by: Sequence[str],
    across: str = "dataset",
    share: bool = True,
    size: tuple[float, float] | None = None,
) -> tuple[Figure, list[Panel]]:
    """Return a figure with a titled panel for each combination of levels that occurs, and its panels.

    With two settings or more, the levels of one are the columns, and the combinations of the others are the rows. With
    one setting the panels fill the rows one after the other.

    Args:
        rows: the rows that will be drawn.
        by: the settings that tell panels apart, in order.
        across: the setting whose levels are the columns.
        share: whether all panels have the same axes.
        size: width and height of a panel in inches; by default smaller where more than two stand beside each other.
    """
    groups = dict(iter(rows.groupby(list(by) or ["dataset"], sort=False)))
    keys = sorted(groups, key=lambda key: [_display_rank(name, value) for name, value in zip(by, key, strict=False)])
    places = _panel_places(keys, by, across)
    row_count, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    size = size or (PANEL if columns <= 2 else SMALL_PANEL)
    width = int(CHARACTERS * size[0])
    titles = {key: panel_title(groups[key], by, width) for key in keys}
    height = size[1] + TITLE_LINE * max(title.count("\n") for title in titles.values())
    figure = Figure(figsize=(size[0] * columns + LEGEND_WIDTH, height * row_count))
    grid = figure.subplots(row_count, columns, squeeze=False, sharex=share, sharey=share)
    panels = []
    for key, place in zip(keys, places, strict=True):
        grid[place].set_title(titles[key], parse_math=False)
        name = titles[key].replace(",\n", ", ").replace("\n", ", ")
        panels.append(Panel(grid[place], groups[key], name, place))
    for place in set(np.ndindex(row_count, columns)) - set(places):
        grid[place].remove()
    return figure, panels


def _panel_places(keys: Sequence[tuple[Any, ...]], by: Sequence[str], across: str) -> list[tuple[int, int]]:
    """Return the row and the column of each panel."""
    if across not in by or len(by) < 2:
        columns = -(-len(keys) // -(-len(keys) // MOST_COLUMNS))
        return [divmod(number, columns) for number in range(len(keys))]
    position = by.index(across)
    across_levels = [key[position] for key in keys]
    other_levels = [key[:position] + key[position + 1 :] for key in keys]
    column_order, row_order = ordered_levels(across, across_levels), list(dict.fromkeys(other_levels))
    return [
        (row_order.index(others), column_order.index(level))
        for others, level in zip(other_levels, across_levels, strict=True)
    ]


def _display_rank(name: str, value: Any) -> tuple[int, Any]:
    """Return the sort key of a level among the others of its setting."""
    known = list(PRINTED_NAMES.get(name, ()))
    return (known.index(value), "") if value in known else (len(known), value)


def ordered_levels(name: str, values: Iterable[Any]) -> list[Any]:
    """Return the distinct levels of a setting in the paper's order, or sorted where the paper has none."""
    return sorted(set(values), key=lambda value: _display_rank(name, value))


def display_level(name: str, value: Any) -> str:
    """Return a level as a reader knows it, such as `LeNet`, `k = 5%` or `lr=0.001`."""
    if name in PRINTED_NAMES:
        return PRINTED_NAMES[name].get(value, str(value))
    if name == "corruption":
        return CORRUPTION_NAMES[value]
    if name == "mixture":
        return str(value)
    return f"k = {percent(value)}" if name == "k" else f"{name}={format_value(value)}"


def panel_title(rows: pd.DataFrame, by: Sequence[str], width: int) -> str:
    """Return a panel's title: its network and dataset where it has one of each, then the levels of `by`.

    Args:
        rows: the panel's rows.
        by: the settings that tell the panels apart.
        width: the most characters of a line.
    """
    first = rows.iloc[0]
    named = [name for name in ("architecture", "dataset") if rows[name].nunique() == 1]
    others = [name for name in by if name not in ("architecture", "dataset")]
    lines = [", ".join(display_level(name, first[name]) for name in names) for names in (named, others)]
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in lines if line)


def label_outer_axes(panels: Sequence[Panel]) -> None:
    """Label the axes of the lowest panel of each column and of the first of each row; the panels share their axes."""
    places = [panel.place for panel in panels]
    for panel in panels:
        row, column = panel.place
        lowest = row == max(other_row for other_row, other_column in places if other_column == column)
        first = column == min(other_column for other_row, other_column in places if other_row == row)
        panel.axes.tick_params(labelbottom=lowest, labelleft=first)
        panel.axes.xaxis.label.set_visible(lowest)
        panel.axes.yaxis.label.set_visible(first)


def non_overlapping_ticks(levels: Iterable[float]) -> list[float]:
    """Return those of the levels whose labels don't run into each other, in order."""
    ascending = sorted(set(levels))
    kept = ascending[:1]
    for value in ascending[1:]:
        if value - kept[-1] >= (ascending[-1] - ascending[0]) / 10:
            kept.append(value)
    return kept


def percent(share: float, digits: int | None = None) -> str:
    """Return a share in percent, with `digits` digits after the point, or with as few as it takes."""
    return f"{share * 100:.10g}%" if digits is None else f"{share * 100:.{digits}f}%"


def format_as_percent(*axes: Axis) -> None:
    """Label the ticks of axes in percent; the data are shares of 1."""
    for axis in axes:
        axis.set_major_formatter(lambda share, _: f"{share * 100:g}%")


# What is drawn of one arm ---------------------------------------------------------------------------------------------


def usable_rows(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the members that have a result in a column.

    Raises:
        BadInputError: none has.
    """
    usable = rows[(rows["status"] == "ok") & rows[column].notna()]
    if usable.empty:
        raise BadInputError("none of its members gave a result.")
    return usable


def matching_settings(table: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a table by cells whose settings `by` occur in `rows`."""
    chosen = pd.Series(True, index=table.index)
    for name in by:
        chosen &= table[name].isin(set(rows[name]))
    return table[chosen]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a result over the members of one arm at one level.

    Attributes:
        mean: the mean over the members with a result; NaN where there is none.
        sd: their standard deviation (n - 1); NaN for fewer than two.
        n: the number of members with a result.
        gap: why there is no result, a key of `GAPS`; empty where there is one.
    """

    mean: float
    sd: float
    n: int
    gap: str = ""

    def describe(self, subject: str, unit: str = "seed", plain: bool = False) -> str:
        """Return the tooltip of a point, such as `LeNet, batch norm: 91.0% ± 1.0% (3 seeds)`.

        Args:
            subject: what the point shows.
            unit: what a member is, as `unit_name` gives it.
            plain: write the numbers as they are rather than in percent.
        """
        if self.gap:
            return f"{subject}: {self.gap}"
        mean, sd = ((f"{value:.3g}" if plain else percent(value, 1)) for value in (self.mean, self.sd))
        return f"{subject}: {mean}{'' if self.n < 2 else f' ± {sd}'} ({self.n} {unit}{'s' * (self.n != 1)})"


def spread(rows: pd.DataFrame, column: str) -> Spread:
    """Return mean and standard deviation of a column, or why it has no value."""
    values = rows[column].dropna()
    if values.empty:
        return Spread(np.nan, np.nan, 0, gap(rows) or "no result")
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan, len(values))


def gap(rows: pd.DataFrame) -> str:
    """Return why none of the members has a result, as a key of `GAPS`; empty where one has."""
    status = rows["status"]
    return "" if (status == "ok").any() else "no record" if (status == "missing").all() else "no result"


def unit_name(rows: pd.DataFrame) -> str:
    """Return what a member of a cell is: a `seed`, or a `model` that was trained on its own half of D'."""
    return "model" if (rows["protocol"] == "splits").all() else "seed"


def arms(rows: pd.DataFrame) -> list[str]:
    """Return the norms that occur, in the order of the legend."""
    return ordered_levels("norm", rows["norm"])


def line_style(norm: str) -> dict[str, Any]:
    """Return the color and the dashes of an arm's line."""
    return {"color": COLORS[norm], "dashes": DASHES[norm] or (None, None)}


def mark_gap(axes: Axes, x: float, gap: str, color: str, text: str, line: int = 0) -> None:
    """Mark a level without a result at the foot of a panel, each arm on a line of its own.

    Args:
        axes: the panel's axes.
        x: the level's place on the x axis.
        gap: why there is no result, a key of `GAPS`.
        color: the arm's color.
        text: the tooltip of the mark.
        line: the arm's line, counted from the foot.
    """
    height, below = 0.035 + 0.055 * line, axes.get_xaxis_transform()
    mark: dict[str, Any] = {"marker": GAPS[gap], "markersize": 6, "markeredgewidth": 1.4, "linestyle": "none"}
    axes.plot(x, height, color=color, label=gap, transform=below, clip_on=False, **mark)
    add_tooltips(axes, [x], [height], [text], below)


def label_gaps(panel: Panel) -> None:
    """Write into a panel which of its arms have no result, and why."""
    gaps = {norm: gap(panel.rows[panel.rows["norm"] == norm]) for norm in arms(panel.rows)}
    lacking = {norm: why for norm, why in gaps.items() if why}
    if len(lacking) == len(gaps):
        label_empty_panel(panel)
        return
    for line, (norm, why) in enumerate(lacking.items()):
        place: dict[str, Any] = {"transform": panel.axes.transAxes, "ha": "right", "va": "top", "fontsize": 8}
        paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}
        panel.axes.text(0.98, 0.97 - 0.1 * line, f"{NORM_NAMES[norm]}: {why}", color=COLORS[norm], bbox=paper, **place)


def label_empty_panel(panel: Panel) -> None:
    """Write into a panel without any result why it is empty."""
    middle: dict[str, Any] = {"transform": panel.axes.transAxes, "ha": "center", "va": "center"}
    panel.axes.text(0.5, 0.5, gap(panel.rows), color="#555555", **middle)


# Legends --------------------------------------------------------------------------------------------------------------


def add_legend(figure: Figure, handles: Sequence[Artist], notes: Sequence[str]) -> None:
    """Add a legend to the right of the panels, with notes above it."""
    figure.legend(
        handles=[*handles, *_gap_handles(figure)],
        loc="outside right upper",
        frameon=False,
        title="\n".join(notes),
        title_fontsize=8,
        alignment="left",
        handlelength=2.4,
    )


def group_handles() -> list[Artist]:
    """Return the legend's entries for corrupted and clean samples."""
    plain: dict[str, Any] = {"color": "#555555"}
    return [Line2D([], [], label="corrupted", **plain), Line2D([], [], label="clean", **plain, **CLEAN)]


def _gap_handles(figure: Figure) -> list[Line2D]:
    """Return a legend handle for each kind of gap that is marked in a panel."""
    labels = {line.get_label() for axes in figure.axes for line in axes.lines}
    mark: dict[str, Any] = {"color": "#555555", "linestyle": "none", "markeredgewidth": 1.4}
    return [Line2D([], [], marker=marker, label=gap, **mark) for gap, marker in GAPS.items() if gap in labels]


def arm_handles(norms: Iterable[str], markers: bool = True, dashes: bool = True) -> list[Artist]:
    """Return a legend line for each arm, with its marker and its dashes where the figure has them."""
    plain: dict[str, Any] = {} if dashes else {"dashes": (None, None)}
    marks = MARKERS if markers else {}
    return [
        Line2D([], [], marker=marks.get(norm, ""), label=NORM_NAMES[norm], **line_style(norm) | plain) for norm in norms
    ]


def legend_notes(rows: pd.DataFrame, before: Sequence[str] = ("mean ± sd",)) -> list[str]:
    """Return the notes above a legend: what is drawn, of how many members, and how many are excluded or missing.

    Args:
        rows: the rows that are drawn.
        before: the first notes, which say what the lines or bars are.
    """
    unit = unit_name(rows)
    ok = rows[rows["status"] == "ok"]
    count = (ok if len(ok) else rows)["seed" if unit == "seed" else "model"].nunique()
    networks = rows.drop_duplicates(["cell", "seed", "model"])["status"]
    missing = int((networks == "missing").sum())
    excluded = int((~networks.isin(("ok", "missing"))).sum())
    lacking = [f"{number} {what}" for number, what in ((excluded, "excluded"), (missing, "missing")) if number]
    return [*before, f"{count} {unit}{'s' * (count != 1)}", *lacking]


# Files ----------------------------------------------------------------------------------------------------------------


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and as PDF, and return both paths.

    Args:
        figure: the figure.
        stem: the path without the ending; its folder is made if need be.

    Raises:
        BadInputError: the folder can't be made or written.
    """
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with theme():
            for path in paths:
                figure.savefig(path)
    except OSError as error:
        raise BadInputError(f"figures can't be written to {str(stem.parent)!r}: {error.strerror or error}.") from None
    return paths
