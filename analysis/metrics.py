"""The metrics of a member that are compared: their names in print, and the direction that their paper claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from study.errors import unknown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """A result column of `members`.

    Attributes:
        column: the column's name.
        label: its name in tables and figures.
        alternative: the hypothesis of its test: `greater` or `less` in an arm with normalization than in one without,
            as its paper claims, or `two-sided` where none claims a direction.
        counted: of an accuracy, the column that has the number of samples it is a share of; else empty.
    """

    column: str
    label: str
    alternative: str
    counted: str = ""


METRICS = (
    Metric("mem_acc", "memorization", "greater", "n_out"),
    Metric("true_label_acc", "true label", "less", "n_out"),
    Metric("clean_acc", "clean", "greater", "n_in"),
    Metric("test_acc", "test", "greater", "n_test"),
    Metric("mia_auc", "MIA AUC", "greater"),
)
"""The metrics of any member, which the tables show unless others are named."""
GRADIENT_NORM = Metric("grad_norm_out", "gradient norm", "greater")
ROBUSTNESS_METRICS = (
    Metric("noise_acc", "noise", "less", "n_attacked"),
    Metric("pgd_linf_acc", "PGD linf", "less", "n_attacked"),
    Metric("pgd_l2_acc", "PGD l2", "less", "n_attacked"),
    Metric("corruption_error", "corruption error", "greater"),
    Metric("output_bits", "output bits", "two-sided"),
    Metric("weight_norm", "weight norm", "two-sided"),
)
"""The metrics of members whose robustness was measured (Galloway et al., 2019), which claims that the norm costs it."""
ALL_METRICS = (*METRICS, GRADIENT_NORM, *ROBUSTNESS_METRICS)
COUNTED = {metric.column: metric.counted for metric in ALL_METRICS if metric.counted}
"""The accuracies, each with the column that has the number of samples it is a share of."""
LOWER_IS_BETTER = frozenset({"mem_acc", "mia_auc", "grad_norm_out", "corruption_error"})
"""The metrics of which less is better, because they measure what leaks or goes wrong; of all others more is better."""
NEAR_ONE = 0.95
"""The least clean accuracy that counts as "close to 1" in the paper's section 6.

The paper shows bars and gives no number. We take what rounds to 1.0 at one digit, about as fine as such bars can be
read. The claims on Fig. 8, the alpha that our Fig. 8 shows and the verdicts on a tuned regularizer all use it.
"""
MUCH = 2.0
"""The least ratio that counts as "much greater than 1", for which the paper gives no number either."""
PERFECT = 0.99
"""The least memorization that counts as "perfect": what rounds to 1.0 but for a sample in a hundred."""
UNTRAINED = 0.25
"""The largest accuracy on ten classes that counts as "at chance", for which the papers give no number.

Of SVHN the largest class has 19% of the samples.
"""
NEAR_ZERO_LOSS = -log(NEAR_ONE)
"""The largest loss that counts as "close to zero": that of a sample whose label has a probability of `NEAR_ONE`."""
ALIKE = 2.0
"""The factor within which the paper's "similar" and "approximately" are taken to be so."""
UNAFFECTED = 0.05
"""The largest change in memorization over all k that leaves it "largely unaffected"."""
MODEST = 0.05
"""The largest loss in test accuracy that counts as "modest"."""
HALF_POINT = 0.005
"""Half of what the paper's "about 3%" or "around 5%" is rounded to: numbers this close to it are about as much."""


def select_metrics(columns: Sequence[str] | None) -> tuple[Metric, ...]:
    """Return the metrics that are named, by column or as tables head them, in order; by default `METRICS`.

    Raises:
        BadInputError: there is no such metric.
    """
    names = {name.lower(): metric for metric in ALL_METRICS for name in (metric.column, metric.label)}
    for column in columns or ():
        if column.lower() not in names:
            raise unknown("metric", column, [name for of in ALL_METRICS for name in (of.column, of.label)])
    chosen = {names[column.lower()].column for column in columns or ()}
    return tuple(metric for metric in ALL_METRICS if metric.column in chosen) if columns else METRICS


def with_robustness(metrics: Sequence[Metric], members: "pd.DataFrame") -> tuple[Metric, ...]:
    """Return the metrics; where they are `METRICS`, those of robustness too that any of the members has."""
    if tuple(metrics) != METRICS:
        return tuple(metrics)
    measured = (
        metric for metric in ROBUSTNESS_METRICS if metric.column in members and members[metric.column].notna().any()
    )
    return (*METRICS, *measured)
