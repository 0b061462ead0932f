"""Wait for what a test needs, however busy the machine is."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

PATIENCE_S = 900.0
"""Far more than anything takes that a test waits for; pytest ends a test after twice as long."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T]) -> T:
    """Return what the condition returns, once that is true.

    Raises:
        AssertionError: it did not become true in `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s in vain"
        time.sleep(0.05)
    return found


def wait_for(folder: Path, pattern: str) -> None:
    """Wait until the folder has a file of that name that is written to its end."""
    wait_until(lambda: any(not path.name.startswith(".") for path in folder.glob(pattern)))


def wait_for_end(processes: Collection[int]) -> None:
    """Wait until none of the processes runs; one that only waits to be collected does not."""
    wait_until(lambda: not any(map(_runs, processes)))


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
