"""How a table of Galloway et al. (2019) is laid out: its rows, its columns, and the paper's own numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.statistics.corrupted import FAMILY_ACCURACIES, NEW_ACCURACIES
from analysis.statistics.top5 import TOP5, TRANSFERRED

Number = tuple[float, float] | None
"""A number with its standard error; None where there is none."""
SHARES = (
    *("test_acc", "noise_acc", "bim_acc", "fgsm_acc", "pgd_linf_acc", "pgd_l2_acc", "corruption_error"),
    *FAMILY_ACCURACIES,
    *NEW_ACCURACIES,
    *TOP5,
    *TRANSFERRED,
)
"""The results that are shares of images."""


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    Attributes:
        levels: the settings of its members.
        numbers: the paper's, a column each.
        relative: whether they are ratios to the table's first row, seed by seed.
    """

    levels: Mapping[str, Any]
    numbers: tuple[Number, ...]
    relative: bool = False


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        name: its name on the command line.
        place: its place in the paper.
        caption: what it shows.
        sweeps: the sweeps that feed it, the one that was made for it first.
        labels: the settings that name a row, with their headings.
        columns: the results, with their headings.
        rows: its rows in order.
        percent: the columns that are shares and shown in percent, but where they are relative.
        notes: what a reader of the paper's numbers should know.
    """

    name: str
    place: str
    caption: str
    sweeps: tuple[str, ...]
    labels: Mapping[str, str]
    columns: Mapping[str, str]
    rows: tuple[PaperRow, ...]
    percent: tuple[str, ...] = SHARES
    notes: tuple[str, ...] = ()
