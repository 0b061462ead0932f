"""Where the checkpoints of unfinished trials lie."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyarrow import fs

if TYPE_CHECKING:
    from study.record.results import Results


@dataclass(frozen=True)
class Kept:
    """The checkpoints of a sweep's unfinished trials, `RESULTS/<sweep>/checkpoints/<trial id>-<...>`.

    They save time and are no results: where the folder fails, trials go on without them.
    """

    results: "Results"
    sweep: str

    def load(self, name: str) -> bytes | None:
        """What was saved under that name; None where there is nothing."""
        filesystem, path = self.results._opened[0], self.results._path(self.sweep, "checkpoints", name)
        try:
            with filesystem.open_input_stream(path, compression=None) as stream:
                content: bytes = stream.read()
        except OSError:
            return None
        return content

    def save(self, name: str, content: bytes) -> None:
        """Keep it in place of what has that name, whole or not at all."""
        with suppress(OSError):
            self.results._put(f"{self.sweep}/checkpoints/{name}", content)

    def drop(self, trial: str) -> None:
        """Remove all of a trial, and what was left behind while one was being written."""
        with suppress(OSError):
            for path in self._of(trial):
                self.results._opened[0].delete_file(path)

    def holds(self, trial: str) -> bool:
        """Whether there is any of the trial."""
        try:
            return bool(self._of(trial))
        except OSError:
            return False

    def _of(self, trial: str) -> list[str]:
        selector = fs.FileSelector(self.results._path(self.sweep, "checkpoints"), allow_not_found=True)
        found = self.results._opened[0].get_file_info(selector)
        return [info.path for info in found if info.base_name.removeprefix(".").startswith(f"{trial}-")]
