from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from study.engine.packing import train_in_packs


def run(members: int, largest: int, memory: int = 10**9) -> tuple[list[int], list[int], list[float]]:
    """Return the result of each member, the sizes of the packs that were tried, and the progress that was reported."""
    tried: list[int] = []
    reported: list[float] = []

    def train(pack: Sequence[int], progress: Callable[[float], None]) -> list[int]:
        tried.append(len(pack))
        progress(0.5)
        if len(pack) > memory:
            raise torch.OutOfMemoryError("no more")
        progress(1.0)
        return [10 * member for member in pack]

    # The larger a pack, the less a step takes for each.
    seconds = {2**power: 1 + 2**power / 4 for power in range(largest.bit_length())} | {largest: 1 + largest / 4}
    return list(train_in_packs(range(members), seconds, train, reported.append)), tried, reported


@pytest.mark.parametrize(
    ("members", "largest", "sizes"),
    [
        (5, 1, [1] * 5),
        (5, 4, [4, 1]),
        (5, 2, [2, 2, 1]),
        (7, 4, [4, 3]),
        (33, 8, [8, 8, 8, 8, 1]),
        (2, 32, [2]),
        (0, 4, []),
    ],
)
def test_packs_are_as_large_as_was_timed(members, largest, sizes):
    assert run(members, largest)[1] == sizes


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_every_member_is_trained_once_whatever_the_memory(members, largest, memory):
    results, tried, reported = run(members, largest, memory)
    assert results == [10 * member for member in range(members)]
    assert max(tried) <= largest
    assert reported[-1] == 1.0


def test_a_pack_that_runs_out_of_memory_is_halved_until_it_fits():
    assert run(8, 8, memory=3)[1] == [8, 4, 2, 2, 2, 2]
    assert run(5, 4, memory=1)[1] == [4, 2, 1, 1, 1, 1, 1]


def test_a_member_that_fits_no_memory_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        run(4, 4, memory=0)
