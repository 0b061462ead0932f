"""Tables of Galloway et al. (2019) in the paper's layout, from our records, beside the paper's numbers.

As in the paper, uncertainties are standard errors of the mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import matching_rows
from analysis.load import Loaded
from analysis.paper import CELLS
from analysis.report.network_tables import NETWORK_TABLES, STAND_INS
from analysis.report.output import Table
from analysis.report.paper_layout import Number, PaperRow, PaperTable
from analysis.report.published_tables import PUBLISHED_TABLES
from analysis.report.published_tables import STAND_INS as PUBLISHED_STAND_INS
from analysis.statistics.corrupted import CORRUPTED_BY, with_corruptions, with_new_test_set
from analysis.statistics.robustness import with_attacks
from analysis.statistics.top5 import with_top5
from study.data.catalog import DATASETS
from study.errors import BadInputError, unknown
from study.record.results import Results
from study.settings import format_value


def _mlp(side: int, norm: str, decay: float, *numbers: Number, relative: bool = False) -> PaperRow:
    levels = {"architecture": "mlp", "resize": side, "norm": norm, "weight_decay": decay}
    return PaperRow(levels, numbers, relative)


def _linear(side: int, decay: float, *numbers: Number) -> PaperRow:
    levels = {"architecture": "linear", "resize": side, "weight_decay": decay}
    return PaperRow(levels, numbers, relative=side > 28)


SIZE, NORM, LAMBDA = {"resize": "side"}, {"norm": "norm"}, {"weight_decay": "lambda"}
ACCURACIES = {"test_acc": "clean", "noise_acc": "noise", "bim_acc": "BIM 0.1"}
LINEAR_TABLES = (
    PaperTable(
        "g19-t6",
        "Table 6",
        "Test accuracy of an MLP in percent, by the size of its images.",
        ("input_dimension",),
        {**SIZE, **NORM},
        ACCURACIES,
        (
            _mlp(28, "none", 0.0, (0.9795, 0.0008), (0.930, 0.004), (0.667, 0.009)),
            _mlp(28, "batch", 0.0, (0.9788, 0.0009), (0.766, 0.007), (0.229, 0.007)),
            _mlp(56, "none", 0.0, (0.9819, 0.0004), (0.938, 0.001), (0.532, 0.007)),
            _mlp(56, "batch", 0.0, (0.9822, 0.0002), (0.793, 0.006), (0.086, 0.008)),
            _mlp(84, "none", 0.0, (0.9827, 0.0004), (0.943, 0.001), (0.476, 0.008)),
            _mlp(84, "batch", 0.0, (0.9828, 0.0005), (0.805, 0.006), (0.061, 0.005)),
        ),
    ),
    PaperTable(
        "g19-t7",
        "Table 7",
        "As Table 6 with weight decay.",
        ("input_dimension",),
        {**SIZE, **LAMBDA, **NORM},
        ACCURACIES,
        (
            _mlp(56, "none", 0.01, (0.9762, 0.0006), (0.9593, 0.0006), (0.879, 0.002)),
            _mlp(56, "batch", 0.01, (0.9623, 0.0003), (0.9022, 0.0018), (0.662, 0.008)),
            _mlp(84, "none", 0.0225, (0.9699, 0.0005), (0.9569, 0.0009), (0.879, 0.001)),
            _mlp(84, "batch", 0.0225, (0.9330, 0.0009), (0.8772, 0.0011), (0.651, 0.005)),
        ),
    ),
    PaperTable(
        "g19-t11",
        "Table 11",
        "A linear model; below the first row ratios to it. The loss is predicted to grow as the side.",
        ("input_dimension",),
        {**SIZE, **LAMBDA},
        {"test_acc": "clean", "fgsm_acc": "FGSM 0.1", "test_loss": "loss", "fgsm_loss": "loss, FGSM 0.1"},
        (
            _linear(28, 0.0, (0.924, 0.001), (0.539, 0.003), (0.268, 0.001), (1.410, 0.004)),
            _linear(56, 0.0, (1.001, 0.001), (0.33, 0.03), (1.011, 0.007), (2.449, 0.009)),
            _linear(56, 0.01, (0.999, 0.002), (0.98, 0.01), (1.010, 0.007), (1.01, 0.01)),
            _linear(84, 0.0, (0.998, 0.002), (0.10, 0.09), (1.06, 0.01), (4.15, 0.02)),
            _linear(84, 0.0225, (0.996, 0.003), (0.96, 0.04), (1.05, 0.02), (1.06, 0.03)),
            _linear(112, 0.0, (0.992, 0.004), (0.1, 0.2), (1.18, 0.03), (5.96, 0.02)),
            _linear(112, 0.05, (0.987, 0.004), (1.00, 0.03), (1.14, 0.04), (1.04, 0.03)),
        ),
    ),
    PaperTable(
        "g19-t12",
        "Table 12",
        "The MLP of Table 6 with its losses; below the first row ratios to it.",
        ("input_dimension",),
        {**SIZE, **NORM},
        {"test_acc": "clean", "bim_acc": "BIM 0.1", "test_loss": "loss", "bim_loss": "loss, BIM 0.1"},
        tuple(
            _mlp(side, norm, 0.0, *numbers, relative=(side, norm) != (28, "none"))
            for side, norm, numbers in (
                (28, "none", ((0.9795, 0.0008), (0.667, 0.009), (0.0669, 0.0008), (1.06, 0.02))),
                (28, "batch", ((0.9992, 0.0012), (0.34, 0.03), (1.06, 0.04), (3.18, 0.03))),
                (56, "none", ((1.0025, 0.0009), (0.80, 0.02), (0.87, 0.02), (1.68, 0.03))),
                (56, "batch", ((1.0027, 0.0008), (0.13, 0.09), (0.91, 0.03), (5.83, 0.03))),
                (84, "none", ((1.0033, 0.0009), (0.71, 0.02), (0.86, 0.02), (2.15, 0.03))),
                (84, "batch", ((1.0033, 0.0010), (0.09, 0.08), (0.88, 0.02), (7.34, 0.02))),
            )
        ),
    ),
)


PAPER_TABLES = tuple(
    sorted((*LINEAR_TABLES, *NETWORK_TABLES, *PUBLISHED_TABLES), key=lambda table: int(table.place.split()[1]))
)
"""The tables that can be made, in the paper's order."""


