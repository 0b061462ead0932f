"""The figures of the 2026 paper, one function each, which draws a figure from the records of a sweep.

Each has the paper's layout at whatever scale there are records of. It shows the spread, and marks what is missing: a
level or a panel that was planned and has no record, and members that diverged or failed.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.cells import matching_rows, varying_settings
from analysis.figures.bars import bar_chart, cell_bars, mixture_label
from analysis.figures.figure import PaperFigure
from analysis.figures.gradients import gradient_densities
from analysis.figures.layers import layer_ratios
from analysis.figures.lines import lines_against, loss_curves
from analysis.figures.mechanism import influence_over_epochs, margins_over_epochs
from analysis.figures.membership import auc_boxes, main_attack_roc
from analysis.figures.names import display_level
from analysis.figures.regularizer import regularizer_panels
from analysis.load import Loaded, with_missing
from analysis.metrics import NEAR_ONE
from analysis.paper import paper_rows
from study.errors import BadInputError
from study.record.results import Results


def memorization(members: pd.DataFrame) -> Figure:
    """Draw memorization against the corrupted fraction: an arm a line, a panel for each network and dataset (Fig. 1).

    Lines are means over seeds, bars their standard deviation; every member is a faint point beside them. Of a single
    fraction there is no line to draw, and what else varies is compared in bars.

    Args:
        members: rows of `members`, one a member, or of `load.with_missing`.

    Raises:
        BadInputError: no member with corrupted samples gave a result.
    """
    return _against("k", members[members["k"] > 0])


def _against(x: str, rows: pd.DataFrame, columns: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()) -> Figure:
    """Draw results against a setting: lines where it has several levels, and bars of all else where it has one.

    Where all combinations of what else varies are there, the setting with the most levels has a place for each, and the
    arms stand side by side; otherwise, as in the confirmation of a tuning, each cell has a bar.

    Raises:
        BadInputError: no member has a result.
    """
    if rows.empty or rows[x].nunique() > 1 or rows[list(columns)].isna().all(axis=None):
        return lines_against(x, rows, columns, notes)
    notes = [*notes, display_level(x, rows[x].iloc[0])]
    others = [name for name in varying_settings(rows) if name != "norm"]
    levels = {name: rows[name].nunique() for name in others}
    if rows.groupby([*others, "norm"]).ngroups < prod(levels.values()) * rows["norm"].nunique():
        return cell_bars(rows, columns, notes)
    most = max(others, key=lambda name: levels[name], default="architecture")
    return bar_chart(rows, most, columns, notes)


def _rows(loaded: Loaded, results: Results, what: str, **levels: Any) -> pd.DataFrame:
    """Return the members with the given levels, with a row for each planned member that has no record.

    Raises:
        BadInputError: there is none; the message says of `what`.
    """
    rows = matching_rows(with_missing(loaded, results), levels)
    if rows.empty:
        raise BadInputError(f"there are no records {what}.")
    return rows


def _as_in_paper(rows: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Keep the networks and datasets that a figure of the paper shows, and note how many of those here that are."""
    kept, _ = paper_rows(rows, name)
    words = {"architecture": "networks", "dataset": "datasets"}
    notes = []
    for setting, noun in words.items():
        shown, there = kept[setting].unique(), rows[setting].nunique()
        if len(shown) < there:
            which = display_level(setting, shown[0]) if len(shown) == 1 else str(len(shown))
            notes.append(f"{which} of {there} {noun}")
    return kept, notes


def _fig1(loaded: Loaded, results: Results) -> Figure:
    return memorization(_rows(loaded, results, "with flipped labels", corruption="label"))


