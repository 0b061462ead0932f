"""Choose the backend and the size of a pack by timing them for a few seconds, once for each network and device.

A pack is faster on one device and slower on another, and a plain loop is never far off. So the candidates, the plain
loop among them, take turns on this device, and only a clear win replaces the plain loop. The same holds for several
processes that share a GPU, each with such a pack. The choice is kept in the user's cache folder: workers on the same
machine, and later runs, make the same choice and so compute the same numbers.

What is spent on it is bounded by what there is to gain. For little training there are few candidates, the plain loop
and the pack of all members first, and few turns; for none, as of networks that are only measured, there is the plain
loop alone. Such a choice is made anew once there is much more to train.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import median
from types import MappingProxyType

import numpy as np
import torch
from filelock import FileLock

from study.engine.backends import BACKENDS
from study.errors import unknown
from study.networks.catalog import NETWORKS
from study.speed import racing
from study.speed import timings as cached
from study.speed.racing import Candidate, race
from study.speed.throughput import Rate, engine_rate, rate, total_rate, training_pass
from study.speed.timings import MARGIN, Choice, fastest
from study.training.precision import use_full_float32
from study.trial import Trial
from study.worker import ENVIRONMENT, has_environment, start_processes

LARGEST_PACK = {"cpu": 16, "cuda": 32}
"""The largest pack that is timed, by device: a CPU gains nothing from a larger one."""
BATCHES = {"cpu": 1, "cuda": 8}
"""Batches in a timed pass, by device: an epoch has costs of its own, which on a GPU would hide those of one step."""
BUSY_STEP_S = 0.2
"""A step of so many seconds keeps the device busy: it leaves no idle moments that a larger pack would fill."""
SHARE = 0.1
"""The most that is spent on choosing, as a share of all the training of that kind in the plain loop."""
MUCH_MORE = 3
"""How many times as much training as a choice was made for has a choice of its own."""
STEP_S = 0.3
"""The most seconds of one timed step of the plain loop: slower networks are timed with fewer samples."""
FEWEST_SAMPLES = 8
NOISE_STEPS = 20
"""How many steps tell how noisy the machine is now."""
MOST_WORKERS = 4
"""The most processes that are timed side by side on one device."""
SIDE_BY_SIDE_S, ROUNDS = 1.0, 3
"""How many seconds a turn of processes side by side takes, and how many turns there are."""


Known = Mapping[str, Sequence[Choice]]
"""What was timed of several kinds of networks, maybe on another machine, by the keys of `timings.key_of`."""


def timings_of(
    trial: Trial,
    shape: tuple[int, int, int],
    classes: int,
    members: int,
    device: str,
    backend: str = "auto",
    known: Known = MappingProxyType({}),
    work: float = math.inf,
) -> Sequence[Choice]:
    """Return how fast each candidate trains members of the trial's kind, as was told, timed earlier, or is timed now.

    What is `known` counts before that, so that a trial trains alike, and goes on, on all machines of one kind. A device
    of another kind has another key. For the rest of the arguments, and for what is raised, see `timed`.
    """
    if work == 0 and backend == "auto":
        return [Choice("single", 1, 0.0)]  # there is no training to be faster at
    key = key_here(trial, shape, classes, device, backend)
    if key not in known:
        return timed(trial, shape, classes, members, device, backend, work=work)
    _keep_if_new(trial, key, known[key])
    return known[key]


def key_here(trial: Trial, shape: tuple[int, int, int], classes: int, device: str, backend: str) -> str:
    """Return everything that decides the speed in this process, as a key of the cache; see `timings.key_of`."""
    process = torch.get_num_threads(), has_environment()
    return cached.key_of(trial, shape, classes, device, backend, process)


def _keep_if_new(trial: Trial, key: str, timings: Sequence[Choice]) -> None:
    """Keep what another machine has timed, so that a later launch that asks this one is told the same."""
    with suppress(OSError):
        cache = cached.cache_file()
        if trial.architecture in NETWORKS and not cached.read(cache, key):
            with FileLock(cache.with_suffix(".lock")):
                cached.write(cache, key, timings)


def timed(
    trial: Trial,
    shape: tuple[int, int, int],
    classes: int,
    members: int,
    device: str,
    backend: str = "auto",
    sharing: bool = False,
    again: bool = False,
    work: float = math.inf,
) -> Sequence[Choice]:
    """Return how fast each candidate trains members of the trial's kind, timed now or kept from earlier.

    Args:
        trial: the kind of network, and how it is trained.
        shape: channels, height and width of an image.
        classes: the number of logits.
        members: how many members there are to train.
        device: a torch device.
        backend: a key of `BACKENDS`, or `auto` for the fastest of them.
        sharing: whether to measure as well how many processes should share the device.
        again: whether to time anew what was timed on a machine so busy that the fastest stayed unknown, if it is
            quieter now.
        work: how many samples of training there are of the kind, over all epochs and members. What was timed for much
            less is timed anew.

    Raises:
        BadInputError: there is no such backend, it does not fit the network, or the network can't be built.
    """
    if backend not in ("auto", *BACKENDS):
        raise unknown("backend", backend, ("auto", *BACKENDS))

    def lacks_workers(timings: Sequence[Choice]) -> bool:
        return sharing and fastest(timings, members).workers is None

    def incomplete(timings: Sequence[Choice]) -> bool:
        return not timings or lacks_workers(timings)

    def read() -> list[Choice]:
        kept = cached.read(cache, key)
        good_for = [timing.work for timing in kept if timing.work is not None]
        if good_for:
            return kept if work <= MUCH_MORE * min(good_for) else []
        if not again or all(timing.settled for timing in kept):
            return kept
        quieter = _noise(trial, shape, classes, device) < max(timing.noise for timing in kept) / 2
        return [] if quieter else kept

    def complete(timings: Sequence[Choice]) -> list[Choice]:
        completed = list(timings) or time_backends(trial, shape, classes, device, backend, members, work)
        if lacks_workers(completed):
            choice = fastest(completed, members)
            workers = fastest_worker_count(trial, shape, classes, device, choice)
            completed[completed.index(choice)] = replace(choice, workers=workers)
        return completed

    try:
        cache = cached.cache_file()
    except OSError:  # the home can't be written to
        return complete([])
    if trial.architecture not in NETWORKS:
        # The user's network may change under its name; and if it hangs, no other process must wait for the lock.
        return complete([])
    key = key_here(trial, shape, classes, device, backend)
    if incomplete(timings := read()):
        with FileLock(cache.with_suffix(".lock")):
            # Another process may have timed them in the meantime.
            if incomplete(timings := read()):
                timings = complete(timings)
                cached.write(cache, key, timings)
    return timings


def time_backends(
    trial: Trial,
    shape: tuple[int, int, int],
    classes: int,
    device: str,
    backend: str = "auto",
    members: int = 1,
    work: float = math.inf,
) -> list[Choice]:
    """Time every backend that fits the network, in packs of 1, 2, 4, ... members and of all of them, in turns.

    A backend's packs grow until a step takes `BUSY_STEP_S`. Where there is little training, some are not tried: the
    plain loop comes first, and then the pack of all members of a trial.

    Raises:
        BadInputError: the one backend that was named can't express the network.
        torch.OutOfMemoryError: there is no memory for a single step.
    """
    use_full_float32()
    clock = _clock(device)
    samples, plain = _timed_batch_size(trial, shape, classes, device)
    # Whoever trains is given whole trials.
    together = len(trial.members) if len(trial.members) > 1 else members
    candidates: list[Candidate] = []
    spent, all_tried = 0.0, True
    for name in BACKENDS if backend == "auto" else (backend,):
        largest = 1 if name == "single" else LARGEST_PACK[torch.device(device).type]
        busy_from = math.inf
        for size in _sizes(largest, together, samples * plain):
            if size > busy_from:
                continue
            if candidates and spent > SHARE * work * plain / 2:
                all_tried = False
                break
            began = clock()
            try:
                step = _timed_step(name, size, trial, shape, classes, samples, device)
                seconds = min(step(), step())
            except Exception:  # a pack that can't take a step is no candidate, but there must be one candidate
                if name == "single" or (backend != "auto" and size == 1):
                    raise
                busy_from = min(busy_from, size)
                continue
            spent += clock() - began
            candidates.append(Candidate(name, size, step))
            if name == "single":
                plain = seconds
            if samples * size * seconds > BUSY_STEP_S:
                busy_from = min(busy_from, size)
    most_s = SHARE * work * plain
    choices = race(candidates, samples, most_s)
    for_more = not all_tried or (not choices[0].settled and most_s < racing.MOST_S)
    return [replace(choice, settled=False, work=work) for choice in choices] if for_more else choices


def _sizes(largest: int, together: int, plain_step_s: float) -> list[int]:
    """Return the sizes of packs to time, first that of all who train together, or as many as keep the device busy."""
    first = max(1, min(largest, together, int(BUSY_STEP_S / plain_step_s)))
    return [first, *(2**power for power in range(largest.bit_length()) if 2**power != first)]


def _clock(device: str) -> Callable[[], float]:
    """Return the clock of steps: on a CPU this thread's own work, which other load on the machine hardly changes."""
    waits = torch.device(device).type == "cuda" or torch.get_num_threads() > 1
    return time.perf_counter if waits else time.thread_time


