"""Results: what trials leave behind, in Parquet, in a local folder or an object store.

A trial's shard of a table is `RESULTS/<sweep>/<table>/<trial id>.parquet`. It is written once and whole, and the shard
of `members` last, so that a trial whose `members` shard is there is done. The shards of many trials are compacted into
few files a table, `RESULTS/<sweep>/<table>/compacted-<name>.parquet`.
"""

import json
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from study.errors import BadInputError, DamagedError
from study.record import compaction
from study.record.checkpoints import CheckpointStore
from study.record.schema import COMMIT, SCHEMAS, check_version, describe_columns, encode_table, versioned
from study.record.shards import (
    is_readable,
    read_shard,
    reader_threads,
    shard_name,
    shards_among,
    shards_of,
    until_settled,
)
from study.record.weights import WeightStore
from study.storage.location import absolute, below, public
from study.storage.open import open_store
from study.storage.store import LocalStore, Store

Source = tuple[str, frozenset[str] | None]
"""The name of a file with rows, and of a file of many the trials that it counts for."""

PARTS_OF_A_SWEEP = (COMMIT, "plans", compaction.FOLDER)
"""The folders of which a sweep's own has at least one with files in it."""
MOST_AT_ONCE = 100
"""How many files a thread reads before it puts their rows together."""


