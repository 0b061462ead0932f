"""The figures of a privacy audit: ROC curves, AUCs by network, counterfactual memorization, most memorized images."""

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from PIL import Image

from analysis.cells import CELL_SETTINGS, varying_settings
from analysis.figures.bars import ARMS_WIDTH, MIXTURE, mixture_label
from analysis.figures.names import (
    NORM_NAMES,
    RESULT_NAMES,
    display_attack,
    display_level,
    display_levels,
    ordered_levels,
    percent,
)
from analysis.figures.panels import (
    CHARACTERS,
    NARROW_PANEL,
    TITLE_LINE,
    Panel,
    add_legend,
    arm_handles,
    arms,
    at_line,
    format_as_percent,
    gap,
    label_gaps,
    label_outer_axes,
    legend_notes,
    line_style,
    mark_gap,
    panel_grid,
    panel_size,
    panel_title,
    places_on_page,
    set_title,
    usable_rows,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, MARKERS, theme
from analysis.figures.width import page_width
from analysis.load import Loaded
from analysis.statistics.membership import CellAudit, audit_cells
from study.errors import BadInputError
from study.mia.audit import MAIN_ATTACK, attack_scores
from study.mia.intervals import Interval, Roc, mean_auc, mean_roc
from study.mia.roc import ALL
from study.record.results import Results
from study.trial import FEWEST_MODELS

IMAGE_WIDTH = 1.1
"""The width in inches of one of the most memorized images, with its labels above it."""
FEWEST_FOR_BOX = 4
"""Fewer cells have no quartiles to speak of and are drawn as points alone."""


# Of the command `membership` ------------------------------------------------------------------------------------------


def roc_curves(audited: Sequence[CellAudit], attack: str) -> Figure:
    """Draw ROC curves on logarithmic axes: an arm a line of each D', a cell a row of panels, a group a panel.

    A curve is the mean over targets at each false positive rate, from the lowest that every target resolves, with the
    95% interval of each point as a band.

    Args:
        audited: the audits of the cells.
        attack: the attack, a key of `study.mia.audit.ATTACKS`.
    """
    figure = _group_grid(
        audited,
        CellAudit.group_names,
        lambda axes, arm_audits, group: roc_panel(axes, arm_audits, attack, group),
    )
    _add_arms_legend(figure, audited, [display_attack(attack), "mean over targets", "band: 95% interval"])
    return figure


def roc_panel(
    axes: Axes, arm_audits: Sequence[CellAudit], attack: str, group: str
) -> list[tuple[CellAudit, Roc, Interval]]:
    """Draw the ROC curves of a panel, an arm a line, and return each with its audit and its AUC."""
    drawn = []
    for audit in arm_audits:
        chosen = audit.in_group(group)
        scores, is_member = attack_scores(attack, audit.scores, audit.is_member)[:, chosen], audit.is_member[:, chosen]
        curve = mean_roc(scores, is_member)
        if curve.targets:
            style = line_style(audit.norm)
            axes.plot(curve.fpr, np.where(curve.tpr > 0, curve.tpr, np.nan), **style)
            # On a logarithmic axis there is no zero for a band to begin at.
            low = np.maximum(curve.low, curve.fpr[0] / 10)
            axes.fill_between(curve.fpr, low, curve.high, color=style["color"], alpha=0.15, linewidth=0)
            drawn.append((audit, curve, mean_auc(scores, is_member)))
    # At 0.1 at most, so that each axis has two labels at least.
    lowest = min([0.1, *(curve.fpr[0] for _, curve, _ in drawn)])
    axes.plot([lowest, 1], [lowest, 1], color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1.1))
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    format_as_percent(axes.xaxis, axes.yaxis)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())  # within a decade labels would run into each other
    return drawn


def memorization_histograms(audited: Sequence[CellAudit]) -> Figure:
    """Draw how much samples were memorized: a histogram of each group, an arm a line of each D', a row a cell.

    Counterfactual memorization is the rate at which models trained on a sample give it its label, less the rate of the
    other models (Feldman and Zhang, 2020).
    """
    figure = _group_grid(audited, _groups_but_all, _draw_histogram, sharex=True)
    _add_arms_legend(figure, audited, ["of each sample, over all models"])
    return figure


