"""Race candidates, ways to do the same work, on a machine that has other things to do as well."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from study.speed.timings import Choice

FEWEST_TURNS, MOST_S = 3, 60.0
"""How many turns candidates take at least, and how many seconds of steps at most."""
SURELY, PROBABLY = 0.999, 0.995
"""How probably another is faster where a candidate stops, and the leader about as fast as the fastest at the end."""
CLOSE = 0.1
"""A choice that is slower by so much than the fastest is as good: telling them apart may take longer than it saves."""


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


def race(candidates: Sequence[Candidate], samples: int, most_s: float = math.inf) -> list[Choice]:
    """Time the candidates in turns until for any number of members it is known which is fastest, or almost.

    Other load on the machine slows a step by a factor, and whoever takes the next one too. So what is compared is the
    mean over turns of the logarithm of a ratio, by Student's t. A candidate stops when another with no more members is
    clearly faster. The race ends when the leaders are known to be at most `CLOSE` slower than any other, or after
    `MOST_S` seconds of steps or fewer.

    Args:
        candidates: those that are timed, which haven't had a turn.
        samples: how many samples a step is of.
        most_s: how many seconds of steps the race may take, after `FEWEST_TURNS`.
    """
    spent, turns = 0.0, FEWEST_TURNS
    while True:
        for _ in range(turns):
            spent += samples * sum(candidate.take_turn() for candidate in candidates if candidate.running)
        for slower in [one for one in candidates if one.running and _is_clearly_beaten(one, candidates)]:
            slower.stop()
        if spent > min(MOST_S, most_s) or _is_decided(candidates):
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
