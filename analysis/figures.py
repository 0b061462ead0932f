"""One function a figure: members in, a figure out."""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

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
    handles = [
        Line2D([], [], color=COLORS[norm], marker=MARKERS[norm], dashes=DASHES[norm] or (None, None), label=NAMES[norm])
        for norm in arms
    ]
    seeds = members["seed"].nunique()
    notes = ["mean ± sd", f"{seeds} seed{'s' * (seeds != 1)}"] + ([f"{excluded} excluded"] if excluded else [])
    figure.legend(
        handles=handles,
        loc="outside right upper",
        frameon=False,
        title="\n".join(notes),
        title_fontsize=8,
        alignment="left",
    )


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
