"""The record: what a trial leaves behind, in Parquet.

A trial's shard of a table is `RESULTS/<sweep>/<table>/<trial id>.parquet`. It is written once and whole, and the
shard of `members` last, so that a trial whose `members` shard exists is done. `RESULTS` is a local path or any URI
that `pyarrow.fs` knows. The formats are stated here and nowhere else.

A finished sweep may be compacted: then one file a table has the rows of many trials, and a manifest says of which.
"""

import json
import os
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from study.errors import BadInputError, DamagedError
from study.record.checkpoints import Kept
from study.record.compaction import COMPACTED, LEFT_AFTER_NS, Compacted, Stamp, row_groups_of
from study.record.leases import Claims
from study.record.location import below, is_uri, public, without_secrets
from study.record.schema import (
    COMMIT,
    SCHEMAS,
    check_schema,
    check_version,
    conform_to_schema,
    encode_table,
    versioned,
    versioned_schema,
)
from study.record.store import file_stem, first_line, single_request_uri, sync_to_disk

READ_AT_ONCE = 64
ATTEMPTS = 20
"""How often a reader looks again where a compaction takes away what it was about to read."""
Found = TypeVar("Found")


@dataclass(frozen=True, repr=False)
class Results:
    """A results folder: one folder a sweep, in it one a table, and one each for its plans, checkpoints and claims.

    As text it is what may be shown; only `location` has the credentials that a URI may name.

    Attributes:
        location: a local path, or a URI such as `s3://bucket/prefix`.
    """

    location: str

    @classmethod
    def at(cls, location: str | os.PathLike[str]) -> "Results":
        """The folder, its local path made absolute so that workers in other directories find it too."""
        text = os.fspath(location)
        if is_uri(text):
            return cls(text)
        try:
            return cls(str(Path(text).expanduser().absolute()))
        except RuntimeError as error:
            raise BadInputError(f"results {text!r} can't be found: {error}.") from None

    def __str__(self) -> str:
        return public(self.location)

    def __repr__(self) -> str:
        return f"Results({str(self)!r})"

    @property
    def argument(self) -> str:
        """As a user would type it in a command."""
        return shlex.quote(str(self))

    def below(self, *parts: str) -> str:
        """What is in it by its path or URI, as it may be shown."""
        return below(str(self), *parts)

    @cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        if not is_uri(self.location):
            return fs.LocalFileSystem(), self.location
        uri = single_request_uri(self.location)
        try:
            filesystem, path = fs.FileSystem.from_uri(uri)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            said = without_secrets(first_line(error).replace(uri, self.location), self.location)
            raise BadInputError(f"results {str(self)!r} can't be opened: {said}") from None
        return filesystem, path

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine or one that is mounted, and no object store."""
        return isinstance(self._opened[0], fs.LocalFileSystem)

    def _path(self, *parts: str) -> str:
        return "/".join([self._opened[1].rstrip("/"), *parts])

    def check_writable(self) -> None:
        """Fail now rather than after training, on a disk that is full as well.

        On a store one empty object `.writable` is left: to remove it would take a right that writing doesn't.

        Raises:
            BadInputError: the folder can't be made or written, or the bucket is not there.
        """
        try:
            if self.is_local:
                self._put(f".writable-{uuid4().hex}", bytes(4096), keep=False)
            else:
                self._put(".writable", b"")
        except OSError as error:
            raise BadInputError(f"results can't be written to {str(self)!r}: {self._reason(error)}") from None

    def _reason(self, error: OSError) -> str:
        """Why a store or a disk refuses, in one line."""
        filesystem, path = self._opened
        bucket = path.partition("/")[0]
        if not self.is_local:
            with suppress(OSError):
                if filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
                    return f"there is no bucket {bucket!r}; make it first."
        return without_secrets(first_line(error), self.location)

    def _put(self, name: str, content: bytes, keep: bool = True) -> None:
        with self._stream(name, keep) as stream:
            stream.write(content)

    @contextmanager
    def _stream(self, name: str, keep: bool = True) -> Iterator[pa.NativeFile]:
        """What writes a file that is there whole or not at all: by renaming locally, by one put on an object store."""
        filesystem, path = self._opened[0], self._path(name)
        if not self.is_local:
            # A store has no folders; Arrow would make empty objects that stand for them.
            with filesystem.open_output_stream(path, compression=None) as stream:
                yield stream
            return
        folder, _, base = path.rpartition("/")
        filesystem.create_dir(folder, recursive=True)
        written = f"{folder}/.{base}.{uuid4().hex}.tmp"
        try:
            with filesystem.open_output_stream(written, compression=None) as stream:
                yield stream
            if keep:
                sync_to_disk(written)
                Path(written).replace(path)
        finally:
            Path(written).unlink(missing_ok=True)

    def exists(self) -> bool:
        """Whether there is such a folder."""
        filesystem, path = self._opened
        return bool(filesystem.get_file_info(path).type == fs.FileType.Directory)

    def sweeps(self) -> list[str]:
        """The names of the sweeps that have records or plans here, sorted.

        Raises:
            BadInputError: there is no such folder.
        """
        filesystem, path = self._opened
        if not self.exists():
            raise BadInputError(f"there is no results folder {str(self)!r}.")
        folders = [
            info for info in filesystem.get_file_info(fs.FileSelector(path)) if info.type == fs.FileType.Directory
        ]
        names = (info.base_name for info in folders)
        return sorted(name for name in names if any(self._files(name, kept) for kept in (COMMIT, "plans", COMPACTED)))

    def _files(self, sweep: str, folder: str) -> list[str]:
        """The finished files of a folder by their paths, sorted; hidden ones are still being written."""
        return [info.path for info in self._listed(sweep, folder)]

    def _listed(self, sweep: str, folder: str) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self._path(sweep, folder), allow_not_found=True)
        found = self._opened[0].get_file_info(selector)
        return sorted(
            (info for info in found if info.is_file and not info.base_name.startswith(".")), key=lambda info: info.path
        )

    def _shards(self, sweep: str, table: str) -> list[str]:
        return [path for path in self._files(sweep, table) if path.endswith(".parquet")]

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
            if len(tables[table]) == 0:
                continue
            self._put(f"{sweep}/{table}/{trial}.parquet", encode_table(table, tables[table]))

    def done(self, sweep: str) -> set[str]:
        """The ids of the trials that have rows in `members`, whatever their outcome."""

        def find() -> set[str]:
            own = {file_stem(path) for path in self._shards(sweep, COMMIT)}
            return own.union(*(each.trials(COMMIT) for each in self._compacted(sweep)))

        return _settled(find)

    def ran(self, sweep: str, trial: str) -> bool:
        """Whether the trial has rows in `members` that can be read and that do not say that it could not be run."""
        try:
            found = self.read(sweep, COMMIT, ["status"], {trial})["status"].to_pylist()
        except BadInputError:
            return False
        return bool(found) and "failed" not in found

    def read(
        self, sweep: str, table: str, columns: Sequence[str] | None = None, trials: Collection[str] | None = None
    ) -> pa.Table:
        """Return all rows of a table of a sweep, or those of some trials, in the order of the trials' ids.

        In rows of an earlier schema version a setting that came later has its default, and a result is null.

        Raises:
            BadInputError: a shard is truncated, no record of this project's, or of a later schema version.
        """
        return _settled(lambda: self._read(sweep, table, columns, trials))

    def _read(self, sweep: str, table: str, columns: Sequence[str] | None, trials: Collection[str] | None) -> pa.Table:
        own, shared = self._sources(sweep, table, None if trials is None else frozenset(trials))
        names = list(SCHEMAS[table].names if columns is None else columns)
        # Where one file has many trials, their rows are told apart and put in order by the trial.
        needed = names if not shared or "trial" in names else ["trial", *names]
        sources = [(path, None) for path in own] + shared
        with self._readers() as readers:
            found = list(readers.map(lambda source: self._read_shard(source[0], table, needed, source[1]), sources))
        if not found:
            return pa.schema([SCHEMAS[table].field(name) for name in names]).empty_table()
        rows = pa.concat_tables(found)
        if shared and len(sources) > 1:
            rows = rows.unify_dictionaries()
            rows = rows.take(pc.sort_indices(rows, sort_keys=[("trial", "ascending")]))  # which keeps equals in order
        return rows.select(names)

    def _readers(self) -> ThreadPoolExecutor:
        """A disk has a shard at once, and threads beyond the cores are in each other's way; a store is waited for."""
        return ThreadPoolExecutor(max_workers=os.cpu_count() if self.is_local else 8)

    def _sources(
        self, sweep: str, table: str, trials: frozenset[str] | None
    ) -> tuple[list[str], list[tuple[str, frozenset[str]]]]:
        """Where trials have their rows: the shards of their own, and files of many, each with those it counts for.

        A trial's own shard counts before any file of many, and a later one of these before an earlier one. Shards are
        listed first: before a compaction removes one, it has said where its rows are.
        """
        own = {file_stem(path): path for path in self._shards(sweep, table)}
        shared, taken = [], set(own)
        for each in self._compacted(sweep):
            counting = each.trials(table) - taken
            taken |= each.trials(table) | each.trials(COMMIT)
            wanted = counting if trials is None else counting & trials
            if wanted:
                shared.append((self._path(sweep, COMPACTED, f"{each.name}.{table}.parquet"), wanted))
        return [path for trial, path in own.items() if trials is None or trial in trials], shared

    def _read_shard(
        self, path: str, table: str, columns: Sequence[str] | None, trials: frozenset[str] | None = None
    ) -> pa.Table:
        """The rows of a shard, or those of some trials of a file of many.

        Raises:
            DamagedError: it is truncated, or no Parquet file.
            BadInputError: it is no record of this project's, or of a later schema version.
            FileNotFoundError: it is no longer there.
        """
        # A disk keeps an open file as it is; on a store it may become another one, or none, while it is read.
        for last in (self.is_local, True):
            try:
                return self._read_file(path, table, columns, trials)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, FileNotFoundError) or self._gone(path):
                    raise FileNotFoundError(path) from None
                if last:
                    raise DamagedError(
                        f"the shard {path!r} is truncated or no Parquet file ({first_line(error)}); "
                        f"`python -m sweeps retry` runs its trial again."
                    ) from None
        raise AssertionError

    def _read_file(
        self, path: str, table: str, columns: Sequence[str] | None, trials: frozenset[str] | None
    ) -> pa.Table:
        with (
            self._opened[0].open_input_file(path) as file,
            pq.ParquetFile(file, pre_buffer=not self.is_local) as shard,
        ):
            schema = shard.schema_arrow
            check_schema(path, table, schema)
            names = SCHEMAS[table].names if columns is None else columns
            stored = frozenset(schema.names)
            present = [name for name in names if name in stored]
            if "trial" not in present and (trials is not None or not present):
                # By it rows are chosen; and a shard of an earlier version may have none of the columns.
                present.append("trial")
            groups = range(shard.num_row_groups) if trials is None else row_groups_of(shard.metadata, trials)
            rows = shard.read_row_groups(list(groups), columns=present, use_threads=False).replace_schema_metadata(None)
            if trials is not None:
                rows = rows.filter(pc.is_in(rows["trial"], value_set=pa.array(sorted(trials))))
            return rows.select(names) if schema.equals(SCHEMAS[table]) else conform_to_schema(table, rows, names)

    def _gone(self, path: str) -> bool:
        with suppress(OSError):
            return bool(self._opened[0].get_file_info(path).type == fs.FileType.NotFound)
        return False

    def _compacted(self, sweep: str) -> list["Compacted"]:
        """What the manifests of a sweep say, the latest first.

        Raises:
            DamagedError: a manifest can't be read.
            BadInputError: it is of a later schema version.
        """
        paths = [path for path in self._files(sweep, COMPACTED) if path.endswith(".json")]
        return [self._manifest(path) for path in reversed(paths)]

    def _manifest(self, path: str) -> "Compacted":
        with self._opened[0].open_input_stream(path) as stream:
            content = stream.read()
        try:
            found = json.loads(content)
            version, shards = found["schema_version"], found["shards"]
            read = {table: {trial: tuple(stamp) for trial, stamp in each.items()} for table, each in shards.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DamagedError(
                f"the manifest {path!r} is damaged; `python -m sweeps retry` runs its trials again."
            ) from None
        check_version("manifest", path, version)
        return Compacted(file_stem(path).removesuffix(".json"), read)

    def compact(self, sweep: str) -> tuple[int, int]:
        """Put the shards of all recorded trials into one file a table, and remove them.

        The files don't count before a manifest, written last, names the trials in them, and shards are removed only
        then and only if they are still what was read. So there is at every moment one record of each trial, and
        whoever stops midway is taken up by the next compaction. A trial that is run again has shards of its own again,
        which count, and which a later compaction puts into files beside these.

        Not for a sweep that is being run: what a trial writes in the very moment in which its shard is removed is lost.

        Returns:
            How many shards there were, and how many files they are now.

        Raises:
            BadInputError: a shard can't be read.
            OSError: the folder can't be written.
        """
        return _settled(lambda: self._compact(sweep))

    def _compact(self, sweep: str) -> tuple[int, int]:
        earlier = self._compacted(sweep)
        for each in earlier:
            self._remove(sweep, each.shards)
        # That of `members` is written last, so that who is in it has all the others.
        recorded = self.done(sweep)
        shards = {table: self._stamped(sweep, table, recorded) for table in SCHEMAS}
        shards = {table: found for table, found in shards.items() if found}
        if not shards:
            return 0, 0
        # No two compactions ever write the same file, for on a store one that breaks off may leave half of it.
        generation = 1 + max((int(each.name.partition("-")[0]) for each in earlier), default=0)
        name = f"{generation:06d}-{uuid4().hex}"
        self._clear(sweep, earlier)
        for table, found in shards.items():
            self._write_together(sweep, table, sorted(found), f"{sweep}/{COMPACTED}/{name}.{table}.parquet")
        manifest = versioned({"shards": shards})
        self._put(f"{sweep}/{COMPACTED}/{name}.json", json.dumps(manifest, sort_keys=True).encode())
        if self.is_local:
            sync_to_disk(self._path(sweep, COMPACTED))
        self._remove(sweep, shards)
        return sum(map(len, shards.values())), len(shards)

    def _clear(self, sweep: str, manifests: Sequence["Compacted"]) -> None:
        """Remove what compactions have left that were killed; those that have just begun are let be."""
        named = {f"{each.name}.{table}.parquet" for each in manifests for table in each.shards}
        aside = {info.path for info in self._listed(sweep, COMPACTED) if info.path.endswith(".damaged")}
        for info in self._listed(sweep, COMPACTED):
            manifest = f"{info.path.partition('.parquet')[0].rpartition('.')[0]}.json.damaged"
            known = info.base_name in named or not info.path.endswith(".parquet") or manifest in aside
            if not known and time.time_ns() - info.mtime_ns > LEFT_AFTER_NS:
                self._opened[0].delete_file(info.path)

    def _stamped(self, sweep: str, table: str, trials: Collection[str]) -> dict[str, Stamp]:
        """The shards of some trials, each with what tells whether it is still the same file."""
        shards = [info for info in self._listed(sweep, table) if info.path.endswith(".parquet")]
        return {file_stem(info.path): (info.size, info.mtime_ns) for info in shards if file_stem(info.path) in trials}

    def _write_together(self, sweep: str, table: str, trials: Sequence[str], name: str) -> None:
        """Write the shards of some trials into one file, and see that all of their rows can be had from it."""
        schema, total = versioned_schema(table), 0
        with self._readers() as readers:
            with self._stream(name) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
                for start in range(0, len(trials), READ_AT_ONCE):
                    paths = [
                        self._path(sweep, table, f"{trial}.parquet") for trial in trials[start : start + READ_AT_ONCE]
                    ]
                    rows = pa.concat_tables(readers.map(lambda path: self._read_shard(path, table, None), paths))
                    writer.write_table(rows.unify_dictionaries().cast(schema))
                    total += len(rows)
            written = self._read_shard(self._path(name), table, ["trial"])
        if len(written) != total:
            raise OSError(f"{name} has {len(written)} rows of {total}")

    def _remove(self, sweep: str, shards: Mapping[str, Mapping[str, Stamp]]) -> None:
        """Remove the shards that are still what they were."""

        def remove(path: str) -> None:
            with suppress(FileNotFoundError):
                self._opened[0].delete_file(path)

        with self._readers() as removers:
            for table, stamps in shards.items():
                same = [trial for trial, stamp in self._stamped(sweep, table, stamps).items() if stamp == stamps[trial]]
                list(removers.map(remove, [self._path(sweep, table, f"{trial}.parquet") for trial in same]))

    def set_aside(self, sweep: str) -> set[str]:
        """Rename all shards of every trial that has one which can't be read as Parquet; the ids of those trials.

        The shards stay beside the others as `<trial id>.parquet.damaged`, and the trials count as missing. Of a file of
        many trials it is the manifest that is renamed, and all of them are missing.
        """
        tables = sorted(SCHEMAS, key=lambda table: table != COMMIT)
        shards = [path for table in tables for path in self._shards(sweep, table)]
        damaged = {file_stem(path) for path in shards if not self._readable(path)}
        for path in shards:
            if file_stem(path) in damaged:
                self._opened[0].move(path, f"{path}.damaged")
        for path in [path for path in self._files(sweep, COMPACTED) if path.endswith(".json")]:
            try:
                named = self._manifest(path).shards
            except DamagedError:
                named = {}
            files = [f"{path.removesuffix('.json')}.{table}.parquet" for table in named]
            if not named or not all(map(self._readable, files)):
                damaged |= set(named.get(COMMIT, ()))
                self._opened[0].move(path, f"{path}.damaged")
        return damaged

    def _readable(self, path: str) -> bool:
        try:
            with self._opened[0].open_input_file(path) as file, pq.ParquetFile(file) as shard:
                for group in range(shard.num_row_groups):
                    shard.read_row_group(group)
        except (pa.ArrowException, OSError):
            return False
        return True

    def checkpoints(self, sweep: str) -> "Kept":
        """Where the unfinished trials of the sweep are kept."""
        return Kept(self, sweep)

    def claims(self, sweep: str) -> "Claims":
        """Where those who run the sweep say so."""
        return Claims(self, sweep)

    def save_plan(self, sweep: str, name: str, plan: Mapping[str, Any]) -> None:
        """Keep what a launch set out to run, under a name that its content determines."""
        self._put(f"{sweep}/plans/{name}.json", json.dumps(versioned(plan), sort_keys=True).encode())

    def plans(self, sweep: str) -> list[dict[str, Any]]:
        """What all launches of the sweep set out to run.

        Raises:
            BadInputError: a plan is no JSON, or of a later schema version.
        """
        found = []
        for path in self._files(sweep, "plans"):
            with self._opened[0].open_input_stream(path) as stream:
                try:
                    found.append(json.loads(stream.read()))
                except ValueError:
                    raise BadInputError(f"the plan {path!r} is damaged; remove it and run the sweep again.") from None
            if isinstance(found[-1], dict):
                check_version("plan", path, found[-1].pop("schema_version", 1))
        return found


def _settled(attempt: Callable[[], Found]) -> Found:
    """What an attempt finds; it is made again where a file that it has listed is gone when it is read.

    Raises:
        BadInputError: that doesn't end.
    """
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except FileNotFoundError as error:
            lost = error.filename or error
    raise BadInputError(f"{str(lost)!r} is listed but not there; move it out of the results folder.")