def _group_grid(
    audited: Sequence[CellAudit],
    groups_of: Callable[[CellAudit], Sequence[str]],
    draw: Callable[[Axes, Sequence[CellAudit], str], Any],
    sharex: bool = False,
) -> Figure:
    """Return a figure with a row of panels for each cell and a panel for each of its groups."""
    cells = _by_cell(audited)
    drawn = [
        (row, column, title, arm_audits, group)
        for row, (title, arm_audits) in enumerate(cells)
        for column, group in enumerate(groups_of(arm_audits[0]))
    ]
    places = places_on_page([(row, column) for row, column, *_ in drawn], int(page_width() / NARROW_PANEL))
    rows, columns = (1 + max(place[axis] for place in places) for axis in (0, 1))
    width, height = panel_size(columns)
    titles = [panel_title((title, f"{group} samples"), width) for _, _, title, _, group in drawn]
    height += TITLE_LINE * max(title.count("\n") for title in titles)
    with theme():
        figure = Figure(figsize=(width * columns, height * rows))
        grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex)
        for place, title, (_, _, _, arm_audits, group) in zip(places, titles, drawn, strict=True):
            draw(grid[place], arm_audits, group)
            set_title(grid[place], title, width)
        for place in set(np.ndindex(rows, columns)) - set(places):
            grid[place].remove()
    return figure


