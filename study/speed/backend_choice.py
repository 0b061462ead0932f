"""Choose the backend and the size of a pack by timing them for a few seconds, once for each network and device.

A pack is faster on one device and slower on another, and a plain loop is never far off. So the candidates, the plain
loop among them, take turns on this device, and only a clear win replaces the plain loop. The same holds for several
processes that share a GPU, each with such a pack. The choice is kept in the user's cache folder: workers on the same
machine, and later runs, make the same choice and so compute the same numbers.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType

import numpy as np
import torch
from filelock import FileLock
from scipy.special import stdtrit

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
BATCHES = {"cpu": 1, "cuda": 8}
"""Batches in a timed pass, by device: an epoch has costs of its own, which on a GPU would hide those of one step."""
BUSY_STEP_S = 0.2
"""A step of so many seconds keeps the device busy: it leaves no idle moments that a larger pack would fill."""
FEWEST_TURNS, MOST_S = 3, 60.0
"""How many turns candidates take at least, and how many seconds of steps at most."""
SURELY, PROBABLY = 0.999, 0.995
"""How probably another is faster where a candidate stops, and the leader about as fast as the fastest at the end."""
CLOSE = 0.1
"""A choice that is slower by so much than the fastest is as good: telling them apart may take longer than it saves."""
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


def choose(
    trial: Trial,
    shape: tuple[int, int, int],
    classes: int,
    members: int,
    device: str,
    backend: str = "auto",
    known: Known = MappingProxyType({}),
) -> Choice:
    """Choose how to train that many members of the trial's kind, by timing it now or by what was timed earlier.

    What is `known` counts before that, so that a trial trains alike, and goes on, on all machines of one kind. A device
    of another kind has another key. For the rest of the arguments, and for what is raised, see `timed`.
    """
    key = key_here(trial, shape, classes, device, backend)
    if key not in known:
        return fastest(timed(trial, shape, classes, members, device, backend), members)
    _keep_if_new(trial, key, known[key])
    return fastest(known[key], members)


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
        if not again or all(timing.settled for timing in kept):
            return kept
        quieter = _noise(trial, shape, classes, device) < max(timing.noise for timing in kept) / 2
        return [] if quieter else kept

    def complete(timings: Sequence[Choice]) -> list[Choice]:
        completed = list(timings) or time_backends(trial, shape, classes, device, backend)
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
    trial: Trial, shape: tuple[int, int, int], classes: int, device: str, backend: str = "auto"
) -> list[Choice]:
    """Time every backend that fits the network, in packs of 1, 2, 4, ... members, in turns.

    A backend's packs grow until a step takes `BUSY_STEP_S`.

    Raises:
        BadInputError: the one backend that was named can't express the network.
        torch.OutOfMemoryError: there is no memory for a single step.
    """
    use_full_float32()
    samples = _timed_batch_size(trial, shape, classes, device)
    candidates = []
    for name in BACKENDS if backend == "auto" else (backend,):
        size, busy = 1, False
        while size <= (1 if name == "single" else LARGEST_PACK[torch.device(device).type]) and not busy:
            try:
                step = _timed_step(name, size, trial, shape, classes, samples, device)
                seconds_of_step = samples * size * min(step(), step())
            except Exception:  # a pack that can't take a step is no candidate, but there must be one candidate
                if name == "single" or (backend != "auto" and size == 1):
                    raise
                break
            candidates.append(Candidate(name, size, step))
            busy = seconds_of_step > BUSY_STEP_S
            size *= 2
    return race(candidates, samples)


@dataclass
class Candidate:
    """A way to train that is being timed.

    Attributes:
        backend: a key of `BACKENDS`.
        members: how many members train at once.
        step: takes a step, and returns the seconds for one sample of one member.
        times: the logarithms of these seconds, turn by turn.
        running: whether it is still timed.
    """

    backend: str
    members: int
    step: Callable[[], float]
    times: list[float] = field(default_factory=list)
    running: bool = True

    def take_turn(self) -> float:
        """Take a step, and return the seconds for one sample of all members."""
        seconds = self.step()
        self.times.append(math.log(seconds))
        return seconds * self.members

    def stop(self) -> None:
        """Stop timing it, and free the memory of its pack."""
        self.running, self.step = False, lambda: math.nan


def race(candidates: Sequence[Candidate], samples: int) -> list[Choice]:
    """Time the candidates in turns until for any number of members it is known which is fastest, or almost.

    Other load on the machine slows a step by a factor, and whoever takes the next one too. So what is compared is the
    mean over turns of the logarithm of a ratio, by Student's t. A candidate stops when another with no more members is
    clearly faster. The race ends when the leaders are known to be at most `CLOSE` slower than any other, or after
    `MOST_S` seconds of steps.

    Args:
        candidates: those that are timed, which haven't had a turn.
        samples: how many samples a step is of.
    """
    spent, turns = 0.0, FEWEST_TURNS
    while True:
        for _ in range(turns):
            spent += samples * sum(candidate.take_turn() for candidate in candidates if candidate.running)
        for slower in [one for one in candidates if one.running and _is_clearly_beaten(one, candidates)]:
            slower.stop()
        if spent > MOST_S or _is_decided(candidates):
            break
        turns = max(1, max(len(candidate.times) for candidate in candidates) // 8)
    settled = _is_decided(candidates)
    # All are told against one that had all turns, so that the turns of those with few count as what they were.
    last = max(candidates, key=lambda candidate: len(candidate.times))
    seconds_of_last = math.exp(np.mean(last.times))
    return [
        Choice(
            candidate.backend,
            candidate.members,
            seconds_of_last * math.exp(_log_ratio(candidate, last)[0]),
            noise=float(np.std(candidate.times, ddof=1)),
            turns=len(candidate.times),
            settled=settled,
        )
        for candidate in candidates
    ]


def _log_ratio(one: Candidate, other: Candidate) -> tuple[float, float]:
    """Return the mean log of one's time over the other's in the same turn, and its standard error."""
    turns = min(len(one.times), len(other.times))
    ratios = np.subtract(one.times[:turns], other.times[:turns])
    return float(ratios.mean()), float(ratios.std(ddof=1)) / math.sqrt(turns)


def _is_clearly_beaten(one: Candidate, candidates: Sequence[Candidate]) -> bool:
    """Whether another with no more members is faster by more than chance could make it."""
    for other in candidates:
        if other is not one and other.running and other.members <= one.members:
            ratio, error = _log_ratio(one, other)
            if ratio - _quantile(SURELY, one, other) * error > 0 and ratio > math.log(1 + CLOSE):
                return True
    return False


def _is_decided(candidates: Sequence[Candidate]) -> bool:
    """Whether for any number of members the leader is known to be about as fast as the fastest."""
    running = [candidate for candidate in candidates if candidate.running]
    for most in {candidate.members for candidate in running}:
        fitting = [candidate for candidate in running if candidate.members <= most]
        leader = min(fitting, key=lambda candidate: float(np.mean(candidate.times)))
        for other in fitting:
            ratio, error = _log_ratio(leader, other)
            if ratio + _quantile(PROBABLY, leader, other) * error > math.log(1 + CLOSE):
                return False
    return True


def _quantile(probability: float, one: Candidate, other: Candidate) -> float:
    """Return the quantile of Student's t with one degree of freedom less than they have turns in common."""
    return float(stdtrit(min(len(one.times), len(other.times)) - 1, probability))


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


def _timed_batch_size(trial: Trial, shape: tuple[int, int, int], classes: int, device: str) -> int:
    """Return the batch size to time with: the trial's, or less where a step of the plain loop takes too long."""
    fewest = min(FEWEST_SAMPLES, trial.batch_size)
    seconds = _timed_step("single", 1, trial, shape, classes, fewest, device)()
    return max(fewest, min(trial.batch_size, int(STEP_S / seconds)))
