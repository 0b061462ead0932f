"""What all figures share: panels and their titles, legends, points that answer to the mouse, and files."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import level
from analysis.figures.svg import hover
from analysis.figures.theme import COLORS, DASHES, MARKERS, MEASURES, NAMES, theme
from study.data.catalog import DATASETS
from study.errors import BadInputError
from study.networks.catalog import NETWORKS

if TYPE_CHECKING:
    pass


PANEL = (3.6, 3.0)
"""Width and height of a panel in inches."""
SMALL_PANEL = (2.5, 2.2)
"""The same where there are more than two beside each other."""
LEGEND_WIDTH = 1.4
MOST_COLUMNS = 4
TITLE_LINE = 0.17
"""What each further line of a title adds to the height of a panel."""
CHARACTERS = 11
"""How many characters of a title fit into an inch."""
KNOWN = {
    "architecture": {name: network.printed for name, network in NETWORKS.items()},
    "dataset": {name: dataset.printed for name, dataset in DATASETS.items()},
    "norm": NAMES,
    "measure": MEASURES,
    "part": {**MEASURES, "log": "effect of alpha, log", "hinge": "effect of alpha, hinge"},
}
"""What has a name in print; its levels also come in that order."""
CORRUPTED = {"label": "labels flipped", "ood": "images added", "natural": "natural outliers", "none": "clean"}
GAPS = {"no record": "x", "no result": "1"}
"""The marks of a level that was planned and has no record, and of one of which every member diverged or failed."""


# Panels ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes:
        axes: where it is drawn.
        rows: the networks that it is about, with those that have no record.
        name: its title on one line.
        place: its line and its column.
    """

    axes: Axes
    rows: pd.DataFrame
    name: str
    place: tuple[int, int]


def laid_out(
    rows: pd.DataFrame,
    by: Sequence[str],
    across: str = "dataset",
    share: bool = True,
    size: tuple[float, float] | None = None,
) -> tuple[Figure, list[Panel]]:
    """A figure with a panel for each combination of levels that there is, titled.

    With two settings or more the levels of one are columns, and the combinations of the others rows; with one the
    panels fill rows one after the other.

    Args:
        rows: what is to be drawn.
        by: the settings that tell panels apart, in order.
        across: the setting whose levels are columns.
        share: whether all panels have the same axes.
        size: of a panel in inches; by default smaller where more than two are beside each other.
    """
    groups = dict(iter(rows.groupby(list(by) or ["dataset"], sort=False)))
    keys = sorted(groups, key=lambda key: [_rank(name, value) for name, value in zip(by, key, strict=False)])
    places = _places(keys, by, across)
    lines, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    size = size or (PANEL if columns <= 2 else SMALL_PANEL)
    width = int(CHARACTERS * size[0])
    titles = {key: title(groups[key], by, width) for key in keys}
    height = size[1] + TITLE_LINE * max(head.count("\n") for head in titles.values())
    figure = Figure(figsize=(size[0] * columns + LEGEND_WIDTH, height * lines))
    grid = figure.subplots(lines, columns, squeeze=False, sharex=share, sharey=share)
    found = []
    for key, place in zip(keys, places, strict=True):
        grid[place].set_title(titles[key], parse_math=False)
        name = titles[key].replace(",\n", ", ").replace("\n", ", ")
        found.append(Panel(grid[place], groups[key], name, place))
    for place in set(np.ndindex(lines, columns)) - set(places):
        grid[place].remove()
    return figure, found


def _places(keys: Sequence[tuple[Any, ...]], by: Sequence[str], across: str) -> list[tuple[int, int]]:
    """The line and the column of each panel."""
    if across not in by or len(by) < 2:
        columns = -(-len(keys) // -(-len(keys) // MOST_COLUMNS))
        return [divmod(number, columns) for number in range(len(keys))]
    at = by.index(across)
    columns_of, lines_of = [key[at] for key in keys], [key[:at] + key[at + 1 :] for key in keys]
    levels, lines = ordered(across, columns_of), list(dict.fromkeys(lines_of))
    return [(lines.index(line), levels.index(level)) for line, level in zip(lines_of, columns_of, strict=True)]


def _rank(name: str, value: Any) -> tuple[int, Any]:
    """The place of a level among the others of its setting."""
    known = list(KNOWN.get(name, ()))
    return (known.index(value), "") if value in known else (len(known), value)


def ordered(name: str, values: Iterable[Any]) -> list[Any]:
    """The different levels of a setting: as the paper has them, or sorted."""
    return sorted(set(values), key=lambda value: _rank(name, value))


def shown(name: str, value: Any) -> str:
    """A level as a reader knows it."""
    if name in KNOWN:
        return KNOWN[name].get(value, str(value))
    if name == "corruption":
        return CORRUPTED[value]
    if name == "mixture":
        return str(value)
    return f"k = {percent(value)}" if name == "k" else f"{name}={level(value)}"


def title(rows: pd.DataFrame, by: Sequence[str], width: int) -> str:
    """The network and the dataset of a panel, if it has one, and whatever else it is about, in lines not too long."""
    first = rows.iloc[0]
    named = [name for name in ("architecture", "dataset") if rows[name].nunique() == 1]
    others = [name for name in by if name not in ("architecture", "dataset")]
    lines = [", ".join(shown(name, first[name]) for name in names) for names in (named, others)]
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in lines if line)


