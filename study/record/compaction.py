"""Compaction: the shards of many trials are put into one file a table, which is read faster.

A compaction writes its files as `<sweep>/compact/<name>.<table>.parquet`, and then its manifest `<name>.json`, which
says which trials are in them. From then on they count. Then each file is moved to its table's own folder, as
`<sweep>/<table>/compacted-<name>.parquet`, and the shards that were taken in are removed, if they are still those that
were read. So there is at every moment one record of each trial, and what one that was stopped has left to do is done by
the next. A folder of a table has at every moment all of its rows, some of them twice between the last two steps: no
object store puts one file in place of many at once.

A later compaction takes in earlier ones that are no larger than what it has already, so that of any number of trials
there are few files, and a row is not written again often.
"""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.errors import DamagedError
from study.record.schema import COMMIT, SCHEMAS, check_version, versioned, versioned_schema
from study.record.shards import (
    COMPACTED,
    ENDING,
    in_groups,
    is_of_many,
    read_shard,
    reader_threads,
    shard_name,
    shards_among,
)
from study.storage.store import File, LocalStore, Store

FOLDER = "compact"
READ_AT_ONCE = 64
ROWS_A_GROUP = 50_000
"""How many rows are read at once, at least, where some trials are wanted of a file that has many."""
LARGE_BYTES = 2**20
"""The size from which a shard stays as it is: to ask for it is little beside reading it."""
MOST_BYTES = 4 * 2**30
"""The most that the shards of one file have together; S3 moves no more than 5 GB."""
LEFT_AFTER_NS = 24 * 3600 * 10**9
"""The age at which the files of a compaction that has no manifest are those of one that was killed."""

Stamp = tuple[int, int]
"""The size of a file and the time of its last change in ns: what tells whether it is still the same."""
Stamps = Mapping[str, Mapping[str, Stamp]]
"""By table and trial, the stamp of a shard."""


@dataclass(frozen=True)
class Compacted:
    """What the manifest of a compaction says.

    Attributes:
        name: that of its files: its number among the sweep's, and what tells two of one number apart.
        shards: the shards that were taken in.
    """

    name: str
    shards: Stamps

    def trials(self, table: str) -> frozenset[str]:
        """Return the trials that have rows of the table in it."""
        return frozenset(self.shards.get(table, ()))

    def manifest(self, sweep: str) -> str:
        """Return the name of its manifest."""
        return f"{sweep}/{FOLDER}/{self.name}.json"

    def staged(self, sweep: str, table: str) -> str:
        """Return the name of its file of a table before that is moved to the table's folder."""
        return f"{sweep}/{FOLDER}/{self.name}.{table}{ENDING}"

    def published(self, sweep: str, table: str) -> str:
        """Return the name of its file of a table in the table's folder."""
        return f"{sweep}/{table}/{COMPACTED}{self.name}{ENDING}"

    def file(self, sweep: str, table: str, files: Collection[str]) -> str:
        """Return the name of its file of a table, given those in the table's folder."""
        published = self.published(sweep, table)
        return published if published in files else self.staged(sweep, table)


def compactions(store: Store, sweep: str) -> list[Compacted]:
    """Return the compactions of a sweep, the latest first.

    Raises:
        DamagedError: a manifest can't be read.
        BadInputError: one is of a later schema version.
    """
    return _read_manifests(store, manifests(store.list(f"{sweep}/{FOLDER}")))


def manifests(files: Sequence[File]) -> list[str]:
    """Return the names of the manifests among files, sorted."""
    return [file.name for file in files if file.name.endswith(".json")]


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


def _read_manifests(store: Store, names: Sequence[str]) -> list[Compacted]:
    with reader_threads(store) as threads:
        return list(threads.map(lambda name: read_manifest(store, name), reversed(names)))


