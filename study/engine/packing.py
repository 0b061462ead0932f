"""Split members into packs: as many at once as are fastest, or fewer where memory runs out."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

from study.pack_sizes import pack_sizes

Member = TypeVar("Member")
Result = TypeVar("Result")
Progress = Callable[[float], None]
Train = Callable[[Sequence[Member], Progress], Sequence[Result]]
"""A function that trains one pack: it reports the pack's own progress, and returns the result of each member."""


def train_in_packs(
    members: Sequence[Member],
    step_seconds: Mapping[int, float],
    train: Train[Member, Result],
    progress: Progress,
    group_by: Callable[[Member], object] = lambda _: None,
) -> list[Result]:
    """Train the members in packs, and return the result of each member, in order.

    Packs are as `pack_sizes` says. Where one runs out of memory, it and those that follow are of half its size at most;
    the results of earlier packs stay.

    Args:
        members: the members to train.
        step_seconds: the seconds of a step of a whole pack, by its size, as it was timed.
        train: trains one pack.
        progress: called with the fraction of all members' training that is done.
        group_by: only members with an equal key go into one pack.

    Raises:
        torch.OutOfMemoryError: there is not enough memory for a single member.
    """
    results: dict[int, Result] = {}
    groups: dict[object, list[int]] = {}
    for position, member in enumerate(members):
        groups.setdefault(group_by(member), []).append(position)
    for positions in groups.values():
        left = positions
        while left:
            pack = left[: pack_sizes(len(left), step_seconds)[0]]

            def progress_of_pack(fraction: float, done: int = len(results), size: int = len(pack)) -> None:
                progress((done + fraction * size) / len(members))

            of_pack: Sequence[Result] = ()
            try:
                of_pack = train([members[position] for position in pack], progress_of_pack)
            except torch.OutOfMemoryError:
                if len(pack) == 1:
                    raise
                step_seconds = _at_most(len(pack) // 2, step_seconds)
            if not of_pack:  # outside of the handler, in which the error still refers to the pack's tensors
                torch.cuda.empty_cache()
                continue
            results.update(zip(pack, of_pack, strict=True))
            left = left[len(pack) :]
    return [results[position] for position in range(len(members))]


def _at_most(size: int, step_seconds: Mapping[int, float]) -> Mapping[int, float]:
    """Return the seconds of a step of packs of at most that size, which itself counts as the next larger one."""
    smaller = {timed: seconds for timed, seconds in step_seconds.items() if timed < size}
    return {**smaller, size: min(seconds for timed, seconds in step_seconds.items() if timed >= size)}
