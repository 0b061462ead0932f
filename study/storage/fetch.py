"""Fetch the files of an object store to this machine, once for all of its processes.

A copy lies in the user's cache folder, under a name that stands for the files in their state of then. Where they
change, another copy is made, so that none changes while it is read.
"""

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from functools import cache
from pathlib import Path, PurePosixPath

from filelock import FileLock

from study.errors import BadInputError
from study.storage.cache import cache_folder
from study.storage.location import is_uri, public
from study.storage.object_store import ObjectStore
from study.storage.open import open_store
from study.storage.store import File

AT_ONCE = 16
"""How many files are fetched side by side."""
SAY_EVERY_S = 10.0


def local_folder(location: str, *names: str) -> Path:
    """Return the folder of this machine that has the files at a location: itself, or a copy of an object store's.

    Args:
        location: a local path, which is taken as it is, or a URI.
        names: the files and folders that are needed; by default all are.

    Raises:
        BadInputError: the URI can't be used, none of the files is there, or they can't be fetched.
    """
    if not is_uri(location):
        return Path(location)
    store = open_store(location)
    return _copy(location, names) if isinstance(store, ObjectStore) else Path(store.location)


@cache
def _copy(location: str, names: Sequence[str]) -> Path:
    """Return the copy of files of an object store; a process looks once whether they have changed."""
    store = open_store(location)
    assert isinstance(store, ObjectStore)
    try:
        files = store.tree(*names)
        if not files:
            raise BadInputError(f"there is no {' or '.join(names) or 'file'} in {public(location)!r}.")
        copies = cache_folder() / "data"
        copies.mkdir(exist_ok=True)
        name = _name(location, files)
        with FileLock(copies / f".{name}.lock"):
            if not (copies / name).is_dir():
                partial = copies / f".{name}.part"
                _fetch(store, files, partial)
                partial.rename(copies / name)
    except OSError as error:
        raise BadInputError(f"{public(location)!r} can't be fetched: {error}") from None
    return copies / name


def _name(location: str, files: Sequence[File]) -> str:
    """Return a name that tells these files in their present state from all others."""
    state = [public(location), *([file.name, file.size, file.changed_ns] for file in files)]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]


def _fetch(store: ObjectStore, files: Sequence[File], folder: Path) -> None:
    """Fetch the files into a folder; those that are there whole, from an attempt that was stopped, are kept."""

    def fetch(file: File) -> int:
        path = folder / PurePosixPath(file.name)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.part")
            store.fetch(file, partial)
            partial.replace(path)
        return file.size

    print(f"fetching {_size(files)} from {store.location} ...", file=sys.stderr)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        stack.callback(pool.shutdown, cancel_futures=True)  # at the first error the others need not begin
        _say_progress([pool.submit(fetch, file) for file in files], sum(file.size for file in files))


def _say_progress(fetches: Sequence["Future[int]"], whole: int) -> None:
    """Wait for all, and say now and then how much is there.

    Raises:
        OSError: one has failed.
    """
    began = said = time.monotonic()
    done = 0
    for fetched in as_completed(fetches):
        done += fetched.result()
        now = time.monotonic()
        if now - said >= SAY_EVERY_S and done:
            said = now
            left = (now - began) * (whole - done) / done
            print(f"  {done / whole:.0%}, eta {left:.0f} s", file=sys.stderr)


def _size(files: Sequence[File]) -> str:
    return f"{len(files)} file{'s' * (len(files) != 1)}, {sum(file.size for file in files) / 1e6:,.1f} MB,"