def _noise(trial: Trial, shape: tuple[int, int, int], classes: int, device: str) -> float:
    """Return the standard deviation of the logarithm of a step's time on this machine now, that of the plain loop."""
    plain = Candidate("single", 1, _timed_step("single", 1, trial, shape, classes, FEWEST_SAMPLES, device))
    for _ in range(NOISE_STEPS):
        plain.take_turn()
    return float(np.std(plain.times, ddof=1))


def _timed_step(
    backend: str, members: int, trial: Trial, shape: tuple[int, int, int], classes: int, samples: int, device: str
) -> Callable[[], float]:
    """Return a function that takes steps of so many samples, and returns the seconds for one sample of one member.

    On a CPU they are seconds of this thread's own work, which other load on the machine hardly changes.
    """
    small, batches = replace(trial, batch_size=samples), BATCHES[torch.device(device).type]
    one_pass = training_pass(small, shape, classes, batches, device, backend, members)
    if torch.device(device).type == "cuda" or torch.get_num_threads() > 1:
        turn = rate(one_pass, device)
        return lambda: 1 / turn(0.0)
    one_pass()

    def step() -> float:
        start = time.thread_time()
        model_samples = one_pass()
        return (time.thread_time() - start) / model_samples

    return step


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


def _timed_batch_size(trial: Trial, shape: tuple[int, int, int], classes: int, device: str) -> tuple[int, float]:
    """Return the batch size to time with, the trial's or less where a step takes too long, and the seconds of a sample.

    Both are of the plain loop; in so small a batch as it is timed with here a sample takes rather more.
    """
    fewest = min(FEWEST_SAMPLES, trial.batch_size)
    seconds = _timed_step("single", 1, trial, shape, classes, fewest, device)()
    return max(fewest, min(trial.batch_size, int(STEP_S / seconds))), seconds
