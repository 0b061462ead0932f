"""Choose the backend and the size of a pack by timing them for a few seconds, once for each network and device.

A pack is faster on one device and slower on another, and a plain loop is never far off. So the candidates, the plain
loop among them, take turns on this device, and only a clear win replaces the plain loop. The same holds for several
processes that share a GPU, each with such a pack. The choice is kept in the user's cache folder: workers on the same
machine, and later runs, make the same choice and so compute the same numbers.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from filelock import FileLock

from study.engine.backends import BACKENDS
from study.errors import unknown
from study.networks.catalog import NETWORKS
from study.speed import timings as cached
from study.speed.throughput import Rate, engine_rate, rate, total_rate, training_pass
from study.speed.timings import MARGIN, Choice, fastest
from study.training.precision import use_full_float32
from study.trial import Trial
from study.worker import ENVIRONMENT, has_environment, start_processes

LARGEST_PACK = {"cpu": 16, "cuda": 32}
"""The largest pack that is timed, by device: a CPU gains nothing from a larger one."""
TRY_S = 0.2
"""How long each candidate is tried, in seconds, or for two steps if these take longer."""
BATCHES = {"cpu": 1, "cuda": 8}
"""Batches in a timed pass, by device: an epoch has costs of its own, which on a GPU would hide those of one step."""
BUSY_STEP_S = 0.2
"""A step of so many seconds keeps the device busy: it leaves no idle moments that a larger pack would fill."""
TURNS_S, FEWEST_TURNS = 2.0, 6
"""How many seconds, and how often at least, the plain loop and the best pack take turns after the first tries."""
STEP_S = 0.3
"""The most seconds of one timed step of the plain loop: slower networks are timed with fewer samples."""
FEWEST_SAMPLES = 8
MOST_WORKERS = 4
"""The most processes that are timed side by side on one device."""
SIDE_BY_SIDE_S, ROUNDS = 1.0, 3
"""How many seconds a turn of processes side by side takes, and how many turns there are."""


def choose(
    trial: Trial,
    shape: tuple[int, int, int],
    classes: int,
    members: int,
    device: str,
    backend: str = "auto",
    sharing: bool = False,
) -> Choice:
    """Choose how to train that many members of the trial's kind, by timing it now or by what was timed earlier.

    Args:
        trial: the kind of network, and how it is trained.
        shape: channels, height and width of an image.
        classes: the number of logits.
        members: how many members there are to train.
        device: a torch device.
        backend: a key of `BACKENDS`, or `auto` for the fastest of them.
        sharing: whether to measure as well how many processes should share the device.

    Raises:
        BadInputError: there is no such backend, it does not fit the network, or the network can't be built.
    """
    if backend not in ("auto", *BACKENDS):
        raise unknown("backend", backend, ("auto", *BACKENDS))

    def incomplete(timings: Sequence[Choice]) -> bool:
        return not timings or (sharing and fastest(timings, members).workers is None)

    def complete(timings: Sequence[Choice]) -> list[Choice]:
        completed = list(timings) or time_backends(trial, shape, classes, device, backend)
        if incomplete(completed):
            choice = fastest(completed, members)
            workers = fastest_worker_count(trial, shape, classes, device, choice)
            completed[completed.index(choice)] = replace(choice, workers=workers)
        return completed

    try:
        cache = cached.cache_file()
    except OSError:  # the home can't be written to
        return fastest(complete([]), members)
    if trial.architecture not in NETWORKS:
        # The user's network may change under its name; and if it hangs, no other process must wait for the lock.
        return fastest(complete([]), members)
    process = torch.get_num_threads(), has_environment()
    key = cached.key_of(trial, shape, classes, device, backend, process)
    if incomplete(timings := cached.read(cache, key)):
        with FileLock(cache.with_suffix(".lock")):
            # Another process may have timed them in the meantime.
            if incomplete(timings := cached.read(cache, key)):
                timings = complete(timings)
                cached.write(cache, key, timings)
    return fastest(timings, members)


def time_backends(
    trial: Trial, shape: tuple[int, int, int], classes: int, device: str, backend: str = "auto"
) -> list[Choice]:
    """Time every backend that fits the network, in packs of 1, 2, 4, ... members.

    A backend's packs grow until two sizes in a row are no faster, or a step takes `BUSY_STEP_S`.

    Raises:
        BadInputError: the one backend that was named can't express the network.
        torch.OutOfMemoryError: there is no memory for a single step.
    """
    use_full_float32()
    samples = _timed_batch_size(trial, shape, classes, device)
    steps: dict[Choice, Callable[[], float]] = {}
    for name in BACKENDS if backend == "auto" else (backend,):
        size, best, worse = 1, math.inf, 0
        while size <= (1 if name == "single" else LARGEST_PACK[torch.device(device).type]):
            try:
                step = _timed_step(name, size, trial, shape, classes, samples, device)
                timing = Choice(name, size, _best_time(step))
            except Exception:  # a pack that can't take a step is no candidate, but there must be one candidate
                if name == "single" or (backend != "auto" and size == 1):
                    raise
                break
            steps[timing] = step
            # Only the plain loop and the best pack stay in memory.
            packs = sorted((choice for choice in steps if choice.backend != "single"), key=lambda pack: pack.seconds)
            for slower in packs[1:]:
                steps[slower] = _dropped_step
            # One size may be slow by chance, where other programs use the machine too.
            worse = worse + 1 if timing.seconds > MARGIN * best else 0
            if worse == 2 or timing.seconds * samples * size > BUSY_STEP_S:
                break
            size, best = 2 * size, min(best, timing.seconds)
    return _time_in_turns(steps)


def _best_time(step: Callable[[], float]) -> float:
    """Return the best time of a few steps."""
    end, best = time.perf_counter() + TRY_S, min(step(), step())
    while time.perf_counter() < end:
        best = min(best, step())
    return best


def _time_in_turns(steps: Mapping[Choice, Callable[[], float]]) -> list[Choice]:
    """Time the candidates again in turns, so that other load on the machine slows them all alike.

    Under such load one candidate may have had a lucky moment and the plain loop none. So a candidate's time is at least
    the plain loop's best, times the median over turns of the candidate's time over the plain loop's in the same turn.
    """
    times = {choice: [choice.seconds] for choice in steps}
    end, turns = time.perf_counter() + TURNS_S, 0
    while len(steps) > 1 and (time.perf_counter() < end or turns < FEWEST_TURNS):
        turns += 1
        for choice, step in steps.items():
            times[choice].append(step())
    best = {choice: min(seconds) for choice, seconds in times.items()}
    plain = next((choice for choice in steps if choice.backend == "single"), None)
    if plain is not None:
        for choice, seconds in times.items():
            pairs = zip(seconds, times[plain], strict=True)
            ratios = [second / of_plain for second, of_plain in pairs if second < math.inf]
            best[choice] = max(best[choice], best[plain] * median(ratios[1:] or ratios))
    return [replace(choice, seconds=seconds) for choice, seconds in best.items()]


def _dropped_step() -> float:
    """Stand in for the step of a candidate that is too slow to be kept in memory."""
    return math.inf


def _timed_step(
    backend: str, members: int, trial: Trial, shape: tuple[int, int, int], classes: int, samples: int, device: str
) -> Callable[[], float]:
    """Return a function that takes steps of so many samples, and returns the seconds for one sample of one member."""
    small, batches = replace(trial, batch_size=samples), BATCHES[torch.device(device).type]
    turn = rate(training_pass(small, shape, classes, batches, device, backend, members), device)
    return lambda: 1 / turn(0.0)


def fastest_worker_count(trial: Trial, shape: tuple[int, int, int], classes: int, device: str, choice: Choice) -> int:
    """Return how many processes with the chosen pack get the most done on one device; on a CPU, 1 for each core.

    This was tested with processes on a CPU; on a GPU it has not been run.
    """
    if torch.device(device).type == "cpu":
        return 1
    torch.cuda.empty_cache()  # which this process has filled while it timed packs
    batches = BATCHES[torch.device(device).type]
    return fastest_process_count(engine_rate, trial, shape, classes, batches, device, choice.backend, choice.members)


def fastest_process_count(contender: Callable[..., Rate], *arguments: object) -> int:
    """Return how many equal processes get the most done side by side: doubled as long as that is clearly faster."""
    count = 1
    while count < MOST_WORKERS and _is_faster(2 * count, contender, arguments):
        count *= 2
    return count


def _is_faster(count: int, contender: Callable[..., Rate], arguments: Sequence[object]) -> bool:
    """Whether so many processes get clearly more done than half of them while the others wait."""
    try:
        with start_processes(ENVIRONMENT, count, contender, *arguments) as started:
            for process in started:
                process.result()
            ratios = [
                total_rate(started[: count // 2], SIDE_BY_SIDE_S) / total_rate(started, SIDE_BY_SIDE_S)
                for _ in range(ROUNDS)
            ]
    except Exception:  # as where so many processes have not enough memory
        return False
    return median(ratios) <= MARGIN


def _timed_batch_size(trial: Trial, shape: tuple[int, int, int], classes: int, device: str) -> int:
    """Return the batch size to time with: the trial's, or less where a step of the plain loop takes too long."""
    fewest = min(FEWEST_SAMPLES, trial.batch_size)
    seconds = _timed_step("single", 1, trial, shape, classes, fewest, device)()
    return max(fewest, min(trial.batch_size, int(STEP_S / seconds)))
