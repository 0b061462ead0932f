"""The rows of one trial by table: what its lenses measure, and what stands for a trial that could not be run.

Nothing here imports torch, so that a launcher can do without it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import pyarrow as pa

from study.data import folders
from study.record.provenance import provenance
from study.record.schema import SCHEMAS, conform_to_schema
from study.settings import FOLDER_FIELDS
from study.trial import Trial

Row = dict[str, Any]
Rows: TypeAlias = list[Row] | pa.Table
"""The rows of a table: an Arrow table where they are many, as those of `samples` are."""


@dataclass(frozen=True)
class Measurement:
    """What a lens measures of one trained member; it leaves empty what it has nothing for.

    Attributes:
        members: columns of the member's row in `members`, measured when training has ended.
        epochs: columns of its row in `epochs`, measured after an epoch. Those that `members` has as well are reported
            there, from the epoch at which the member is measured.
        samples: columns of `samples`, tensors [N] in the order of D'.
        tables: rows of further tables, by the table's name; those that are measured after an epoch get its number.
    """

    members: Row = field(default_factory=dict)
    epochs: Row = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)


Measurements = Mapping[int, Measurement]
"""What a lens measures of the members of a pack, by their position in it; one that has diverged needs none."""


def merge(measurements: Iterable[Measurement]) -> Measurement:
    """Return what several lenses measure of one member as one measurement.

    Raises:
        KeyError: two lenses measure a column, or have a table, of the same name.
    """
    merged = Measurement()
    for measurement in measurements:
        for part in fields(Measurement):
            columns, more = getattr(merged, part.name), getattr(measurement, part.name)
            if twice := columns.keys() & more.keys():
                raise KeyError(f"two lenses measure {', '.join(sorted(twice))}")
            columns.update(more)
    return merged


Curves = Callable[[str, int, Sequence[Row]], None]
"""A function that is told of the curve of a trial's member, by the trial's id and the member's number, as it goes on.

It gets the rows of `epochs` that are new, in their order, those as well that were measured before a checkpoint.
"""


@dataclass
class Records:
    """The rows of one trial.

    Attributes:
        tables: the rows of each table of `study.record.schema.SCHEMAS`, with the columns that are stated there.
    """

    tables: dict[str, Rows] = field(default_factory=lambda: {table: [] for table in SCHEMAS})

    @property
    def members(self) -> list[Row]:
        """The rows of `members`, one a trained model."""
        rows: list[Row] = self.tables["members"]
        return rows

    def extend(self, tables: Mapping[str, Rows]) -> None:
        """Append rows to tables; those of one table are either always dictionaries or always an Arrow table."""
        for table, rows in tables.items():
            earlier = self.tables[table]
            if isinstance(rows, pa.Table):
                self.tables[table] = pa.concat_tables([earlier, rows]) if len(earlier) else rows
            else:
                self.tables[table] = [*earlier, *rows]

    def identified(self, identity: Row) -> dict[str, Rows]:
        """Return the tables with further columns, such as `trial` and `member`, that are the same in every row."""
        return {table: _identified(table, rows, identity) for table, rows in self.tables.items()}


def _identified(table: str, rows: Rows, identity: Row) -> Rows:
    if not isinstance(rows, pa.Table):
        return [{**identity, **row} for row in rows]
    constant = {name: pa.array([value] * len(rows)) for name, value in identity.items()}
    columns = {name: rows[name] for name in rows.column_names}
    return conform_to_schema(table, pa.table({**columns, **constant}))


def describe(trial: Trial, seed: int, model: int = 0) -> Row:
    """Return the scientific columns of one member; a dataset in a folder goes by the name that its content has."""
    named = {name: folders.identity(getattr(trial, name)) for name in FOLDER_FIELDS}
    return {**trial.settings(), **named, "seed": seed, "model": model, "cell": trial.cell}


def failed(trial: Trial, error: str) -> Records:
    """Return the records of a trial that could not be run: a row for each member, without results, saying why."""
    described = [describe(trial, seed, model) for seed, model in trial.members]
    records = Records()
    records.tables["members"] = [
        {"trial": trial.id, "member": member, **row, "status": "failed", "error": error, **provenance()}
        for member, row in enumerate(described)
    ]
    return records
