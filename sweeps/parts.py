"""Divide a plan among launches that know nothing of each other: `--shard 2/4` runs the second of four parts.

The parts depend on the plan alone and not on what of it is recorded, so that no trial is in two of them, whenever and
wherever each is launched.
"""

import hashlib
import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from study.errors import BadInputError
from study.trial import Trial
from sweeps import estimate
from sweeps.bundles import packable_groups
from sweeps.plan import Plan


@dataclass(frozen=True)
class Part:
    """One of the parts of a plan.

    Attributes:
        number: which one, from 1.
        count: how many there are.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Return the part that a user names as `I/N`.

        Raises:
            BadInputError: there is no such part.
        """
        named = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if named is None:
            raise BadInputError(f"a shard is I/N, such as 2/4 for the second of four, not {text!r}.")
        number, count = int(named[1]), int(named[2])
        if not 1 <= number <= count:
            raise BadInputError(f"there is no shard {text}: they are numbered from 1, up to how many there are.")
        return cls(number, count)

    def of(self, plan: Plan) -> Plan:
        """Return the plan with this part of its trials."""
        return replace(plan, trials=divide(plan.trials, self.count)[self.number - 1])

    def name(self, plan: Plan) -> str:
        """Return a name for it that it shares with no part of another plan or of another number of parts.

        Up to the last hyphen it is that of all parts of the plan.
        """
        ids = " ".join(sorted(trial.id for trial in plan.trials))
        return f"{hashlib.sha256(ids.encode()).hexdigest()[:16]}-{self.count}-{self.number}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def divide(trials: Sequence[Trial], count: int) -> list[tuple[Trial, ...]]:
    """Divide trials into parts of about the same work, each in the order of the trials.

    The largest trials are dealt first, each to the part with the least work. Of trials that can train side by side
    every part gets its share, for arms that count as many operations need not take the same time.
    """
    operations = [estimate.flops(trial) for trial in trials]
    epochs = [float(len(trial.members) * trial.epochs) for trial in trials]
    work = epochs if None in operations else [known or 0.0 for known in operations]
    group = {}
    for together in packable_groups(trials):
        first = min(trial.id for trial in together)
        group.update({trial.id: first for trial in together})
    order = sorted(range(len(trials)), key=lambda place: (-work[place], group[trials[place].id], trials[place].id))
    places: list[list[int]] = [[] for _ in range(count)]
    loads = [(0.0, 0, part) for part in range(count)]
    for place in order:
        load, size, part = loads[0]
        places[part].append(place)
        heapq.heapreplace(loads, (load + work[place], size + 1, part))
    return [tuple(trials[place] for place in sorted(own)) for own in places]
