"""Excerpts: small copies of a results folder, with some tables of it, that can be kept under version control.

An excerpt is a results folder, and is read as any other. Of each sweep it has one file a table, as a compaction that
has taken in all trials. Cells are added to it, and replaced, whenever more are recorded; no others are lost.

A file is small because each column is stored as suits it: where values repeat, as accuracies do, by a dictionary of
them; else byte by byte, the first bytes of all numbers together. Numbers that were computed in float32, as losses and
gamma/sigma are, are rounded to its 24 bits, so that the rest of their bytes are zeros.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.record.compaction import Compacted, compactions
from study.record.results import Results
from study.record.schema import COMMIT, SCHEMAS, versioned, versioned_schema
from study.record.shards import COMPACTED, ENDING, is_of_many, shards_of

FEW = 3
"""A column gets a dictionary where each of its values comes so often on average."""
MECHANISM = ("margins", "gamma_gradients")
"""The tables whose epochs are read beside those of others."""
Rows = Mapping[str, pa.Table]
"""By table, rows of a sweep."""
Thinned = Mapping[str, Mapping[str, int]]
"""By table and trial, of how many epochs one was kept."""


@dataclass(frozen=True)
class Excerpt:
    """The next state of a sweep in an excerpt, encoded and not yet written.

    Attributes:
        sweep: the sweep's name.
        files: the Parquet file of each table.
        trials: the trials that have rows of each table.
        thinned: by table and trial, of how many epochs one was kept, where not all were.
        added: the trials that were not there before.
        replaced: those that were, with other rows.
        before: the compactions whose rows are in its files.
        own: the shards of single trials whose rows are.
    """

    sweep: str
    files: Mapping[str, bytes]
    trials: Mapping[str, Collection[str]]
    thinned: Thinned
    added: Collection[str]
    replaced: Collection[str]
    before: Sequence[Compacted]
    own: Sequence[str]

    @property
    def manifest(self) -> bytes:
        """The content of its manifest, which says what is in its files."""
        shards = {table: {trial: [0, 0] for trial in trials} for table, trials in self.trials.items()}
        content = versioned({"shards": shards, **({"thinned": self.thinned} if self.thinned else {})})
        return json.dumps(content, sort_keys=True).encode()

    @property
    def digest(self) -> str:
        """16 hex digits of a SHA-256 over its files and its manifest."""
        files = b"".join(self.files[table] for table in sorted(self.files))
        return hashlib.sha256(files + self.manifest).hexdigest()[:16]


def excerpt(into: Results, sweep: str, rows: Rows, every: Mapping[str, int] | None = None) -> Excerpt:
    """Return what a sweep in an excerpt will be with the rows of some trials, each in place of those that it has.

    Args:
        into: the excerpt, which may be empty or have none of the sweep.
        sweep: the sweep's name.
        rows: those of `members`, and of the same trials in other tables.
        every: by table, the epochs to keep: the multiples of the number, each member's first and last, and those at
            which the mechanism was measured, for its margins are read beside the layers of their epoch.

    Raises:
        BadInputError: a file of the excerpt can't be read.
    """
    every = every or {}
    before = compactions(into.store, sweep)
    own = [file.name for table in SCHEMAS for file in shards_of(into.store, sweep, table).values()]
    after, thinning, replaced = {}, {}, set[str]()
    known = set(into.read(sweep, COMMIT, ["trial"])["trial"].to_pylist())
    before_thinned = thinned(into, sweep)
    measured = _measured(rows)
    for table in SCHEMAS:
        old = into.read(sweep, table)
        new = _rounded(table, rows[table]) if table in rows else old.slice(0, 0)
        new = _thin(new, every[table], measured) if table in every else new
        trials = set(new["trial"].to_pylist())
        kept = old.filter(pc.invert(pc.is_in(old["trial"], value_set=pa.array(sorted(trials), pa.string()))))
        together = _in_order(table, pa.concat_tables([kept, new]))
        of_table = {trial: number for trial, number in before_thinned.get(table, {}).items() if trial not in trials}
        of_table |= dict.fromkeys(trials, every[table]) if table in every else {}
        if len(together):
            after[table] = together
        if of_table:
            thinning[table] = of_table
        replaced |= _changed(old, new, trials & known)
    return Excerpt(
        sweep,
        {table: _encoded(content) for table, content in after.items()},
        {table: sorted(set(content["trial"].to_pylist())) for table, content in after.items()},
        thinning,
        sorted(set(rows[COMMIT]["trial"].to_pylist()) - known),
        sorted(replaced),
        before,
        own,
    )


def write(into: Results, content: Excerpt) -> None:
    """Write the next state of a sweep in an excerpt; nothing where it is there already.

    Its files come under new names, then the manifest by which they count, and then those of before are removed: a
    reader finds at every moment one record of each trial, and who writes at the same time loses nothing.

    Raises:
        OSError: the folder can't be written.
    """
    store, sweep, before = into.store, content.sweep, content.before
    store.delete(*_left_behind(into, sweep, before))
    is_there = [each.name.partition("-")[2] for each in before] == [content.digest]
    if not content.files or (is_there and not content.own):
        return
    number = 1 + max((_number(each.name) for each in before), default=0)
    new = Compacted(f"{number:06d}-{content.digest}", {})
    for table, file in content.files.items():
        store.put(new.published(sweep, table), file)
    store.put(new.manifest(sweep), content.manifest)
    store.delete(*(each.manifest(sweep) for each in before))
    store.delete(*(each.published(sweep, table) for each in before for table in SCHEMAS))
    store.delete(*content.own)


def _left_behind(into: Results, sweep: str, before: Sequence[Compacted]) -> list[str]:
    """Return the files of earlier states, whose manifests are gone, that one who was killed has not removed."""
    known, newest = {each.name for each in before}, max((_number(each.name) for each in before), default=0)
    files = [file for table in SCHEMAS for file in into.store.list(f"{sweep}/{table}") if is_of_many(file)]
    names = {file.name: file.base.removeprefix(COMPACTED).removesuffix(ENDING) for file in files}
    # A later one may be of somebody who is about to write its manifest.
    return [file for file, name in names.items() if name not in known and _number(name) < newest]


def _number(name: str) -> int:
    """Return the number of a compaction among its sweep's."""
    return int(name.partition("-")[0])


