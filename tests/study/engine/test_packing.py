from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from study.engine.packing import train_in_packs


def run(members: int, pack_size: int, memory: int = 10**9) -> tuple[list[int], list[int], list[float]]:
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

    return list(train_in_packs(range(members), pack_size, train, reported.append)), tried, reported


@pytest.mark.parametrize(
    ("members", "pack_size", "sizes"),
    [
        (5, 1, [1] * 5),
        (5, 4, [5]),
        (5, 2, [3, 2]),
        (3, 2, [3]),
        (7, 4, [4, 3]),
        (33, 8, [9, 8, 8, 8]),
        (2, 32, [2]),
        (0, 4, []),
    ],
)
def test_packs_are_of_even_size(members, pack_size, sizes):
    assert run(members, pack_size)[1] == sizes


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_every_member_is_trained_once_whatever_the_memory(members, pack_size, memory):
    results, tried, reported = run(members, pack_size, memory)
    assert results == [10 * member for member in range(members)]
    assert max(size for size in tried if size <= memory) <= max(1, -(-3 * pack_size // 2))
    assert reported[-1] == 1.0


def test_a_pack_that_runs_out_of_memory_is_halved_until_it_fits():
    assert run(8, 8, memory=3)[1] == [8, 4, 2, 2, 2, 2]
    assert run(5, 4, memory=1)[1] == [5, 3, 1, 1, 1, 1, 1]


def test_a_member_that_fits_no_memory_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        run(4, 4, memory=0)
