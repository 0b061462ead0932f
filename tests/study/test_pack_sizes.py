from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.pack_sizes import pack_sizes, seconds_of_step

SHORT_REGISTERS = {1: 2.0e-4, 2: 3.2e-4, 3: 5.7e-4, 4: 3.9e-4, 8: 7.2e-4, 16: 3.2e-3}
"""LeNet where a vector register takes eight numbers."""
LONG_REGISTERS = {1: 1.0e-4, 2: 1.14e-4, 4: 1.72e-4, 8: 2.8e-4, 16: 4.2e-4}


@pytest.mark.parametrize(
    ("steps", "members", "sizes"),
    [
        (SHORT_REGISTERS, 5, [4, 1]),
        (SHORT_REGISTERS, 7, [7]),  # about as slow as 8, and faster than 4 and 2 and 1
        (SHORT_REGISTERS, 10, [8, 2]),
        (SHORT_REGISTERS, 15, [8, 7]),
        (SHORT_REGISTERS, 30, [8, 8, 8, 4, 2]),
        (LONG_REGISTERS, 5, [4, 1]),
        (LONG_REGISTERS, 15, [15]),
        (LONG_REGISTERS, 20, [16, 4]),
        ({1: 1.0}, 3, [1, 1, 1]),
        ({1: 0.0}, 3, [1, 1, 1]),
        ({8: 1.0}, 3, [3]),
        ({8: 1.0}, 0, []),
    ],
)
def test_packs_fill_what_was_fast(steps, members, sizes):
    assert pack_sizes(members, steps) == sizes


@given(st.dictionaries(st.integers(1, 8), st.floats(0.1, 10), min_size=1), st.integers(0, 14))
def test_no_other_packs_are_faster(steps, members):
    @cache
    def least(left: int) -> float:
        """Try every way to split that many members."""
        if not left:
            return 0.0
        sizes = range(1, min(left, max(steps)) + 1)
        return min(least(left - size) + step(size) for size in sizes)

    def step(size: int) -> float:
        return min(steps[timed] * (1 if timed == size else 1.1) for timed in steps if timed >= size)

    assert seconds_of_step(members, steps) == pytest.approx(least(members))
    assert sum(pack_sizes(members, steps)) == members
