"""What is compared: the metrics of a member, their names in print, and which way the paper says they go."""

from dataclasses import dataclass


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
