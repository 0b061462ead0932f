"""Where the trained weights of a sweep's members are kept, for trials with `weights=final`."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from study.storage.store import Store

ENDING = ".safetensors"

Keep = Callable[[str, int, bytes | None], None]
"""A function that keeps the weights of a trial's member, by the trial's id and the member's number, as one file.

None are the weights of a member that diverged: those that an earlier try may have left are removed.
"""


@dataclass(frozen=True)
class WeightStore:
    """The weights of a sweep, `<sweep>/weights/<trial id>/<member>.safetensors`.

    They are written before the record of their trial, so that a trial which is recorded has those of all its members
    but the diverged ones. What a trial that failed has left is overwritten when it is run again.

    Attributes:
        store: the results folder's.
        sweep: the sweep's name.
    """

    store: Store
    sweep: str

    def keep(self, trial: str, member: int, content: bytes | None) -> None:
        """Keep a member's weights in place of those of an earlier try; see `Keep`.

        Raises:
            OSError: the store can't be written.
        """
        name = f"{self.sweep}/weights/{trial}/{member}{ENDING}"
        if content is not None:
            self.store.put(name, content)
            return
        with suppress(OSError):  # the record says that it diverged
            self.store.delete(name)