def outer_labels(panels: Sequence[Panel]) -> None:
    """Of panels with the same axes, label the lowest of each column and the first of each line alone."""
    for panel in panels:
        (line, column), others = panel.place, [other.place for other in panels]
        lowest = line == max(there for there, beside in others if beside == column)
        first = column == min(beside for there, beside in others if there == line)
        panel.axes.tick_params(labelbottom=lowest, labelleft=first)
        panel.axes.xaxis.label.set_visible(lowest)
        panel.axes.yaxis.label.set_visible(first)


def spaced(levels: Iterable[float]) -> list[float]:
    """Those levels whose labels don't run into each other."""
    found = sorted(set(levels))
    kept = found[:1]
    for value in found[1:]:
        if value - kept[-1] >= (found[-1] - found[0]) / 10:
            kept.append(value)
    return kept


def percent(share: float, digits: int | None = None) -> str:
    """A share in percent, with so many digits after the point, or with as few as it takes."""
    return f"{share * 100:.10g}%" if digits is None else f"{share * 100:.{digits}f}%"


def in_percent(*axes: Axis) -> None:
    """Label the ticks in percent."""
    for axis in axes:
        axis.set_major_formatter(lambda share, _: f"{share * 100:g}%")


# What is drawn of one arm ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Spread:
    """What the members of one arm at one level came to.

    Attributes:
        mean: of those with a result; NaN where there is none.
        sd: their standard deviation, n - 1; NaN for fewer than two.
        n: how many they are.
        gap: why there is none: a key of `GAPS`, or empty.
    """

    mean: float
    sd: float
    n: int
    gap: str = ""

    def told(self, one: str, of: str = "seed", plain: bool = False) -> str:
        """The sentence beside the point: what it is, the numbers in percent unless `plain`, and how many they are."""
        if self.gap:
            return f"{one}: {self.gap}"
        mean, sd = ((f"{value:.3g}" if plain else percent(value, 1)) for value in (self.mean, self.sd))
        return f"{one}: {mean}{'' if self.n < 2 else f' ± {sd}'} ({self.n} {of}{'s' * (self.n != 1)})"


def spread(rows: pd.DataFrame, column: str) -> Spread:
    """Mean and standard deviation of a column, or why there is none."""
    values = rows[column].dropna()
    if values.empty:
        return Spread(np.nan, np.nan, 0, gap(rows) or "no result")
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan, len(values))


def gap(rows: pd.DataFrame) -> str:
    """Why networks have no result: none has a record, or all of them diverged or failed; empty where one is well."""
    status = rows["status"]
    return "" if (status == "ok").any() else "no record" if (status == "missing").all() else "no result"


def unit(rows: pd.DataFrame) -> str:
    """What the members of a cell are: networks of other seeds, or models on other halves of D'."""
    return "model" if (rows["protocol"] == "splits").all() else "seed"


def arms(rows: pd.DataFrame) -> list[str]:
    """The norms that there are, in the order of the legend."""
    return ordered("norm", rows["norm"])


def line_of(norm: str) -> dict[str, Any]:
    """How an arm's line looks."""
    return {"color": COLORS[norm], "dashes": DASHES[norm] or (None, None)}


def mark_gap(axes: Axes, x: float, gap: str, color: str, text: str, line: int = 0) -> None:
    """Mark a level without a result at the foot of the panel, each arm on a line of its own.

    Args:
        axes: the panel.
        x: the level.
        gap: why it has none, a key of `GAPS`.
        color: the arm's.
        text: what the mark says to the mouse.
        line: the arm's line from below.
    """
    height, below = 0.035 + 0.055 * line, axes.get_xaxis_transform()
    mark: dict[str, Any] = {"marker": GAPS[gap], "markersize": 6, "markeredgewidth": 1.4, "linestyle": "none"}
    axes.plot(x, height, color=color, label=gap, transform=below, clip_on=False, **mark)
    hover(axes, [x], [height], [text], below)


