"""Leases: of the processes that would run a sweep into one store, one holds it.

The lease of a sweep is the object `<sweep>/lease.json`, and names its holder; launches that run a part of the sweep
each have one of the part, `<sweep>/leases/<part>.json`, instead. It is made if there is none, and from
then on replaced only where it still is the version that was read, so that of several who try one succeeds: the store
decides. A holder renews its lease all along. A lease that was let go, whose process has ended on this machine, or that
was not renewed for a minute of the store's own time can be taken over.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from study.errors import BadInputError
from study.storage.object_store import ObjectStore, Version
from study.storage.store import Store

RENEW_EVERY_S = 10.0
EXPIRES_S = 60.0
"""How long a lease holds that is not renewed."""
SAFE_S = 45.0
"""How long its holder relies on a lease. The rest is for clocks that tell whole seconds, and for a slow renewal."""
LOOK_EVERY_S = 2.0
BOOT = Path("/proc/sys/kernel/random/boot_id")


class LostLeaseError(OSError):
    """Another process has taken over what this one was running, or soon may."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease, or has let it go.

    Attributes:
        id: a name that no other holder has.
        host: its machine.
        boot: what tells machines of one name, and the starts of one machine, apart.
        pid: its process.
        since: when it took the lease.
        renewed: how often it has renewed it, so that no two versions have one content.
        released: whether it has let it go.
    """

    id: str = ""
    host: str = ""
    boot: str = ""
    pid: int = 0
    since: str = ""
    renewed: int = 0
    released: bool = False

    @classmethod
    def this_process(cls) -> "Holder":
        """Return this process as a new holder."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return cls(uuid4().hex, socket.gethostname(), _boot(), os.getpid(), since)

    @classmethod
    def decode(cls, content: bytes) -> "Holder":
        """Return the holder that a lease names; one without a name where it can't be read."""
        try:
            named = json.loads(content)
            holder = cls(**{field.name: named[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError):
            return cls()
        return holder

    def encode(self) -> bytes:
        """Return the content of its lease."""
        return json.dumps(asdict(self)).encode()

    def has_ended(self) -> bool | None:
        """Return whether its process has ended; None if it is not of this machine."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot()):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, TypeError, OverflowError):
            pass
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}," if self.id else "another process"


class Lease:
    """The lease on one sweep, or on a part of it, for a process that wants it."""

    def __init__(self, store: ObjectStore, sweep: str, part: str = "") -> None:
        self._store, self._sweep, self._name = store, sweep, name_of(sweep, part)
        self._me, self._safe_until = Holder.this_process(), 0.0
        self._version: Version = {}

    def take(self, on_wait: Callable[[str], None] = lambda _: None) -> None:
        """Take the lease; one that a process of another machine may have left behind is waited for.

        Args:
            on_wait: told why it may take a minute.

        Raises:
            BadInputError: another process holds it.
            OSError: the store refuses.
        """
        while not self._put(self._me, self._await_free(self._name, on_wait)[1]):
            pass

    def exclude(self, name: str, on_wait: Callable[[str], None] = lambda _: None) -> None:
        """Have no process hold another lease, for which this one has to be held already.

        Of two processes that exclude each other at least one finds what the other holds.

        Args:
            name: that of the other lease.
            on_wait: as in `take`.

        Raises:
            BadInputError: a process holds it.
            OSError: the store refuses.
        """
        over = replace(Holder.this_process(), released=True).encode()
        while True:
            holder, version = self._await_free(name, on_wait)
            # Its last holder, if it was only suspended, can't renew what has been replaced.
            if version is None or holder.released or self._store.put_if_same(name, over, version) is not None:
                return

    def _await_free(self, name: str, on_wait: Callable[[str], None]) -> tuple[Holder, Version | None]:
        """Return the last holder and the version of a lease that can be taken over; None for one that isn't there.

        Args:
            name: that of the lease.
            on_wait: as in `take`.

        Raises:
            BadInputError: a process holds it.
        """
        seen: Version | None = None
        while True:
            try:
                content, version, changed_ns = self._store.read_versioned(name)
            except FileNotFoundError:
                return Holder(), None
            holder = Holder.decode(content)
            if holder.released or holder.has_ended() or self._store.now_ns() - changed_ns > EXPIRES_S * 1e9:
                return holder, version
            if holder.has_ended() is False or seen not in (None, version):
                raise held_by(holder, self._store, name)
            if seen is None:
                on_wait(f"{holder} had {_what(name)}; waiting to see whether it still has ...")
                seen = version
            time.sleep(LOOK_EVERY_S)

    def renew(self) -> None:
        """Renew the lease, as its holder has to all along.

        Raises:
            LostLeaseError: it is another's, or may soon be, because the store has refused for too long.
        """
        where = f"{self._sweep} in {self._store.location}"
        try:
            renewed = self._put(replace(self._me, renewed=self._me.renewed + 1), self._version)
        except OSError as error:
            if time.monotonic() + RENEW_EVERY_S < self._safe_until:
                return  # there is time for another attempt
            raise LostLeaseError(
                f"the lease on {where} can't be renewed: {str(error).rstrip('.')}; "
                f"once it can be, the same command goes on where it was."
            ) from None
        if not renewed:
            raise LostLeaseError(
                f"another process has taken over {where}, because the lease of this one was not renewed in time; "
                f"what was recorded stays."
            )

    def release(self) -> None:
        """Let the lease go; where the store refuses that, it is left to expire."""
        with suppress(OSError):
            self._put(replace(self._me, released=True), self._version)

    def _put(self, holder: Holder, version: Version | None) -> bool:
        """Write the lease in place of that version, or if there is none, and return whether it is this process's."""
        began, content = time.monotonic(), holder.encode()
        if version is None:
            written = self._store.put_if_absent(self._name, content)
        else:
            written = self._store.put_if_same(self._name, content, version)
        if written is None:
            # The answer to an attempt that succeeded may have been lost.
            with suppress(FileNotFoundError):
                there, its_version, _ = self._store.read_versioned(self._name)
                written = its_version if there == content else None
        if written is not None:
            self._me, self._version, self._safe_until = holder, written, began + SAFE_S
        return written is not None


def name_of(sweep: str, part: str = "") -> str:
    """Return the name of the file that says who runs a sweep, or a part of it.

    Args:
        sweep: the sweep's name.
        part: that of the part, `<plan>-<count>-<number>`; by default it is the whole.
    """
    return f"{sweep}/leases/{part}.json" if part else f"{sweep}/lease.json"


def holder_of(store: Store, sweep: str) -> Holder | None:
    """Return who runs a sweep, or did until it was killed; None if it was let go."""
    return holder_in(store, name_of(sweep))


def holder_in(store: Store, name: str) -> Holder | None:
    """Return whom the file of that name says to run what it is on; None if it was let go."""
    try:
        holder = Holder.decode(store.read(name))
    except FileNotFoundError:
        return None
    return None if holder.released else holder


def held_by(holder: Holder | None, store: Store, name: str) -> BadInputError:
    """Return the error for who wants what another process runs.

    Args:
        holder: that process, where it is known.
        store: where it is.
        name: that of its lease.
    """
    return BadInputError(
        f"{holder or Holder()} has {_what(name)} in {store.location}; wait until it ends, or take another results "
        "folder."
    )


def _what(name: str) -> str:
    """Return in words what a lease of that name is on."""
    sweep, _, file = name.partition("/")
    _, *part = file.rpartition("/")[2].removesuffix(".json").rsplit("-", 2)
    return f"shard {part[1]}/{part[0]} of a plan of {sweep}" if len(part) == 2 else sweep


def _boot() -> str:
    return BOOT.read_text().strip() if BOOT.is_file() else ""