def counting(
    compacted: Sequence[Compacted], table: str, others: Collection[str] = ()
) -> Iterator[tuple[Compacted, frozenset[str]]]:
    """Yield each of some compactions, the latest first, with the trials whose rows of a table count in it.

    Args:
        compacted: the compactions, the latest first.
        table: the table.
        others: the trials whose rows are elsewhere.
    """
    taken = set(others)
    for each in compacted:
        yield each, each.trials(table) - taken
        # A trial that was run again may have no rows of the table any more.
        taken |= each.trials(table) | each.trials(COMMIT)


def compact(store: Store, sweep: str, at_least: int = 1) -> tuple[int, int]:
    """Put the shards of all recorded trials into one file a table, and remove them.

    A trial that is run again has shards of its own again, which count, and which a later compaction takes in. Not while
    trials are being run, and not twice at once: what a trial writes in the very moment in which its shard is removed is
    lost.

    Args:
        store: the results folder's.
        sweep: the sweep's name.
        at_least: how many shards of a table there have to be for anything to be done, where no trial was run again.

    Returns:
        How many shards there were, and how many files they are now.

    Raises:
        BadInputError: a shard can't be read.
        FileNotFoundError: one was removed meanwhile.
        OSError: the store can't be written, or nothing can be removed from it.
    """
    found = _finish(store, sweep)
    earlier = list(found.compacted)
    # The shard of `members` is written last, so that a trial which has it has all the others.
    done = frozenset(found.shards[COMMIT]).union(*(compacted.trials(COMMIT) for compacted in earlier))
    shards = {
        table: {trial: _stamp(file) for trial, file in own.items() if trial in done and file.size <= LARGE_BYTES}
        for table, own in found.shards.items()
    }
    most = max(map(len, shards.values()))
    if not most or (most < at_least and not any(_have_both(shards, each) for each in earlier)):
        return 0, 0
    if not isinstance(store, LocalStore):
        # A store that lets nobody remove anything would have all rows twice.
        store.put(f"{sweep}/{FOLDER}/.removable", b"")
        store.delete(f"{sweep}/{FOLDER}/.removable")
    files = 0
    for batch in _batches(shards):
        merged = [] if files else _worth_merging(batch, earlier, sweep, found.sizes)
        number = 1 + max((int(compacted.name.partition("-")[0]) for compacted in earlier), default=0)
        # No two compactions write the same file, for one that breaks off leaves files behind.
        new = _merge(store, sweep, f"{number:06d}-{uuid4().hex}", batch, merged, found)
        earlier = [new, *earlier[len(merged) :]]
        files += len(new.shards)
    _finish(store, sweep)
    return sum(map(len, shards.values())), files


@dataclass(frozen=True)
class _Found:
    """What there is of a sweep.

    Attributes:
        shards: by table and trial, the shards of one trial.
        compacted: the compactions that count for some trial, the latest first.
        sizes: the size of each file of many trials, by its name.
    """

    shards: Mapping[str, Mapping[str, File]]
    compacted: Sequence[Compacted]
    sizes: Mapping[str, int]


def _finish(store: Store, sweep: str) -> _Found:
    """Do what the compactions so far have left to do, and return what there is then."""
    with reader_threads(store) as threads:
        tables = [COMMIT, *(table for table in SCHEMAS if table != COMMIT)]
        listed = dict(zip(tables, threads.map(lambda table: store.list(f"{sweep}/{table}"), tables), strict=True))
    # After the tables: of a file that is in a table's folder, the manifest was there before.
    files = {file.name: file for file in store.list(f"{sweep}/{FOLDER}")}
    every = _read_manifests(store, manifests(list(files.values())))
    count = {each.name for table in SCHEMAS for each, trials in counting(every, table) if trials}
    compacted = [each for each in every if each.name in count]
    # Those of a manifest that was set aside as damaged are kept beside it.
    aside = {file.base.removesuffix(".json.damaged") for file in files.values() if file.base.endswith(".json.damaged")}
    store.delete(*(each.manifest(sweep) for each in every if each.name not in count))
    own = {table: shards_among(listed[table]) for table in tables}
    taken_in = {table: _taken_in(own, compacted, table) for table in tables}
    sizes: dict[str, int] = {}
    for table in tables:
        here = {file.name: file for file in listed[table]}
        moved = False
        for each in compacted:
            staged, published = each.staged(sweep, table), each.published(sweep, table)
            if staged in files and published not in here and table in each.shards:
                store.move(staged, published)
                here[published], moved = files.pop(staged), True
            if published in here:
                sizes[published] = here[published].size
        if moved and isinstance(store, LocalStore):
            store.sync(f"{sweep}/{table}")
        known = {each.published(sweep, table) for each in compacted}
        merged = [
            file.name
            for file in listed[table]
            if is_of_many(file) and file.name not in known and _name_of(file) not in aside
        ]
        store.delete(*merged, *(own[table][trial].name for trial in taken_in[table]))
    _clear(store, files.values(), every, aside)
    left = {
        table: {trial: file for trial, file in own[table].items() if trial not in taken_in[table]} for table in tables
    }
    return _Found(left, compacted, sizes)


