"""The figures of a tuned regularizer: the trade-off, the searches' hypervolume, and the parameters' importance."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from analysis.figures.names import NORM_NAMES, display_level, display_levels, display_setting, percent
from analysis.figures.panels import (
    NARROW_PANEL,
    PANEL,
    TITLE_LINE,
    add_legend,
    flowing_places,
    panel_size,
    panel_title,
    set_title,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, LEAKAGE_COLORMAP, MARKERS, REGULARIZER_MARKERS, SEARCH_LOOKS, theme
from analysis.tuning.tradeoff import OBJECTIVE_LABELS, TunedCell, hypervolumes, reference_means, reference_point
from study.errors import BadInputError

LABEL_SIZE = 8
"""The font size of the names of points."""
POINT_RADIUS = 4
"""The radius of a point in points."""


def tradeoff_figure(tuned: Sequence[TunedCell]) -> Figure:
    """Draw memorization against test accuracy, coloured by membership AUC: a point a setting, a panel a cell.

    The front is chosen on the validation samples, so its points need not form a front on the test set.

    Raises:
        BadInputError: no searched setting gave a result.
    """
    if not any(len(cell.usable) for cell in tuned):
        raise BadInputError("no searched setting gave a result to draw.")
    aucs = pd.concat([frame["mia_auc"] for cell in tuned for frame in (cell.usable, reference_means(cell))])
    shades = Normalize(aucs.min(), max(aucs.max(), aucs.min() + 1e-3))
    with theme():
        figure, grid = _panels([display_levels(cell.levels, cell.levels) for cell in tuned], (5.2, 3.6), narrow=3.4)
        for axes, cell in zip(grid, tuned, strict=True):
            _draw_settings(axes, cell, shades)
        bar = figure.colorbar(ScalarMappable(shades, LEAKAGE_COLORMAP), ax=grid, shrink=0.8)
        bar.set_label("membership AUC, test set")
        _tradeoff_legend(figure, tuned)
        figure.draw_without_rendering()
        for axes, cell in zip(grid, tuned, strict=True):
            _name_points(axes, cell)
    return figure


def _panels(
    titles: Sequence[str], size: tuple[float, float] = PANEL, narrow: float = NARROW_PANEL
) -> tuple[Figure, list[Axes]]:
    """Return a figure with titled panels that don't share their axes, and the axes.

    Args:
        titles: the panels' titles; each line of one begins a new line.
        size: width and height of a panel in inches, where there is room for them.
        narrow: the width to which panels shrink so that more of them stand in a row.
    """
    places = flowing_places(len(titles), narrow)
    rows, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    width, height = panel_size(columns, size)
    wrapped = [panel_title(title.splitlines(), width) for title in titles]
    height += TITLE_LINE * max(title.count("\n") for title in wrapped)
    figure = Figure(figsize=(width * columns, height * rows))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(titles) :]:
        axes.remove()
    for axes, title in zip(grid, wrapped, strict=False):
        set_title(axes, title, width)
    return figure, grid[: len(titles)]


def _draw_settings(axes: Axes, cell: TunedCell, scale: Normalize) -> None:
    """Draw the searched settings, the line of the front, the references, and a ring around the recommended setting."""
    shading: dict[str, Any] = {"cmap": LEAKAGE_COLORMAP, "norm": scale}
    on_front = cell.usable[cell.usable["front"]].sort_values("mem_acc")
    axes.plot(on_front["test_acc"], on_front["mem_acc"], color="#555555", linewidth=1, zorder=1)
    for (kind, front), rows in cell.usable.groupby(["regularizer", "front"]):
        edge: dict[str, Any] = {"s": 56, "edgecolor": "black", "linewidth": 1.1}
        if not front:
            edge = {"s": 24, "edgecolor": "#777777", "linewidth": 0.5}
        shades, marker = rows["mia_auc"], REGULARIZER_MARKERS[str(kind)]
        axes.scatter(rows["test_acc"], rows["mem_acc"], c=shades, marker=marker, zorder=3, **edge, **shading)
    texts = [
        f"{row['regularizer']}, {display_level('alpha', row['alpha'])}: {_results_text(row)}"
        for _, row in cell.usable.iterrows()
    ]
    add_tooltips(axes, cell.usable["test_acc"], cell.usable["mem_acc"], texts)
    for _, row in reference_means(cell).iterrows():
        _draw_reference(axes, row, shading)
        add_tooltips(axes, [row["test_acc"]], [row["mem_acc"]], [f"{NORM_NAMES[row['norm']]}: {_results_text(row)}"])
    if cell.recommended is not None:
        ring: dict[str, Any] = {"s": 190, "facecolor": "none", "edgecolor": "black", "linewidth": 1.6}
        axes.scatter(cell.recommended["test_acc"], cell.recommended["mem_acc"], zorder=4, **ring)
    axes.set(xlabel="test accuracy", ylabel="memorization accuracy")
    axes.margins(0.12)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda fraction, _: f"{fraction * 100:g}%")


def _results_text(row: pd.Series) -> str:
    """Return the results of a setting for its tooltip."""
    shares = {"memorization": row["mem_acc"], "test accuracy": row["test_acc"]}
    return ", ".join(f"{name} {percent(value, 1)}" for name, value in shares.items()) + f", AUC {row['mia_auc']:.3f}"


def _draw_reference(axes: Axes, row: pd.Series, shading: dict[str, Any]) -> None:
    """Draw a reference, with error bars of its standard deviation over seeds where there are several."""
    norm, x, y = str(row["norm"]), row["test_acc"], row["mem_acc"]
    bars = {f"{side}err": row[f"{name}_sd"] for side, name in (("x", "test_acc"), ("y", "mem_acc"))}
    if not pd.isna(row["mem_acc_sd"]):
        axes.errorbar(x, y, **bars, color=COLORS[norm], capsize=3, linewidth=1.2, zorder=2)
    edge: dict[str, Any] = {"edgecolor": COLORS[norm], "linewidth": 2}
    axes.scatter(x, y, c=[row["mia_auc"]], marker=MARKERS[norm], s=70, zorder=3, **edge, **shading)


def _name_points(axes: Axes, cell: TunedCell) -> None:
    """Write the names of the references and the recommended alpha where they hide no point and no other name.

    Where that can't be, a name hides as few points as possible. The panel must have its final size already.
    """
    references = reference_means(cell)
    names = [(NORM_NAMES[row["norm"]], row["test_acc"], row["mem_acc"]) for _, row in references.iterrows()]
    if cell.recommended is not None:
        best = cell.recommended
        names.append((display_level("alpha", best["alpha"]), best["test_acc"], best["mem_acc"]))
    # An error bar counts as a row of points.
    mem_acc, test_acc = references["mem_acc"], references["test_acc"]
    bars = [references.assign(test_acc=test_acc + step * references["test_acc_sd"]) for step in np.linspace(-1, 1, 15)]
    bars += [references.assign(mem_acc=mem_acc + step * references["mem_acc_sd"]) for step in np.linspace(-1, 1, 15)]
    points = pd.concat([cell.usable, references, *bars])[["test_acc", "mem_acc"]].dropna()
    around: NDArray[np.float64] = axes.transData.transform(points.to_numpy(np.float64))
    taken: list[Bbox] = []
    for text, x, y in names:
        look: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": LABEL_SIZE}
        name = axes.annotate(text, (x, y), (0, 0), zorder=5, **look)
        offset, box = _free_place(axes, axes.transData.transform((x, y)), Text.get_window_extent(name), around, taken)
        name.remove()
        taken.append(box)
        paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}
        line = {"arrowstyle": "-", "color": "#555555", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 6}
        axes.annotate(text, (x, y), offset, zorder=5, bbox=paper, arrowprops=line, **look)


def _free_place(
    axes: Axes, here: NDArray[np.float64], size: Bbox, around: NDArray[np.float64], taken: Sequence[Bbox]
) -> tuple[tuple[float, float], Bbox]:
    """Return the offset in points of a name's middle from its point, and the name's box, where it hides the least.

    Args:
        axes: the panel, which no name leaves.
        here: the point, in pixels like all that follows.
        size: a box as large as the name.
        around: the points that are not to be hidden.
        taken: the boxes of other names.
    """
    pixels = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    places = []
    for gap, angle in product((9, 14, 20, 28, 38, 52), np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.pi / 4):
        direction = np.array([np.cos(angle), np.sin(angle)])
        middle = direction * (np.array([size.width, size.height]) / 2 + gap * pixels)
        corner = here + middle - np.array([size.width, size.height]) / 2
        box = Bbox.from_bounds(corner[0], corner[1], size.width, size.height).padded(2 * pixels)
        outside = not all(axes.bbox.contains(*point) for point in box.get_points())
        on_names = sum(map(box.overlaps, taken))
        hidden = box.padded(POINT_RADIUS * pixels).count_contains(around)
        places.append(((outside, on_names, hidden, gap), tuple(middle / pixels), box))
    _, offset, box = min(places, key=lambda place: place[0])
    return (float(offset[0]), float(offset[1])), box


def _tradeoff_legend(figure: Figure, tuned: Sequence[TunedCell]) -> None:
    """Add the legend: the kinds of regularizer, the front, the recommended setting, and how many were excluded."""
    point: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "#BBBBBB", "markeredgecolor": "black"}
    kinds = {kind for cell in tuned for kind in cell.usable["regularizer"]}
    handles = [
        Line2D([], [], marker=REGULARIZER_MARKERS[kind], label=kind, **point)
        for kind in REGULARIZER_MARKERS
        if kind in kinds
    ]
    plain = {**point, "markeredgewidth": 0, "marker": "o", "markersize": 4}
    handles.append(Line2D([], [], label="searched", **plain))
    handles.append(Line2D([], [], color="#555555", marker="o", **{**point, "linestyle": "-"}, label="front"))
    if any(cell.recommended is not None for cell in tuned):
        ring = {**point, "markerfacecolor": "none", "markersize": 12, "markeredgewidth": 1.6, "marker": "o"}
        handles.append(Line2D([], [], label="recommended", **ring))
    excluded = sum(len(cell.searched) - len(cell.usable) for cell in tuned)
    notes = ["means over seeds", "bars: sd over seeds", "front: on the validation set"]
    add_legend(figure, handles, notes + ([f"{excluded} excluded"] if excluded else []))


def hypervolume_figure(tuned: Sequence[TunedCell]) -> Figure:
    """Draw the hypervolume that each search dominates over its trials, a panel a cell."""
    with theme():
        figure, grid = _panels([_volume_title(cell) for cell in tuned])
        shown: set[str] = set()
        for axes, cell in zip(grid, tuned, strict=True):
            for search, line in hypervolumes(cell).groupby("search"):
                shown.add(str(search))
                color, dashes = SEARCH_LOOKS[str(search)]
                mark: dict[str, Any] = {"marker": "o", "markersize": 4} if len(line) == 1 else {}
                axes.step(line["trials"], line["hypervolume"], where="post", color=color, dashes=dashes, **mark)
                points = zip(line["trials"], line["hypervolume"], strict=True)
                texts = [f"{search}, {trials} trials: {volume:.4g}" for trials, volume in points]
                add_tooltips(axes, line["trials"], line["hypervolume"], texts)
            axes.set(xlabel="trials", ylabel="hypervolume", ylim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        lines = [
            Line2D([], [], color=color, dashes=dashes, label=search)
            for search, (color, dashes) in SEARCH_LOOKS.items()
            if search in shown
        ]
        add_legend(figure, lines, ["reference point: memorization, validation MIA AUC, validation accuracy"])
    return figure


def _volume_title(cell: TunedCell) -> str:
    """Return the title of a panel of hypervolumes: the cell and the reference point."""
    point = ", ".join(f"{value:.3f}" for value in reference_point(cell).values())
    return f"{display_levels(cell.levels, cell.levels)}\nreference point ({point})"


def importance_figure(table: pd.DataFrame) -> Figure:
    """Draw the share of each objective's spread that a parameter accounts for, a panel a study.

    Args:
        table: what `importance.importances` gives; not empty.
    """
    studies = [study for _, study in table.groupby("study", sort=False)]
    parameters = sorted(table["parameter"].unique())
    with theme():
        titles = [f"{study['title'].iloc[0]}\n{study['trials'].iloc[0]} trials" for study in studies]
        figure, grid = _panels(titles, (4.6, 1.2 + 0.6 * len(parameters)), narrow=3.0)
        for axes, study in zip(grid, studies, strict=True):
            for number, objective in enumerate(OBJECTIVE_LABELS):
                shares = study[study["objective"] == objective].set_index("parameter")["importance"]
                heights = [row + (1 - number) * 0.26 for row in range(len(parameters))]
                axes.barh(heights, shares.reindex(parameters), 0.24, **_objective_look(number))
                height_of = dict(zip(parameters, heights, strict=True))
                label = OBJECTIVE_LABELS[objective]
                texts = [
                    f"{display_setting(str(name))}, {label}: {percent(share, 1)}" for name, share in shares.items()
                ]
                add_tooltips(axes, shares, [height_of[name] for name in shares.index], texts)
            axes.set_yticks(range(len(parameters)), [display_setting(name) for name in parameters])
            axes.set(xlim=(0, 1), xlabel="share of the spread")
            axes.xaxis.set_major_formatter(lambda share, _: f"{share * 100:g}%")
            axes.grid(visible=False, axis="y")
        handles = [
            Patch(label=label, **_objective_look(number)) for number, label in enumerate(OBJECTIVE_LABELS.values())
        ]
        add_legend(figure, handles, ["fANOVA"])
    return figure


def _objective_look(number: int) -> dict[str, Any]:
    """Return the color and the hatching of an objective's bars."""
    looks = (("#0072B2", ""), ("#E69F00", "///"), ("#DDDDDD", "..."))
    return {"facecolor": looks[number][0], "hatch": looks[number][1], "edgecolor": "black"}
