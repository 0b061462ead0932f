"""The figures of a privacy audit: attacks and memorized samples in, a figure out."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image

from analysis.audit import Audited
from analysis.cells import level, varying
from analysis.panels import LEGEND_WIDTH, PANEL, arm_handles, beside, hover, in_percent, line_of, percent
from analysis.theme import NAMES, theme
from study import attacks
from study.attacks import ALL, Interval, Roc


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
                roc_panel(place, arms, attack, group)
                place.set_title(f"{title}\n{group} samples" if title else f"{group} samples", parse_math=False)
            for place in line[len(groups) :]:
                place.remove()
        _arms_legend(figure, audited, [attack.replace("_", " "), "mean over targets"])
    return figure


def roc_panel(axes: Axes, arms: Sequence[Audited], attack: str, group: str) -> list[tuple[Audited, Roc, Interval]]:
    """The curves of one panel; each with its AUC."""
    drawn = []
    for one in arms:
        chosen = one.of(group)
        found, is_member = attacks.attacked(attack, one.scores, one.is_member)[:, chosen], one.is_member[:, chosen]
        curve = attacks.mean_roc(found, is_member)
        if curve.targets:
            axes.plot(curve.fpr, np.where(curve.tpr > 0, curve.tpr, np.nan), **line_of(one.norm))
            drawn.append((one, curve, attacks.mean_auc(found, is_member)))
    # At 0.1 at most, so that each axis has two labels at least.
    lowest = min([0.1, *(curve.fpr[0] for _, curve, _ in drawn)])
    axes.plot([lowest, 1], [lowest, 1], color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1.1))
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    in_percent(axes.xaxis, axes.yaxis)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())  # within a decade labels would run into each other
    return drawn


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
        axes.step(edges, np.append(shares, shares[-1]), where="post", **line_of(one.norm))
        middles = (edges[:-1] + edges[1:]) / 2
        told = [
            f"{NAMES[one.norm]}, {group} samples memorized {middle:+.2f}: {percent(share, 1)}"
            for middle, share in zip(middles, shares, strict=True)
        ]
        hover(axes, middles[shares > 0], shares[shares > 0], np.array(told)[shares > 0])
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
    beside(figure, arm_handles(arms, markers=False), notes)
