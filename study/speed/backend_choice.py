"""Which backend, and how many members at once: measured in seconds, once for each kind of network and device.

A pack pays on one device and not on another, and a plain loop is never far off; so the candidates are timed side by
side on this device, the plain loop among them, and only a clear win takes its place. So it is with several processes
that share a GPU, each with such a pack. The choice is kept in the user's cache folder: workers on the same machine, and
later runs, take the same one and so compute the same numbers.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from filelock import FileLock

from study.engine.backends import BACKENDS
from study.errors import unknown
from study.networks.catalog import NETWORKS
from study.record.provenance import device_name
from study.speed.throughput import Rate, engine, rate, side_by_side, training
from study.training.precision import be_exact
from study.trial import Trial
from study.worker import ENVIRONMENT, in_place, processes

MOST = {"cpu": 16, "cuda": 32}
"""The largest pack that is timed: a CPU gains nothing from more."""
TRY_S = 0.2
"""How long each candidate is tried, or for two steps if those take longer."""
BATCHES = {"cpu": 1, "cuda": 8}
"""In a timed pass: an epoch has costs of its own, which on a GPU would hide those of a single step."""
FULL_S = 0.2
"""A step that takes so long keeps the device busy: there are no idle moments that a larger pack would fill."""
TURNS_S, FEWEST_TURNS = 2.0, 6
"""How long, and how often, the plain loop and the best of the others take turns, once each candidate has been tried."""
STEP_S = 0.3
"""What one timed step of the plain loop may take: of networks that are slower, fewer samples are timed."""
FEW = 8
MARGIN = 0.97
"""The share of a time that another must stay below to count as faster."""
MOST_WORKERS = 4
"""The most processes that are timed side by side on one device."""
SIDE_BY_SIDE_S = 1.0
"""How long they take a turn, of which there are a few."""
ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """How a kind of network is trained on a device.

    Attributes:
        backend: a key of `BACKENDS`.
        members: how many train at once; `single` has one.
        seconds: of training, for one sample of one member.
        workers: how many processes with such a pack share a device to get the most done; None where nobody has asked.
    """

    backend: str
    members: int
    seconds: float
    workers: int | None = None

    def __str__(self) -> str:
        return self.backend if self.backend == "single" else f"{self.backend} x {self.members}"


def choose(
    trial: Trial,
    shape: tuple[int, int, int],
    classes: int,
    members: int,
    device: str,
    backend: str = "auto",
    sharing: bool = False,
) -> Choice:
    """How to train that many members of the trial's kind.

    Args:
        trial: the kind of network, and how it is trained.
        shape: channels, height and width of an image.
        classes: the number of logits.
        members: how many there are to train.
        device: a torch device.
        backend: a key of `BACKENDS`, or `auto` for the fastest of them.
        sharing: whether to find out as well how many processes should share the device.

    Returns:
        What was measured now, or is known from earlier.

    Raises:
        BadInputError: there is no such backend, it does not fit the network, or that can't be built.
    """
    if backend not in ("auto", *BACKENDS):
        raise unknown("backend", backend, ("auto", *BACKENDS))

    def lacking(timings: Sequence[Choice]) -> bool:
        return not timings or (sharing and fastest(timings, members).workers is None)

    def completed(timings: Sequence[Choice]) -> list[Choice]:
        found = list(timings) or measure(trial, shape, classes, device, backend)
        if lacking(found):
            chosen = fastest(found, members)
            shared = replace(chosen, workers=workers(trial, shape, classes, device, chosen))
            found[found.index(chosen)] = shared
        return found

    try:
        cache = _cache_file()
    except OSError:  # a home that can't be written to
        return fastest(completed([]), members)
    if trial.architecture not in NETWORKS:
        # A network of the user's may change under its name, and one that hangs is to keep no other process waiting.
        return fastest(completed([]), members)
    kind = _kind(trial, shape, classes, device, backend)
    if lacking(timings := _known(cache, kind)):
        with FileLock(cache.with_suffix(".lock")):
            # Another process may have measured in the meantime.
            if lacking(timings := _known(cache, kind)):
                timings = completed(timings)
                _write(cache, {**_read(cache), kind: [asdict(timing) for timing in timings]})
    return fastest(timings, members)


def fastest(timings: Sequence[Choice], members: int) -> Choice:
    """The fastest that needs no more members than there are; the plain loop unless it is clearly beaten."""
    fitting = [timing for timing in timings if timing.members <= members]
    found = min(fitting, key=lambda timing: timing.seconds)
    plain = next((timing for timing in fitting if timing.backend == "single"), found)
    return found if found.seconds <= MARGIN * plain.seconds else plain


def measure(
    trial: Trial, shape: tuple[int, int, int], classes: int, device: str, backend: str = "auto"
) -> list[Choice]:
    """Time every backend that fits the network, in packs of 1, 2, 4, ... until two are no faster or one is slow.

    Raises:
        BadInputError: the one backend that was named can't express the network.
        torch.OutOfMemoryError: there is no memory for a single step.
    """
    be_exact()
    samples = _samples(trial, shape, classes, device)
    steps: dict[Choice, Callable[[], float]] = {}
    for name in BACKENDS if backend == "auto" else (backend,):
        size, best, worse = 1, math.inf, 0
        while size <= (1 if name == "single" else MOST[torch.device(device).type]):
            try:
                step = _timed(name, size, trial, shape, classes, samples, device)
                timing = Choice(name, size, _tried(step))
            except Exception:  # what can't take a step is no candidate; but one must be
                if name == "single" or (backend != "auto" and size == 1):
                    raise
                break
            steps[timing] = step
            # Only the plain loop and the best of the others are kept in memory.
            rivals = sorted((each for each in steps if each.backend != "single"), key=lambda each: each.seconds)
            for slower in rivals[1:]:
                steps[slower] = _forgotten
            # One size may be slow by chance, where others use the machine too.
            worse = worse + 1 if timing.seconds > MARGIN * best else 0
            if worse == 2 or timing.seconds * samples * size > FULL_S:
                break
            size, best = 2 * size, min(best, timing.seconds)
    return _in_turns(steps)


def _tried(step: Callable[[], float]) -> float:
    """The best of a few steps."""
    end, found = time.perf_counter() + TRY_S, min(step(), step())
    while time.perf_counter() < end:
        found = min(found, step())
    return found


def _in_turns(steps: Mapping[Choice, Callable[[], float]]) -> list[Choice]:
    """The timings, made better by turns, so that whatever else the machine does meets the best ones alike.

    Where others load the machine, one candidate may have had its best moment and the plain loop none. So a candidate
    counts as no faster than it was, against the plain loop of the same turn, in half of the turns.
    """
    seconds = {timing: [timing.seconds] for timing in steps}
    end, turns = time.perf_counter() + TURNS_S, 0
    while len(steps) > 1 and (time.perf_counter() < end or turns < FEWEST_TURNS):
        turns += 1
        for timing, step in steps.items():
            seconds[timing].append(step())
    best = {timing: min(found) for timing, found in seconds.items()}
    plain = next((timing for timing in steps if timing.backend == "single"), None)
    if plain is not None:
        for timing, found in seconds.items():
            ratios = [one / other for one, other in zip(found, seconds[plain], strict=True) if one < math.inf]
            best[timing] = max(best[timing], best[plain] * median(ratios[1:] or ratios))
    return [replace(timing, seconds=found) for timing, found in best.items()]


def _forgotten() -> float:
    """The step of a candidate that is out of the race."""
    return math.inf


def _timed(
    backend: str, members: int, trial: Trial, shape: tuple[int, int, int], classes: int, samples: int, device: str
) -> Callable[[], float]:
    """A function that takes a step of so many samples and returns the seconds for one sample of one member."""
    small, batches = replace(trial, batch_size=samples), BATCHES[torch.device(device).type]
    turn = rate(training(small, shape, classes, batches, device, backend, members), device)
    return lambda: 1 / turn(0.0)


def workers(trial: Trial, shape: tuple[int, int, int], classes: int, device: str, choice: Choice) -> int:
    """How many processes with the chosen pack get the most done side by side on the device; on a CPU one, on its core.

    That processes are timed and counted so was tried on a CPU; on a GPU it has not been run.
    """
    if torch.device(device).type == "cpu":
        return 1
    torch.cuda.empty_cache()  # of what was timed in this process
    batches = BATCHES[torch.device(device).type]
    return most_at_once(engine, trial, shape, classes, batches, device, choice.backend, choice.members)


def most_at_once(contender: Callable[..., Rate], *arguments: object) -> int:
    """How many processes that do the same get the most done side by side: as many as are clearly better than half."""
    count = 1
    while count < MOST_WORKERS and _pay(2 * count, contender, arguments):
        count *= 2
    return count


def _pay(count: int, contender: Callable[..., Rate], arguments: Sequence[object]) -> bool:
    """Whether so many processes get clearly more done than half of them while the others wait."""
    try:
        with processes(ENVIRONMENT, count, contender, *arguments) as started:
            for process in started:
                process.result()
            ratios = [
                side_by_side(started[: count // 2], SIDE_BY_SIDE_S) / side_by_side(started, SIDE_BY_SIDE_S)
                for _ in range(ROUNDS)
            ]
    except Exception:  # one that finds no room, as where memory runs out, does not pay
        return False
    return median(ratios) <= MARGIN


def _samples(trial: Trial, shape: tuple[int, int, int], classes: int, device: str) -> int:
    """The batch size to time with: the trial's, or fewer samples where a step of the plain loop takes too long."""
    few = min(FEW, trial.batch_size)
    seconds = _timed("single", 1, trial, shape, classes, few, device)()
    return max(few, min(trial.batch_size, int(STEP_S / seconds)))


def _kind(trial: Trial, shape: tuple[int, int, int], classes: int, device: str, backend: str) -> str:
    """All that the speed depends on, as a key of the cache."""
    settings = trial.values(("architecture", "norm", "regularizer", "optimizer", "batch_size", "precision"))
    process = torch.get_num_threads(), in_place()
    return json.dumps([*settings, shape, classes, backend, device_name(device), process, torch.__version__])


def _cache_file() -> Path:
    """The file of choices in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(home) if home else Path.home() / ".cache") / "normleak"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "tuning.json"


def _known(cache: Path, kind: str) -> list[Choice]:
    """The timings of a kind; none where it was not measured, or by another version."""
    try:
        return [Choice(**timing) for timing in _read(cache).get(kind, [])]
    except TypeError:
        return []


def _read(cache: Path) -> dict[str, Any]:
    """The choices that were made; none where the file is missing or damaged."""
    try:
        found = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(cache: Path, known: dict[str, Any]) -> None:
    partial = cache.with_suffix(".part")
    partial.write_text(json.dumps(known, indent=1))
    partial.replace(cache)
