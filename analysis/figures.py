"""One function a figure: members in, a figure out."""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from analysis.audit import Audited
from analysis.cells import level, varying
from analysis.theme import COLORS, DASHES, KINDS, LEAKAGE, MARKERS, NAMES, SEARCHES, theme
from analysis.tradeoff import OBJECTIVE_LABELS, Tuning, hypervolumes, reference_means, worst
from study import attacks
from study.attacks import ALL
from study.errors import BadInputError

PANEL = (3.6, 3.0)
"""Width and height of a panel in inches."""
LEGEND_WIDTH = 1.4
TITLE_CHARACTERS = 40
LABEL_SIZE = 9
MOST_COLUMNS = 4


def memorization(members: pd.DataFrame) -> Figure:
    """Memorization against the corrupted fraction, an arm a line, a panel for each network and dataset (Fig. 1).

    Lines are means over seeds, bars their standard deviation; every member is a faint point beside them.

    Args:
        members: rows of `members`, one a member.

    Raises:
        BadInputError: no member with corrupted samples gave a result.
    """
    usable = members[members["mem_acc"].notna()]
    if usable.empty:
        raise BadInputError("there is no member with corrupted samples to draw.")
    # Whatever else varies gets panels of its own: a mean over it would look like a result.
    settings = [name for name in varying(usable) if name not in ("norm", "k")]
    panels = [panel for _, panel in usable.groupby(settings or ["dataset"], sort=True)]
    rows = -(-len(panels) // MOST_COLUMNS)
    columns = -(-len(panels) // rows)
    with theme():
        figure = Figure(figsize=(PANEL[0] * columns + LEGEND_WIDTH, PANEL[1] * rows))
        places = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
        for place, panel in zip(places, panels, strict=False):
            _arms_against_k(place, panel)
            place.set_title(_title(panel, settings), parse_math=False)
        for place in places[len(panels) :]:
            place.remove()
        for place in places[max(0, len(panels) - columns) : len(panels)]:
            # The lowest of its column, even above a place left free.
            place.tick_params(labelbottom=True)
            place.xaxis.label.set_visible(True)
        places[0].set_xticks(_spaced(usable["k"]))  # for all panels, which share their axes
        _legend(figure, usable, excluded=int((members["status"] != "ok").sum()))
    return figure


def _title(panel: pd.DataFrame, settings: list[str]) -> str:
    first = panel.iloc[0]
    others = [f"{name}={level(first[name])}" for name in settings if name not in ("architecture", "dataset")]
    lines = [f"{first['architecture']}, {first['dataset']}", ", ".join(others)]
    return "\n".join(textwrap.fill(line, TITLE_CHARACTERS, break_on_hyphens=False) for line in lines if line)


def _spaced(levels: Iterable[float]) -> list[float]:
    """Those levels whose labels don't run into each other."""
    found = sorted(set(levels))
    spaced = found[:1]
    for value in found[1:]:
        if value - spaced[-1] >= (found[-1] - found[0]) / 10:
            spaced.append(value)
    return spaced


def _arms_against_k(axes: Axes, panel: pd.DataFrame) -> None:
    arms = [norm for norm in NAMES if norm in set(panel["norm"])]
    looks = {"hue": "norm", "hue_order": arms, "palette": COLORS, "legend": False, "ax": axes}
    sns.scatterplot(panel, x="k", y="mem_acc", style="norm", markers=MARKERS, alpha=0.3, s=18, linewidth=0, **looks)
    sns.lineplot(
        panel,
        x="k",
        y="mem_acc",
        style="norm",
        style_order=arms,
        markers=MARKERS,
        dashes=DASHES,
        errorbar="sd",
        err_style="bars",
        err_kws={"capsize": 3},
        **looks,
    )
    axes.set(xlabel="corrupted fraction k", ylabel="memorization accuracy", ylim=(-0.04, 1.04))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda fraction, _: f"{fraction * 100:g}%")
    axes.grid(visible=False, axis="x")


def _legend(figure: Figure, members: pd.DataFrame, excluded: int) -> None:
    """Beside the panels: the arms, what the marks stand for, and how many members gave no result."""
    arms = [norm for norm in NAMES if norm in set(members["norm"])]
    handles = [Line2D([], [], marker=MARKERS[norm], label=NAMES[norm], **_line(norm)) for norm in arms]
    seeds = members["seed"].nunique()
    notes = ["mean ± sd", f"{seeds} seed{'s' * (seeds != 1)}"] + ([f"{excluded} excluded"] if excluded else [])
    _beside(figure, handles, notes)


def _beside(figure: Figure, handles: Sequence[Artist], notes: list[str]) -> None:
    figure.legend(
        handles=list(handles),
        loc="outside right upper",
        frameon=False,
        title="\n".join(notes),
        title_fontsize=8,
        alignment="left",
    )


def _line(norm: str) -> dict[str, Any]:
    """How an arm's line looks."""
    return {"color": COLORS[norm], "dashes": DASHES[norm] or (None, None)}


# The privacy audit ---------------------------------------------------------------------------------------------------


def roc(audited: Sequence[Audited], attack: str) -> Figure:
    """ROC curves on logarithmic axes, an arm a line; a row of panels a cell, a panel a group (Fig. 5, 6 and 12).

    Each is the mean over targets at a false positive rate, from the lowest that every target resolves.
    """
    rows = _by_cell(audited)
    columns = max(len(one.named_groups()) for one in audited)
    with theme():
        figure = Figure(figsize=(PANEL[0] * columns + LEGEND_WIDTH, PANEL[1] * len(rows)))
        places = figure.subplots(len(rows), columns, squeeze=False)
        for line, (title, arms) in zip(places, rows, strict=True):
            groups = arms[0].named_groups()
            for place, group in zip(line, groups, strict=False):
                _roc_panel(place, arms, attack, group)
                place.set_title(f"{title}\n{group} samples" if title else f"{group} samples", parse_math=False)
            for place in line[len(groups) :]:
                place.remove()
        _arms_legend(figure, audited, [attack.replace("_", " "), "mean over targets"])
    return figure


def _roc_panel(axes: Axes, arms: Sequence[Audited], attack: str, group: str) -> None:
    lowest = 0.1  # so that each axis has two labels at least
    for one in arms:
        chosen = one.of(group)
        found = attacks.attacked(attack, one.scores, one.is_member)
        curve = attacks.mean_roc(found[:, chosen], one.is_member[:, chosen])
        if curve.targets:
            lowest = min(lowest, curve.fpr[0])
            axes.plot(curve.fpr, np.where(curve.tpr > 0, curve.tpr, np.nan), **_line(one.norm))
    axes.plot([lowest, 1], [lowest, 1], color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1.1))
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())  # within a decade labels would run into each other