def _taken_in(own: Mapping[str, Mapping[str, File]], compacted: Sequence[Compacted], table: str) -> set[str]:
    """Return the trials with a shard of a table that a compaction has taken in.

    They are those of whose shards all that are there are still what they were. Of a trial that was run again one may
    pass for the same, on a store whose clock tells whole seconds: to remove it alone would lose its rows, for those of
    an earlier file no longer count.
    """
    taken_in: set[str] = set()
    for each in compacted:
        taken_in |= {
            trial
            for trial in own[table].keys() & each.trials(table)
            if all(
                trial not in own[other] or trial not in stamps or _stamp(own[other][trial]) == stamps[trial]
                for other, stamps in each.shards.items()
                if other in own
            )
        }
    return taken_in


def _clear(store: Store, files: Collection[File], every: Sequence[Compacted], aside: Collection[str]) -> None:
    """Remove what is left beside manifests: what was moved, and, after a day, what has none.

    Files without a manifest that are new may be of a compaction that has just begun.
    """
    known = {each.name for each in every}
    left = []
    for file in files:
        name = file.base.partition(".")[0]
        old = time.time_ns() - file.changed_ns > LEFT_AFTER_NS
        if file.base.endswith(ENDING) and name not in aside and (name in known or old):
            left.append(file.name)
    store.delete(*left)


def _name_of(file: File) -> str:
    """Return the name of the compaction that a file of many in a table's folder is of."""
    return file.base.removeprefix(COMPACTED).removesuffix(ENDING)


def _stamp(file: File) -> Stamp:
    return file.size, file.changed_ns


def _have_both(shards: Stamps, earlier: Compacted) -> bool:
    """Return whether a trial has a shard and rows in an earlier compaction, so that the table's folder has it twice."""
    return any(not earlier.shards.get(table, {}).keys().isdisjoint(stamps) for table, stamps in shards.items())


def _batches(shards: Stamps) -> Iterator[dict[str, dict[str, Stamp]]]:
    """Yield the shards in parts that are not too large for one file a table."""
    batch: dict[str, dict[str, Stamp]] = {}
    sizes: Counter[str] = Counter()
    for trial in sorted(frozenset().union(*shards.values())):
        own = {table: stamps[trial] for table, stamps in shards.items() if trial in stamps}
        if batch and any(sizes[table] + stamp[0] > MOST_BYTES for table, stamp in own.items()):
            yield batch
            batch, sizes = {}, Counter()
        for table, stamp in own.items():
            batch.setdefault(table, {})[trial] = stamp
            sizes[table] += stamp[0]
    yield batch