REPLACED = ("architecture", "source")
"""The settings in which another network may stand in for the paper's."""
LIKE = {"g19-t12": "g19-t6"}
"""The tables that no claim is about, each with one that is about the same cells."""


def find_table(name: str) -> PaperTable:
    """Return the table of that name.

    Raises:
        BadInputError: there is none.
    """
    known = {table.name: table for table in PAPER_TABLES}
    if name not in known:
        raise unknown("table", name, known)
    return known[name]


def paper_table(table: PaperTable, all_records: Sequence[Loaded], results: Results) -> Table:
    """Return a table of the paper from the records of sweeps that feed it, beside the paper's numbers.

    Rows without records say so. The small network of the quick scale stands in for one that has none, and is named.

    Raises:
        BadInputError: the records are of other sweeps, or have none of its rows.
    """
    for loaded in all_records:
        if loaded.sweep not in table.sweeps:
            raise BadInputError(
                f"{table.name} is made from records of {' and '.join(table.sweeps)}, not of {loaded.sweep}."
            )
    members = pd.concat([_tested(loaded, results) for loaded in all_records], ignore_index=True)
    members = _on_datasets(members, table)
    found = {at: _members_of(members, row) for at, row in enumerate(table.rows)}
    if all(rows.empty for rows in found.values()):
        raise BadInputError(f"{all_records[0].sweep}: there are no records of {table.place}.")
    data = [
        {
            **{name: row.levels[name] for name in table.labels},
            **{"result": column, "relative": row.relative, "n": found[at]["seed"].nunique()},
            **dict(zip(("mean", "error"), _mean_error(found[at], column, row.relative, found[0]), strict=True)),
            **dict(zip(("paper", "paper_error"), number or (np.nan, np.nan), strict=True)),
        }
        for at, row in enumerate(table.rows)
        for column, number in zip(table.columns, row.numbers, strict=True)
    ]
    headings = [text for heading in table.columns.values() for text in (heading, "the paper's")]
    where = ", ".join(sorted(members["dataset"].unique()))
    title = f"{table.place} of 2019 ({table.name}), on {where}: {table.caption}"
    sweep = all_records[0].sweep
    shown = Table(title, pd.DataFrame(data), list(table.labels.values()), [*headings, "n"], sweep=sweep)
    for at, row in enumerate(table.rows):
        of_row = data[at * len(table.columns) : (at + 1) * len(table.columns)]
        cells = [
            text
            for number in of_row
            for text in (
                _text(number["mean"], number["error"], _is_percent(table, number)),
                _text(number["paper"], number["paper_error"], _is_percent(table, number)),
            )
        ]
        shown.add_row(*(_label(name, row, found[at]) for name in table.labels), *cells, str(of_row[0]["n"]))
    shown.notes += ["Uncertainties are standard errors of the mean over seeds, as in the paper.", *table.notes]
    shown.notes += _grey_notes(table, members)
    shown.notes += _corruptions_notes(table, pd.concat(found.values()))
    return shown


