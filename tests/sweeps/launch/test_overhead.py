import re

import pytest

from tests.ray_runs import Command

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_what_tune_adds_is_told_in_time_and_memory(sweeps: Command):
    done = sweeps("bench", "--trials", "6", "--seconds", "0.1", "--workers", "1")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    took, ideal, ratio, startup, each, memory, peak = (
        float(number)
        for number in re.fullmatch(
            r"6 trials of 0\.1 s on 1 workers: took (\S+) s, ideal (\S+) s, ratio (\S+); start-up (\S+) s "
            r"a trial costs (\S+) ms of its worker's time and (\S+) KB of the driver's memory, at most (\S+) MB in all",
            said,
        ).groups()  # type: ignore[union-attr]
    )
    assert ideal == 0.6
    assert took > ideal
    assert abs(ratio - took / ideal) < 0.02
    assert abs(each - (took - ideal) / 6 * 1e3) < 2
    assert startup > 0
    assert 0 <= memory * 6 / 1e3 < peak
    assert peak < 450  # torch alone takes more