def _worth_merging(
    batch: Stamps, earlier: Sequence[Compacted], sweep: str, sizes: Mapping[str, int]
) -> list[Compacted]:
    """Return the latest compactions, as many as have no more trials than those together that come after them.

    One with a trial that has been run again is among them in any case, so that its rows of before are gone.
    """
    merged: list[Compacted] = []
    needed = max((place for place, each in enumerate(earlier) if _have_both(batch, each)), default=-1)
    trials = max(map(len, batch.values()))
    total = Counter({table: sum(size for size, _ in stamps.values()) for table, stamps in batch.items()})
    for place, each in enumerate(earlier):
        total.update({table: sizes.get(each.published(sweep, table), 0) for table in each.shards})
        own = max(map(len, each.shards.values()))
        if (own > trials and place > needed) or max(total.values()) > MOST_BYTES:
            break
        merged.append(each)
        trials += own
    return merged


def _merge(store: Store, sweep: str, name: str, batch: Stamps, merged: Sequence[Compacted], found: _Found) -> Compacted:
    """Put shards and earlier compactions, the latest first, together as a new one that counts."""
    shards: dict[str, dict[str, Stamp]] = {}
    with reader_threads(store) as threads:

        def own_rows(table: str, trials: Sequence[str]) -> Iterator[pa.Table]:
            for start in range(0, len(trials), READ_AT_ONCE):
                names = [shard_name(sweep, table, trial) for trial in trials[start : start + READ_AT_ONCE]]
                yield pa.concat_tables(threads.map(lambda name: read_shard(store, name, table), names))

        for table in SCHEMAS:
            own = batch.get(table, {})
            counted = [pair for pair in counting(merged, table, {*own, *batch.get(COMMIT, ())}) if pair[1]]
            # A trial has its rows of a table from one of them alone.
            stamps = {trial: each.shards[table][trial] for each, trials in counted for trial in trials}
            if stamps or own:
                shards[table] = {**stamps, **own}
                files = [(each.file(sweep, table, found.sizes), trials) for each, trials in counted]
                sources = [in_groups(store, file, table, trials) for file, trials in files]
                rows = _in_order([own_rows(table, sorted(own)), *sources])
                _write_together(store, table, rows, Compacted(name, {}).staged(sweep, table))
    new = Compacted(name, shards)
    store.put(new.manifest(sweep), json.dumps(versioned({"shards": shards}), sort_keys=True).encode())
    if isinstance(store, LocalStore):
        store.sync(f"{sweep}/{FOLDER}")
    return new


def _in_order(sources: Sequence[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Yield the rows of several sources, each in the order of its trials, in the order of all of them."""
    heads = [(rows, source) for source in sources if (rows := _next(source)) is not None]
    while heads:
        # Up to here nothing more can come from any of them.
        last = min(rows["trial"][-1].as_py() for rows, _ in heads)
        parts, rest = [], []
        for rows, source in heads:
            length = pc.sum(pc.less_equal(rows["trial"], last)).as_py()
            parts.append(rows.slice(0, length))
            following = rows.slice(length) if length < len(rows) else _next(source)
            if following is not None:
                rest.append((following, source))
        heads = rest
        together = pa.concat_tables(parts).unify_dictionaries()
        if len(parts) > 1:
            together = together.take(pc.sort_indices(together, sort_keys=[("trial", "ascending")]))
        yield together


def _next(source: Iterator[pa.Table]) -> pa.Table | None:
    """Return the next rows of a source; None at its end."""
    return next((rows for rows in source if len(rows)), None)


def _write_together(store: Store, table: str, source: Iterator[pa.Table], name: str) -> None:
    """Write rows into one file, and see that all of them can be had from it."""
    schema, total, waiting = versioned_schema(table), 0, 0
    with store.writer(name) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        parts: list[pa.Table] = []

        def write() -> None:
            rows = pa.concat_tables(parts).unify_dictionaries().cast(schema)
            writer.write_table(rows.combine_chunks())
            parts.clear()

        for rows in source:
            parts.append(rows)
            total, waiting = total + len(rows), waiting + len(rows)
            if waiting >= ROWS_A_GROUP:
                write()
                waiting = 0
        if parts:
            write()
    written = len(read_shard(store, name, table, ["trial"]))
    if written != total:
        raise OSError(f"{store.shown(name)} has {written} rows of {total}")
