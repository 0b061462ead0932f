"""Compaction: the shards of many trials are put into one file a table, which is read faster.

The files of a compaction are `<sweep>/compact/<name>.<table>.parquet`, and its manifest `<name>.json` says which trials
are in them. They don't count before the manifest, written last, is there, and a shard is removed only then, and only if
it is still the one that was read. So there is at every moment one record of each trial, and what one that was stopped
has left to do is done by the next.
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from study.errors import DamagedError
from study.record.schema import COMMIT, SCHEMAS, check_version, versioned, versioned_schema
from study.record.shards import read_shard, reader_threads, shard_name, shards_of
from study.record.store import LocalStore, Store

FOLDER = "compact"
READ_AT_ONCE = 64
LEFT_AFTER_NS = 24 * 3600 * 10**9
"""The age at which the files of a compaction that has no manifest are those of one that was killed."""

Stamp = tuple[int, int]
"""The size of a file and the time of its last change in ns: what tells whether it is still the same."""


@dataclass(frozen=True)
class Compacted:
    """What the manifest of a compaction says.

    Attributes:
        name: that of its files: its number among the sweep's, and what tells two of one number apart.
        shards: by table and trial, the shard that was taken in.
    """

    name: str
    shards: Mapping[str, Mapping[str, Stamp]]

    def trials(self, table: str) -> frozenset[str]:
        """Return the trials that have rows of the table in it."""
        return frozenset(self.shards.get(table, ()))

    def file(self, sweep: str, table: str) -> str:
        """Return the name of its file of a table."""
        return f"{sweep}/{FOLDER}/{self.name}.{table}.parquet"


def compactions(store: Store, sweep: str) -> list[Compacted]:
    """Return the compactions of a sweep, the latest first.

    Raises:
        DamagedError: a manifest can't be read.
        BadInputError: one is of a later schema version.
    """
    return [read_manifest(store, name) for name in reversed(manifests(store, sweep))]


def manifests(store: Store, sweep: str) -> list[str]:
    """Return the names of the sweep's manifests, sorted."""
    return [file.name for file in store.list(f"{sweep}/{FOLDER}") if file.name.endswith(".json")]


def read_manifest(store: Store, name: str) -> Compacted:
    """Return what a manifest says.

    Raises:
        DamagedError: it can't be read.
        BadInputError: it is of a later schema version.
    """
    content = store.read(name)
    try:
        manifest = json.loads(content)
        version, tables = manifest["schema_version"], manifest["shards"]
        shards = {table: {trial: tuple(stamp) for trial, stamp in named.items()} for table, named in tables.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedError(
            f"the manifest {store.shown(name)!r} is damaged; `python -m sweeps retry` runs its trials again."
        ) from None
    check_version("manifest", store.shown(name), version)
    return Compacted(name.rpartition("/")[2].removesuffix(".json"), shards)


def compact(store: Store, sweep: str) -> tuple[int, int]:
    """Put the shards of all recorded trials into one file a table, and remove them.

    A trial that is run again has shards of its own again, which count, and which a later compaction puts into files
    beside these. Not for a sweep that is being run: what a trial writes in the very moment in which its shard is
    removed is lost.

    Returns:
        How many shards there were, and how many files they are now.

    Raises:
        BadInputError: a shard can't be read.
        FileNotFoundError: one was removed meanwhile.
        OSError: the store can't be written.
    """
    earlier = compactions(store, sweep)
    for compacted in earlier:
        _remove(store, sweep, compacted.shards)
    # That of `members` is written last, so that a trial which has it has all the others.
    done = frozenset(shards_of(store, sweep, COMMIT)).union(*(compacted.trials(COMMIT) for compacted in earlier))
    shards = {table: _stamps(store, sweep, table, done) for table in SCHEMAS}
    shards = {table: stamps for table, stamps in shards.items() if stamps}
    if not shards:
        return 0, 0
    # No two compactions write the same file, for one that breaks off leaves files behind.
    number = 1 + max((int(compacted.name.partition("-")[0]) for compacted in earlier), default=0)
    new = Compacted(f"{number:06d}-{uuid4().hex}", shards)
    _clear(store, sweep, earlier)
    for table, stamps in shards.items():
        _write_together(store, sweep, table, sorted(stamps), new.file(sweep, table))
    manifest = json.dumps(versioned({"shards": shards}), sort_keys=True)
    store.put(f"{sweep}/{FOLDER}/{new.name}.json", manifest.encode())
    if isinstance(store, LocalStore):
        store.sync(f"{sweep}/{FOLDER}")
    _remove(store, sweep, shards)
    return sum(map(len, shards.values())), len(shards)


def _clear(store: Store, sweep: str, compacted: Sequence[Compacted]) -> None:
    """Remove what compactions that were killed have left; files that are new may be of one that has just begun."""
    files = store.list(f"{sweep}/{FOLDER}")
    # Those of a manifest that was set aside as damaged are kept beside it.
    aside = {file.base.removesuffix(".json.damaged") for file in files if file.base.endswith(".json.damaged")}
    kept = aside | {each.name for each in compacted}
    old = [file for file in files if time.time_ns() - file.changed_ns > LEFT_AFTER_NS]
    left = [file.name for file in old if file.base.endswith(".parquet") and file.base.partition(".")[0] not in kept]
    store.delete(*left)


def _stamps(store: Store, sweep: str, table: str, trials: Collection[str]) -> dict[str, Stamp]:
    """Return the stamps of the shards of some trials."""
    shards = shards_of(store, sweep, table)
    return {trial: (file.size, file.changed_ns) for trial, file in shards.items() if trial in trials}


def _write_together(store: Store, sweep: str, table: str, trials: Sequence[str], name: str) -> None:
    """Write the shards of some trials into one file, and see that all of their rows can be had from it."""
    schema, total = versioned_schema(table), 0
    with (
        reader_threads(store) as threads,
        store.writer(name) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for start in range(0, len(trials), READ_AT_ONCE):
            names = [shard_name(sweep, table, trial) for trial in trials[start : start + READ_AT_ONCE]]
            rows = pa.concat_tables(threads.map(lambda name: read_shard(store, name, table), names))
            writer.write_table(rows.unify_dictionaries().cast(schema))
            total += len(rows)
    written = len(read_shard(store, name, table, ["trial"]))
    if written != total:
        raise OSError(f"{store.shown(name)} has {written} rows of {total}")


def _remove(store: Store, sweep: str, shards: Mapping[str, Mapping[str, Stamp]]) -> None:
    """Remove the shards of the trials of which all that are there are still what they were.

    Of a trial that was run again one may pass for the same, on a store whose clock tells whole seconds: to remove it
    alone would lose its rows, for those of an earlier file no longer count.
    """
    there = {table: _stamps(store, sweep, table, stamps) for table, stamps in shards.items()}
    changed = {
        trial for table, stamps in there.items() for trial, stamp in stamps.items() if stamp != shards[table][trial]
    }
    for table, stamps in there.items():
        store.delete(*(shard_name(sweep, table, trial) for trial in stamps if trial not in changed))