def _draw_histogram(axes: Axes, arm_audits: Sequence[CellAudit], group: str) -> None:
    """Draw how counterfactual memorization is distributed over a group's samples, an arm a line."""
    # A value is about a multiple of one over the number of models that have a sample, so finer bins would be empty.
    steps = min(10, len(arm_audits[0].is_member) // 2)
    edges = (np.arange(-steps, steps + 2) - 0.5) / steps
    for audit in arm_audits:
        values = audit.memorization(group).values
        shares = np.histogram(values, edges)[0] / max(1, len(values))
        axes.step(edges, np.append(shares, shares[-1]), where="post", **line_style(audit.norm))
        middles = (edges[:-1] + edges[1:]) / 2
        texts = [
            f"{NORM_NAMES[audit.norm]}, {group} samples memorized {middle:+.2f}: {percent(share, 1)}"
            for middle, share in zip(middles, shares, strict=True)
        ]
        add_tooltips(axes, middles[shares > 0], shares[shares > 0], np.array(texts)[shares > 0])
    axes.set(xlabel="counterfactual memorization", ylabel="share of samples", xlim=(-1.05, 1.05))
    axes.yaxis.set_major_formatter(lambda share, _: f"{share * 100:g}%")


def _groups_but_all(audit: CellAudit) -> list[str]:
    """Return the groups without `all`, unless it is the only one."""
    return [group for group in audit.group_names() if group != ALL] or [ALL]


def most_memorized_images(images: pd.DataFrame) -> Figure:
    """Draw the most memorized images: a row for each arm and cell, the most memorized first.

    Of several training sets D' there are as many as one of them has.

    Args:
        images: rows of the table `images` with the settings of their cell.
    """
    settings = varying_settings(images)
    ranked = images.assign(memorized=images["in_acc"] - images["out_acc"]).sort_values(
        "memorized", ascending=False, kind="stable"
    )
    most = int(images.groupby([*settings, "seed"]).size().max())
    cells = [cell.head(most) for _, cell in ranked.groupby(settings or ["norm"], sort=True)]
    lines = -(-most // int(page_width() / IMAGE_WIDTH))
    columns = -(-most // lines)
    with theme():
        figure = Figure(figsize=(IMAGE_WIDTH * columns, (0.3 + 1.35 * lines) * len(cells)))
        strips = figure.subfigures(len(cells), 1, squeeze=False)[:, 0]
        for strip, cell in zip(strips, cells, strict=True):
            title = textwrap.fill(
                display_levels(cell.iloc[0].to_dict(), settings), int(CHARACTERS * figure.get_figwidth())
            )
            strip.suptitle(title, fontsize=9, x=0.01, horizontalalignment="left", parse_math=False)
            places = strip.subplots(lines, columns, squeeze=False).flat
            for axes in places:
                axes.set_axis_off()
            for axes, (_, row) in zip(strip.axes, cell.iterrows(), strict=False):
                pixels = np.asarray(Image.open(io.BytesIO(row["image"])))
                axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, vmin=0, vmax=255)
                axes.set_title(f"{_labels_text(row)}\n{row['memorized']:+.2f}", fontsize=7)
    return figure


def _labels_text(row: pd.Series) -> str:
    """Return a sample's label, or `3 as 7` where it was changed; `new` stands for an image of another dataset."""
    if row["label"] == row["original_label"]:
        return str(row["label"])
    original = "new" if row["original_label"] < 0 else str(row["original_label"])
    return f"{original} as {row['label']}"


def _by_cell(audited: Sequence[CellAudit]) -> list[tuple[str, list[CellAudit]]]:
    """Return the audits of each cell's arms and seeds, with a title of the settings that vary between the cells."""
    settings = pd.DataFrame([audit.settings for audit in audited])
    names = [name for name in varying_settings(settings) if name != "norm"]
    cells: dict[str, list[CellAudit]] = {}
    for audit in audited:
        title = display_levels(audit.settings, names)
        cells.setdefault(title, []).append(audit)
    return list(cells.items())


def _add_arms_legend(figure: Figure, audited: Sequence[CellAudit], notes: list[str]) -> None:
    """Add the legend of the arms that were audited, in the order of the theme."""
    norms = [norm for norm in NORM_NAMES if any(audit.norm == norm for audit in audited)]
    with theme():
        add_legend(figure, arm_handles(norms, markers=False), notes)


# Of the paper (Fig. 5, 6, 12 and 14) ----------------------------------------------------------------------------------


def main_attack_roc(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """Draw ROC curves of the main attack over all samples: an arm a line, a panel for each network and mixture.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        rows: the members to draw.

    Raises:
        BadInputError: no cell has enough models.
    """
    recorded = usable_rows(rows, "mia_auc")
    enough = recorded.groupby(["cell", "seed"])["model"].transform("size") >= FEWEST_MODELS
    if not enough.any():
        raise BadInputError(f"an attack needs {FEWEST_MODELS} models on halves of D' in a cell.")
    audited = audit_cells(replace(loaded, members=recorded[enough]), results)
    with theme():
        by = [name for name in varying_settings(rows) if name != "norm"]
        figure, panels = panel_grid(rows, by, "architecture", share=False, narrow=2.3)
        for panel in panels:
            of_panel = [audit for audit in audited if _occurs_in(audit.settings, panel.rows)]
            _annotate_roc(panel, roc_panel(panel.axes, of_panel, MAIN_ATTACK, ALL))
        told = [display_attack(MAIN_ATTACK), "mean of targets", "band: 95% interval"]
        seeds = len({audit.settings["seed"] for audit in audited})
        told += [f"a curve for each of {seeds} training sets D', the AUC is their mean"] if seeds > 1 else []
        notes = legend_notes(rows, told)
        add_legend(figure, arm_handles(arms(rows), markers=False), notes)
    return figure


def _annotate_roc(panel: Panel, drawn: Sequence[tuple[CellAudit, Roc, Interval]]) -> None:
    """Write the AUC of each arm into a corner, add tooltips at low rates, and say which arm has no curve."""
    lines = {}
    for norm in dict.fromkeys(audit.norm for audit, _, _ in drawn):
        aucs = [auc.mean for audit, _, auc in drawn if audit.norm == norm and auc.mean is not None]
        lines[f"AUC {np.mean(aucs):.3f}, {NORM_NAMES[norm]}"] = COLORS[norm]
    for audit, curve, auc in drawn:
        several_seeds = len(drawn) > len(arms(panel.rows))
        arm = NORM_NAMES[audit.norm] + (f", seed {audit.settings['seed']}" if several_seeds else "")
        auc_text = f"AUC {auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] ({auc.targets} models)"
        points = [int(np.abs(curve.fpr - rate).argmin()) for rate in (0.001, 0.01, 0.1) if rate >= curve.fpr[0]]
        texts = [
            f"{panel.name}, {arm}: true positive rate {percent(curve.tpr[point], 1)} at a false positive rate of "
            f"{percent(curve.fpr[point], 2)}; {auc_text}"
            for point in points
        ]
        add_tooltips(panel.axes, curve.fpr[points], np.maximum(curve.tpr[points], curve.fpr[0]), texts)
    for norm in arms(panel.rows):
        if norm not in {audit.norm for audit, _, _ in drawn} and not gap(panel.rows[panel.rows["norm"] == norm]):
            lines[f"too few models, {NORM_NAMES[norm]}"] = COLORS[norm]
    for number, (text, color) in enumerate(reversed(lines.items())):
        _write_in_corner(panel, text, color, number)
    label_gaps(panel)


def _write_in_corner(panel: Panel, text: str, color: str, line: int) -> None:
    """Write a line into the lower right corner, below the diagonal, where no curve of an attack runs."""
    place: dict[str, Any] = {"transform": at_line(panel.axes, line), "ha": "right", "va": "bottom"}
    size = 7.5 if panel.size[0] >= NARROW_PANEL else 6
    panel.axes.text(0.985, 0.02, text, color=color, fontsize=size, **place)


def _occurs_in(settings: Mapping[str, Any], rows: pd.DataFrame) -> bool:
    return all(settings[name] in set(rows[name]) for name in CELL_SETTINGS)


def auc_boxes(rows: pd.DataFrame) -> Figure:
    """Draw the AUC of each cell by network, the arms side by side, with a box where there are enough cells.

    Raises:
        BadInputError: no member has an AUC.
    """
    usable = usable_rows(rows, "mia_auc")
    cells = usable.groupby("cell")["mia_auc"].mean()
    with theme():
        by = [name for name in varying_settings(rows) if name not in ("norm", "architecture", *MIXTURE)]
        figure, panels = panel_grid(rows, by, size=(4.2, 3.0), narrow=2.8)
        for panel in panels:
            _arm_boxes(panel, cells)
        label_outer_axes(panels)
        notes = [*_attack_names(usable), "a point a cell, the mean of its models", "box: quartiles"]
        marks = [
            Line2D([], [], color=COLORS[norm], marker=MARKERS[norm], linestyle="none", label=NORM_NAMES[norm])
            for norm in arms(rows)
        ]
        add_legend(figure, marks, legend_notes(rows, notes))
    return figure


def _attack_names(usable: pd.DataFrame) -> list[str]:
    """Return the names of the attacks that gave the members their AUC."""
    return [display_attack(str(attack)) for attack in sorted(set(usable["mia_attack"].dropna()))]


def _arm_boxes(panel: Panel, aucs: pd.Series) -> None:
    """Draw each cell's AUC as a point, and the box of a network and arm where there are enough cells."""
    axes, networks, norms = panel.axes, ordered_levels("architecture", panel.rows["architecture"]), arms(panel.rows)
    cells = panel.rows[panel.rows["status"] == "ok"].drop_duplicates("cell")
    cells = cells.assign(auc=aucs.reindex(cells["cell"]).to_numpy(np.float64))
    common: dict[str, Any] = {"x": "architecture", "y": "auc", "order": networks, "hue": "norm", "hue_order": norms}
    common |= {"dodge": True, "legend": False, "ax": axes}
    for norm in norms:  # a strip plot has one marker
        strip = cells.assign(auc=cells["auc"].where(cells["norm"] == norm))
        sns.stripplot(strip, palette=COLORS, marker=MARKERS[norm], size=5, jitter=False, zorder=3, **common)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.set(xlabel="", ylabel=RESULT_NAMES["mia_auc"], xlim=(-0.6, len(networks) - 0.4))
    axes.set_xticks(range(len(networks)), [display_level("architecture", network) for network in networks])
    axes.grid(visible=False, axis="x")
    for (network, norm), part in _by_network_and_norm(panel.rows):
        place = networks.index(network) + (norms.index(norm) - (len(norms) - 1) / 2) * ARMS_WIDTH / len(norms)
        levels = {"architecture": network, "dataset": part["dataset"].iloc[0], "norm": norm}
        subject = ", ".join(display_level(name, level) for name, level in levels.items())
        points = cells[(cells["norm"] == norm) & (cells["architecture"] == network)].astype(object)
        if points.empty:
            mark_gap(axes, place, gap(part), COLORS[norm], f"{subject}: {gap(part)}")
            continue
        if len(points) >= FEWEST_FOR_BOX:
            _draw_box(axes, place, points["auc"], ARMS_WIDTH * 0.8 / len(norms))
        texts = [
            f"{subject}, {mixture_label(row).replace(chr(10), ' ')}: AUC {row['auc']:.3f}"
            for row in points.to_dict("records")
        ]
        add_tooltips(axes, [place] * len(points), points["auc"], texts)
    axes.margins(y=0.1)


def _draw_box(axes: Axes, place: float, values: pd.Series, width: float) -> None:
    """Draw a box of the quartiles."""
    look: dict[str, Any] = {"boxprops": {"facecolor": "#EEEEEE"}, "medianprops": {"color": "black"}}
    position: dict[str, Any] = {"positions": [place], "widths": width, "manage_ticks": False}
    axes.boxplot(values.to_numpy(np.float64), patch_artist=True, showfliers=False, **position, **look)


def _by_network_and_norm(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield each network and norm that occur, with their rows."""
    for (network, norm), part in rows.groupby(["architecture", "norm"]):
        yield (str(network), str(norm)), part
