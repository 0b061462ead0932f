"""The figures of a privacy audit: attacks and memorized samples in, a figure out."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from PIL import Image

from analysis.cells import SETTINGS, level, varying
from analysis.figures.bars import MIXTURE, mixture
from analysis.figures.lines import ATTACK, BESIDE
from analysis.figures.panels import (
    LEGEND_WIDTH,
    PANEL,
    Panel,
    arm_handles,
    arms,
    beside,
    counted,
    gap,
    in_percent,
    laid_out,
    line_of,
    mark_gap,
    ordered,
    outer_labels,
    percent,
    say_gaps,
    shown,
    usable_rows,
)
from analysis.figures.svg import hover
from analysis.figures.theme import COLORS, MARKERS, MEASURES, NAMES, theme
from analysis.load import Loaded
from analysis.statistics.membership import Audited
from study.errors import BadInputError
from study.mia import audit, intervals
from study.mia.intervals import Interval
from study.mia.roc import ALL, Roc, mean_roc
from study.record.results import Results
from study.trial import FEWEST_MODELS

if TYPE_CHECKING:
    from analysis.statistics.membership import Audited
    from study.mia.intervals import Interval


def roc_curves(audited: Sequence[Audited], attack: str) -> Figure:
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
        found, is_member = audit.attack_scores(attack, one.scores, one.is_member)[:, chosen], one.is_member[:, chosen]
        curve = mean_roc(found, is_member)
        if curve.targets:
            axes.plot(curve.fpr, np.where(curve.tpr > 0, curve.tpr, np.nan), **line_of(one.norm))
            drawn.append((one, curve, intervals.mean_auc(found, is_member)))
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


FEWEST_FOR_BOX = 4


# Attacks (Fig. 5, 6, 12 and 14) ---------------------------------------------------------------------------------------
def main_attack_roc(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """ROC curves of the attack over all samples, an arm a line, a panel for each network and mixture."""
    from analysis.figures.membership import roc_panel
    from analysis.statistics.membership import audits  # numba takes a second to import

    recorded = usable_rows(rows, "mia_auc")
    able = recorded.groupby(["cell", "seed"])["model"].transform("size") >= FEWEST_MODELS
    if not able.any():
        raise BadInputError(f"an attack needs {FEWEST_MODELS} models on halves of D' in a cell.")
    audited = audits(replace(loaded, members=recorded[able]), results)
    with theme():
        by = [name for name in varying(rows) if name != "norm"]
        figure, panels = laid_out(rows, by, "architecture", share=False)
        for panel in panels:
            drawn = roc_panel(panel.axes, [one for one in audited if _about(one.settings, panel.rows)], ATTACK, ALL)
            _roc_told(panel, drawn)
        notes = counted(rows, [ATTACK.replace("_", " "), "mean of targets"])
        beside(figure, arm_handles(arms(rows), markers=False), notes)
    return figure


def _roc_told(panel: Panel, drawn: "Sequence[tuple[Audited, Roc, Interval]]") -> None:
    """The AUC of each curve in a corner, the curve's points for the mouse, and which arm has no curve."""
    words = {}
    for one, curve, auc in drawn:
        arm = NAMES[one.norm] + (f", seed {one.settings['seed']}" if len(drawn) > len(arms(panel.rows)) else "")
        words[f"AUC {auc.mean:.3f}, {arm}"] = COLORS[one.norm]
        told = f"AUC {auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] ({auc.targets} models)"
        at = [int(np.abs(curve.fpr - rate).argmin()) for rate in (0.001, 0.01, 0.1) if rate >= curve.fpr[0]]
        texts = [
            f"{panel.name}, {arm}: true positive rate {percent(curve.tpr[place], 1)} at a false positive rate of "
            f"{percent(curve.fpr[place], 2)}; {told}"
            for place in at
        ]
        hover(panel.axes, curve.fpr[at], np.maximum(curve.tpr[at], curve.fpr[0]), texts)
    for norm in arms(panel.rows):
        if norm not in {one.norm for one, _, _ in drawn} and not gap(panel.rows[panel.rows["norm"] == norm]):
            words[f"too few models, {NAMES[norm]}"] = COLORS[norm]
    for line, (text, color) in enumerate(reversed(words.items())):
        _corner(panel.axes, text, color, line)
    say_gaps(panel)


