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
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import Transform, offset_copy

from analysis.figures.names import NORM_NAMES, display_levels, display_lines, display_rank, ordered_levels, percent
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, DASHES, MARKERS, theme
from analysis.figures.width import page_width
from study.errors import BadInputError

PANEL = (3.6, 3.0)
"""Width and height of a panel in inches, where the page has room for them."""
NARROW_PANEL = 2.2
"""The width in inches to which panels shrink, so that more of them stand in a row or the legend stands beside them."""
NARROWEST_PANEL = 1.35
"""The width in inches to which panels shrink for a column of each level that a grid has."""
NARROWEST_OWN = 1.7
"""The same of panels that each have their own numbers at both axes."""
PAIR = 0.75
"""The share of that width to which two panels shrink to stand beside each other on a narrow page."""
MOST_SHRUNK = 0.9
"""The share of its width that a panel keeps at least where a legend beside it is wider than was thought."""
SHORTEST_PANEL = 1.3
"""The least height of a panel in inches."""
PAGE_HEIGHT = 9.0
"""The height in inches that panels shrink to where they can, so that all of their rows are on one page."""
LEGEND_WIDTH = 1.4
"""The width in inches that is kept free for a legend beside the panels."""
MOST_COLUMNS = 4
"""The most panels in a row, where their columns are no levels."""
TITLE_LINE = 0.17
"""The height in inches that each further line of a title adds to a panel."""
CHARACTERS, SMALL_CHARACTERS = 12, 14
"""How many characters of a panel's title and labels fit into an inch, and of those of a narrow panel."""
PERCENT_WIDTH = 0.27
"""The width in inches of a label such as `25%`, with a space after it."""
NOTE_CHARACTERS = 22
"""The most characters in a line of the notes above a legend beside the panels."""
FORMATS = ("png", "pdf", "svg")
"""The files of a figure."""
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
        size: its width and height in inches.
    """

    axes: Axes
    rows: pd.DataFrame
    name: str
    place: tuple[int, int]
    size: tuple[float, float] = PANEL

    def set_labels(self, across: str, upward: str) -> None:
        """Name both axes, on several lines where the panel is too small for one."""
        width, height = (int(characters(self.size[0]) * side) for side in self.size)
        self.axes.set(xlabel=textwrap.fill(across, width), ylabel=textwrap.fill(upward, height))


def panel_grid(
    rows: pd.DataFrame,
    by: Sequence[str],
    across: str = "dataset",
    share: bool = True,
    size: tuple[float, float] = PANEL,
    narrow: float = NARROW_PANEL,
) -> tuple[Figure, list[Panel]]:
    """Return a figure with a titled panel for each combination of levels that occurs, and its panels.

    With two settings or more, the levels of one are the columns, and the combinations of the others are the rows, or
    the other way round where the page is too narrow. With one setting the panels fill the rows one after the other.

    Args:
        rows: the rows that will be drawn.
        by: the settings that tell panels apart, in order.
        across: the setting whose levels are the columns.
        share: whether all panels have the same axes.
        size: width and height of a panel in inches, where there is room for them.
        narrow: the width in inches to which panels shrink so that more of them stand in a row.
    """
    groups = dict(iter(rows.groupby(list(by) or ["dataset"], sort=False)))
    keys = sorted(groups, key=lambda key: [display_rank(name, value) for name, value in zip(by, key, strict=False)])
    places = _panel_places(keys, by, across, narrow, NARROWEST_PANEL if share else NARROWEST_OWN)
    row_count, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    size = panel_size(columns, size)
    names = {key: _panel_names(groups[key], by) for key in keys}
    titles = {
        key: panel_title(display_lines(groups[key].iloc[0].to_dict(), of_panel), size[0])
        for key, of_panel in names.items()
    }
    height = TITLE_LINE * max(title.count("\n") for title in titles.values())
    if share:  # only the lowest panels have labels below, so that the others may be shorter
        size = size[0], min(size[1], max(SHORTEST_PANEL, PAGE_HEIGHT / row_count - height))
    figure = Figure(figsize=(size[0] * columns, (size[1] + height) * row_count))
    grid = figure.subplots(row_count, columns, squeeze=False, sharex=share, sharey=share)
    panels = []
    for key, place in zip(keys, places, strict=True):
        set_title(grid[place], titles[key], size[0])
        name = display_levels(groups[key].iloc[0].to_dict(), names[key])
        panels.append(Panel(grid[place], groups[key], name, place, size))
    for place in set(np.ndindex(row_count, columns)) - set(places):
        grid[place].remove()
    return figure, panels


def _panel_places(
    keys: Sequence[tuple[Any, ...]], by: Sequence[str], across: str, narrow: float, narrowest: float
) -> list[tuple[int, int]]:
    """Return the row and the column of each panel."""
    if across not in by or len(by) < 2:
        return flowing_places(len(keys), narrow)
    position = by.index(across)
    across_levels = [key[position] for key in keys]
    other_levels = [key[:position] + key[position + 1 :] for key in keys]
    column_order, row_order = ordered_levels(across, across_levels), list(dict.fromkeys(other_levels))
    places = [
        (row_order.index(others), column_order.index(level))
        for others, level in zip(other_levels, across_levels, strict=True)
    ]
    return places_on_page(places, max(1, int(page_width() / narrowest)))


def flowing_places(count: int, narrow: float = NARROW_PANEL) -> list[tuple[int, int]]:
    """Return the row and the column of panels that fill the rows one after the other, about as many in each."""
    narrow = min(narrow, max(page_width() / 2, PAIR * narrow))
    most = max(1, min(MOST_COLUMNS, int(page_width() / narrow)))
    columns = -(-count // -(-count // most))
    return [divmod(number, columns) for number in range(count)]


def places_on_page(places: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Return the places of a grid with at most so many columns: as they are, transposed, or with its rows wrapped."""
    rows, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    if columns <= most:
        return list(places)
    if rows <= most:
        return [(column, row) for row, column in places]
    parts = -(-columns // most)
    width = -(-columns // parts)
    return [(row * parts + column // width, column % width) for row, column in places]


def panel_size(columns: int, size: tuple[float, float] = PANEL) -> tuple[float, float]:
    """Return width and height in inches of panels of which so many stand in a row of the page.

    There is room for the legend beside them, unless that would make them narrow.
    """
    room = page_width()
    if columns * NARROW_PANEL + LEGEND_WIDTH <= room:
        room -= LEGEND_WIDTH
    width = min(size[0], room / columns)
    return width, min(size[1], max(SHORTEST_PANEL, size[1] * width / size[0]))


def _panel_names(rows: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """Return the settings that a panel's title names: its network and dataset where it has one of each, then `by`."""
    named = [name for name in ("architecture", "dataset") if rows[name].nunique() == 1]
    return named + [name for name in by if name not in ("architecture", "dataset")]


def characters(width: float) -> int:
    """Return how many characters fit into an inch of a panel of a width in inches."""
    return CHARACTERS if width >= NARROW_PANEL else SMALL_CHARACTERS


def panel_title(lines: Iterable[str], width: float) -> str:
    """Return a title of several lines, wrapped to a panel's width in inches."""
    most = int(characters(width) * width)
    return "\n".join(textwrap.fill(line, most, break_on_hyphens=False) for line in lines if line)


def set_title(axes: Axes, title: str, width: float) -> None:
    """Write a panel's title, and make the texts of a narrow panel smaller; its width is in inches."""
    axes.set_title(title, parse_math=False)
    if width < NARROW_PANEL:
        axes.tick_params(labelsize=7)
        for text, size in ((axes.title, 7.5), (axes.xaxis.label, 8), (axes.yaxis.label, 8)):
            text.set_fontsize(size)


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


def non_overlapping_ticks(levels: Iterable[float], panels: Sequence[Panel]) -> list[float]:
    """Return those of the levels whose labels in percent don't run into each other in any of the panels, in order."""
    columns, width = 1 + max(panel.place[1] for panel in panels), panels[0].size[0]
    # The first of a row shares its width with the labels of the other axis; all panels are equally wide.
    share = PERCENT_WIDTH / (width - 0.12 - 0.6 / columns)
    ascending = sorted(set(levels))
    kept = ascending[:1]
    for value in ascending[1:]:
        if value - kept[-1] >= (ascending[-1] - ascending[0]) * max(0.1, share):
            kept.append(value)
    return kept


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
        paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}
        place: dict[str, Any] = {"transform": at_line(panel.axes, -line), "ha": "right", "va": "top", "fontsize": 8}
        panel.axes.text(0.98, 0.97, f"{NORM_NAMES[norm]}: {why}", color=COLORS[norm], bbox=paper, **place)


def at_line(axes: Axes, line: int) -> Transform:
    """Return the coordinates of a panel, from 0 to 1, so many lines of small print further up."""
    return offset_copy(axes.transAxes, axes.get_figure(root=True), y=10 * line, units="points")


def label_empty_panel(panel: Panel) -> None:
    """Write into a panel without any result why it is empty."""
    middle: dict[str, Any] = {"transform": panel.axes.transAxes, "ha": "center", "va": "center"}
    panel.axes.text(0.5, 0.5, gap(panel.rows), color="#555555", **middle)


# Legends --------------------------------------------------------------------------------------------------------------


def add_legend(figure: Figure, handles: Sequence[Artist], notes: Sequence[str]) -> None:
    """Add a legend, with notes above it: to the right of the panels where the page has room for it, else below them.

    The figure, which is as wide as its panels so far, grows by what the legend needs.

    Args:
        figure: the figure with its panels.
        handles: the entries; those of the gaps that are marked are added.
        notes: what is drawn and of how many, a phrase each.
    """
    handles = [*handles, *_gap_handles(figure)]
    panels, height = figure.get_size_inches()
    beside = "\n".join(line for note in notes for line in textwrap.wrap(note, NOTE_CHARACTERS))
    width, _ = _legend_size(_legend(figure, handles, beside, "outside right upper", 1))
    if page_width() - width >= MOST_SHRUNK * panels:
        figure.set_figwidth(min(page_width(), panels + width))
        return
    title = textwrap.fill("; ".join(notes), int(1.2 * CHARACTERS * panels))
    for lines in range(1, len(handles) + 2):
        figure.legends[-1].remove()
        columns = -(-len(handles) // lines) or 1
        width, added = _legend_size(_legend(figure, handles, title, "outside lower center", columns))
        if width <= panels:
            break
    figure.set_figheight(height + added)


def _legend(figure: Figure, handles: Sequence[Artist], title: str, place: str, columns: int) -> Legend:
    """Add a legend to a figure and return it."""
    look: dict[str, Any] = {"loc": place, "ncols": columns, "columnspacing": 1.5, "handlelength": 2.4}
    look |= {"frameon": False, "title_fontsize": 8, "alignment": "left"}
    legend: Legend = figure.legend(handles=handles, title=title, **look)
    return legend


def _legend_size(legend: Legend) -> tuple[float, float]:
    """Return width and height of a legend in inches."""
    figure = legend.get_figure(root=True)
    assert figure is not None
    box = legend.get_window_extent()
    return box.width / figure.dpi, box.height / figure.dpi


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
    shown = ok if len(ok) else rows
    count, seeds = shown[unit].nunique(), shown["seed"].nunique()
    of_seeds = f" for each of {seeds} seeds" if unit == "model" and seeds > 1 else ""
    networks = rows.drop_duplicates(["cell", "seed", "model"])["status"]
    missing = int((networks == "missing").sum())
    excluded = int((~networks.isin(("ok", "missing"))).sum())
    lacking = [f"{number} {what}" for number, what in ((excluded, "excluded"), (missing, "missing")) if number]
    return [*before, f"{count} {unit}{'s' * (count != 1)}{of_seeds}", *lacking]


# Files ----------------------------------------------------------------------------------------------------------------


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure in each of `FORMATS`, and return the paths; the same figure always gives the same files.

    Args:
        figure: the figure.
        stem: the path without the ending; its folder is made if need be.

    Raises:
        BadInputError: the folder can't be made or written.
    """
    paths = [stem.with_suffix(f".{kind}") for kind in FORMATS]
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with theme():
            for kind, path in zip(FORMATS, paths, strict=True):
                figure.savefig(path, metadata=undated.get(kind))
    except OSError as error:
        raise BadInputError(f"figures can't be written to {str(stem.parent)!r}: {error.strerror or error}.") from None
    return paths
