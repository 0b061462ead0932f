"""The figures of a tuned regularizer: tunings in, a figure out."""

import textwrap
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
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from analysis.cells import level
from analysis.figures.panels import LEGEND_WIDTH, MOST_COLUMNS, PANEL, beside, percent
from analysis.figures.svg import hover
from analysis.figures.theme import COLORS, KINDS, LEAKAGE, MARKERS, NAMES, SEARCHES, theme
from analysis.tuning.tradeoff import OBJECTIVE_LABELS, Tuning, hypervolumes, reference_means, worst
from study.errors import BadInputError

LABEL_SIZE = 9
TITLE_CHARACTERS = 40


def tradeoff(tuned: Sequence[Tuning]) -> Figure:
    """Memorization against test accuracy, coloured by membership AUC: a point a setting, a panel a cell.

    The front is chosen on the validation samples, so that what is a front there need not be one here.

    Raises:
        BadInputError: no searched setting gave a result.
    """
    every = pd.concat([frame for tuning in tuned for frame in (tuning.usable, reference_means(tuning))])
    if not any(len(tuning.usable) for tuning in tuned):
        raise BadInputError("no searched setting gave a result to draw.")
    shades = Normalize(every["mia_auc"].min(), max(every["mia_auc"].max(), every["mia_auc"].min() + 1e-3))
    with theme():
        figure, places = _panels(len(tuned), LEGEND_WIDTH + 0.8, (4.4, 3.6))
        for place, tuning in zip(places, tuned, strict=True):
            _settings_panel(place, tuning, shades)
            place.set_title(textwrap.fill(tuning.title, TITLE_CHARACTERS + 10), parse_math=False)
        bar = figure.colorbar(ScalarMappable(shades, LEAKAGE), ax=places, shrink=0.8)
        bar.set_label("membership AUC, test set")
        _tradeoff_legend(figure, tuned)
        figure.draw_without_rendering()
        for place, tuning in zip(places, tuned, strict=True):
            _name_points(place, tuning, figure.dpi)
    return figure