def memorized(audited: Sequence[Audited]) -> Figure:
    """How much single samples were memorized: a histogram for each group, an arm a line; a row of panels a cell.

    Counterfactual memorization is the rate at which models trained on a sample give it its label, less that of the
    others (Feldman and Zhang, 2020).
    """
    rows = _by_cell(audited)
    columns = max(len(_own_groups(one)) for one in audited)
    with theme():
        figure = Figure(figsize=(PANEL[0] * columns + LEGEND_WIDTH, PANEL[1] * len(rows)))
        places = figure.subplots(len(rows), columns, squeeze=False, sharex=True)
        for line, (title, arms) in zip(places, rows, strict=True):
            groups = _own_groups(arms[0])
            for place, group in zip(line, groups, strict=False):
                _histogram(place, arms, group)
                place.set_title(f"{title}\n{group} samples" if title else f"{group} samples", parse_math=False)
            for place in line[len(groups) :]:
                place.remove()
        _arms_legend(figure, audited, ["of each sample,", "over all models"])
    return figure


def _histogram(axes: Axes, arms: Sequence[Audited], group: str) -> None:
    # A value is a multiple of one over the models that have a sample, or about so: bins finer than that would be empty.
    steps = min(10, len(arms[0].is_member) // 2)
    edges = (np.arange(-steps, steps + 2) - 0.5) / steps
    for one in arms:
        values = one.memorized(group).values
        shares = np.histogram(values, edges)[0] / max(1, len(values))
        axes.step(edges, np.append(shares, shares[-1]), where="post", **_line(one.norm))
    axes.set(xlabel="counterfactual memorization", ylabel="share of samples", xlim=(-1.05, 1.05))
    axes.yaxis.set_major_formatter(lambda share, _: f"{share * 100:g}%")


def _own_groups(one: Audited) -> list[str]:
    """The groups without that of everybody, unless it is the only one."""
    return [group for group in one.named_groups() if group != ALL] or [ALL]


def most_memorized(images: pd.DataFrame) -> Figure:
    """The images that were memorized most, a row of them for each arm and cell, the first the most.

    Args:
        images: rows of `images` with the settings of their cell.
    """
    settings = varying(images)
    cells = list(images.groupby(settings or ["norm"], sort=True))
    columns = int(images.groupby(settings or ["norm"]).size().max())
    with theme():
        figure = Figure(figsize=(1.1 * columns, 1.9 * len(cells)))
        lines = figure.subfigures(len(cells), 1, squeeze=False)[:, 0]
        for line, (_, cell) in zip(lines, cells, strict=True):
            named = ", ".join(f"{name}={level(cell.iloc[0][name])}" for name in settings)
            line.suptitle(named, fontsize=9, x=0.01, horizontalalignment="left", parse_math=False)
            places = line.subplots(1, columns, squeeze=False)[0]
            for place in places:
                place.set_axis_off()
            for place, (_, row) in zip(places, cell.iterrows(), strict=False):
                pixels = np.asarray(Image.open(io.BytesIO(row["image"])))
                place.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, vmin=0, vmax=255)
                labels = f"{row['label']}" if row["label"] == row["original_label"] else _relabelled(row)
                place.set_title(f"{labels}\n{row['in_acc'] - row['out_acc']:+.2f}", fontsize=7)
    return figure