def _corner(axes: Axes, words: str, color: str, line: int) -> None:
    """Words in the lower right corner, below the diagonal where no curve of an attack runs."""
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "bottom", "fontsize": 7.5}
    axes.text(0.985, 0.02 + 0.085 * line, words, color=color, **place)


def _about(settings: Mapping[str, Any], rows: pd.DataFrame) -> bool:
    return all(settings[name] in set(rows[name]) for name in SETTINGS)


def boxes(rows: pd.DataFrame) -> Figure:
    """The AUC of each cell by network, the arms side by side, with a box where there are enough cells."""
    well = usable_rows(rows, "mia_auc")
    cells = well.groupby("cell")["mia_auc"].mean()
    with theme():
        by = [name for name in varying(rows) if name not in ("norm", "architecture", *MIXTURE)]
        figure, panels = laid_out(rows, by, size=(4.2, 3.0))
        for panel in panels:
            _arm_boxes(panel, cells)
        outer_labels(panels)
        notes = [*_attacks(well), "a point a cell,", "the mean of its models", "box: quartiles"]
        marks = [
            Line2D([], [], color=COLORS[norm], marker=MARKERS[norm], linestyle="none", label=NAMES[norm])
            for norm in arms(rows)
        ]
        beside(figure, marks, counted(rows, notes))
    return figure


def _attacks(well: pd.DataFrame) -> list[str]:
    """The attacks whose AUC the members have."""
    return [str(attack).replace("_", " ") for attack in sorted(set(well["mia_attack"].dropna()))]


def _arm_boxes(panel: Panel, cells: pd.Series) -> None:
    axes, networks, norms = panel.axes, ordered("architecture", panel.rows["architecture"]), arms(panel.rows)
    well = panel.rows[panel.rows["status"] == "ok"].drop_duplicates("cell")
    well = well.assign(auc=cells.reindex(well["cell"]).to_numpy(np.float64))
    sides: dict[str, Any] = {"x": "architecture", "y": "auc", "order": networks, "hue": "norm", "hue_order": norms}
    sides |= {"dodge": True, "legend": False, "ax": axes}
    for norm in norms:  # a strip has one marker
        strip = well.assign(auc=well["auc"].where(well["norm"] == norm))
        sns.stripplot(strip, palette=COLORS, marker=MARKERS[norm], size=5, jitter=False, zorder=3, **sides)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.set(xlabel="", ylabel=MEASURES["mia_auc"], xlim=(-0.6, len(networks) - 0.4))
    axes.set_xticks(range(len(networks)), [shown("architecture", network) for network in networks])
    axes.grid(visible=False, axis="x")
    for (network, norm), here in _by_network_and_norm(panel.rows):
        place = networks.index(network) + (norms.index(norm) - (len(norms) - 1) / 2) * BESIDE / len(norms)
        named = f"{shown('architecture', network)}, {shown('dataset', here['dataset'].iloc[0])}, {NAMES[norm]}"
        firsts = well[(well["norm"] == norm) & (well["architecture"] == network)].astype(object)
        if firsts.empty:
            mark_gap(axes, place, gap(here), COLORS[norm], f"{named}: {gap(here)}")
            continue
        if len(firsts) >= FEWEST_FOR_BOX:
            _box(axes, place, firsts["auc"], BESIDE * 0.8 / len(norms))
        told = firsts.apply(lambda row: f"{mixture(row).replace(chr(10), ' ')}: AUC {row['auc']:.3f}", axis=1)
        hover(axes, [place] * len(firsts), firsts["auc"], [f"{named}, {each}" for each in told])
    axes.margins(y=0.1)


def _box(axes: Axes, place: float, values: pd.Series, width: float) -> None:
    look: dict[str, Any] = {"boxprops": {"facecolor": "#EEEEEE"}, "medianprops": {"color": "black"}}
    at: dict[str, Any] = {"positions": [place], "widths": width, "manage_ticks": False}
    axes.boxplot(values.to_numpy(np.float64), patch_artist=True, showfliers=False, **at, **look)


def _by_network_and_norm(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for (network, norm), part in rows.groupby(["architecture", "norm"]):
        yield (str(network), str(norm)), part