def _panels(count: int, beside: float, panel: tuple[float, float] = PANEL) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, each with its own axes, and room for a legend beside them."""
    rows = -(-count // MOST_COLUMNS)
    columns = -(-count // rows)
    figure = Figure(figsize=(panel[0] * columns + beside, panel[1] * rows))
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in places[count:]:
        place.remove()
    return figure, places[:count]


def _settings_panel(axes: Axes, tuning: Tuning, scale: Normalize) -> None:
    looks: dict[str, Any] = {"cmap": LEAKAGE, "norm": scale}
    chosen = tuning.usable[tuning.usable["front"]].sort_values("mem_acc")
    axes.plot(chosen["test_acc"], chosen["mem_acc"], color="#555555", linewidth=1, zorder=1)
    for (kind, front), tried in tuning.usable.groupby(["regularizer", "front"]):
        edge: dict[str, Any] = {"s": 56, "edgecolor": "black", "linewidth": 1.1}
        if not front:
            edge = {"s": 24, "edgecolor": "#777777", "linewidth": 0.5}
        shades, marker = tried["mia_auc"], KINDS[str(kind)]
        axes.scatter(tried["test_acc"], tried["mem_acc"], c=shades, marker=marker, zorder=3, **edge, **looks)
    texts = [
        f"{row['regularizer']} alpha={level(row['alpha'])}: {_measured(row)}" for _, row in tuning.usable.iterrows()
    ]
    hover(axes, tuning.usable["test_acc"], tuning.usable["mem_acc"], texts)
    for _, row in reference_means(tuning).iterrows():
        _reference_point(axes, row, looks)
        hover(axes, [row["test_acc"]], [row["mem_acc"]], [f"{NAMES[row['norm']]}: {_measured(row)}"])
    if tuning.recommended is not None:
        ring: dict[str, Any] = {"s": 190, "facecolor": "none", "edgecolor": "black", "linewidth": 1.6}
        axes.scatter(tuning.recommended["test_acc"], tuning.recommended["mem_acc"], zorder=4, **ring)
    axes.set(xlabel="test accuracy", ylabel="memorization accuracy")
    axes.margins(0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda fraction, _: f"{fraction * 100:g}%")


def _measured(row: pd.Series) -> str:
    """What a setting came to, as its point tells it."""
    shares = {"memorization": row["mem_acc"], "test accuracy": row["test_acc"]}
    return ", ".join(f"{name} {percent(value, 1)}" for name, value in shares.items()) + f", AUC {row['mia_auc']:.3f}"


def _reference_point(axes: Axes, row: pd.Series, looks: dict[str, Any]) -> None:
    """A reference with its standard deviation over seeds both ways, if there are several."""
    norm, x, y = str(row["norm"]), row["test_acc"], row["mem_acc"]
    bars = {f"{side}err": row[f"{name}_sd"] for side, name in (("x", "test_acc"), ("y", "mem_acc"))}
    if not pd.isna(row["mem_acc_sd"]):
        axes.errorbar(x, y, **bars, color=COLORS[norm], capsize=3, linewidth=1.2, zorder=2)
    edge: dict[str, Any] = {"edgecolor": COLORS[norm], "linewidth": 2}
    axes.scatter(x, y, c=[row["mia_auc"]], marker=MARKERS[norm], s=70, zorder=3, **edge, **looks)


def _name_points(axes: Axes, tuning: Tuning, dots_per_inch: float) -> None:
    """The names of the references and the alpha recommended, where each hides the fewest points and no other name.

    The panel has its final size already.
    """
    held = reference_means(tuning)
    labels = [(NAMES[row["norm"]], row["test_acc"], row["mem_acc"]) for _, row in held.iterrows()]
    if tuning.recommended is not None:
        best = tuning.recommended
        labels.append((f"alpha={level(best['alpha'])}", best["test_acc"], best["mem_acc"]))
    # A bar is as good as a row of points.
    bars = [held.assign(test_acc=held["test_acc"] + step * held["test_acc_sd"]) for step in np.linspace(-1, 1, 15)]
    bars += [held.assign(mem_acc=held["mem_acc"] + step * held["mem_acc_sd"]) for step in (-1, 1)]
    points = pd.concat([tuning.usable, held, *bars])[["test_acc", "mem_acc"]].dropna()
    around: NDArray[np.float64] = axes.transData.transform(points.to_numpy(np.float64))
    taken: list[Bbox] = []
    for text, x, y in labels:
        size = np.array([0.62 * len(text), 1.3]) * LABEL_SIZE  # in points, as offsets are
        here = axes.transData.transform((x, y))
        choices = []
        for away, across, up in product((9, 22, 38), (1, -1), (1, -1)):
            near = np.array([across, up]) * away
            corners = here + np.array([near, near + (across, up) * size]) * dots_per_inch / 72
            box = Bbox([corners.min(axis=0), corners.max(axis=0)])
            outside = not all(axes.bbox.contains(*corner) for corner in box.get_points())
            hidden = box.count_contains(around) + 5 * sum(map(box.overlaps, taken))
            choices.append((outside, hidden, away, across, up, box))
        _, _, away, across, up, box = min(choices, key=lambda choice: choice[:3])
        taken.append(box)
        axes.annotate(
            text,
            (x, y),
            (across * away, up * away),
            textcoords="offset points",
            ha="left" if across > 0 else "right",
            va="bottom" if up > 0 else "top",
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": "#555555", "linewidth": 0.7, "shrinkB": 6} if away > 9 else None,
            fontsize=LABEL_SIZE,
            zorder=5,
        )


def _tradeoff_legend(figure: Figure, tuned: Sequence[Tuning]) -> None:
    """Beside the panels: the kinds, the front and the recommended one, and what was left out."""
    point: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "#BBBBBB", "markeredgecolor": "black"}
    kinds = {kind for tuning in tuned for kind in tuning.usable["regularizer"]}
    handles = [Line2D([], [], marker=KINDS[kind], label=kind, **point) for kind in KINDS if kind in kinds]
    plain = {**point, "markeredgewidth": 0, "marker": "o", "markersize": 4}
    handles.append(Line2D([], [], label="searched", **plain))
    handles.append(Line2D([], [], color="#555555", marker="o", **{**point, "linestyle": "-"}, label="front"))
    if any(tuning.recommended is not None for tuning in tuned):
        ring = {**point, "markerfacecolor": "none", "markersize": 12, "markeredgewidth": 1.6, "marker": "o"}
        handles.append(Line2D([], [], label="recommended", **ring))
    excluded = sum(len(tuning.searched) - len(tuning.usable) for tuning in tuned)
    notes = ["means over seeds", "bars: sd over seeds", "front: on the", "validation set"]
    beside(figure, handles, notes + ([f"{excluded} excluded"] if excluded else []))


def hypervolume(tuned: Sequence[Tuning]) -> Figure:
    """What each search dominates of the objectives' space over its trials, a panel a cell."""
    with theme():
        figure, places = _panels(len(tuned), LEGEND_WIDTH)
        shown: set[str] = set()
        for place, tuning in zip(places, tuned, strict=True):
            for search, line in hypervolumes(tuning).groupby("search"):
                shown.add(str(search))
                color, dashes = SEARCHES[str(search)]
                mark: dict[str, Any] = {"marker": "o", "markersize": 4} if len(line) == 1 else {}
                place.step(line["trials"], line["hypervolume"], where="post", color=color, dashes=dashes, **mark)
                found = zip(line["trials"], line["hypervolume"], strict=True)
                texts = [f"{search}, {trials} trials: {volume:.4g}" for trials, volume in found]
                hover(place, line["trials"], line["hypervolume"], texts)
            place.set(xlabel="trials", ylabel="hypervolume", ylim=(0, None), title="")
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
            point = ", ".join(f"{value:.3f}" for value in worst(tuning).values())
            title = textwrap.fill(tuning.title, TITLE_CHARACTERS)
            place.set_title(f"{title}\nreference point ({point})", parse_math=False, fontsize=9)
        lines = [
            Line2D([], [], color=color, dashes=dashes, label=search)
            for search, (color, dashes) in SEARCHES.items()
            if search in shown
        ]
        beside(figure, lines, ["reference point:", "memorization,", "validation MIA AUC,", "validation accuracy"])
    return figure


