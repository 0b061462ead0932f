import threading
import time

import pytest

from study.errors import BadInputError
from study.record import leases
from study.record.leases import Holder, Lease, LostLeaseError, holder_of, name_of
from study.storage.object_store import ObjectStore, open_object_store
from tests.stores import Store

ELSEWHERE = Holder("theirs", "elsewhere", "another", 1, "2026-01-01")


@pytest.fixture
def place(store: Store, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.3)
    return open_object_store(store.uri())


def tell_the_time(monkeypatch: pytest.MonkeyPatch, *after_s: float) -> None:
    """Have the store's clock say that so many seconds have passed since the start, one look after the other."""
    start, looks = time.time_ns(), iter(after_s)
    monkeypatch.setattr(ObjectStore, "now_ns", lambda self: start + round(next(looks) * 1e9))


@pytest.fixture
def theirs(place: ObjectStore) -> Lease:
    """The lease of a process on another machine."""
    lease = Lease(place, "test")
    lease._me = ELSEWHERE
    lease.take()
    return lease


def test_a_lease_is_taken_renewed_and_let_go(place: ObjectStore):
    lease = Lease(place, "test")
    assert holder_of(place, "test") is None
    lease.take()
    for _ in range(3):
        lease.renew()
    holder = holder_of(place, "test")
    assert holder is not None
    assert holder.renewed == 3
    assert not holder.has_ended()
    lease.release()
    assert holder_of(place, "test") is None
    Lease(place, "test").take()


def test_a_process_of_another_machine_that_renews_its_lease_has_it(
    place: ObjectStore, theirs: Lease, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ObjectStore, "now_ns", lambda self: 0)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.5):
            theirs.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(BadInputError, match="process 1 on elsewhere, since 2026-01-01, has test in"):
            Lease(place, "test").take()
    finally:
        over.set()
        thread.join()
    theirs.renew()


def test_one_that_does_not_is_waited_for_and_taken_over_and_has_lost_it(
    place: ObjectStore, theirs: Lease, monkeypatch: pytest.MonkeyPatch
):
    tell_the_time(monkeypatch, 0, 30, 90)
    waits: list[str] = []
    lease = Lease(place, "test")
    lease.take(waits.append)
    assert waits == ["process 1 on elsewhere, since 2026-01-01, had test; waiting to see whether it still has ..."]
    with pytest.raises(LostLeaseError, match="another process has taken over test in s3://"):
        theirs.renew()
    theirs.release()
    lease.renew()


def test_a_lease_that_has_expired_by_the_stores_own_clock_is_taken_over_at_once(
    place: ObjectStore, theirs: Lease, monkeypatch: pytest.MonkeyPatch
):
    tell_the_time(monkeypatch, 90)
    waits: list[str] = []
    Lease(place, "test").take(waits.append)
    assert waits == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"id": 3}', b"\xff"])
def test_a_lease_that_can_not_be_read_is_waited_for(
    place: ObjectStore, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    tell_the_time(monkeypatch, 0, 90)
    place.put(name_of("test"), content)
    waits: list[str] = []
    Lease(place, "test").take(waits.append)
    assert waits == ["another process had test; waiting to see whether it still has ..."]


def test_a_store_that_fails_for_a_while_does_not_cost_the_lease(place: ObjectStore, store: Store):
    lease = Lease(place, "test")
    lease.take()
    store.left = 0
    lease.renew()
    store.left = None
    lease.renew()
    holder = holder_of(place, "test")
    assert holder is not None
    assert holder.renewed == 1


def test_a_store_that_fails_for_longer_does(place: ObjectStore, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "SAFE_S", 0.0)
    lease = Lease(place, "test")
    lease.take()
    store.left = 0
    with pytest.raises(LostLeaseError, match=r"the lease on test in s3://.* can't be renewed: .*403 Forbidden; once"):
        lease.renew()


def test_a_lease_is_held_though_the_answer_that_says_so_is_lost(place: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    for name in ("put_if_absent", "put_if_same"):
        put = getattr(ObjectStore, name)

        def lost(self: ObjectStore, *arguments: object, put: object = put) -> None:
            put(self, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(ObjectStore, name, lost)
    lease = Lease(place, "test")
    lease.take()
    lease.renew()
    holder = holder_of(place, "test")
    assert holder is not None
    assert holder.renewed == 1
