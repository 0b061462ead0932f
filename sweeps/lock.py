"""One launch at a time for each sweep of a results folder: of two, each would train what the other does.

In a local folder the second one is kept out by a lock on a file, which ends with its process; on an object store by a
lease. Should two run a sweep all the same, as where one was suspended for minutes, there is still one record a trial: a
shard is named after its trial.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from study.record import leases
from study.record.leases import Holder, Lease, LostLeaseError
from study.record.object_store import ObjectStore
from study.record.results import Results
from study.record.store import Store


@contextmanager
def exclusive(results: Results, *sweeps: str, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold sweeps of a results folder, so that no other launch runs them.

    Args:
        results: the folder.
        sweeps: their names.
        on_wait: told why it may take a minute to find out whether a process on another machine has ended.

    Raises:
        BadInputError: another process holds one of them.
        LostLeaseError: one was lost meanwhile. What runs within is stopped as by Ctrl-C.
        OSError: the folder can't be written.
    """
    with ExitStack() as held:
        for sweep in sorted(sweeps):
            store = results.store
            held.enter_context(
                _leased(store, sweep, on_wait) if isinstance(store, ObjectStore) else _locked(store, sweep)
            )
        yield


@contextmanager
def _locked(store: Store, sweep: str) -> Iterator[None]:
    lock = Path(store.location, sweep, ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, blocking=False):
            store.put(leases.name_of(sweep), Holder.this_process().encode())
            try:
                yield
            finally:
                store.delete(leases.name_of(sweep))
                lock.unlink()  # whoever has it open by then finds that it is gone, and makes another
    except Timeout:
        raise leases.held_by(leases.holder_of(store, sweep), store, sweep) from None


@contextmanager
def _leased(store: ObjectStore, sweep: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    lease, over = Lease(store, sweep), threading.Event()
    lost: list[LostLeaseError] = []

    def renew() -> None:
        while not over.wait(leases.RENEW_EVERY_S):
            try:
                lease.renew()
            except LostLeaseError as error:
                lost.append(error)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return

    renewing = threading.Thread(target=renew, daemon=True)
    lease.take(on_wait)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        lease.release()
        if lost:
            raise lost[0] from None
