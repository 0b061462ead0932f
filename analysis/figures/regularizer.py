"""What the regularizer does, against alpha and beside the other arms."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from analysis.cells import level, varying
from analysis.figures.bars import bar_style, draw_bars
from analysis.figures.panels import (
    Panel,
    arm_handles,
    arms,
    beside,
    counted,
    in_percent,
    laid_out,
    line_of,
    mark_gap,
    spread,
    unit,
    usable_rows,
)
from analysis.figures.svg import hover
from analysis.figures.theme import KIND_LOOKS, MEASURE_LOOKS, MEASURES, NAMES, theme

if TYPE_CHECKING:
    pass


NEAR_ONE = 0.95
"""The clean accuracy that a chosen alpha has to have."""


# The regularizer (Fig. 8) ---------------------------------------------------------------------------------------------
def regularized(rows: pd.DataFrame) -> Figure:
    """Left what each arm memorizes and what it keeps, right the effect of alpha on both and on test accuracy.

    Raises:
        BadInputError: no member gave a result.
    """
    usable_rows(rows, "mem_acc")
    kinds = [kind for kind in KIND_LOOKS if (rows["regularizer"] == kind).any()]
    long = pd.concat([rows.assign(part=part) for part in ("mem_acc", "clean_acc", *kinds)], ignore_index=True)
    by = [name for name in varying(rows) if name not in ("norm", "regularizer", "alpha")]
    with theme():
        figure, panels = laid_out(long, [*by, "part"], "part", share=False, size=(2.7, 2.7))
        for panel in panels:
            part = panel.rows["part"].iloc[0]
            panel.axes.set(ylim=(-0.04, 1.12), yticks=np.linspace(0, 1, 6))
            in_percent(panel.axes.yaxis)
            if part in kinds:
                _alphas(panel, part)
            else:
                _regularized_bars(panel, part, kinds)
        handles = [Line2D([], [], label=MEASURES[name], **look) for name, look in MEASURE_LOOKS.items()]
        held = arm_handles(arms(rows[rows["regularizer"] == "none"]), markers=False)
        for handle in held:
            handle.set_label(f"memorization,\n{handle.get_label()}")
        beside(figure, [*handles, *held] if kinds else [], counted(rows))
    return figure


def _regularized_bars(panel: Panel, measure: str, kinds: Sequence[str]) -> None:
    """The arms without a regularizer, then each kind at the alpha that is best of all."""
    rows = panel.rows
    plain = rows[rows["regularizer"] == "none"]
    bars = [(NAMES[norm].replace(" ", "\n"), plain[plain["norm"] == norm], bar_style(norm)) for norm in arms(plain)]
    for kind in kinds:
        of_kind = rows[rows["regularizer"] == kind]
        best = _best_alpha(of_kind)
        named = kind if best is None else f"{kind}\nα =\n{level(best)}"
        bars.append((named, of_kind if best is None else of_kind[of_kind["alpha"] == best], KIND_LOOKS[kind]))
    found = [spread(part, measure) for _, part, _ in bars]
    texts = [
        each.told(f"{panel.name}, {name}".replace("\n", " "), unit(rows))
        for each, (name, _, _) in zip(found, bars, strict=True)
    ]
    draw_bars(panel.axes, range(len(bars)), found, [look for _, _, look in bars], 0.8, texts, named=True)
    panel.axes.set_xticks(range(len(bars)), [name for name, _, _ in bars], fontsize=7)
    panel.axes.set(ylim=(0, 1.12), ylabel=MEASURES[measure])
    panel.axes.grid(visible=False, axis="x")


def _best_alpha(rows: pd.DataFrame) -> float | None:
    """The alpha that memorizes least of those with a clean accuracy near 1; where there is none, the most accurate."""
    means = rows[rows["status"] == "ok"].groupby("alpha")[["mem_acc", "clean_acc"]].mean()
    if means.empty:
        return None
    near = means[means["clean_acc"] >= NEAR_ONE]
    chosen = means["clean_acc"] if near.empty else -near["mem_acc"]
    return float(chosen.index[int(chosen.argmax())])


def _alphas(panel: Panel, kind: str) -> None:
    axes = panel.axes
    plain, rows = (panel.rows[panel.rows["regularizer"] == name] for name in ("none", kind))
    for norm in arms(plain):
        held = spread(plain[plain["norm"] == norm], "mem_acc")
        if not held.gap:
            axes.axhline(held.mean, linewidth=1, **line_of(norm))
    alphas = sorted(set(rows["alpha"]))
    places = {alpha: float(level(round(1 - alpha, 12))) for alpha in alphas}
    for measure, look in MEASURE_LOOKS.items():
        found = {alpha: spread(rows[rows["alpha"] == alpha], measure) for alpha in alphas}
        texts = [
            each.told(f"{panel.name}, alpha={level(alpha)}, {MEASURES[measure]}", unit(rows))
            for alpha, each in found.items()
        ]
        means, deviations = ([getattr(each, name) for each in found.values()] for name in ("mean", "sd"))
        axes.errorbar(list(places.values()), means, deviations, capsize=3, markersize=5, **look)
        hover(axes, places.values(), means, texts)
        for (alpha, each), text in zip(found.items(), texts, strict=True):
            if each.gap and measure == "mem_acc":
                mark_gap(axes, places[alpha], each.gap, look["color"], text)
    axes.set(xscale="log", xlabel="1 − alpha", ylabel="accuracy")
    axes.set_xticks(list(places.values()), [level(place) for place in places.values()], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
