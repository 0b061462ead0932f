"""What was timed on this machine, kept in the user's cache folder: how fast each backend trains a kind of network.

Reading them needs no torch, so that a plan can tell what a launch will take without timing anything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from study.record.provenance import device_name
from study.setting import Stage
from study.settings import names_where
from study.storage.cache import cache_folder
from study.trial import Trial

MARGIN = 0.97
"""A candidate counts as faster if it takes at most this share of the other's time."""
WORKER = (1, True)
"""The threads of a sweep's worker on a CPU, and whether it has the allocator's settings."""


@dataclass(frozen=True)
class Choice:
    """A backend and a size of packs for a kind of network on a device, with its speed.

    Attributes:
        backend: a key of `BACKENDS`.
        members: how many members train at once; 1 for `single`.
        seconds: the seconds of training for one sample of one member.
        workers: how many processes with such a pack get the most done on one device; None where it was not measured.
        noise: the standard deviation of the logarithm of one step's time, 0.1 where that varies by 10%.
        turns: how many steps were timed.
        settled: whether it became known, for any number of members, which is about the fastest.
        work: for how many samples of training it was timed, where it would have been timed longer for more; None where
            it wouldn't.
    """

    backend: str
    members: int
    seconds: float
    workers: int | None = None
    noise: float = 0.0
    turns: int = 1
    settled: bool = True
    work: float | None = None

    def __str__(self) -> str:
        return self.backend if self.backend == "single" else f"{self.backend} x {self.members}"


@dataclass(frozen=True)
class Timed:
    """How fast a kind of network trains on a kind of device, in each backend and pack that was timed.

    Attributes:
        key: everything that decides it, as `key_of` returns it.
        choices: what was timed.
    """

    key: str
    choices: tuple[Choice, ...]


def fastest(timings: Sequence[Choice], members: int) -> Choice:
    """Return the fastest choice with at most that many members; the plain loop, unless it is clearly beaten."""
    fitting = [timing for timing in timings if timing.members <= members]
    best = min(fitting, key=lambda timing: timing.seconds)
    plain = next((timing for timing in fitting if timing.backend == "single"), best)
    return best if best.seconds <= MARGIN * plain.seconds else plain


def step_seconds(timings: Sequence[Choice], backend: str) -> Mapping[int, float]:
    """Return the seconds of a step for a sample of each member of a pack in that backend, by its size."""
    return {timing.members: timing.seconds * timing.members for timing in timings if timing.backend == backend}


def key_of(
    trial: Trial,
    shape: tuple[int, int, int],
    classes: int,
    device: str = "cpu",
    backend: str = "auto",
    process: tuple[int, bool] = WORKER,
) -> str:
    """Return everything that decides the speed, as a key of the cache.

    Args:
        trial: the kind of network, and how it is trained.
        shape: channels, height and width of an image.
        classes: the number of logits.
        device: a torch device.
        backend: the one backend that is timed, or `auto` for all.
        process: how many threads the process has, and whether it has a worker's environment.
    """
    settings = trial.values(names_where(lambda setting: setting.decides_speed and setting.stage is not Stage.DATA))
    return json.dumps([*settings, shape, classes, backend, device_name(device), process, version("torch")])


def cache_file() -> Path:
    """Return the file of timings, whose folder is made if need be.

    Raises:
        OSError: it can't be made.
    """
    return cache_folder() / "tuning.json"


def read(cache: Path, key: str) -> list[Choice]:
    """Return the timings under a key of the cache; none where there are none, or those of another version."""
    try:
        return [Choice(**timing) for timing in _read(cache).get(key, [])]
    except TypeError:
        return []


def write(cache: Path, key: str, timings: Sequence[Choice]) -> None:
    """Keep timings under a key. The file is replaced as a whole, so that no reader sees half of it."""
    partial = cache.with_suffix(".part")
    partial.write_text(json.dumps({**_read(cache), key: [asdict(timing) for timing in timings]}, indent=1))
    partial.replace(cache)


def _read(cache: Path) -> Mapping[str, Any]:
    """Return all timings of the cache; none where the file is missing or damaged."""
    try:
        timings = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return timings if isinstance(timings, dict) else {}
