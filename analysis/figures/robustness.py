"""Figures of robustness: accuracy against the strength and the steps of perturbations, and the panel of the norms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import varying_settings
from analysis.figures.names import NORM_NAMES, RESULT_NAMES, display_levels, ordered_levels
from analysis.figures.panels import (
    add_legend,
    arm_handles,
    flowing_places,
    format_as_percent,
    legend_notes,
    line_style,
    panel_size,
    panel_title,
    set_title,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, MARKERS, theme
from analysis.statistics.panel import LENSES
from analysis.statistics.robustness import CHECKS, PERTURBATION
from study.errors import BadInputError

MOST_PANELS = 24
"""The most panels of a figure; more can't be read."""
APART = 1.5
"""The ratio of two levels on a logarithmic axis between whose labels there is room."""
PLAIN_ACCURACIES = ("noise_acc", "pgd_linf_acc", "pgd_l2_acc", "test_acc", "mem_acc", "corruption_error")
"""The metrics of the panel that are shares, and shown in percent."""


@dataclass(frozen=True)
class Kind:
    """One kind of perturbation, which has a panel in each combination of the other settings.

    Attributes:
        title: its name.
        x: the column on the x axis, `epsilon`, `severity` or `steps`.
        levels: what the rows of it have, by column.
    """

    title: str
    x: str
    levels: dict[str, Any]


KINDS = (
    Kind("Gaussian noise", "epsilon", {"suite": "pixel", "perturbation": "noise"}),
    Kind("PGD linf, 20 steps", "epsilon", {"suite": "pixel", "perturbation": "pgd", "ball": "linf"}),
    Kind("PGD l2, 20 steps", "epsilon", {"suite": "pixel", "perturbation": "pgd", "ball": "l2"}),
    Kind("Gaussian noise, standardized", "epsilon", {"suite": "paper2019", "perturbation": "noise"}),
    Kind("FGSM, standardized", "epsilon", {"suite": "paper2019", "perturbation": "fgsm"}),
    Kind("BIM, standardized", "epsilon", {"suite": "paper2019", "perturbation": "bim"}),
    Kind("PGD linf, standardized", "epsilon", {"suite": "paper2019", "perturbation": "pgd", "ball": "linf"}),
    Kind("PGD l2, standardized", "epsilon", {"suite": "paper2019", "perturbation": "pgd", "ball": "l2"}),
    Kind("corruptions, mean of families", "severity", {"suite": "corruptions"}),
    Kind(
        "check: PGD linf to epsilon 1",
        "epsilon",
        {"suite": CHECKS, "perturbation": "pgd", "ball": "linf", "steps": 20, "restarts": 1, "loss": "ce"},
    ),
    Kind(
        "check: steps of PGD linf",
        "steps",
        {"suite": CHECKS, "perturbation": "pgd", "ball": "linf", "restarts": 1, "loss": "ce"},
    ),
)
X_NAMES = {"epsilon": "epsilon", "severity": "severity", "steps": "steps"}


