"""Bars of what varies, where there is a single k to draw."""

from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.memorization import memorization
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, frame, grid, plausible
from tests.analysis.figures.drawn import check_legible, legend, notes, titles

BASE = Trial(k=0.1, validation=0.2, seed=(0, 1, 2))
ARMS = {
    "batch norm": BASE,
    "no norm": replace(BASE, norm="none"),
    "group norm": replace(BASE, norm="group"),
    "hinge regularizer, alpha = 0.95": replace(BASE, regularizer="hinge", alpha=0.95),
    "weight decay 0.0005": replace(BASE, weight_decay=5e-4),
    "early stopping": replace(BASE, stopping="best"),
    "label smoothing 0.1": replace(BASE, label_smoothing=0.1),
}
"""The arms of a tuning's confirmation, which all have one k."""


def lengths(axes: Axes) -> dict[str, float]:
    """The bars that lie, by their names."""
    ticks = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    return {ticks[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in axes.patches}


def by_arm(members: pd.DataFrame) -> dict[str, float]:
    means = members.groupby("trial")["mem_acc"].mean().dropna()
    return {name: means[trial.id] for name, trial in ARMS.items() if trial.id in means}


def drawn(figure: Figure) -> Axes:
    check_legible(figure)
    (axes,) = figure.axes
    return axes


def test_each_arm_of_a_confirmation_is_a_bar_named_by_what_it_changes():
    members = frame(ARMS.values())
    figure = memorization(members)
    assert lengths(drawn(figure)) == pytest.approx(by_arm(members))
    assert titles(figure) == ["LeNet on digits"]
    assert notes(figure) == ["mean ± sd", "3 seeds", "k = 10%"]
    assert legend(figure) == ["batch norm", "no norm", "group norm"]


def test_an_arm_without_a_result_is_named_with_the_reason():
    def outcome(trial: Trial, seed: int) -> Outcome:
        return DIVERGED if trial.stopping == "best" else plausible(trial, seed)

    axes = drawn(memorization(frame(ARMS.values(), outcome)))
    assert "early stopping" not in lengths(axes)
    assert "no result" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("axes", [{}, {"lr": (1e-3, 1e-4)}, {"seed": 0, "norm": "batch"}])
def test_where_all_combinations_are_there_the_arms_stand_side_by_side(axes: dict[str, object]):
    members = frame(grid(**{"k": 0.1, "norm": ("batch", "none"), "seed": range(3), **axes}))
    bars = drawn(memorization(members)).patches
    wanted = members.groupby(["norm", "lr"])["mem_acc"].mean()
    assert [bar.get_height() for bar in bars] == pytest.approx(wanted.tolist())