@dataclass(frozen=True, repr=False)
class Results:
    """A results folder: one folder a sweep, in it one a table, and one each for its plans and checkpoints.

    As text it is what may be shown; only `location` has the credentials that a URI may name.

    Attributes:
        location: a local path, or a URI such as `s3://bucket/prefix`.
    """

    location: str

    @classmethod
    def at(cls, location: str | os.PathLike[str]) -> "Results":
        """Return the folder, its local path made absolute so that workers in other directories find it too."""
        return cls(absolute(os.fspath(location)))

    def __str__(self) -> str:
        return public(self.location)

    def __repr__(self) -> str:
        return f"Results({str(self)!r})"

    @property
    def argument(self) -> str:
        """The location as a user types it in a command."""
        return shlex.quote(str(self))

    def below(self, *parts: str) -> str:
        """Return the path or URI of something in it, as it may be shown."""
        return below(str(self), *parts)

    @cached_property
    def store(self) -> Store:
        """Where the files are.

        Raises:
            BadInputError: the URI can't be used.
        """
        return open_store(self.location)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine or one that is mounted, and no object store."""
        return isinstance(self.store, LocalStore)

    def check_writable(self) -> None:
        """Fail now rather than after training, on a disk that is full as well.

        Raises:
            BadInputError: the folder can't be made or written, or the bucket is not there.
        """
        try:
            self.store.check_writable()
        except OSError as error:
            raise BadInputError(f"results can't be written to {str(self)!r}: {error}") from None

    def exists(self) -> bool:
        """Return whether there is such a folder."""
        return self.store.exists()

    def sweeps(self) -> list[str]:
        """Return the names of the sweeps that have records or plans here, sorted.

        Raises:
            BadInputError: there is no such folder.
        """
        if not self.exists():
            raise BadInputError(f"there is no results folder {str(self)!r}.")
        return [
            name
            for name in self.store.folders()
            if any(self.store.list(f"{name}/{folder}") for folder in PARTS_OF_A_SWEEP)
        ]

    def write(self, sweep: str, trial: str, tables: Mapping[str, Sequence[Mapping[str, Any]] | pa.Table]) -> None:
        """Write a trial's shards, that of `members` last.

        Args:
            sweep: the sweep's name.
            trial: the trial's id.
            tables: its rows by table, or an Arrow table where they are many. A column that a row lacks is null; one
                that no schema knows is a mistake. A table without rows leaves no shard.

        Raises:
            OSError: the folder can't be written; then the trial is not done.
        """
        for table in sorted(tables, key=lambda table: table == COMMIT):
            if len(tables[table]):
                self.store.put(shard_name(sweep, table, trial), encode_table(table, tables[table]))

    def done(self, sweep: str) -> set[str]:
        """Return the ids of the trials that have rows in `members`, whatever their outcome."""

        def find() -> set[str]:
            own = set(shards_of(self.store, sweep, COMMIT))
            return own.union(*(each.trials(COMMIT) for each in compaction.compactions(self.store, sweep)))

        return until_settled(find)

    def ran(self, sweep: str, trial: str) -> bool:
        """Return whether a trial has rows in `members` that can be read and don't say that it could not be run."""
        return trial in self.ran_of(sweep, {trial})

    def ran_of(self, sweep: str, trials: Collection[str]) -> set[str]:
        """Return which of the trials `ran`."""

        def statuses(source: Source) -> list[dict[str, str]]:
            with suppress(BadInputError):
                rows: list[dict[str, str]] = self._rows(source, COMMIT, ["trial", "status"]).to_pylist()
                return rows
            return []

        def find() -> set[str]:
            sources = self._sources(sweep, COMMIT, frozenset(trials))
            with reader_threads(self.store) as threads:
                rows = [row for rows in threads.map(statuses, sources) for row in rows]
            return {row["trial"] for row in rows} - {row["trial"] for row in rows if row["status"] == "failed"}

        try:
            return until_settled(find) if trials else set()
        except BadInputError:  # it is not known of any
            return set()

    def read(
        self, sweep: str, table: str, columns: Sequence[str] | None = None, trials: Collection[str] | None = None
    ) -> pa.Table:
        """Return all rows of a table of a sweep, or those of some trials, in the order of the trials' ids.

        In those of an earlier schema version, a setting that came later has its default, and a result is null.

        Raises:
            BadInputError: a shard is truncated, no record of this project's, or of a later schema version.
        """
        return until_settled(lambda: self._read(sweep, table, columns, trials))

    def _read(self, sweep: str, table: str, columns: Sequence[str] | None, trials: Collection[str] | None) -> pa.Table:
        sources = self._sources(sweep, table, None if trials is None else frozenset(trials))
        # Where one file has many trials, rows are put in order by the trial.
        mixed = any(of_many for _, of_many in sources)
        needed = ["trial", *columns] if mixed and columns is not None and "trial" not in columns else columns

        # A column of many small pieces takes far more memory and time than one of few large ones.
        at_once = min(MOST_AT_ONCE, max(1, len(sources) // (4 * self.store.readers)))
        together = [sources[start : start + at_once] for start in range(0, len(sources), at_once)]
        with reader_threads(self.store) as threads:
            tables = list(threads.map(lambda some: self._rows_of(some, table, needed), together))
        rows = pa.concat_tables(tables) if tables else SCHEMAS[table].empty_table()
        if mixed and len(sources) > 1:
            rows = rows.unify_dictionaries()
            rows = rows.take(pc.sort_indices(rows, sort_keys=[("trial", "ascending")]))  # which keeps equals in order
        return describe_columns(table, rows if columns is None else rows.select(columns))

    def _rows_of(self, sources: Sequence[Source], table: str, columns: Sequence[str] | None) -> pa.Table:
        """Return the rows of several files, each column in one piece if its type allows that of any rows."""
        rows = pa.concat_tables([self._rows(source, table, columns) for source in sources])
        coded = any(pa.types.is_dictionary(field.type) for field in rows.schema)  # there may be too many codes
        return rows if coded else rows.combine_chunks()

    def _rows(self, source: Source, table: str, columns: Sequence[str] | None) -> pa.Table:
        return read_shard(self.store, source[0], table, columns, source[1])

    def _sources(self, sweep: str, table: str, trials: frozenset[str] | None) -> list[Source]:
        """Return the files with the trials' rows.

        A trial's own shard counts before any file of many, and a later one of these before an earlier one. Shards are
        listed first: before a compaction removes one, it has said where its rows are.
        """
        files = self.store.list(f"{sweep}/{table}")
        own, names = shards_among(files), {file.name for file in files}
        sources: list[Source] = [(file.name, None) for trial, file in own.items() if trials is None or trial in trials]
        if trials is not None and trials <= own.keys():
            return sources
        for compacted, counting in compaction.counting(compaction.compactions(self.store, sweep), table, own):
            wanted = counting if trials is None else counting & trials
            if wanted:
                sources.append((compacted.file(sweep, table, names), wanted))
        return sources

    def compact(self, sweep: str, at_least: int = 1) -> tuple[int, int]:
        """Put the shards of all recorded trials of a sweep into one file a table.

        See `compaction.compact`, whose `FileNotFoundError` has it begin anew.
        """
        return until_settled(lambda: compaction.compact(self.store, sweep, at_least))

    def compact_many(self, sweep: str) -> str:
        """Compact a sweep as it is being run, where it has so many shards that they are read faster afterwards.

        Records are good without it, so what goes wrong is told and stops nothing.

        Returns:
            Why it could not be done; empty if it was, or need not be.
        """
        try:
            self.compact(sweep, self.store.many)
        except (BadInputError, OSError) as error:
            return str(error)
        return ""

    def quarantine_damaged(self, sweep: str) -> set[str]:
        """Rename all shards of every trial that has one which can't be read as Parquet, and return their trials' ids.

        The shards stay beside the others as `<trial id>.parquet.damaged`, and the trials count as missing. Of a file of
        many trials it is the manifest that is renamed, with the files of its compaction, and all of them are missing.
        """
        store = self.store

        def set_aside(name: str) -> None:
            with suppress(FileNotFoundError):  # the launch of another part of the sweep was faster
                store.move(name, f"{name}.damaged")

        tables = sorted(SCHEMAS, key=lambda table: table != COMMIT)
        with reader_threads(store) as threads:
            listed = dict(zip(tables, threads.map(lambda table: store.list(f"{sweep}/{table}"), tables), strict=True))
            shards = [(trial, file.name) for files in listed.values() for trial, file in shards_among(files).items()]
            readable = threads.map(lambda shard: is_readable(store, shard[1]), shards)
            damaged = {trial for (trial, _), good in zip(shards, readable, strict=True) if not good}
            aside = [name for trial, name in shards if trial in damaged]
            manifests = []
            names = {file.name for files in listed.values() for file in files}
            for name in compaction.manifests(store.list(f"{sweep}/{compaction.FOLDER}")):
                base = name.rpartition("/")[2].removesuffix(".json")
                compacted = compaction.Compacted(base, {})
                try:
                    compacted = compaction.read_manifest(store, name)
                    files = [compacted.file(sweep, table, names) for table in compacted.shards]
                    good = bool(files) and all(threads.map(lambda file: is_readable(store, file), files))
                except DamagedError:
                    good = False
                if not good:
                    damaged |= compacted.trials(COMMIT)
                    published = (compacted.published(sweep, table) for table in tables)
                    aside += [file for file in published if file in names]
                    manifests.append(name)
            for together in (aside, manifests):  # a file whose manifest is gone would be missed by the next
                list(threads.map(set_aside, together))
        return damaged

    def checkpoints(self, sweep: str) -> CheckpointStore:
        """Return where the checkpoints of the sweep's unfinished trials are kept."""
        return CheckpointStore(self.store, sweep)

    def weights(self, sweep: str) -> WeightStore:
        """Return where the trained weights of the sweep's members are kept."""
        return WeightStore(self.store, sweep)

    def save_plan(self, sweep: str, name: str, plan: Mapping[str, Any]) -> None:
        """Keep what a launch set out to run, under a name that its content determines."""
        self.store.put(f"{sweep}/plans/{name}.json", json.dumps(versioned(plan), sort_keys=True).encode())

    def plans(self, sweep: str) -> list[dict[str, Any]]:
        """Return what all launches of the sweep set out to run. A plan of any earlier schema version is read.

        Raises:
            BadInputError: a plan is no JSON, or of a later schema version.
        """
        files = self.store.list(f"{sweep}/plans")
        with reader_threads(self.store) as threads:
            return list(threads.map(self._plan, (file.name for file in files)))

    def _plan(self, name: str) -> dict[str, Any]:
        try:
            plan: dict[str, Any] = json.loads(self.store.read(name))
        except ValueError:
            raise BadInputError(
                f"the plan {self.store.shown(name)!r} is damaged; remove it and run the sweep again."
            ) from None
        if isinstance(plan, dict):
            check_version("plan", self.store.shown(name), plan.pop("schema_version", 1))
        return plan
