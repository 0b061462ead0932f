"""Which process runs a sweep at the moment."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.record.results import Results


@dataclass(frozen=True)
class Claims:
    """What the processes that run a sweep say of themselves, each in `RESULTS/<sweep>/claims/<name>.json`."""

    results: "Results"
    sweep: str

    @property
    def lock(self) -> Path | None:
        """The file that whoever runs the sweep has locked; None on an object store."""
        return Path(self.results._path(self.sweep, ".lock")) if self.results.is_local else None

    def put(self, name: str, claim: Mapping[str, Any]) -> None:
        """Make a claim, or make it anew.

        Raises:
            OSError: the folder can't be written.
        """
        self.results._put(f"{self.sweep}/claims/{name}.json", json.dumps(claim).encode())

    def all(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Every claim by its name, with the time of its last change in ns of the store's own clock."""
        found = {}
        for info in self.results._listed(self.sweep, "claims"):
            # One that is taken back just now is none.
            with (
                suppress(FileNotFoundError, ValueError),
                self.results._opened[0].open_input_stream(info.path) as stream,
            ):
                found[info.base_name.removesuffix(".json")] = info.mtime_ns, json.loads(stream.read())
        return found

    def remove(self, name: str) -> None:
        """Take a claim back; where that is not permitted it is left to expire."""
        with suppress(OSError):
            self.results._opened[0].delete_file(self.results._path(self.sweep, "claims", f"{name}.json"))
