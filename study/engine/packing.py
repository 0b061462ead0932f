"""Members in packs: as many at once as pay, or fewer where memory runs out."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Member = TypeVar("Member")
Result = TypeVar("Result")
Progress = Callable[[float], None]
Work = Callable[[Sequence[Member], Progress], Sequence[Result]]
"""What is done with one pack: it tells its own progress, and returns what came of each member."""


def in_packs(
    members: Sequence[Member],
    at_once: int,
    work: Work[Member, Result],
    progress: Progress,
    alike: Callable[[Member], object] = lambda _: None,
) -> list[Result]:
    """What came of each member, in order.

    Packs are of even size: 3 members go as one where 2 at once are best, and 7 as 4 and 3 where 4 are. A pack that has
    run out of memory is tried again at half its size; what came of earlier ones stays.

    Args:
        members: what is to be worked on.
        at_once: how many pay.
        work: what is done with each pack.
        progress: told the fraction of all members' work that is done.
        alike: only members of which it says the same go into one pack.

    Raises:
        torch.OutOfMemoryError: there is not enough memory for a single member.
    """
    found: dict[int, Result] = {}
    kinds: dict[object, list[int]] = {}
    for position, member in enumerate(members):
        kinds.setdefault(alike(member), []).append(position)
    for positions in kinds.values():
        left = positions
        while left:
            # A pack half as large again as pays costs less than one that is too small.
            packs = max(1, math.ceil(len(left) / at_once - 0.5)) if at_once > 1 else len(left)
            together = left[: -(-len(left) // packs)]

            def of_all(fraction: float, done: int = len(found), size: int = len(together)) -> None:
                progress((done + fraction * size) / len(members))

            results: Sequence[Result] = ()
            try:
                results = work([members[position] for position in together], of_all)
            except torch.OutOfMemoryError:
                if len(together) == 1:
                    raise
                at_once = len(together) // 2
            if not results:  # not within the handler, where the error still holds on to the pack
                torch.cuda.empty_cache()
                continue
            found.update(zip(together, results, strict=True))
            left = left[len(together) :]
    return [found[position] for position in range(len(members))]
