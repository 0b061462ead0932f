"""Where the checkpoints of a sweep's unfinished trials are kept."""

from contextlib import suppress
from dataclasses import dataclass

from study.storage.store import Store


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of a sweep, `<sweep>/checkpoints/<trial id>-<...>`.

    They save time and are no results: where the store fails, trials go on without them.

    Attributes:
        store: the results folder's.
        sweep: the sweep's name.
    """

    store: Store
    sweep: str

    def load(self, name: str) -> bytes | None:
        """Return the checkpoint of that name; None where there is none."""
        try:
            return self.store.read(self._file(name))
        except OSError:
            return None

    def save(self, name: str, content: bytes) -> None:
        """Keep a checkpoint, in place of one that has its name."""
        with suppress(OSError):
            self.store.put(self._file(name), content)

    def drop(self, trial: str) -> None:
        """Remove all checkpoints of a trial, those as well that were still being written."""
        with suppress(OSError):
            self.store.delete(*self._of(trial))

    def holds(self, trial: str) -> bool:
        """Return whether there is a checkpoint of a trial."""
        try:
            return bool(self._of(trial))
        except OSError:
            return False

    def _file(self, name: str) -> str:
        return f"{self.sweep}/checkpoints/{name}"

    def _of(self, trial: str) -> list[str]:
        files = self.store.list(f"{self.sweep}/checkpoints", hidden=True)
        return [file.name for file in files if file.base.removeprefix(".").startswith(f"{trial}-")]
