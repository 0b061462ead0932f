import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from study.errors import BadInputError
from study.record import leases
from study.record.leases import Holder, Lease, LostLeaseError, holder_of, name_of
from study.record.results import Results
from study.storage.object_store import ObjectStore
from sweeps.interrupt import CTRL_C
from sweeps.lock import exclusive
from tests.patience import PATIENCE_S, wait_until
from tests.stores import Store

HOLDS = """
import sys
from study.record.results import Results
from sweeps.lock import exclusive

with exclusive(Results.at(sys.argv[1]), "test", part="".join(sys.argv[2:])):
    print("held", flush=True)
    sys.stdin.read()
"""
TRIES = """
import sys
from study.errors import BadInputError
from study.record.results import Results
from sweeps.lock import exclusive

results = Results.at(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    try:
        with exclusive(results, line.strip()):
            print("held", flush=True)
            sys.stdin.readline()
    except BadInputError:
        print("refused", flush=True)
        sys.stdin.readline()
"""


def holding(results: Results, *part: str) -> subprocess.Popen[bytes]:
    """A process that has the sweep, or a part of it, until it is killed or left by a `with` statement."""
    command = [sys.executable, "-c", HOLDS, results.location, *part]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture(params=["folder", "store"])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Results:
    return Results.at(tmp_path if request.param == "folder" else request.getfixturevalue("store").uri())


def test_a_sweep_is_held_by_a_process_that_is_named_and_let_go_afterwards(results: Results):
    with exclusive(results, "test", "another"):
        who = f"process {os.getpid()} on {socket.gethostname()}, since 20.* has test in {results}"
        with pytest.raises(BadInputError, match=re.escape(who).replace(r"\.\*", ".*")), exclusive(results, "test"):
            pass
        with exclusive(results, "third"):
            pass
    assert holder_of(results.store, "test") is None
    with exclusive(results, "test"):
        pass


def test_a_process_that_was_killed_keeps_no_one_out(results: Results):
    with holding(results) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BadInputError, match=f"process {holder.pid} on "), exclusive(results, "test"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with exclusive(results, "test"):
        now = holder_of(results.store, "test")
        assert now is not None
        assert now.pid == os.getpid()


def test_of_four_launches_at_once_one_holds_the_sweep(results: Results, request: pytest.FixtureRequest):
    """`--races 100` has as many tries of it."""
    command = [sys.executable, "-c", TRIES, results.location]
    launches = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)
    ]

    def tell(line: str) -> None:
        for launch in launches:
            assert launch.stdin is not None
            launch.stdin.write(line)

    def said() -> list[str]:
        return sorted(launch.stdout.readline().strip() for launch in launches if launch.stdout is not None)

    races = request.config.getoption("--races")
    try:
        assert said() == ["ready"] * 4
        for race in range(races):
            # Of a sweep that nobody has held yet, and of one that has been let go.
            tell(f"sweep{race // 2}\n")
            assert said() == ["held", "refused", "refused", "refused"], race
            tell("go on\n")
    finally:
        for launch in launches:
            launch.communicate()
    print(f"{races} tries of four launches at once: one holder each")


# Parts of a plan


def test_parts_of_one_plan_are_held_side_by_side_and_each_by_one_process(results: Results):
    with exclusive(results, "test", part="plan-2-1"), exclusive(results, "test", part="plan-2-2"):
        who = f"process {os.getpid()} on .* has shard 2/2 of a plan of test in "
        with pytest.raises(BadInputError, match=who), exclusive(results, "test", part="plan-2-2"):
            pass
        with exclusive(results, "another"), exclusive(results, "third", part="plan-3-1"):
            pass
    with exclusive(results, "test", part="plan-2-2"):
        pass


@pytest.mark.parametrize("other", ["", "plan-3-1", "other-2-2"])
def test_a_part_excludes_the_whole_and_parts_of_another_division_and_they_exclude_it(results: Results, other: str):
    for first, second in (("plan-2-1", other), (other, "plan-2-1")):
        with exclusive(results, "test", part=first):
            for _ in range(2):  # being refused takes nothing from whoever has it
                with (
                    pytest.raises(
                        BadInputError, match=f"process {os.getpid()} on .* has (shard ./. of a plan of )?test in"
                    ),
                    exclusive(results, "test", part=second),
                ):
                    pass
        with exclusive(results, "test", part=second):
            pass


def test_a_killed_launch_of_a_part_keeps_no_one_out(results: Results):
    with holding(results, "plan-2-1") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BadInputError, match=f"process {holder.pid} on "), exclusive(results, "test"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    for part in ("plan-2-1", "other-3-1", ""):
        with exclusive(results, "test", part=part):
            pass


# Leases


def test_a_holder_renews_its_lease(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.2)
    results = Results.at(store.uri())
    with exclusive(results, "test"):
        wait_until(lambda: (now := holder_of(results.store, "test")) is not None and now.renewed >= 3)


@pytest.mark.parametrize("within", [nullcontext(), CTRL_C], ids=["compact", "run"])
def test_a_lost_lease_ends_what_runs_with_one_sentence(
    within: AbstractContextManager[None], store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.2)
    results = Results.at(store.uri())

    def run() -> None:
        with exclusive(results, "test"), within:
            results.store.put(name_of("test"), Holder("theirs", "elsewhere").encode())
            time.sleep(PATIENCE_S)

    with pytest.raises(LostLeaseError, match="another process has taken over test in") as caught:
        run()
    assert "\n" not in str(caught.value)
    theirs = holder_of(results.store, "test")
    assert theirs is not None
    assert theirs.host == "elsewhere"


def test_a_lost_lease_ends_what_ignores_ctrl_c(store: Store, monkeypatch: pytest.MonkeyPatch):
    """As all that is started under nohup does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        test_a_lost_lease_ends_what_runs_with_one_sentence(nullcontext(), store, monkeypatch)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_part_takes_what_a_suspended_launch_of_the_whole_had(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Else both would run once that goes on."""
    place = Results.at(store.uri()).store
    assert isinstance(place, ObjectStore)
    suspended = Lease(place, "test")
    suspended._me = Holder("theirs", "elsewhere")
    suspended.take()
    monkeypatch.setattr(leases, "EXPIRES_S", -1.0)
    with exclusive(Results.at(place.location), "test", part="plan-2-1"), pytest.raises(LostLeaseError):
        suspended.renew()


def test_a_lost_lease_on_a_part_ends_its_launch(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.2)
    results = Results.at(store.uri())

    def run() -> None:
        with exclusive(results, "test", part="plan-2-1"), CTRL_C:
            results.store.put(name_of("test", "plan-2-1"), Holder("theirs", "elsewhere").encode())
            time.sleep(PATIENCE_S)

    with pytest.raises(LostLeaseError, match="another process has taken over test in"):
        run()
