"""Bundle trials that go to a worker as one unit, because one alone has too few members to fill its device.

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
"""How many members that can train side by side a worker is given at once, by device: more gain next to nothing."""


@dataclass(frozen=True)
class Packing:
    """How a kind of trial trains fastest on a worker's device.

    Attributes:
        members: how many members are trained at once.
        sharing: how many tasks share the device.
        choice: the same in words.
    """

    members: int = 1
    sharing: int = 1
    choice: str = ""


Packings = Mapping[tuple[object, ...], Packing]
"""The packing of each kind of trial, by its values of `SPEED`, on workers like those that it was timed on."""


def packable_groups(trials: Sequence[Trial]) -> list[Bundle]:
    """Return groups of trials whose members can train side by side, in the order in which each first comes."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        # With OOD corruption k images are added to D, so k changes the number of steps.
        shared = [name for name in SETTINGS if name not in OWN or (name == "k" and trial.corruption == "ood")]
        groups.setdefault(trial.values(shared), []).append(trial)
    return [tuple(group) for group in groups.values()]


def worth_bundling(group: Bundle, share: int, device: str, backend: str) -> bool:
    """Whether a worker is to be given several trials of a group at once.

    Args:
        group: trials that can train side by side.
        share: how many trials there are for each worker.
        device: what the workers compute on, `cpu` or `cuda`.
        backend: how members are to train side by side.
    """
    few = len(group[0].members) < MEMBERS[device]
    return len(group) > 1 and few and backend != "single" and share > 1


def split_into_bundles(group: Bundle, members: int, share: int) -> list[Bundle]:
    """Split a group into bundles of about so many members.

    Args:
        group: trials that can train side by side.
        members: how many members at once are fastest on the device.
        share: the most trials that a bundle may have if no worker is to be left without work.
    """
    most = max(len(trial.members) for trial in group)
    size = max(1, min(members // most, share))
    return [group[start : start + size] for start in range(0, len(group), size)]


def halves(bundle: Bundle) -> list[Bundle]:
    """Split a bundle of two trials or more in two."""
    middle = len(bundle) // 2
    return [bundle[:middle], bundle[middle:]]
