"""The tables of the record: their columns, and the versions of them that are read.

A shard says in its metadata which table and which schema version it is of. A version says which results there may be,
so whoever adds a column of results raises `SCHEMA_VERSION`; no column is ever dropped or given another type. Then
records are additive: in an earlier shard, a setting that came later has its default, for that is what it was run with,
and a result that came later is null. A shard of a later version, or with a setting that is unknown here, is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from study.errors import BadInputError
from study.settings import DEFAULTS as DEFAULT_SETTINGS
from study.settings import SETTINGS

SCHEMA_VERSION = 2


def column(name: str, kind: pa.DataType, description: str = "", unit: str = "") -> pa.Field:
    """Return a column that says what it has, and in which unit, to whoever reads a shard without this project.

    Records don't depend on it: shards with other descriptions, or with none, are read alike.
    """
    said = {"description": description, "unit": unit}
    return pa.field(name, kind, metadata={key: value for key, value in said.items() if value} or None)


IDENTITY = [("trial", pa.string()), ("member", pa.int32())]
FIT = [
    (name, pa.float64())
    for name in (
        *("mem_acc", "mem_loss", "true_label_acc", "clean_acc", "clean_loss"),
        *("test_acc", "test_loss", "val_acc", "val_loss"),
    )
]
SCHEMAS: Mapping[str, pa.Schema] = {
    "members": pa.schema(
        [
            *IDENTITY,
            ("cell", pa.string()),
            *(column(name, stated.arrow, stated.description, stated.unit) for name, stated in SETTINGS.items()),
            ("model", pa.int32()),
            ("n_out", pa.int64()),
            ("n_in", pa.int64()),
            ("n_test", pa.int64()),
            ("n_val", pa.int64()),
            ("parameters", pa.int64()),
            ("epoch", pa.int32()),
            *FIT,
            ("mia_auc", pa.float64()),
            ("mia_attack", pa.string()),
            ("mia_tpr_at_1e3fpr", pa.float64()),
            ("val_mia_auc", pa.float64()),
            ("gamma_over_sigma", pa.float64()),
            ("grad_norm_out", pa.float64()),
            ("grad_norm_in", pa.float64()),
            ("status", pa.string()),
            ("error", pa.string()),
            ("backend", pa.string()),
            ("pack", pa.int32()),
            ("device", pa.string()),
            ("seconds", pa.float64()),
            ("started", pa.timestamp("us", tz="UTC")),
            ("git_commit", pa.string()),
            ("git_dirty", pa.bool_()),
            ("versions", pa.string()),
            ("schema_version", pa.int32()),
        ]
    ),
    "epochs": pa.schema([*IDENTITY, ("epoch", pa.int32()), ("step", pa.int64()), *FIT]),
    "layers": pa.schema(
        [
            *IDENTITY,
            ("epoch", pa.int32()),
            ("layer", pa.string()),
            ("depth", pa.int32()),
            ("channels", pa.int32()),
            ("ratio_mean", pa.float64()),
            ("ratio_median", pa.float64()),
            ("ratio_q05", pa.float64()),
            ("ratio_q95", pa.float64()),
        ]
    ),
    "samples": pa.schema(
        [
            *IDENTITY,
            ("sample", pa.int64()),
            ("group", pa.dictionary(pa.int8(), pa.string())),
            ("label", pa.int32()),
            ("original_label", pa.int32()),
            ("is_member", pa.bool_()),
            ("score", pa.float32()),
            ("mirror_score", pa.float32()),
            ("correct", pa.bool_()),
            ("grad_norm", pa.float32()),
        ]
    ),
    "attacks": pa.schema(
        [
            *IDENTITY,
            ("attack", pa.string()),
            ("group", pa.string()),
            ("auc", pa.float64()),
            ("balanced_acc", pa.float64()),
            ("tpr_at_1e2fpr", pa.float64()),
            ("tpr_at_1e3fpr", pa.float64()),
            ("tpr_at_0fp", pa.float64()),
            ("n_in", pa.int64()),
            ("n_out", pa.int64()),
        ]
    ),
    "images": pa.schema(
        [
            ("trial", pa.string()),
            ("seed", pa.int64()),
            ("sample", pa.int64()),
            ("group", pa.string()),
            ("label", pa.int32()),
            ("original_label", pa.int32()),
            ("in_acc", pa.float64()),
            ("out_acc", pa.float64()),
            ("image", pa.binary()),
        ]
    ),
}
COMMIT = "members"
"""The table whose shard is written last, and so says that a trial is done."""
DEFAULTS: Mapping[str, Any] = {name: value for name, value in DEFAULT_SETTINGS.items() if name != "seed"}
"""What a setting was before there was one."""
EVER = {"trial", "member", "cell", "seed", "model", "status"}
"""The columns that a shard of any version has, if its table has them."""


def encode_table(table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:
    """Return the rows of a table as a Parquet file of the current schema version.

    Args:
        table: its name.
        rows: a column that a row lacks is null.

    Raises:
        KeyError: a row has a column that the table doesn't.
    """
    schema = versioned_schema(table)
    content = rows if isinstance(rows, pa.Table) else _from_rows(table, rows, schema)
    # A few rows of many columns: read plain, they take a third of the time, which counts where there are thousands.
    plain = table == COMMIT
    sink = pa.BufferOutputStream()
    pq.write_table(content.cast(schema), sink, compression="none" if plain else "zstd", use_dictionary=not plain)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def versioned_schema(table: str) -> pa.Schema:
    """Return the schema of a file of a table, which says what it is."""
    return SCHEMAS[table].with_metadata({"normleak_table": table, "normleak_schema_version": str(SCHEMA_VERSION)})


def conform_to_schema(table: str, rows: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows with the columns of a table, or with some of them in that order, each of its type.

    A setting that the rows lack has its default; any other column that they lack is null.
    """
    names = SCHEMAS[table].names if columns is None else list(columns)
    for name in set(names) - set(rows.column_names):
        default = DEFAULTS.get(name) if table == COMMIT else None
        rows = rows.append_column(name, pa.array([default] * len(rows), SCHEMAS[table].field(name).type))
    schema = SCHEMAS[table] if columns is None else pa.schema([SCHEMAS[table].field(name) for name in names])
    return rows.select(names).cast(schema)


