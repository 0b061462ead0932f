"""One launch at a time for each sweep of a results folder: of two, each would train what the other does.

Launches of different parts of one plan run side by side; those of a part, of parts of another plan, and of the whole
exclude each other. In a local folder others are kept out by locks on files, which end with their process; on an object
store by leases. Should two run a sweep all the same, as where one was suspended for minutes, there is still one record
a trial: a shard is named after its trial.
"""

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from study.errors import BadInputError
from study.record import leases
from study.record.leases import Holder, Lease, LostLeaseError
from study.record.results import Results
from study.storage.object_store import ObjectStore
from study.storage.store import LocalStore


@contextmanager
def exclusive(
    results: Results, *sweeps: str, part: str = "", on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Hold sweeps of a results folder, or a part of them, so that no other launch runs them.

    Args:
        results: the folder.
        sweeps: their names.
        part: that of the part, as `Part.name` has it; by default the whole is held.
        on_wait: told why it may take a minute to find out whether a process on another machine has ended.

    Raises:
        BadInputError: another process holds one of them.
        LostLeaseError: one was lost meanwhile. What runs within is stopped as by Ctrl-C.
        OSError: the folder can't be written.
    """
    with ExitStack() as held:
        for sweep in sorted(sweeps):
            store = results.store
            if isinstance(store, ObjectStore):
                held.enter_context(_leased(store, sweep, part, on_wait))
            else:
                assert isinstance(store, LocalStore)
                if part:
                    held.enter_context(_shared(store, sweep, part))
                held.enter_context(_locked(store, sweep, part))
        yield


@contextmanager
def _locked(store: LocalStore, sweep: str, part: str) -> Iterator[None]:
    lock, name = _lock_file(store, sweep, part), leases.name_of(sweep, part)
    try:
        with FileLock(lock, blocking=False):
            store.put(name, Holder.this_process().encode())
            try:
                yield
            finally:
                store.delete(name)
                lock.unlink()  # whoever has it open by then finds that it is gone, and makes another
    except Timeout:
        raise _held(store, sweep, part) from None


@contextmanager
def _shared(store: LocalStore, sweep: str, part: str) -> Iterator[None]:
    """Hold the lock of the whole sweep together with the launches of other parts of the same plan.

    What they are parts of stands in a file, which the first of them writes.

    Raises:
        BadInputError: the whole sweep, or a part of another plan, is held.
    """
    plan, lock = part.rpartition("-")[0].encode(), _lock_file(store, sweep)
    with ExitStack() as held:
        # For the moment in which it is found out who else is there.
        with _opened(lock.with_name(".parts")) as parts:
            fcntl.flock(parts, fcntl.LOCK_EX)
            while True:
                with ExitStack() as attempt:
                    whole = attempt.enter_context(_opened(lock))
                    if _try(whole, fcntl.LOCK_EX):  # nobody is there
                        os.ftruncate(parts, 0)
                        os.pwrite(parts, plan, 0)
                    with_us = _try(whole, fcntl.LOCK_SH) and os.pread(parts, 100, 0) == plan
                    # A launch of the whole that ended just now has removed it.
                    if os.fstat(whole).st_nlink:
                        held.push(attempt.pop_all())
                        break
        if not with_us:
            raise _held(store, sweep)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file, made if there is none, to lock it; the lock ends with the context."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield file
    finally:
        os.close(file)


def _try(file: int, kind: int) -> bool:
    """Lock a file unless others have, and return whether it could be."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(store: LocalStore, sweep: str, part: str = "") -> Path:
    path = store.path(f"{sweep}/.lock-{part}" if part else f"{sweep}/.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _held(store: LocalStore, sweep: str, part: str = "") -> BadInputError:
    """Return the error for who wants what is locked; it names whoever most likely has it."""
    parts = [file.name for file in store.list(f"{sweep}/leases")]
    for name in (leases.name_of(sweep, part), leases.name_of(sweep), *parts):
        holder = leases.holder_in(store, name)
        if holder is not None and not holder.has_ended():
            return leases.held_by(holder, store, name)
    return leases.held_by(None, store, leases.name_of(sweep, part))


@contextmanager
def _leased(store: ObjectStore, sweep: str, part: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    lease, over = Lease(store, sweep, part), threading.Event()
    lost: list[LostLeaseError] = []

    def renew() -> None:
        while not over.wait(leases.RENEW_EVERY_S):
            try:
                lease.renew()
            except LostLeaseError as error:
                lost.append(error)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return

    renewing, before = threading.Thread(target=renew, daemon=True), signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as under nohup, where a lost lease must end what runs all the same
        signal.signal(signal.SIGINT, signal.default_int_handler)
    lease.take(on_wait)
    renewing.start()
    try:
        for name in _excluded(store, sweep, part):
            lease.exclude(name, on_wait)
        yield
    finally:
        over.set()
        renewing.join()
        lease.release()
        if before is signal.SIG_IGN:
            signal.signal(signal.SIGINT, before)
        if lost:
            raise lost[0] from None


def _excluded(store: ObjectStore, sweep: str, part: str) -> list[str]:
    """Return the names of the other leases on a sweep that don't go with the one on the part, or on the whole."""
    plan = f"{part.rpartition('-')[0]}-"
    parts = [file for file in store.list(f"{sweep}/leases") if not part or not file.base.startswith(plan)]
    return [*([leases.name_of(sweep)] if part else []), *(file.name for file in parts)]
