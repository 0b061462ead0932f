"""Stores: a local folder or a bucket of an object store, with the few things that records need of either.

A store writes a file whole or not at all. Names are relative to its folder, with slashes between their parts. Hidden
files are those that are still being written.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

import pyarrow as pa

from study.storage.location import below


class StoreError(OSError):
    """A store can't be reached, or refuses what is asked of it."""


@dataclass(frozen=True)
class File:
    """A file of a store.

    Attributes:
        name: relative to the store's folder.
        size: in bytes.
        changed_ns: when it was last written, in ns since 1970 by the store's own clock.
    """

    name: str
    size: int
    changed_ns: int

    @property
    def base(self) -> str:
        """The name without its folders."""
        return self.name.rpartition("/")[2]


class Store(ABC):
    """A folder for records, wherever it is.

    Attributes:
        location: its path or URI, without credentials.
        readers: how many files are best read at once.
        many: how many shards of a table are worth a compaction.
    """

    location: str
    readers: int
    many: int

    @abstractmethod
    def exists(self) -> bool:
        """Return whether the folder is there; on an object store, whether anything is in it."""

    @abstractmethod
    def check_writable(self) -> None:
        """Write something, to see whether it can be done.

        Raises:
            OSError: the folder can't be made or written, or the bucket is not there.
        """

    @abstractmethod
    def folders(self) -> Sequence[str]:
        """Return the names of the folders in this one, sorted."""

    @abstractmethod
    def list(self, folder: str, hidden: bool = False) -> Sequence[File]:
        """Return the files of a folder, sorted by name; none where there is no such folder."""

    @abstractmethod
    def open(self, name: str) -> pa.NativeFile:
        """Open a file to read any part of it.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it can't be read.
        """

    @abstractmethod
    def writer(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Return a stream into a file, which takes the place of its name when the context ends without an error."""

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Rename a file."""

    @abstractmethod
    def delete(self, *names: str) -> None:
        """Remove files. One that is gone already is no error."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file, in place of one that has its name."""
        with self.writer(name) as stream:
            stream.write(content)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        with self.open(name) as file:
            content: bytes = file.read()
        return content

    def shown(self, name: str) -> str:
        """Return the path or URI of a file, as it may be shown."""
        return below(self.location, name)


class LocalStore(Store):
    """A folder of this machine, or one that is mounted.

    A file is written under a hidden name and then renamed.
    """

    # A disk has a file at once, and threads beyond the cores are in each other's way.
    readers = os.cpu_count() or 1
    many = 5000

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return Path(self.location, name)

    def exists(self) -> bool:
        """See `Store.exists`."""
        return Path(self.location).is_dir()

    def check_writable(self) -> None:
        """See `Store.check_writable`."""
        path = self._hidden("writable")
        try:
            path.write_bytes(bytes(4096))  # a disk that is full takes an empty file
        finally:
            path.unlink(missing_ok=True)

    def folders(self) -> Sequence[str]:
        """See `Store.folders`."""
        return sorted(path.name for path in Path(self.location).iterdir() if path.is_dir())

    def list(self, folder: str, hidden: bool = False) -> Sequence[File]:
        """See `Store.list`."""
        files = []
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path(folder)) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # removed just now
                    if entry.is_file() and (hidden or not entry.name.startswith(".")):
                        stat = entry.stat()
                        files.append(File(f"{folder}/{entry.name}", stat.st_size, stat.st_mtime_ns))
        return sorted(files, key=lambda file: file.name)

    def open(self, name: str) -> pa.NativeFile:
        """See `Store.open`."""
        try:
            return pa.OSFile(os.path.join(self.location, name))  # noqa: PTH118 - it is read by the thousand
        except FileNotFoundError:
            raise FileNotFoundError(self.shown(name)) from None

    @contextmanager
    def writer(self, name: str) -> Iterator[IO[bytes]]:
        """See `Store.writer`."""
        path = self._hidden(name)
        try:
            with path.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            path.replace(self.path(name))
        finally:
            path.unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        """See `Store.move`."""
        path = self.path(to)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path(name).replace(path)

    def delete(self, *names: str) -> None:
        """See `Store.delete`."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def sync(self, folder: str) -> None:
        """Have the names in a folder outlast a loss of power."""
        opened = os.open(self.path(folder), os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def _hidden(self, name: str) -> Path:
        """Return a path of its own beside that of a file, in a folder that is there."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}.{uuid4().hex}.tmp")
