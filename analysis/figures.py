"""One function a figure: members in, a figure out."""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from PIL import Image

from analysis.audit import Audited
from analysis.cells import level, varying
from analysis.theme import COLORS, DASHES, MARKERS, NAMES, theme
from study import attacks
from study.attacks import ALL
from study.errors import BadInputError

PANEL = (3.6, 3.0)
"""Width and height of a panel in inches."""
LEGEND_WIDTH = 1.4
TITLE_CHARACTERS = 40
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


def _beside(figure: Figure, handles: list[Line2D], notes: list[str]) -> None:
    figure.legend(
        handles=handles,
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
