"""Work that processes do side by side in tests, in a module that is imported in no time."""

import fcntl
import time
from collections.abc import Callable
from pathlib import Path

Turn = Callable[[float], float]


def waiting() -> Turn:
    """Return a contender that leaves its device to others, because it only waits."""

    def turn(seconds: float) -> float:
        time.sleep(0.05)
        return 1.0

    return turn


def one_at_a_time(lock: str) -> Turn:
    """Return a contender that needs the whole device to itself for each piece of its work."""
    file = Path(lock).open("w")  # noqa: SIM115

    def turn(seconds: float) -> float:
        end, done = time.monotonic() + seconds, 0
        while True:
            fcntl.flock(file, fcntl.LOCK_EX)
            if time.monotonic() >= end:
                fcntl.flock(file, fcntl.LOCK_UN)
                return done / seconds
            time.sleep(0.01)
            done += 1
            fcntl.flock(file, fcntl.LOCK_UN)

    return turn


def with_room_for_two(lock: str) -> Turn:
    """Return a contender on a device with room for two."""
    files = [Path(f"{lock}{place}").open("w") for place in range(2)]  # noqa: SIM115
    for file in files:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        turn = waiting()
        return lambda seconds: turn(seconds) if files else 0.0  # the lock is held as long as it is open
    raise MemoryError("there is no room for one more")