def accuracy_curves(data: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    """Draw accuracy against the strength of each perturbation, a line an arm, with 95% intervals over seeds.

    A line begins at 0 with the accuracy on the same images as they are.

    Args:
        data: what `robustness.strengths` gives.
        rows: the members that it was made of.

    Raises:
        BadInputError: there is nothing to draw, or too much.
    """
    others = [name for name in varying_settings(rows) if name != "norm"]
    cells = list(data.groupby(others, sort=True)) if others else [((), data)]
    drawn = [
        (kind, dict(zip(others, key, strict=True)), part)
        for key, cell in cells
        for kind in KINDS
        if len(part := _of_kind(cell, kind))
    ]
    if not drawn:
        raise BadInputError("there is no accuracy under any perturbation to draw.")
    if len(drawn) > MOST_PANELS:
        raise BadInputError(
            f"accuracy against epsilon would take {len(drawn)} panels over {', '.join(others)}, which can't be read."
        )
    with theme():
        places = flowing_places(len(drawn))
        size = panel_size(1 + max(column for _, column in places))
        lines, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
        figure = Figure(figsize=(size[0] * columns, (size[1] + 0.2) * lines))
        grid = figure.subplots(lines, columns, squeeze=False)
        for place, (kind, levels, part) in zip(places, drawn, strict=True):
            title = panel_title((display_levels(levels, others), kind.title), size[0])
            _draw_kind(grid[place], kind, part, title, size[0])
        for place in set(np.ndindex(lines, columns)) - set(places):
            grid[place].remove()
        add_legend(
            figure, arm_handles(ordered_levels("norm", rows["norm"])), legend_notes(rows, ("mean, 95% interval",))
        )
    return figure


def _of_kind(data: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Return the rows of a kind of perturbation, without those at one epsilon where steps are on the x axis."""
    matching = pd.Series(True, index=data.index)
    for name, level in kind.levels.items():
        matching &= data[name] == level
    part = data[matching & data["acc"].notna()]
    if kind.levels["suite"] == "paper2019" and part["clip_low"].notna().any():
        part = part[part["clip_low"].notna() | (part["perturbation"] == "noise")]
    if kind.x == "severity":
        keys = list(part.columns[: list(part.columns).index(PERTURBATION[0])])
        part = part.groupby([*keys, "severity"], as_index=False).mean(numeric_only=True)
    if kind.x == "steps" and len(part):  # at the epsilon that has several
        part = part[part["epsilon"] == part.groupby("epsilon")["steps"].nunique().idxmax()]
    return part


def _draw_kind(axes: Axes, kind: Kind, part: pd.DataFrame, title: str, width: float) -> None:
    """Draw a line for each arm into a panel."""
    set_title(axes, title, width)
    axes.set(xlabel=X_NAMES[kind.x], ylabel="accuracy", ylim=(-0.03, 1.03))
    format_as_percent(axes.yaxis)
    wide = kind.x == "steps" or (kind.x == "epsilon" and part["epsilon"].max() > 8 * part["epsilon"].min())
    if kind.x == "steps":
        axes.set_xscale("log")
        axes.set_xticks(sorted(part["steps"].unique()), [f"{level:.0f}" for level in sorted(part["steps"].unique())])
        axes.minorticks_off()
    elif wide:
        axes.set_xscale("symlog", linthresh=part["epsilon"].min())
        ticks = [0, *_apart(sorted(part["epsilon"].unique()))]
        axes.set_xticks(ticks, [f"{level:.3g}" for level in ticks], rotation=45)
        axes.minorticks_off()
    norms = ordered_levels("norm", part["norm"])
    for norm in norms:
        arm = part[part["norm"] == norm].sort_values(kind.x)
        x, y = arm[kind.x].to_list(), arm["acc"].to_list()
        low, high = arm["acc_low"].fillna(arm["acc"]), arm["acc_high"].fillna(arm["acc"])
        errors = [np.array(y) - low.clip(upper=arm["acc"]), high.clip(lower=arm["acc"]) - np.array(y)]
        look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 4, **line_style(norm)}
        axes.errorbar(x, y, errors, fmt="none", color=COLORS[norm], capsize=2, linewidth=1)
        if kind.x != "steps":
            x, y = [0.0, *x], [float(arm["clean_acc"].mean()), *y]
        axes.plot(x, y, **look)
        texts = [
            f"{title}, {NORM_NAMES[norm]}, {kind.x} {at:.3g}: {acc:.1%}".replace("\n", " ")
            for at, acc in zip(x, y, strict=True)
        ]
        add_tooltips(axes, x, y, texts)


def _apart(levels: Sequence[float]) -> list[float]:
    """Return those of ascending levels whose labels don't run into each other on a logarithmic axis; the last stays."""
    kept = list(levels[-1:])
    for level in reversed(levels[:-1]):
        if kept[0] >= APART * level:
            kept.insert(0, level)
    return kept


def panel_figure(data: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    """Draw the panel of the norms: an axis a metric, on it a dot an arm with its 95% interval.

    Args:
        data: what `panel.panel` gives.
        rows: the members that it was made of.

    Raises:
        BadInputError: none of the metrics was measured.
    """
    lenses = [metric for metric in LENSES if data.loc[data["metric"] == metric.column, "measured"].any()]
    if not lenses:
        raise BadInputError("none of the panel's metrics was measured.")
    norms = ordered_levels("norm", data["norm"])
    with theme():
        places = flowing_places(len(lenses), 1.7)
        lines, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
        size = panel_size(columns, (2.2, 0.75 + 0.26 * len(norms)))
        height = 0.75 + 0.26 * len(norms)
        figure = Figure(figsize=(size[0] * columns, height * lines))
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for place, metric in zip(places, lenses, strict=True):
            axes = grid[place]
            of_metric = data[data["metric"] == metric.column].set_index("norm")
            share = metric.column in PLAIN_ACCURACIES
            _draw_lens(axes, of_metric, norms, metric.column, share)
            set_title(axes, panel_title((RESULT_NAMES[metric.column],), size[0]), size[0])
        for place in set(np.ndindex(lines, columns)) - set(places):
            grid[place].remove()
        add_legend(figure, [], legend_notes(rows, ("dots are means, bars 95% intervals",)))
    return figure


def _draw_lens(axes: Axes, rows: pd.DataFrame, norms: Sequence[str], column: str, share: bool) -> None:
    """Draw a dot for each arm, the first on top, with the reference's mean as a line."""
    axes.set_yticks(range(len(norms)), [NORM_NAMES[norm] for norm in norms])
    axes.set_ylim(len(norms) - 0.5, -0.5)
    reference = rows.index[rows["reference"].isna()]
    if len(reference) and not np.isnan(rows.loc[reference[0], "mean"]):
        axes.axvline(rows.loc[reference[0], "mean"], color="#999999", linewidth=0.8, dashes=(3, 2))
    by_norm = rows.to_dict("index")
    for place, norm in enumerate(norms):
        row = by_norm[norm]
        if np.isnan(row["mean"]):
            axes.text(
                0.5, place, "no result", transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=7
            )
            continue
        if not np.isnan(row["mean_low"]):
            axes.plot([row["mean_low"], row["mean_high"]], [place, place], color=COLORS[norm], linewidth=1.6)
        axes.plot([row["mean"]], [place], marker=MARKERS[norm], color=COLORS[norm], markersize=5, linestyle="none")
        told = f"{row['mean']:.1%}" if share else f"{row['mean']:.3g}"
        add_tooltips(axes, [row["mean"]], [place], [f"{NORM_NAMES[norm]}, {RESULT_NAMES[column]}: {told}"])
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
    if share:
        format_as_percent(axes.xaxis)