def _tested(loaded: Loaded, results: Results) -> pd.DataFrame:
    """Return the members of a sweep that have results, with those that are no columns of `members` too."""
    members = loaded.members[loaded.members["status"] == "ok"]
    for join in (with_attacks, with_corruptions, with_new_test_set, with_top5):
        members = join(loaded.sweep, members, results)
    return members


def _on_datasets(members: pd.DataFrame, table: PaperTable) -> pd.DataFrame:
    """Return the members on the paper's datasets, or all where there are none."""
    topic = table.name if table.name in CELLS else LIKE[table.name]
    of_paper = members["dataset"].isin(CELLS[topic]["dataset"])
    return members[of_paper] if of_paper.any() else members


def _members_of(members: pd.DataFrame, row: PaperRow) -> pd.DataFrame:
    """Return the members of a row, or those of the network that stands in for its own where it has none."""
    found, known = matching_rows(members, row.levels), {**STAND_INS, **PUBLISHED_STAND_INS}
    stands_in = {name: known[level] for name, level in row.levels.items() if name in REPLACED and level in known}
    return matching_rows(members, {**row.levels, **stands_in}) if found.empty and stands_in else found


def _label(name: str, row: PaperRow, members: pd.DataFrame) -> str:
    """Return a level of a row as it is shown, with the network that stands in for its own."""
    shown = format_value(row.levels[name])
    here = {*members[name]} if name in REPLACED else {row.levels[name]}
    return f"{shown} ({', '.join(sorted(here))} here)" if here - {row.levels[name]} else shown


def _grey_notes(table: PaperTable, members: pd.DataFrame) -> list[str]:
    """Return a sentence on the attacks on grey images, where a table of colour ones has any."""
    grey = [name for name in sorted(members["dataset"].unique()) if name in DATASETS and DATASETS[name].shape[0] == 1]
    if "pgd_linf_acc" not in table.columns or not grey:
        return []
    return [
        f"On {', '.join(grey)}, which is grey, noise and attack are those of the paper on MNIST: a standard deviation "
        "of 1, and BIM of 0.1 in place of PGD linf."
    ]


def _corruptions_notes(table: PaperTable, members: pd.DataFrame) -> list[str]:
    """Return a sentence on the families of corruptions, where a table has any."""
    if "corruption_error" not in table.columns:
        return []
    told = "; ".join(sorted(members[CORRUPTED_BY].dropna().unique())) or "no corrupted images"
    return [
        f"Corrupted images: {told}; means over five severities. The paper's are the published images of all 19, and it "
        "gives of the mean error only what batch norm adds: 1.9 ± 0.9 points for VGG8, 2.0 ± 0.3 for VGG13, 1.6 ± 0.4 "
        "for WRN-28-10."
    ]


def _mean_error(rows: pd.DataFrame, column: str, relative: bool, first: pd.DataFrame) -> tuple[float, float]:
    """Return the mean over seeds and its standard error, of a ratio to the first row's seed by seed."""
    values = rows.groupby("seed")[column].mean()
    if relative:
        values = values / first.groupby("seed")[column].mean()
    known = values.dropna()
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else np.nan
    return (float(known.mean()) if len(known) else np.nan), error


def _is_percent(table: PaperTable, number: Mapping[str, Any]) -> bool:
    return number["result"] in table.percent and not number["relative"]


def _text(mean: float, error: float, percent: bool) -> str:
    """Return a number with its standard error, or a dash."""
    if np.isnan(mean):
        return "-"
    scale, digits = (100, 2) if percent else (1, 3)
    return f"{scale * mean:.{digits}f}" + ("" if np.isnan(error) else f" ± {scale * error:.{digits}f}")


def tables_named(names: Sequence[str], all_records: Sequence[Loaded], results: Results) -> list[Table]:
    """Return the tables of the paper that are named, from whichever of the sweeps feeds them.

    Raises:
        BadInputError: there is no such table, or no records of it.
    """
    made = []
    for name in names:
        table = find_table(name)
        feeding = [loaded for loaded in all_records if loaded.sweep in table.sweeps]
        if not feeding:
            raise BadInputError(
                f"{name} is made from records of {' and '.join(table.sweeps)}; "
                f"`python -m sweeps run {table.sweeps[0]}` makes them."
            )
        made.append(paper_table(table, feeding, results))
    return made
