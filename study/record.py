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
from study.locations import below, is_uri, public, without_secrets

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
COMPACTED = "compact"
"""The folder of a sweep that has the shards of many trials in one file, `<name>.<table>.parquet`, and what says so."""
READ_AT_ONCE = 64
LEFT_AFTER_NS = 24 * 3600 * 10**9
ATTEMPTS = 20
"""How often a reader looks again where a compaction takes away what it was about to read."""

Stamp = tuple[int, int]
"""The size of a file and the time of its last change in ns."""
Found = TypeVar("Found")


@dataclass(frozen=True)
class _Compacted:
    """The trials that files of many have, as their manifest `<name>.json` says.

    Attributes:
        name: the place among all of the sweep's, a later one coming later, and a hash.
        shards: by table and trial, the shard that was taken in.
    """

    name: str
    shards: Mapping[str, Mapping[str, Stamp]]

    def trials(self, table: str) -> frozenset[str]:
        """The trials that have rows of the table there."""
        return frozenset(self.shards.get(table, ()))


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
        uri = _in_one_request(self.location)
        try:
            filesystem, path = fs.FileSystem.from_uri(uri)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            said = without_secrets(_line(error).replace(uri, self.location), self.location)
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
        return without_secrets(_line(error), self.location)

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
                _sync(written)
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
            self._put(f"{sweep}/{table}/{trial}.parquet", _encoded(table, tables[table]))

    def done(self, sweep: str) -> set[str]:
        """The ids of the trials that have rows in `members`, whatever their outcome."""

        def find() -> set[str]:
            own = {_stem(path) for path in self._shards(sweep, COMMIT)}
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
        """All rows of a table of a sweep, or those of some trials, in the order of the trials' ids.

        Raises:
            BadInputError: a shard is truncated, no record of this project's, or of another schema version.
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
        own = {_stem(path): path for path in self._shards(sweep, table)}
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
            BadInputError: it is no record of this project's, or of another schema version.
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
                        f"the shard {path!r} is truncated or no Parquet file ({_line(error)}); "
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
            _check_schema(path, table, shard.schema_arrow)
            groups = range(shard.num_row_groups) if trials is None else _groups(shard.metadata, trials)
            rows = shard.read_row_groups(list(groups), columns=columns, use_threads=False)
            if trials is not None:
                rows = rows.filter(pc.is_in(rows["trial"], value_set=pa.array(sorted(trials))))
            return rows.replace_schema_metadata(None)

    def _gone(self, path: str) -> bool:
        with suppress(OSError):
            return bool(self._opened[0].get_file_info(path).type == fs.FileType.NotFound)
        return False

    def _compacted(self, sweep: str) -> list["_Compacted"]:
        """What the manifests of a sweep say, the latest first.

        Raises:
            DamagedError: a manifest can't be read.
            BadInputError: it is of another schema version.
        """
        paths = [path for path in self._files(sweep, COMPACTED) if path.endswith(".json")]
        return [self._manifest(path) for path in reversed(paths)]

    def _manifest(self, path: str) -> "_Compacted":
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
        if version != SCHEMA_VERSION:
            raise BadInputError(_other_version("manifest", path, version))
        return _Compacted(_stem(path).removesuffix(".json"), read)

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
        manifest = {"schema_version": SCHEMA_VERSION, "shards": shards}
        self._put(f"{sweep}/{COMPACTED}/{name}.json", json.dumps(manifest, sort_keys=True).encode())
        if self.is_local:
            _sync(self._path(sweep, COMPACTED))
        self._remove(sweep, shards)
        return sum(map(len, shards.values())), len(shards)

    def _clear(self, sweep: str, manifests: Sequence["_Compacted"]) -> None:
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
        return {_stem(info.path): (info.size, info.mtime_ns) for info in shards if _stem(info.path) in trials}

    def _write_together(self, sweep: str, table: str, trials: Sequence[str], name: str) -> None:
        """Write the shards of some trials into one file, and see that all of their rows can be had from it."""
        schema, total = _stamped_schema(table), 0
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
        damaged = {_stem(path) for path in shards if not self._readable(path)}
        for path in shards:
            if _stem(path) in damaged:
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
        plan = {**plan, "schema_version": SCHEMA_VERSION}
        self._put(f"{sweep}/plans/{name}.json", json.dumps(plan, sort_keys=True).encode())

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
            version = found[-1].pop("schema_version", SCHEMA_VERSION) if isinstance(found[-1], dict) else SCHEMA_VERSION
            # One of an earlier version says no less of its trials; a later one may have settings that are unknown here.
            if not isinstance(version, int) or version > SCHEMA_VERSION:
                raise BadInputError(_other_version("plan", path, version))
        return found


@dataclass(frozen=True)
class Kept:
    """The checkpoints of a sweep's unfinished trials, `RESULTS/<sweep>/checkpoints/<trial id>-<...>`.

    They save time and are no results: where the folder fails, trials go on without them.
    """

    results: Results
    sweep: str

    def load(self, name: str) -> bytes | None:
        """What was saved under that name; None where there is nothing."""
        filesystem, path = self.results._opened[0], self.results._path(self.sweep, "checkpoints", name)
        try:
            with filesystem.open_input_stream(path, compression=None) as stream:
                content: bytes = stream.read()
        except OSError:
            return None
        return content

    def save(self, name: str, content: bytes) -> None:
        """Keep it in place of what has that name, whole or not at all."""
        with suppress(OSError):
            self.results._put(f"{self.sweep}/checkpoints/{name}", content)

    def drop(self, trial: str) -> None:
        """Remove all of a trial, and what was left behind while one was being written."""
        with suppress(OSError):
            for path in self._of(trial):
                self.results._opened[0].delete_file(path)

    def holds(self, trial: str) -> bool:
        """Whether there is any of the trial."""
        try:
            return bool(self._of(trial))
        except OSError:
            return False

    def _of(self, trial: str) -> list[str]:
        selector = fs.FileSelector(self.results._path(self.sweep, "checkpoints"), allow_not_found=True)
        found = self.results._opened[0].get_file_info(selector)
        return [info.path for info in found if info.base_name.removeprefix(".").startswith(f"{trial}-")]


@dataclass(frozen=True)
class Claims:
    """What the processes that run a sweep say of themselves, each in `RESULTS/<sweep>/claims/<name>.json`."""

    results: Results
    sweep: str

    @property
    def lock(self) -> Path | None:
        """The file that whoever runs the sweep has locked; None on an object store."""
        return Path(self.results._path(self.sweep, ".lock")) if self.results.is_local else None

    def put(self, name: str, claim: Mapping[str, Any]) -> None:
        """Make a claim, or make it anew.

        Raises:
            OSError: the folder can't be written.
        """
        self.results._put(f"{self.sweep}/claims/{name}.json", json.dumps(claim).encode())

    def all(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Every claim by its name, with the time of its last change in ns of the store's own clock."""
        found = {}
        for info in self.results._listed(self.sweep, "claims"):
            # One that is taken back just now is none.
            with (
                suppress(FileNotFoundError, ValueError),
                self.results._opened[0].open_input_stream(info.path) as stream,
            ):
                found[info.base_name.removesuffix(".json")] = info.mtime_ns, json.loads(stream.read())
        return found

    def remove(self, name: str) -> None:
        """Take a claim back; where that is not permitted it is left to expire."""
        with suppress(OSError):
            self.results._opened[0].delete_file(self.results._path(self.sweep, "claims", f"{name}.json"))


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


