"""A sweep to oneself: of two launches of one sweep in one results folder, each would train what the other does.

In a folder the second is kept out by a lock, which ends with its process. An object store has no locks, nor does Arrow
have its put-if-absent; there each launch puts a claim of its own, and looks for others' once all that came before it
can be seen: the first one holds the sweep, and renews its claim for as long. Should two hold it all the same, as
where one was suspended for minutes, their records are still one a trial: a shard is named after its trial.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from study.errors import BadInputError
from study.record.leases import Claims
from study.record.results import Results

SETTLES_S = 2.0
"""Longer than a tick of a store's clock, so that of claims that don't see each other one is the later."""
RENEWED_EVERY_S = 10.0
EXPIRES_S = 60.0
"""How long a claim that is not renewed is waited for; one of a process of this machine is asked for that process."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def alone(results: Results, *sweeps: str, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """The sweeps in that folder to oneself, let go afterwards.

    Args:
        results: the folder.
        sweeps: their names.
        on_wait: told that it takes a minute to find out whether a process on another machine has ended.

    Raises:
        BadInputError: another process has one of them.
        OSError: the folder can't be written.
    """
    with ExitStack() as held:
        for sweep in sorted(sweeps):
            claims = results.claims(sweep)
            held.enter_context(_locked(claims) if claims.lock else _claimed(claims, on_wait))
        yield


@contextmanager
def _locked(claims: Claims) -> Iterator[None]:
    assert claims.lock is not None
    claims.lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(claims.lock, blocking=False):
            for name in claims.all():  # of processes that were killed
                claims.remove(name)
            name = uuid4().hex
            claims.put(name, _claim(held=True))
            try:
                yield
            finally:
                claims.remove(name)
                claims.lock.unlink()  # whoever has it open by then finds that it is gone, and makes another
    except Timeout:
        raise _taken(claims, next((claim for _, claim in claims.all().values()), {})) from None


@contextmanager
def _claimed(claims: Claims, on_wait: Callable[[str], None]) -> Iterator[None]:
    name, held, over = uuid4().hex, _claim(held=True), threading.Event()

    def renew() -> None:
        while not over.wait(RENEWED_EVERY_S):
            with suppress(OSError):  # there is time for another attempt
                claims.put(name, held)

    renewing = threading.Thread(target=renew, daemon=True)
    try:
        _await_turn(claims, name, {**held, "held": False}, on_wait)
        claims.put(name, held)
        renewing.start()
        yield
    finally:
        over.set()
        if renewing.ident is not None:
            renewing.join()
        claims.remove(name)


def _await_turn(claims: Claims, name: str, claim: Mapping[str, Any], on_wait: Callable[[str], None]) -> None:
    """Make the claim, and return once no other is before it; one that is never renewed is removed.

    Raises:
        BadInputError: a process that is there holds the sweep.
    """
    since: dict[tuple[str, int], float] = {}
    told = False
    while True:
        if name not in (found := claims.all()):
            claims.put(name, claim)
            time.sleep(SETTLES_S)
            continue
        mine, _ = found.pop(name)
        waiting = False
        for other, (changed, theirs) in found.items():
            if not theirs.get("held") and (changed, other) > (mine, name):
                continue  # it came later, and sees this one
            seen = since.setdefault((other, changed), time.monotonic())
            lives = _lives(theirs)
            if lives is False or time.monotonic() - seen > EXPIRES_S:
                claims.remove(other)
                continue
            renewed = len([each for each, _ in since if each == other]) > 1
            if theirs.get("held") and (lives or renewed):
                raise _taken(claims, theirs)
            waiting = True
            if not told and lives is None:
                on_wait(f"{_who(theirs)} had {claims.sweep}; waiting to see whether it still has ...")
                told = True
        if not waiting:
            return
        time.sleep(SETTLES_S)


def _claim(held: bool) -> dict[str, Any]:
    """What others may know of this process."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "since": since, "held": held}


def _boot() -> str:
    """What tells machines apart that have one name."""
    return BOOT.read_text().strip() if BOOT.is_file() else ""


def _lives(claim: Mapping[str, Any]) -> bool | None:
    """Whether there is such a process; None where this machine can't tell."""
    if (claim.get("host"), claim.get("boot")) != (socket.gethostname(), _boot()) or not claim.get("boot"):
        return None
    try:
        os.kill(claim["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _who(claim: Mapping[str, Any]) -> str:
    return f"process {claim['pid']} on {claim['host']}, since {claim['since']}," if claim else "another process"


def _taken(claims: Claims, claim: Mapping[str, Any]) -> BadInputError:
    return BadInputError(
        f"{_who(claim)} has {claims.sweep} in {claims.results}; wait until it ends, or take another results folder."
    )
