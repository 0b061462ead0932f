"""Say in which packs members train: the engine makes them so, and the launcher bundles trials by it."""

from collections.abc import Mapping

UNEVEN = 1.1
"""A step of a pack of another size takes so many times as long as one of the next larger size that was timed.

Packs of 7 and 15 LeNets took 1.12 and 1.09 times as long as those of 8 and 16.
"""


def pack_sizes(members: int, step_seconds: Mapping[int, float]) -> list[int]:
    """Return the sizes of the packs in which so many members train fastest, the largest first.

    A pack of a size that was not timed counts as `UNEVEN` times as slow as the next larger one: where each member has a
    lane of a vector register, lanes that are left empty take as long. None is larger than all that were timed: where
    lanes fill a short register and a bit of another, a member took two to three times as long.

    Args:
        members: how many there are.
        step_seconds: the seconds of a step of a whole pack, by its size; at least one.

    Example:
        >>> pack_sizes(15, {1: 1.0, 2: 1.4, 4: 1.8, 8: 3.0})
        [8, 7]
        >>> pack_sizes(10, {1: 1.0, 2: 1.4, 4: 1.8, 8: 3.0})
        [8, 2]
    """
    largest = max(step_seconds)
    step = {size: _step(size, step_seconds) for size in range(1, largest + 1)}
    fastest: list[tuple[float, int]] = [(0.0, 0)]
    """By how many members are left: the seconds of a step of all of them, and the size of their first pack."""
    for left in range(1, members + 1):
        ways = [(fastest[left - size][0] + step[size], size) for size in range(min(left, largest), 0, -1)]
        fastest.append(min(ways, key=lambda way: way[0]))  # the largest first pack where several are equal
    sizes = []
    while members:
        sizes.append(fastest[members][1])
        members -= sizes[-1]
    return sorted(sizes, reverse=True)


def seconds_of_step(members: int, step_seconds: Mapping[int, float]) -> float:
    """Return the seconds of a step of so many members, in the packs of `pack_sizes`."""
    return sum(_step(size, step_seconds) for size in pack_sizes(members, step_seconds))


def _step(size: int, step_seconds: Mapping[int, float]) -> float:
    return min(seconds * (1 if timed == size else UNEVEN) for timed, seconds in step_seconds.items() if timed >= size)
