"""Bundles: trials that go to a worker as one unit, because one alone has too few members to fill its device.

Identity, records and retries stay those of each trial.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.settings import SETTINGS, names_where
from study.trial import Trial

Bundle = tuple[Trial, ...]
OWN = names_where(lambda setting: setting.per_member)
"""The settings in which members that train side by side may differ; in k where that changes no number of steps."""
SPEED = names_where(lambda setting: setting.decides_speed)
"""The settings that decide the seconds of a step, and how members train fastest."""
MEMBERS = {"cpu": 4, "cuda": 32}
"""Members that a worker is given at once, if the trials have that many alike: more gain next to nothing."""


@dataclass(frozen=True)
class Advice:
    """How a kind of trial trains fastest on a worker's device.

    Attributes:
        members: how many are trained at once.
        sharing: how many tasks share the device.
        choice: in words.
    """

    members: int = 1
    sharing: int = 1
    choice: str = ""


Known = Mapping[tuple[object, ...], Advice]
"""Advice on bundles, by `SPEED`, for workers like those that it was found with."""


def alike(trials: Sequence[Trial]) -> list[Bundle]:
    """The trials in groups whose members can train side by side, in the order in which each group first comes."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        # Images that are added make D' as long as k says.
        shared = [name for name in SETTINGS if name not in OWN or (name == "k" and trial.corruption == "ood")]
        groups.setdefault(trial.values(shared), []).append(trial)
    return [tuple(group) for group in groups.values()]


def worth_bundling(group: Bundle, share: int, device: str, backend: str) -> bool:
    """Whether a worker is to have several trials of a group of `alike` at once.

    Args:
        group: trials that can train side by side.
        share: how many trials there are for each worker.
        device: what the workers compute on, `cpu` or `cuda`.
        backend: how members are to train side by side.
    """
    few = len(group[0].members) < MEMBERS[device]
    return len(group) > 1 and few and backend != "single" and share > 1


def bundled(group: Bundle, members: int, share: int) -> list[Bundle]:
    """A group of `alike` in bundles of about so many members.

    Args:
        group: trials that can train side by side.
        members: how many pay on the device.
        share: the most trials that a bundle may have if no worker is to be left without work.
    """
    each = max(len(trial.members) for trial in group)
    size = max(1, min(members // each, share))
    return [group[start : start + size] for start in range(0, len(group), size)]


def halves(bundle: Bundle) -> list[Bundle]:
    """A bundle of two trials or more as two."""
    middle = len(bundle) // 2
    return [bundle[:middle], bundle[middle:]]
