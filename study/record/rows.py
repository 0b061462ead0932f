"""The rows of one trial, and those of one that could not be run.

Nothing here imports torch, so that who launches trials can do without it.
"""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from study.data import folders
from study.record.provenance import provenance
from study.record.schema import SCHEMAS, conform_to_schema
from study.settings import FOLDER_FIELDS
from study.trial import Trial

Row = dict[str, Any]


@dataclass
class Records:
    """The rows of one trial by table, with the columns that `study.record.schema` states."""

    members: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    samples: pa.Table = field(default_factory=SCHEMAS["samples"].empty_table)
    attacks: list[Row] = field(default_factory=list)
    images: list[Row] = field(default_factory=list)

    def add(self, found: "Records", identity: Row) -> None:
        """Take over the rows of one member, each with its trial and its number."""
        self.members += [{**identity, **row} for row in found.members]
        self.epochs += [{**identity, **row} for row in found.epochs]
        self.layers += [{**identity, **row} for row in found.layers]
        self.samples = pa.concat_tables([self.samples, _identified(found.samples, identity)])


def describe(trial: Trial, seed: int, model: int = 0) -> Row:
    """The scientific columns of one member, with folders under the name that their content has."""
    named = {name: folders.identity(getattr(trial, name)) for name in FOLDER_FIELDS}
    return {**trial.settings(), **named, "seed": seed, "model": model, "cell": trial.cell}


def failed(trial: Trial, error: str) -> Records:
    """The record of a trial that could not be run: a row for each member, without results, saying why."""
    described = [describe(trial, seed, model) for seed, model in trial.members]
    return Records(
        members=[
            {"trial": trial.id, "member": member, **row, "status": "failed", "error": error, **provenance()}
            for member, row in enumerate(described)
        ]
    )


def _identified(table: pa.Table, identity: Row) -> pa.Table:
    """The table with the trial and the member in every row."""
    constant = {name: pa.array([value] * len(table)) for name, value in identity.items()}
    columns = {name: table[name] for name in table.column_names}
    return conform_to_schema("samples", pa.table({**columns, **constant}))