def _relabelled(row: pd.Series) -> str:
    original = "new" if row["original_label"] < 0 else str(row["original_label"])
    return f"{original} as {row['label']}"


def _by_cell(audited: Sequence[Audited]) -> list[tuple[str, list[Audited]]]:
    """The arms of each cell, with the settings that tell it from the others."""
    settings = pd.DataFrame([one.settings for one in audited])
    names = [name for name in varying(settings) if name != "norm"]
    names += ["seed"] if settings["seed"].nunique() > 1 else []
    cells: dict[str, list[Audited]] = {}
    for one in audited:
        cells.setdefault(", ".join(f"{name}={level(one.settings[name])}" for name in names), []).append(one)
    return list(cells.items())


def _arms_legend(figure: Figure, audited: Sequence[Audited], notes: list[str]) -> None:
    arms = [norm for norm in NAMES if any(one.norm == norm for one in audited)]
    _beside(figure, [Line2D([], [], label=NAMES[norm], **_line(norm)) for norm in arms], notes)


# The tuned regularizer ------------------------------------------------------------------------------------------------


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
    for _, row in reference_means(tuning).iterrows():
        _reference_point(axes, row, looks)
    if tuning.recommended is not None:
        ring: dict[str, Any] = {"s": 190, "facecolor": "none", "edgecolor": "black", "linewidth": 1.6}
        axes.scatter(tuning.recommended["test_acc"], tuning.recommended["mem_acc"], zorder=4, **ring)
    axes.set(xlabel="test accuracy", ylabel="memorization accuracy")
    axes.margins(0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda fraction, _: f"{fraction * 100:g}%")


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
    _beside(figure, handles, notes + ([f"{excluded} excluded"] if excluded else []))


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
        _beside(figure, lines, ["reference point:", "memorization,", "validation MIA AUC,", "validation accuracy"])
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
            place.set_yticks(range(len(parameters)), [name.replace("_", " ") for name in parameters])
            place.set(xlim=(0, 1), xlabel="share of the spread")
            place.xaxis.set_major_formatter(lambda share, _: f"{share * 100:g}%")
            place.grid(visible=False, axis="y")
            title = textwrap.fill(cell["title"].iloc[0], TITLE_CHARACTERS)
            place.set_title(f"{title}\n{cell['trials'].iloc[0]} trials", parse_math=False)
        handles = [Patch(label=label, **_objective(place)) for place, label in enumerate(OBJECTIVE_LABELS.values())]
        _beside(figure, handles, ["fANOVA"])
    return figure


def _objective(number: int) -> dict[str, Any]:
    """How an objective's bars look."""
    looks = (("#0072B2", ""), ("#E69F00", "///"), ("#DDDDDD", "..."))
    return {"facecolor": looks[number][0], "hatch": looks[number][1], "edgecolor": "black"}


FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {"memorization": memorization}


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
