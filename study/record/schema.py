"""The columns of every table of the record, and its schema version."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from study.errors import BadInputError

SCHEMA_VERSION = 2
IDENTITY = [("trial", pa.string()), ("member", pa.int32())]
FIT = [
    (name, pa.float64())
    for name in (
        *("mem_acc", "mem_loss", "true_label_acc", "clean_acc", "clean_loss"),
        *("test_acc", "test_loss", "val_acc", "val_loss"),
    )
]
SETTINGS = [
    ("dataset", pa.string()),
    ("subset", pa.int32()),
    ("validation", pa.float64()),
    ("corruption", pa.string()),
    ("k", pa.float64()),
    ("ood", pa.string()),
    ("architecture", pa.string()),
    ("norm", pa.string()),
    ("regularizer", pa.string()),
    ("alpha", pa.float64()),
    ("label_smoothing", pa.float64()),
    ("optimizer", pa.string()),
    ("lr", pa.float64()),
    ("weight_decay", pa.float64()),
    ("batch_size", pa.int32()),
    ("epochs", pa.int32()),
    ("eval_every", pa.int32()),
    ("stopping", pa.string()),
    ("precision", pa.string()),
    ("samples", pa.string()),
    ("queries", pa.string()),
    ("protocol", pa.string()),
    ("models", pa.int32()),
    ("seed", pa.int64()),
]
SCHEMAS: Mapping[str, pa.Schema] = {
    "members": pa.schema(
        [
            *IDENTITY,
            ("cell", pa.string()),
            *SETTINGS,
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


def versioned_schema(table: str) -> pa.Schema:
    """Return the schema of a table, with the table's name and the schema version as metadata."""
    return SCHEMAS[table].with_metadata({"normleak_table": table, "normleak_schema_version": str(SCHEMA_VERSION)})


def encode_table(table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:
    """Return the rows of a table as the bytes of a Parquet file."""
    schema = versioned_schema(table)
    sink = pa.BufferOutputStream()
    content = rows if isinstance(rows, pa.Table) else _from_rows(table, rows, schema)
    # A few rows of many columns: read plain, they take a third of the time, which counts where there are thousands.
    plain = table == COMMIT
    pq.write_table(content.cast(schema), sink, compression="none" if plain else "zstd", use_dictionary=not plain)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _from_rows(table: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    strange = {name for row in rows for name in row} - set(schema.names)
    if strange:
        raise KeyError(f"{table} has no column {', '.join(sorted(strange))}")
    stamp = {"schema_version": SCHEMA_VERSION} if "schema_version" in schema.names else {}
    return pa.Table.from_pylist([{**row, **stamp} for row in rows], schema=schema)


def check_schema(path: str, table: str, schema: pa.Schema) -> None:
    """Refuse a file that is no record of the table, or of another schema version."""
    stored = schema.metadata or {}
    metadata = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in stored.items()}
    version = metadata.get("normleak_schema_version")
    if metadata.get("normleak_table") != table or version is None:
        raise BadInputError(f"the shard {path!r} is no record of {table}; move it out of the results folder.")
    if version != str(SCHEMA_VERSION):
        raise BadInputError(other_version_message("shard", path, version))
    if not schema.remove_metadata().equals(SCHEMAS[table]):
        raise BadInputError(f"the shard {path!r} says schema version {version} but has other columns; move it away.")


def other_version_message(kind: str, path: str, version: object) -> str:
    """Return the sentence that refuses a file of another schema version."""
    return (
        f"the {kind} {path!r} has schema version {version}, this normleak reads {SCHEMA_VERSION}; "
        f"use the normleak that wrote it, or another results folder."
    )
