"""Split members into packs: as many at once as are fastest, or fewer where memory runs out."""

from collections.abc import Callable, Sequence
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
    pack_size: int,
    train: Train[Member, Result],
    progress: Progress,
    group_by: Callable[[Member], object] = lambda _: None,
) -> list[Result]:
    """Train the members in packs, and return the result of each member, in order.

    Packs are of even size (`pack_sizes`). One that runs out of memory is tried again at half its size; the
    results of earlier packs stay.

    Args:
        members: the members to train.
        pack_size: how many members at once are fastest.
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
            pack = left[: pack_sizes(len(left), pack_size)[0]]

            def progress_of_pack(fraction: float, done: int = len(results), size: int = len(pack)) -> None:
                progress((done + fraction * size) / len(members))

            of_pack: Sequence[Result] = ()
            try:
                of_pack = train([members[position] for position in pack], progress_of_pack)
            except torch.OutOfMemoryError:
                if len(pack) == 1:
                    raise
                pack_size = len(pack) // 2
            if not of_pack:  # outside of the handler, in which the error still refers to the pack's tensors
                torch.cuda.empty_cache()
                continue
            results.update(zip(pack, of_pack, strict=True))
            left = left[len(pack) :]
    return [results[position] for position in range(len(members))]
