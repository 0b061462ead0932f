import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from study.errors import BadInputError
from study.record.leases import Claims
from study.record.results import Results
from sweeps import lock as module
from sweeps.lock import alone
from tests.stores import Store

HOLDS = """
import sys, time
from study.record.results import Results
from sweeps.lock import alone

with alone(Results.at(sys.argv[1]), "test"):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture(params=["folder", "store"])
def results(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setattr(module, "SETTLES_S", 0.2)
    return Results.at(tmp_path if request.param == "folder" else request.getfixturevalue("store").uri())


def test_a_sweep_is_held_by_one_who_is_named_and_let_go_afterwards(results: Results):
    with alone(results, "test", "another"):
        who = f"process {os.getpid()} on {socket.gethostname()}, since 20.* has test in {results}"
        with pytest.raises(BadInputError, match=re.escape(who).replace(r"\.\*", ".*")), alone(results, "test"):
            pass
        with alone(results, "third"):
            pass
    assert results.claims("test").all() == {}
    with alone(results, "test"):
        pass


def test_who_is_killed_keeps_no_one_out(results: Results):
    with subprocess.Popen([sys.executable, "-c", HOLDS, results.location], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BadInputError, match=f"process {holder.pid} on "), alone(results, "test"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with alone(results, "test"):
        assert [claim["pid"] for _, claim in results.claims("test").all().values()] == [os.getpid()]


def test_of_those_who_come_at_once_one_has_it(results: Results, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SETTLES_S", 1.1)  # a store's clock goes by seconds
    barrier, over = threading.Barrier(4), threading.Event()
    had: list[bool] = []

    def come() -> None:
        barrier.wait()
        try:
            with alone(results, "test"):
                had.append(True)
                over.wait(30)
        except BadInputError:
            had.append(False)

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while len(had) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(had) == [False, False, False, True]


@pytest.fixture
def elsewhere(store: Store, monkeypatch: pytest.MonkeyPatch) -> Claims:
    """A sweep that a process of another machine has claimed."""
    monkeypatch.setattr(module, "SETTLES_S", 0.3)
    monkeypatch.setattr(module, "EXPIRES_S", 1.5)
    claims = Results.at(store.uri()).claims("test")
    claims.put("theirs", {"host": "elsewhere", "boot": "another", "pid": 1, "since": "2026-01-01", "held": True})
    return claims


def test_a_process_of_another_machine_has_it_for_as_long_as_it_renews_its_claim(
    elsewhere: Claims, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "EXPIRES_S", 60.0)
    over = threading.Event()

    def renew() -> None:
        ((_, claim),) = elsewhere.all().values()
        while not over.wait(1.1):
            elsewhere.put("theirs", claim)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with (
            pytest.raises(BadInputError, match="process 1 on elsewhere, since 2026-01-01, has test in"),
            alone(elsewhere.results, "test"),
        ):
            pass
    finally:
        over.set()
        thread.join()


def test_a_claim_of_another_machine_that_is_not_renewed_is_waited_for_and_then_removed(elsewhere: Claims):
    told: list[str] = []
    with alone(elsewhere.results, "test", on_wait=told.append):
        assert "theirs" not in elsewhere.all()
    assert told == ["process 1 on elsewhere, since 2026-01-01, had test; waiting to see whether it still has ..."]


def test_whoever_has_it_renews_its_claim(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SETTLES_S", 0.1)
    monkeypatch.setattr(module, "RENEWED_EVERY_S", 0.2)
    with alone(Results.at(store.uri()), "test"):
        before, deadline = store.asked["PUT"], time.monotonic() + 20
        while store.asked["PUT"] < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