def thinned(into: Results, sweep: str) -> Thinned:
    """Return of which tables and trials of a sweep in an excerpt not all epochs were kept.

    Raises:
        DamagedError: a manifest can't be read.
    """
    found: dict[str, dict[str, int]] = {}
    for each in reversed(compactions(into.store, sweep)):
        for table, trials in json.loads(into.store.read(each.manifest(sweep))).get("thinned", {}).items():
            found.setdefault(table, {}).update(trials)
    return found


def _measured(rows: Rows) -> set[tuple[str, int]]:
    """Return the trials and epochs at which the mechanism was measured."""
    tables = [rows[table] for table in MECHANISM if table in rows]
    return {pair for table in tables for pair in zip(*(table[n].to_pylist() for n in ("trial", "epoch")), strict=True)}


def _thin(rows: pa.Table, every: int, measured: Collection[tuple[str, int]]) -> pa.Table:
    """Return the rows of the epochs that are multiples of a number, of each member's ends, and of those measured."""
    own = rows.group_by(["trial", "member"]).aggregate([("epoch", "min"), ("epoch", "max")])
    ends = {(row["trial"], row["member"], row[end]) for row in own.to_pylist() for end in ("epoch_min", "epoch_max")}
    keys = zip(*(rows[name].to_pylist() for name in ("trial", "member", "epoch")), strict=True)
    kept = [
        epoch % every == 0 or (trial, member, epoch) in ends or (trial, epoch) in measured
        for trial, member, epoch in keys
    ]
    return rows.filter(pa.array(kept, pa.bool_()))


def _rounded(table: str, rows: pa.Table) -> pa.Table:
    """Return the rows with all numbers that don't repeat as float32 has them; members and strengths as they are."""
    if table in (COMMIT, "attacks", "robustness"):
        return rows
    for place, field in enumerate(rows.schema):
        if pa.types.is_float64(field.type) and not _repeats(rows.column(place)):
            exact = rows.column(place)
            rounded = exact.cast(pa.float32(), safe=False).cast(pa.float64())
            rows = rows.set_column(place, field, rounded)
    return rows


def _in_order(table: str, rows: pa.Table) -> pa.Table:
    """Return the rows in the order of their trials, which keeps that of each."""
    rows = rows.unify_dictionaries()
    return rows.take(pc.sort_indices(rows, sort_keys=[("trial", "ascending")])).cast(versioned_schema(table))


def _changed(old: pa.Table, new: pa.Table, trials: Collection[str]) -> set[str]:
    """Return those of the trials whose rows are others now."""
    if not len(new):
        return set()

    def of(rows: pa.Table, trial: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = rows.filter(pc.equal(rows["trial"], trial)).to_pylist()
        return found

    return {trial for trial in trials if not _alike(of(old, trial), of(new, trial))}


def _alike(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Return whether rows are the same; a NaN is the same as another."""
    return repr(some) == repr(others)


def _repeats(column: pa.ChunkedArray) -> bool:
    """Return whether the values of a column come so often each that a dictionary of them pays."""
    return bool(len(column) >= FEW * pc.count_distinct(column, mode="only_valid").as_py())


def _encoded(rows: pa.Table) -> bytes:
    """Return the rows as a small Parquet file, of which each column is stored as suits it."""
    plain = [name for name in rows.column_names if not _repeats(rows[name])]
    numbers = [name for name in plain if pa.types.is_floating(rows.schema.field(name).type)]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        rows.schema,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in rows.column_names if name not in plain],
        use_byte_stream_split=numbers,
        write_statistics=["trial"],
        store_schema=False,  # it describes the columns, which takes as much room as the rows
    ) as writer:
        writer.write_table(rows.combine_chunks(), row_group_size=max(1, len(rows)))
        writer.add_key_value_metadata(rows.schema.metadata)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded
