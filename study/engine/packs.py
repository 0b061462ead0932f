"""Members in packs: as many at once as pay, or fewer where memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Member = TypeVar("Member")
Result = TypeVar("Result")
Progress = Callable[[float], None]
Work = Callable[[Sequence[Member], Progress], Sequence[Result]]
"""What is done with one pack: it tells its own progress, and returns what came of each member."""


def in_packs(
    members: Sequence[Member], at_once: int, work: Work[Member, Result], progress: Progress
) -> Iterator[Result]:
    """What came of each member, in order.

    Packs are of even size: 5 members go as one where 4 at once are best, and 7 as 4 and 3. A pack that has run out of
    memory is tried again at half its size; what came of earlier ones stays.

    Args:
        members: what is to be worked on.
        at_once: how many pay.
        work: what is done with each pack.
        progress: told the fraction of all members' work that is done.

    Raises:
        torch.OutOfMemoryError: there is not enough memory for a single member.
    """
    done = 0
    while done < len(members):
        left = len(members) - done
        packs = max(1, round(left / at_once)) if at_once > 1 else left
        together = members[done : done + -(-left // packs)]

        def of_all(fraction: float, done: int = done, size: int = len(together)) -> None:
            progress((done + fraction * size) / len(members))

        found: Sequence[Result] = ()
        try:
            found = work(together, of_all)
        except torch.OutOfMemoryError:
            if len(together) == 1:
                raise
            at_once = len(together) // 2
        if not found:  # not within the handler, where the error still holds on to the pack
            torch.cuda.empty_cache()
        done += len(found)
        yield from found
