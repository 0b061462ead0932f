"""One function a figure: members in, a figure out."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import level, varying
from analysis.theme import COLORS, DASHES, MARKERS, NAMES, theme
from study.errors import BadInputError

PANEL = (3.6, 3.0)
"""Width and height of a panel in inches."""
LEGEND_WIDTH = 1.4
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
    settings = [name for name in varying(usable) if name not in ("norm", "k", "corruption")]
    panels = [panel for _, panel in usable.groupby(settings or ["dataset"], sort=True)]
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    size = (PANEL[0] * columns + LEGEND_WIDTH, PANEL[1] * rows)
    with theme():
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
        for index, place in enumerate(axes.flat):
            if index < len(panels):
                _arms_against_k(place, panels[index])
                place.set_title(_title(panels[index], settings))
            else:
                place.set_visible(False)
        _legend(figure, usable, excluded=int((members["status"] != "ok").sum()))
    return figure


def _title(panel: pd.DataFrame, settings: list[str]) -> str:
    first = panel.iloc[0]
    others = [f"{name} {level(first[name])}" for name in settings if name not in ("architecture", "dataset")]
    return "\n".join([f"{first['architecture']}, {first['dataset']}", *others])


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
    axes.set_xticks(sorted(panel["k"].unique()))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda fraction, _: f"{fraction * 100:g}%")
    axes.grid(visible=False, axis="x")


def _legend(figure: Figure, members: pd.DataFrame, excluded: int) -> None:
    """Beside the panels: the arms, what the marks stand for, and how many members gave no result."""
    arms = [norm for norm in NAMES if norm in set(members["norm"])]
    handles = [
        Line2D([], [], color=COLORS[norm], marker=MARKERS[norm], dashes=DASHES[norm] or (None, None), label=NAMES[norm])
        for norm in arms
    ]
    notes = ["mean ± sd", f"{members['seed'].nunique()} seeds"] + ([f"{excluded} excluded"] if excluded else [])
    figure.legend(handles=handles, loc="outside right upper", frameon=False, title="\n".join(notes), title_fontsize=8)


FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {"memorization": memorization}


def save(figure: Figure, stem: Path) -> list[Path]:
    """The figure as PNG and PDF beside each other; the paths written."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for path in paths:
        figure.savefig(path)
    plt.close(figure)
    return paths