def _groups(metadata: pq.FileMetaData, trials: Collection[str]) -> Iterator[int]:
    """The row groups that may have rows of the trials."""
    column = metadata.schema.names.index("trial")
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or any(known.min <= trial <= known.max for trial in trials):
            yield group


def _stamped_schema(table: str) -> pa.Schema:
    return SCHEMAS[table].with_metadata({"normleak_table": table, "normleak_schema_version": str(SCHEMA_VERSION)})


def _encoded(table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:
    schema = _stamped_schema(table)
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


def _check_schema(path: str, table: str, schema: pa.Schema) -> None:
    stored = schema.metadata or {}
    metadata = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in stored.items()}
    version = metadata.get("normleak_schema_version")
    if metadata.get("normleak_table") != table or version is None:
        raise BadInputError(f"the shard {path!r} is no record of {table}; move it out of the results folder.")
    if version != str(SCHEMA_VERSION):
        raise BadInputError(_other_version("shard", path, version))
    if not schema.remove_metadata().equals(SCHEMAS[table]):
        raise BadInputError(f"the shard {path!r} says schema version {version} but has other columns; move it away.")


def _other_version(kind: str, path: str, version: object) -> str:
    return (
        f"the {kind} {path!r} has schema version {version}, this normleak reads {SCHEMA_VERSION}; "
        f"use the normleak that wrote it, or another results folder."
    )


def _in_one_request(uri: str) -> str:
    """The URI, with what makes Arrow write a small object in one request to S3 where it would take three."""
    if not uri.startswith("s3://") or "allow_delayed_open=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def _sync(path: str) -> None:
    """Have what was written, a file or the names in a folder, outlast a loss of power."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
