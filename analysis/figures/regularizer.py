"""The effect of the regularizer, against alpha and beside the other arms (Fig. 8)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from analysis.cells import varying_settings
from analysis.figures.bars import bar_style, draw_bars
from analysis.figures.names import NORM_NAMES, RESULT_NAMES, display_level, display_setting
from analysis.figures.panels import (
    NARROW_PANEL,
    Panel,
    add_legend,
    arm_handles,
    arms,
    format_as_percent,
    legend_notes,
    line_style,
    mark_gap,
    panel_grid,
    spread,
    unit_name,
    usable_rows,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import REGULARIZER_LOOKS, RESULT_LOOKS, theme
from analysis.metrics import NEAR_ONE
from study.settings import format_value


def regularizer_panels(rows: pd.DataFrame) -> Figure:
    """Draw Fig. 8: left the arms' memorization and clean accuracy, right the effect of alpha on these and on the test.

    Args:
        rows: the members to draw.

    Raises:
        BadInputError: no member gave a result.
    """
    usable_rows(rows, "mem_acc")
    kinds = [kind for kind in REGULARIZER_LOOKS if (rows["regularizer"] == kind).any()]
    long = pd.concat([rows.assign(part=part) for part in ("mem_acc", "clean_acc", *kinds)], ignore_index=True)
    by = [name for name in varying_settings(rows) if name not in ("norm", "regularizer", "alpha")]
    with theme():
        figure, panels = panel_grid(long, [*by, "part"], "part", share=False, size=(2.7, 3.3 if by else 2.7))
        for panel in panels:
            part = panel.rows["part"].iloc[0]
            panel.axes.set(ylim=(-0.04, 1.12), yticks=np.linspace(0, 1, 6))
            format_as_percent(panel.axes.yaxis)
            if part in kinds:
                _alpha_lines(panel, part)
            else:
                _arm_and_kind_bars(panel, part, kinds)
        handles = [Line2D([], [], label=RESULT_NAMES[name], **look) for name, look in RESULT_LOOKS.items()]
        plain_arms = arm_handles(arms(rows[rows["regularizer"] == "none"]), markers=False)
        for handle in plain_arms:
            handle.set_label(f"memorization,\n{handle.get_label()}")
        add_legend(figure, [*handles, *plain_arms] if kinds else [], legend_notes(rows))
    return figure


def _arm_and_kind_bars(panel: Panel, column: str, kinds: Sequence[str]) -> None:
    """Draw a bar for each arm without a regularizer, then one for each kind of it at its best alpha."""
    rows = panel.rows
    plain = rows[rows["regularizer"] == "none"]
    bars = [
        (NORM_NAMES[norm].replace(" ", "\n"), plain[plain["norm"] == norm], bar_style(norm)) for norm in arms(plain)
    ]
    for kind in kinds:
        of_kind = rows[rows["regularizer"] == kind]
        best = _best_alpha(of_kind)
        name = kind if best is None else f"{kind}\nα =\n{format_value(best)}"
        bars.append((name, of_kind if best is None else of_kind[of_kind["alpha"] == best], REGULARIZER_LOOKS[kind]))
    spreads = [spread(part, column) for _, part, _ in bars]
    texts = [
        height.describe(f"{panel.name}, {name}".replace("\n", " "), unit_name(rows))
        for height, (name, _, _) in zip(spreads, bars, strict=True)
    ]
    narrow = panel.size[0] < NARROW_PANEL
    draw_bars(panel.axes, range(len(bars)), spreads, [look for _, _, look in bars], 0.8, texts, 0 if narrow else 1)
    if narrow:
        look: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        panel.axes.set_xticks(range(len(bars)), [name.replace("\n", " ") for name, _, _ in bars], fontsize=7, **look)
    else:
        panel.axes.set_xticks(range(len(bars)), [name for name, _, _ in bars], fontsize=7)
    panel.axes.set_ylim(0, 1.12)
    panel.set_labels("", "accuracy")  # the title says which
    panel.axes.grid(visible=False, axis="x")


def _best_alpha(rows: pd.DataFrame) -> float | None:
    """Return the alpha that memorizes least with clean accuracy near 1; where none is near, the most accurate one."""
    means = rows[rows["status"] == "ok"].groupby("alpha")[["mem_acc", "clean_acc"]].mean()
    if means.empty:
        return None
    near = means[means["clean_acc"] >= NEAR_ONE]
    merit = means["clean_acc"] if near.empty else -near["mem_acc"]
    return float(merit.index[int(merit.argmax())])


def _alpha_lines(panel: Panel, kind: str) -> None:
    """Draw the results of one kind of regularizer against 1 - alpha, and what the arms without it memorize."""
    axes = panel.axes
    plain, rows = (panel.rows[panel.rows["regularizer"] == name] for name in ("none", kind))
    for norm in arms(plain):
        memorization = spread(plain[plain["norm"] == norm], "mem_acc")
        if not memorization.gap:
            axes.axhline(memorization.mean, linewidth=1, **line_style(norm))
    alphas = sorted(set(rows["alpha"]))
    places = {alpha: float(format_value(round(1 - alpha, 12))) for alpha in alphas}
    for column, look in RESULT_LOOKS.items():
        spreads = {alpha: spread(rows[rows["alpha"] == alpha], column) for alpha in alphas}
        texts = [
            at_alpha.describe(f"{panel.name}, {display_level('alpha', alpha)}, {RESULT_NAMES[column]}", unit_name(rows))
            for alpha, at_alpha in spreads.items()
        ]
        means, deviations = ([getattr(at_alpha, name) for at_alpha in spreads.values()] for name in ("mean", "sd"))
        axes.errorbar(list(places.values()), means, deviations, capsize=3, markersize=5, **look)
        add_tooltips(axes, places.values(), means, texts)
        for (alpha, at_alpha), text in zip(spreads.items(), texts, strict=True):
            if at_alpha.gap and column == "mem_acc":
                mark_gap(axes, places[alpha], at_alpha.gap, look["color"], text)
    panel.set_labels(display_setting("one_minus_alpha"), "accuracy")
    axes.set_xscale("log")
    axes.set_xticks(list(places.values()), [format_value(place) for place in places.values()], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