def say_gaps(panel: Panel) -> None:
    """Say which of a panel's arms have no result, and why."""
    gaps = {norm: gap(panel.rows[panel.rows["norm"] == norm]) for norm in arms(panel.rows)}
    lacking = {norm: why for norm, why in gaps.items() if why}
    if len(lacking) == len(gaps):
        fill_gap(panel)
        return
    for line, (norm, why) in enumerate(lacking.items()):
        place: dict[str, Any] = {"transform": panel.axes.transAxes, "ha": "right", "va": "top", "fontsize": 8}
        paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}
        panel.axes.text(0.98, 0.97 - 0.1 * line, f"{NAMES[norm]}: {why}", color=COLORS[norm], bbox=paper, **place)


def fill_gap(panel: Panel) -> None:
    """Say in a panel without any result why it is empty."""
    middle: dict[str, Any] = {"transform": panel.axes.transAxes, "ha": "center", "va": "center"}
    panel.axes.text(0.5, 0.5, gap(panel.rows), color="#555555", **middle)


# Legends --------------------------------------------------------------------------------------------------------------
def beside(figure: Figure, handles: Sequence[Artist], notes: Sequence[str]) -> None:
    """The legend to the right of the panels, below the notes."""
    figure.legend(
        handles=[*handles, *_gaps(figure)],
        loc="outside right upper",
        frameon=False,
        title="\n".join(notes),
        title_fontsize=8,
        alignment="left",
        handlelength=2.4,
    )


def _gaps(figure: Figure) -> list[Line2D]:
    """A handle for each kind of gap that is marked in a panel."""
    labels = {line.get_label() for axes in figure.axes for line in axes.lines}
    mark: dict[str, Any] = {"color": "#555555", "linestyle": "none", "markeredgewidth": 1.4}
    return [Line2D([], [], marker=marker, label=gap, **mark) for gap, marker in GAPS.items() if gap in labels]


def arm_handles(norms: Iterable[str], markers: bool = True, dashes: bool = True) -> list[Artist]:
    """A line for each arm, as far as its marker and its dashes tell it from the others."""
    plain: dict[str, Any] = {} if dashes else {"dashes": (None, None)}
    marks = MARKERS if markers else {}
    return [Line2D([], [], marker=marks.get(norm, ""), label=NAMES[norm], **line_of(norm) | plain) for norm in norms]


def counted(rows: pd.DataFrame, before: Sequence[str] = ("mean ± sd",)) -> list[str]:
    """The notes of a legend: what is drawn, of how many, and how many planned members it is without."""
    of = unit(rows)
    ok = rows[rows["status"] == "ok"]
    count = (ok if len(ok) else rows)["seed" if of == "seed" else "model"].nunique()
    networks = rows.drop_duplicates(["cell", "seed", "model"])["status"]
    missing = int((networks == "missing").sum())
    excluded = int((~networks.isin(("ok", "missing"))).sum())
    lacking = [f"{number} {what}" for number, what in ((excluded, "excluded"), (missing, "missing")) if number]
    return [*before, f"{count} {of}{'s' * (count != 1)}", *lacking]


# Files ----------------------------------------------------------------------------------------------------------------
def save(figure: Figure, stem: Path) -> list[Path]:
    """The figure as PNG and PDF beside each other; the paths written.

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


CLEAN: dict[str, Any] = {"dashes": (4, 2)}
"""How what is clean is told from what is corrupted, where an arm has both."""


def group_handles() -> list[Artist]:
    """Return the legend's entries for corrupted and clean samples."""
    plain: dict[str, Any] = {"color": "#555555"}
    return [Line2D([], [], label="corrupted", **plain), Line2D([], [], label="clean", **plain, **CLEAN)]


def matching_settings(table: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The part of a table by cells that is about the networks of a panel."""
    chosen = pd.Series(True, index=table.index)
    for name in by:
        chosen &= table[name].isin(set(rows[name]))
    return table[chosen]


def usable_rows(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The networks with a result."""
    well = rows[(rows["status"] == "ok") & rows[column].notna()]
    if well.empty:
        raise BadInputError("none of its members gave a result.")
    return well
