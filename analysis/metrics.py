"""What is compared: the metrics of a member, their names in print, and which way the paper says they go."""

from collections.abc import Sequence
from dataclasses import dataclass

from study.errors import unknown


@dataclass(frozen=True)
class Metric:
    """A result column of `members`.

    Attributes:
        column: its name there.
        label: its name in tables and figures.
        alternative: how an arm with normalization differs from one without, as the paper has it; the one-sided
            hypothesis of its test.
    """

    column: str
    label: str
    alternative: str


METRICS = (
    Metric("mem_acc", "memorization", "greater"),
    Metric("true_label_acc", "true label", "less"),
    Metric("clean_acc", "clean", "greater"),
    Metric("test_acc", "test", "greater"),
    Metric("mia_auc", "MIA AUC", "greater"),
)
LOWER_IS_BETTER = frozenset({"mem_acc", "mia_auc"})
"""The metrics by which something leaks; of all others more is better."""


def named(columns: Sequence[str] | None) -> tuple[Metric, ...]:
    """The metrics of those columns, in the order of `METRICS`; all where none is named.

    Raises:
        BadInputError: there is no such metric.
    """
    known = [metric.column for metric in METRICS]
    for column in columns or ():
        if column not in known:
            raise unknown("metric", column, known)
    return tuple(metric for metric in METRICS if not columns or metric.column in columns)