def describe_columns(table: str, rows: pa.Table) -> pa.Table:
    """Return the rows with this version's description of each column, whatever their shards say of it."""
    return pa.Table.from_arrays(
        rows.columns, schema=pa.schema([SCHEMAS[table].field(name) for name in rows.schema.names])
    )


def check_schema(path: str, table: str, schema: pa.Schema) -> None:
    """Refuse a file that is no shard of a table, or of a version that is not read.

    Args:
        path: the file's, for the message.
        table: what it is to be a shard of.
        schema: the file's.

    Raises:
        BadInputError: it says why.
    """
    stored = schema.metadata or {}
    metadata = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in stored.items()}
    version = metadata.get("normleak_schema_version", "")
    if metadata.get("normleak_table") != table or not version.isdecimal():
        raise BadInputError(f"the shard {path!r} is no record of {table}; move it out of the results folder.")
    check_version("shard", path, int(version))
    expected = SCHEMAS[table]
    if schema.equals(expected):
        return
    known = all(field.name in expected.names and field.type == expected.field(field.name).type for field in schema)
    missing = set(expected.names) - set(schema.names)
    may_be_missing = set(DEFAULTS) if int(version) == SCHEMA_VERSION else set(expected.names) - EVER
    if not known or not missing <= may_be_missing:
        raise BadInputError(f"the shard {path!r} says schema version {version} but has other columns; move it away.")


def versioned(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a plan or a manifest with the current schema version."""
    return {**content, "schema_version": SCHEMA_VERSION}


def check_version(kind: str, path: str, version: object) -> None:
    """Refuse a file of a later schema version.

    Args:
        kind: what the file is, for the message.
        path: the file's, for the message.
        version: what it says.

    Raises:
        BadInputError: that is later, or no version.
    """
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise BadInputError(
            f"the {kind} {path!r} has schema version {version}, this normleak reads {SCHEMA_VERSION}; "
            f"use the normleak that wrote it, or another results folder."
        )


def _from_rows(table: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    strange = {name for row in rows for name in row} - set(schema.names)
    if strange:
        raise KeyError(f"{table} has no column {', '.join(sorted(strange))}")
    stamp = {"schema_version": SCHEMA_VERSION} if "schema_version" in schema.names else {}
    return pa.Table.from_pylist([{**row, **stamp} for row in rows], schema=schema)