def _fig2(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of flipped labels at k=5%", corruption="label", k=0.05)
    rows, notes = _as_in_paper(rows, "fig2")
    return loss_curves(loaded, results, rows, "dataset", notes)


def _fig3(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "with images added from elsewhere", corruption="ood")
    recorded = rows.loc[rows["status"] == "ok", "k"]
    k = min(recorded if len(recorded) else rows["k"], key=lambda k: (abs(k - 0.1), k))
    return bar_chart(rows[rows["k"] == k], "architecture", notes=[display_level("k", k)])


def _fig4(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of flipped labels at k=5%", corruption="label", k=0.05)
    return gradient_densities(loaded, results, rows)


def _eq11(loaded: Loaded, results: Results) -> Figure:
    return influence_over_epochs(loaded, results, _rows(loaded, results, "of flipped labels", corruption="label"))


def _a2(loaded: Loaded, results: Results) -> Figure:
    return margins_over_epochs(loaded, results, _rows(loaded, results, "of flipped labels", corruption="label"))


def _fig5(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of models on halves with images added", corruption="ood", protocol="splits")
    return main_attack_roc(loaded, results, rows)


def _fig6(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of models on halves with flipped labels", corruption="label", protocol="splits")
    return main_attack_roc(loaded, results, rows)


def _fig7(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of flipped labels at k=10%", corruption="label", k=0.1, norm="batch")
    return layer_ratios(loaded, results, rows)


def _fig8(loaded: Loaded, results: Results) -> Figure:
    return regularizer_panels(_rows(loaded, results, "with flipped labels", corruption="label"))


def _fig9(loaded: Loaded, results: Results) -> Figure:
    return layer_ratios(loaded, results, _rows(loaded, results, "of flipped labels", corruption="label", norm="batch"))


def _fig10(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of flipped labels", corruption="label")
    rows, notes = _as_in_paper(rows, "fig10")
    return loss_curves(loaded, results, rows, "k", notes)


def _fig11(loaded: Loaded, results: Results) -> Figure:
    return bar_chart(_rows(loaded, results, "with images added from elsewhere", corruption="ood"), "architecture")


def _fig12(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of models on halves of clean data", k=0.0, protocol="splits")
    return main_attack_roc(loaded, results, rows)


def _fig14(loaded: Loaded, results: Results) -> Figure:
    return auc_boxes(_rows(loaded, results, "of models on halves", protocol="splits"))


def _fig15(loaded: Loaded, results: Results) -> Figure:
    return _against("batch_size", _rows(loaded, results, "with flipped labels", corruption="label"))


def _fig18(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "with flipped labels", corruption="label")
    rows, notes = _as_in_paper(rows, "fig18")
    return _against("k", rows, ("mem_acc", "test_acc"), notes)


def _fig20(loaded: Loaded, results: Results) -> Figure:
    rows = _rows(loaded, results, "of models on halves", protocol="splits")
    rows, notes = _as_in_paper(rows, "fig20")
    rows = rows.sort_values(["k", "corruption"]).assign(mixture=lambda frame: frame.apply(mixture_label, axis=1))
    return bar_chart(rows, "mixture", ("test_acc", "mem_acc", "mia_auc"), notes)


SEEDS = "Lines are means over seeds, bars one standard deviation; every network is a faint point."
EPOCHS = "Solid: corrupted samples, dashed: clean ones. Lines are means over seeds, bands one standard deviation."
TARGETS = "Each model is attacked in turn with all others as its shadows; a curve is the mean over them."
CHANNELS = (
    "Points are the median channel of a layer, its median over seeds with bars from the least to the most; the band "
    "holds 90% of the channels. Hollow: before training."
)
FIGURES: tuple[PaperFigure, ...] = (
    PaperFigure(
        "fig1",
        "Fig. 1, section 4.1",
        f"How much of the flipped labels a network fits, against how many were flipped. {SEEDS}",
        ("label_noise", "quickstart"),
        _fig1,
    ),
    PaperFigure(
        "fig2",
        "Fig. 2, section 4.1",
        f"The loss over training with 5% of the labels flipped. {EPOCHS}",
        ("label_noise",),
        _fig2,
    ),
    PaperFigure(
        "fig3",
        "Fig. 3, section 4.1",
        "How much of the images added from another dataset a network fits, at one amount of them, that nearest 10%. "
        "Bars are means over seeds with one standard deviation.",
        ("ood",),
        _fig3,
    ),
    PaperFigure(
        "fig4",
        "Fig. 4, section 4.2",
        "How the gradient norms of single samples are distributed with 5% of the labels flipped. Solid: flipped "
        "samples, dashed: clean ones. Lines are the means of the seeds' densities, bands one standard deviation; "
        "a norm of 0 lies beyond the axis.",
        ("influence",),
        _fig4,
    ),
    PaperFigure(
        "fig5",
        "Fig. 5, section 4.3",
        f"ROC curves of membership inference with images added from another dataset. {TARGETS}",
        ("membership",),
        _fig5,
    ),
    PaperFigure(
        "fig6",
        "Fig. 6, section 4.3",
        f"ROC curves of membership inference with flipped labels. {TARGETS}",
        ("membership",),
        _fig6,
    ),
    PaperFigure(
        "fig7",
        "Fig. 7, section 5",
        f"gamma/sigma by layer at the end of training with 10% of the labels flipped. {CHANNELS}",
        ("gamma_sigma",),
        _fig7,
    ),
    PaperFigure(
        "fig8",
        "Fig. 8, section 6",
        "Left: what the arms memorize and keep, the regularizer at the alpha that memorizes least with a clean "
        f"accuracy of {NEAR_ONE:.0%} or more. Right: the effect of alpha, beside what the arms without it memorize. "
        "Means over seeds with one standard deviation.",
        ("regularizer",),
        _fig8,
    ),
    PaperFigure(
        "fig9", "Fig. 9, C.1", f"gamma/sigma by layer at the end of training. {CHANNELS}", ("gamma_sigma",), _fig9
    ),
    PaperFigure(
        "fig10",
        "Fig. 10, C.2",
        f"The loss over training with more and more labels flipped. {EPOCHS}",
        ("label_noise",),
        _fig10,
    ),
    PaperFigure(
        "fig11",
        "Fig. 11, C.3",
        "How much of the images added from another dataset a network fits, for each amount of them. Bars are means "
        "over seeds with one standard deviation.",
        ("ood",),
        _fig11,
    ),
    PaperFigure(
        "fig12",
        "Fig. 12, C.4",
        f"ROC curves of membership inference with nothing corrupted. {TARGETS}",
        ("membership",),
        _fig12,
    ),
    PaperFigure(
        "fig13",
        "Fig. 13, E.1",
        f"As Fig. 1 at other learning rates. {SEEDS}",
        ("learning_rate",),
        _fig1,
    ),
    PaperFigure(
        "fig14",
        "Fig. 14, C.5",
        "How the AUC of membership inference varies over amounts and kinds of corruption. A point is the mean over the "
        "models of a cell, a box the quartiles of the cells.",
        ("membership",),
        _fig14,
    ),
    PaperFigure("fig15", "Fig. 15, E.2", f"Memorization against the batch size. {SEEDS}", ("batch_size",), _fig15),
    PaperFigure("fig16", "Fig. 16, E.3", f"As Fig. 1 with other optimizers. {SEEDS}", ("optimizer",), _fig1),
    PaperFigure("fig17", "Fig. 17, E.4", f"As Fig. 1 with other norms. {SEEDS}", ("normalization",), _fig1),
    PaperFigure(
        "fig18",
        "Fig. 18, F",
        f"Memorization and test accuracy against how many labels were flipped. {SEEDS}",
        ("label_noise", "quickstart"),
        _fig18,
    ),
    PaperFigure("fig19", "Fig. 19, E.6", f"As Fig. 1 on harder data. {SEEDS}", ("complex_data",), _fig1),
    PaperFigure(
        "fig20",
        "Fig. 20, F",
        "Test accuracy, memorization and the AUC of membership inference of the same models. Bars are means over "
        "models with one standard deviation; the line at an AUC of 0.5 is chance.",
        ("membership",),
        _fig20,
    ),
    PaperFigure(
        "eq11",
        "Prop. 5.6, section 5",
        "How many times as much influence, the squared gradient norm, a flipped sample has with batch norm as without, "
        "over training, beside Eq. 11 with the samples' own margins and with equal ones. Lines are of the median "
        "sample, the geometric mean over seeds, the band their range; epoch 0 is before training.",
        ("influence",),
        _eq11,
    ),
    PaperFigure(
        "a2",
        "A.2",
        "The mean margin of flipped samples over training; at 0 the flipped label is as likely as all others together. "
        "Dashed: batch norm's from its lowest on, were it to memorize (gamma/sigma)^2 times as fast as the other arm "
        "does from its own. Lines are means over seeds, bands their range.",
        ("influence",),
        _a2,
    ),
)
