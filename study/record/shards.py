"""Shards: the files that have rows of one trial, or after a compaction of many, and how they are read."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.errors import BadInputError, DamagedError
from study.record.schema import SCHEMAS, check_schema, conform_to_schema
from study.storage.store import File, Store, StoreError

ENDING = ".parquet"
COMPACTED = "compacted-"
"""How the name begins of a file in a table's folder that has rows of many trials."""
ATTEMPTS = 20
"""How often a reader starts anew where a compaction has removed what it was about to read."""

Result = TypeVar("Result")


def shard_name(sweep: str, table: str, trial: str) -> str:
    """Return the name of a trial's own shard of a table."""
    return f"{sweep}/{table}/{trial}{ENDING}"


def shards_of(store: Store, sweep: str, table: str) -> dict[str, File]:
    """Return the shards of a table that have one trial each, by that trial, sorted."""
    return shards_among(store.list(f"{sweep}/{table}"))


def shards_among(files: Iterable[File]) -> dict[str, File]:
    """Return those of a table's files that are shards of one trial each, by that trial, in their order."""
    own = (file for file in files if file.base.endswith(ENDING) and not is_of_many(file))
    return {file.base.removesuffix(ENDING): file for file in own}


def is_of_many(file: File) -> bool:
    """Return whether a file of a table's folder is one of a compaction."""
    return file.base.startswith(COMPACTED) and file.base.endswith(ENDING)


def read_shard(
    store: Store, name: str, table: str, columns: Sequence[str] | None = None, trials: Collection[str] | None = None
) -> pa.Table:
    """Return the rows of a shard, of whatever earlier schema version it is, as those of this one.

    Args:
        store: where it is.
        name: the file's.
        table: the table that it is a shard of.
        columns: those to read; all by default.
        trials: those whose rows to read, from a file that has many; all by default.

    Raises:
        DamagedError: it is truncated, or no Parquet file.
        BadInputError: it is no record of this project's, or of a version that is not read.
        FileNotFoundError: it is not there any more.
        StoreError: the store can't be read.
    """
    with _opened(store, name, table) as (shard, schema):
        groups = range(shard.num_row_groups) if trials is None else row_groups_of(shard.metadata, trials)
        return _read(shard, schema, list(groups), table, columns, trials)


def in_groups(store: Store, name: str, table: str, trials: Collection[str]) -> Iterator[pa.Table]:
    """Yield the rows of some trials of a file that has many, one row group after the other.

    Raises:
        As `read_shard`.
    """
    with _opened(store, name, table) as (shard, schema):
        for group in row_groups_of(shard.metadata, trials):
            yield _read(shard, schema, [group], table, None, trials)


@contextmanager
def _opened(store: Store, name: str, table: str) -> Iterator[tuple[pq.ParquetFile, pa.Schema]]:
    """Open a shard of a table, with its schema, and say of what goes wrong within whose fault it is."""
    try:
        with store.open(name) as file, pq.ParquetFile(file, pre_buffer=isinstance(file, pa.PythonFile)) as shard:
            schema = shard.schema_arrow  # made anew whenever it is asked for
            check_schema(store.shown(name), table, schema)
            yield shard, schema
    except (FileNotFoundError, StoreError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(
            f"the shard {store.shown(name)!r} is truncated or no Parquet file ({one_line(error)}); "
            f"`python -m sweeps retry` runs its trial again."
        ) from None


def _read(
    shard: pq.ParquetFile,
    schema: pa.Schema,
    groups: Sequence[int],
    table: str,
    columns: Sequence[str] | None,
    trials: Collection[str] | None,
) -> pa.Table:
    complete, stored = schema.equals(SCHEMAS[table]), columns
    if columns is not None and (trials is not None or not complete):
        # Rows are chosen by their trial; and a shard of an earlier version may have none of the columns.
        stored = [name for name in {**dict.fromkeys(columns), "trial": None} if name in schema.names]
    rows = shard.read_row_groups(list(groups), columns=stored, use_threads=False).replace_schema_metadata(None)
    if trials is not None:
        rows = rows.filter(pc.is_in(rows["trial"], value_set=pa.array(sorted(trials))))
    if not complete:
        return conform_to_schema(table, rows, columns)
    return rows if columns is None else rows.select(columns)


def row_groups_of(metadata: pq.FileMetaData, trials: Collection[str]) -> Iterator[int]:
    """Yield the row groups that may have rows of the trials."""
    column = metadata.schema.names.index("trial")
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or any(known.min <= trial <= known.max for trial in trials):
            yield group


def is_readable(store: Store, name: str) -> bool:
    """Return whether all of a file can be read as Parquet.

    Raises:
        StoreError: the store can't be read, which says nothing of the file.
    """
    try:
        with store.open(name) as file, pq.ParquetFile(file, pre_buffer=isinstance(file, pa.PythonFile)) as shard:
            for group in range(shard.num_row_groups):
                shard.read_row_group(group)
    except StoreError:
        raise
    except (pa.ArrowException, OSError):
        return False
    return True


def reader_threads(store: Store) -> ThreadPoolExecutor:
    """Return as many threads as pay where files of a store are read or removed."""
    return ThreadPoolExecutor(max_workers=store.readers)


def until_settled(attempt: Callable[[], Result]) -> Result:
    """Return the result of an attempt, which is made again where a file that it has listed is gone when it is read.

    Raises:
        BadInputError: that doesn't end.
    """
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except FileNotFoundError as error:
            lost = error
    raise BadInputError(f"{str(lost)!r} is listed but not there; move it out of the results folder.")


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
