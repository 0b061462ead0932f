"""Bundle trials that go to a worker as one unit, because one alone has too few members to fill its device.

Identity, records and retries stay those of each trial.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapreplace
from itertools import pairwise

from study.pack_sizes import seconds_of_step
from study.settings import SETTINGS, names_where
from study.speed.timings import Choice, Timed, fastest, step_seconds
from study.trial import Trial

Bundle = tuple[Trial, ...]
OWN = names_where(lambda setting: setting.per_member)
"""The settings in which members that train side by side may differ; in k where that changes no number of steps."""
SPEED = names_where(lambda setting: setting.decides_speed)
"""The settings that decide the seconds of a step, and how members train fastest."""
Kind = tuple[object, ...]
"""A kind of trial, as its values of `SPEED`: all that decides how fast it trains."""
Kinds = Mapping[Kind, Timed]
MOST_MEMBERS = 32
"""The most members that a worker is given at once: what they record must fit its memory, and is lost if it fails."""

ABOUT = 1.03
"""A bundle that takes so much longer than the fastest is as good."""


@dataclass(frozen=True)
class Packing:
    """How a kind of trial trains fastest on a worker's device.

    Attributes:
        sharing: how many tasks share the device.
        choice: the same in words.
        step_seconds: the seconds of a step for one sample of each member of a pack, by its size.
    """

    sharing: int = 1
    choice: str = ""
    step_seconds: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})

    @classmethod
    def of(cls, timed: Sequence[Choice], members: int, most_sharing: int = 1) -> "Packing":
        """Return how that many members train fastest.

        Args:
            timed: what was timed of their kind.
            members: how many there are.
            most_sharing: the most tasks that may share the device.
        """
        choice = fastest(timed, members)
        sharing = min(choice.workers or 1, most_sharing)
        words = f"{choice}, {sharing} to a device" if sharing > 1 else str(choice)
        return cls(sharing, words, step_seconds(timed, choice.backend))

    def seconds_of(self, members: int) -> float:
        """Return the seconds of training for one sample of each of so many members, in packs."""
        return seconds_of_step(members, self.step_seconds)


def packable_groups(trials: Sequence[Trial]) -> list[Bundle]:
    """Return groups of trials whose members can train side by side, in the order in which each first comes."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        # With OOD corruption k images are added to D, so k changes the number of steps.
        shared = [name for name in SETTINGS if name not in OWN or (name == "k" and trial.corruption == "ood")]
        groups.setdefault(trial.values(shared), []).append(trial)
    return [tuple(group) for group in groups.values()]


def member_epochs(trials: Sequence[Trial]) -> Counter[Kind]:
    """Count the epochs of all members of each kind of trial, by its values of `SPEED`: how much there is to train."""
    epochs = Counter[Kind]()
    for trial in trials:
        epochs[trial.values(SPEED)] += len(trial.members) * trial.epochs
    return epochs


def member_counts(trials: Sequence[Trial]) -> Counter[Kind]:
    """Count the members of each kind of trial, by its values of `SPEED`."""
    counts = Counter[Kind]()
    for trial in trials:
        counts[trial.values(SPEED)] += len(trial.members)
    return counts


def worth_bundling(group: Bundle, share: int, backend: str) -> bool:
    """Whether a worker is to be given several trials of a group at once.

    Args:
        group: trials that can train side by side.
        share: how many trials there are for each worker.
        backend: how members are to train side by side.
    """
    few = 2 * len(group[0].members) <= MOST_MEMBERS
    return len(group) > 1 and few and backend != "single" and share > 1


def split_into_bundles(group: Bundle, packing: Packing, share: int) -> list[Bundle]:
    """Split a group into the smallest bundles that train about as fast as any.

    Args:
        group: trials that can train side by side.
        packing: how their members train fastest on the device.
        share: the most trials that a bundle may have if no worker is to be left without work.
    """
    most = min(share, len(group), MOST_MEMBERS // max(len(trial.members) for trial in group))
    splits = [_split_evenly(group, -(-len(group) // size)) for size in range(1, max(1, most) + 1)]
    workers = -(-len(group) // share)
    seconds = [_makespan([packing.seconds_of(_count_members(bundle)) for bundle in split], workers) for split in splits]
    return next(split for split, taken in zip(splits, seconds, strict=True) if taken <= min(seconds) * ABOUT)


def _makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when so many workers have done tasks of so many seconds, of which each takes the next when it is free."""
    free_at = [0.0] * workers
    for task in seconds:
        heapreplace(free_at, free_at[0] + task)
    return max(free_at)


def _count_members(bundle: Bundle) -> int:
    return sum(len(trial.members) for trial in bundle)


def _split_evenly(group: Bundle, parts: int) -> list[Bundle]:
    """Split a group into so many bundles whose numbers of trials differ by one at most."""
    ends = [len(group) * part // parts for part in range(parts + 1)]
    return [group[start:end] for start, end in pairwise(ends)]


def halves(bundle: Bundle) -> list[Bundle]:
    """Split a bundle of two trials or more in two."""
    middle = len(bundle) // 2
    return [bundle[:middle], bundle[middle:]]
