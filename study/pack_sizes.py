"""Say in which packs members train: the engine makes them so, and the launcher bundles trials by it."""

import math


def pack_sizes(members: int, fastest: int) -> list[int]:
    """Return the sizes of the packs in which so many members train, where that many at once are fastest.

    They are even: 3 members make one pack where 2 at once are fastest, and 7 make packs of 4 and 3 where 4 are. A pack
    half as large again as the fastest costs less than one that is too small.
    """
    packs = max(1, math.ceil(members / fastest - 0.5)) if fastest > 1 else members
    return [members // packs + (number < members % packs) for number in range(packs)]
