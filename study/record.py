"""The record: what a trial leaves behind, in Parquet.

A trial's shard of a table is `RESULTS/<sweep>/<table>/<trial id>.parquet`. It is written once and whole, and the
shard of `members` last, so that a trial whose `members` shard exists is done. `RESULTS` is a local path or any URI
that `pyarrow.fs` knows. The formats are stated here and nowhere else.
"""

import json
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from study.errors import BadInputError
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


@dataclass(frozen=True, repr=False)
class Results:
    """A results folder: one folder a sweep, in it one a table and one for the sweep's plans.

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
        """Fail now rather than after training.

        On a store one empty object `.writable` is left: to remove it would take a right that writing doesn't.

        Raises:
            BadInputError: the folder can't be made or written, or the bucket is not there.
        """
        try:
            self._put(f".writable-{uuid4().hex}" if self.is_local else ".writable", b"", keep=not self.is_local)
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
        """Write a file whole or not at all: by renaming locally, by one put on an object store."""
        filesystem, path = self._opened[0], self._path(name)
        if not self.is_local:
            # A store has no folders; Arrow would make empty objects that stand for them.
            with filesystem.open_output_stream(path, compression=None) as stream:
                stream.write(content)
            return
        folder = path.rpartition("/")[0]
        filesystem.create_dir(folder, recursive=True)
        written = f"{folder}/.{uuid4().hex}.tmp"
        try:
            with filesystem.open_output_stream(written, compression=None) as stream:
                stream.write(content)
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
        return sorted(name for name in names if self._files(name, COMMIT) or self._files(name, "plans"))

    def _files(self, sweep: str, folder: str) -> list[str]:
        """The finished files of a folder by their paths, sorted; hidden ones are still being written."""
        selector = fs.FileSelector(self._path(sweep, folder), allow_not_found=True)
        found = self._opened[0].get_file_info(selector)
        return sorted(info.path for info in found if info.is_file and not info.base_name.startswith("."))

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
        """The ids of the trials that have a `members` shard, whatever their outcome."""
        return {_stem(path) for path in self._shards(sweep, COMMIT)}

    def ran(self, sweep: str, trial: str) -> bool:
        """Whether the trial has a `members` shard that can be read and that does not say that it could not be run."""
        try:
            found = self._read_shard(self._path(sweep, COMMIT, f"{trial}.parquet"), COMMIT, ["status"])
        except BadInputError:
            return False
        return "failed" not in found["status"].to_pylist()

    def read(
        self, sweep: str, table: str, columns: Sequence[str] | None = None, trials: Collection[str] | None = None
    ) -> pa.Table:
        """All rows of a table of a sweep, or those of some trials, shard after shard in the order of their ids.

        Raises:
            BadInputError: a shard is truncated, no record of this project's, or of another schema version.
        """
        paths = [path for path in self._shards(sweep, table) if trials is None or _stem(path) in trials]
        wanted = SCHEMAS[table] if columns is None else pa.schema([SCHEMAS[table].field(name) for name in columns])
        # A disk has a shard at once, and threads beyond the cores are in each other's way; a store is waited for.
        with ThreadPoolExecutor(max_workers=os.cpu_count() if self.is_local else 8) as readers:
            shards = list(readers.map(lambda path: self._read_shard(path, table, columns), paths))
        return pa.concat_tables(shards) if shards else wanted.empty_table()

    def _read_shard(self, path: str, table: str, columns: Sequence[str] | None) -> pa.Table:
        try:
            with (
                self._opened[0].open_input_file(path) as file,
                pq.ParquetFile(file, pre_buffer=not self.is_local) as shard,
            ):
                _check_schema(path, table, shard.schema_arrow)
                return shard.read(columns=columns, use_threads=False).replace_schema_metadata(None)
        except (pa.ArrowException, OSError) as error:
            raise BadInputError(
                f"the shard {path!r} is truncated or no Parquet file ({_line(error)}); "
                f"`python -m sweeps retry` runs its trial again."
            ) from None

    def set_aside(self, sweep: str) -> set[str]:
        """Rename all shards of every trial that has one which can't be read as Parquet; the ids of those trials.

        The shards stay beside the others as `<trial id>.parquet.damaged`, and the trials count as missing.
        """
        tables = sorted(SCHEMAS, key=lambda table: table != COMMIT)
        shards = [path for table in tables for path in self._shards(sweep, table)]
        damaged = {_stem(path) for path in shards if not self._readable(path)}
        for path in shards:
            if _stem(path) in damaged:
                self._opened[0].move(path, f"{path}.damaged")
        return damaged

    def _readable(self, path: str) -> bool:
        try:
            with self._opened[0].open_input_file(path) as file, pq.ParquetFile(file) as shard:
                shard.read()
        except (pa.ArrowException, OSError):
            return False
        return True

    def save_plan(self, sweep: str, name: str, plan: Mapping[str, Any]) -> None:
        """Keep what a launch set out to run, under a name that its content determines."""
        plan = {**plan, "schema_version": SCHEMA_VERSION}
        self._put(f"{sweep}/plans/{name}.json", json.dumps(plan, indent=1, sort_keys=True).encode())

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


def _encoded(table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:
    schema = SCHEMAS[table].with_metadata({"normleak_table": table, "normleak_schema_version": str(SCHEMA_VERSION)})
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
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