def importance(table: pd.DataFrame) -> Figure:
    """How much of each objective's spread a parameter accounts for, a panel a study.

    Args:
        table: of `importance.importances`, not empty.
    """
    cells = [cell for _, cell in table.groupby("study", sort=False)]
    parameters = sorted(table["parameter"].unique())
    with theme():
        figure, places = _panels(len(cells), LEGEND_WIDTH + 0.6, (4.6, 1.2 + 0.6 * len(parameters)))
        for place, cell in zip(places, cells, strict=True):
            for number, objective in enumerate(OBJECTIVE_LABELS):
                shares = cell[cell["objective"] == objective].set_index("parameter")["importance"]
                heights = [each + (1 - number) * 0.26 for each in range(len(parameters))]
                place.barh(heights, shares.reindex(parameters), 0.24, **_objective(number))
                places_of = dict(zip(parameters, heights, strict=True))
                told = OBJECTIVE_LABELS[objective]
                texts = [f"{name}, {told}: {percent(share, 1)}" for name, share in shares.items()]
                hover(place, shares, [places_of[name] for name in shares.index], texts)
            place.set_yticks(range(len(parameters)), [name.replace("_", " ") for name in parameters])
            place.set(xlim=(0, 1), xlabel="share of the spread")
            place.xaxis.set_major_formatter(lambda share, _: f"{share * 100:g}%")
            place.grid(visible=False, axis="y")
            title = textwrap.fill(cell["title"].iloc[0], TITLE_CHARACTERS)
            place.set_title(f"{title}\n{cell['trials'].iloc[0]} trials", parse_math=False)
        handles = [Patch(label=label, **_objective(place)) for place, label in enumerate(OBJECTIVE_LABELS.values())]
        beside(figure, handles, ["fANOVA"])
    return figure


def _objective(number: int) -> dict[str, Any]:
    """How an objective's bars look."""
    looks = (("#0072B2", ""), ("#E69F00", "///"), ("#DDDDDD", "..."))
    return {"facecolor": looks[number][0], "hatch": looks[number][1], "edgecolor": "black"}
