import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from study.worker import (
    ENVIRONMENT,
    RESTARTED,
    Process,
    give_back_memory,
    peak_memory,
    restart_with_environment,
    start_processes,
)


def environment(name: str) -> str:
    """Return a variable of the environment that a process started with."""
    return os.environ.get(name, "nothing")


def doubling(failure: str):
    """Return a function that doubles a number, or fail."""
    if failure:
        raise ValueError(failure)
    return lambda number: 2 * number


def ask(started: list[Process], number: float) -> list[float]:
    for process in started:
        process.send(number)
    return [process.result() for process in started]


def test_processes_start_with_their_environment_and_leave_this_one_alone():
    with start_processes({"NORMLEAK_TEST": "there"}, 2, environment, "NORMLEAK_TEST") as started:
        assert [process.result() for process in started] == ["there", "there"]
        assert "NORMLEAK_TEST" not in os.environ


def order(names: frozenset[str]) -> list[str]:
    """Return the order in which this process goes through a set."""
    return list(frozenset(sorted(names)))


def test_a_set_of_text_has_one_order_in_all_processes_that_train():
    with start_processes(ENVIRONMENT, 2, order, frozenset(map(str, range(50)))) as (one, other):
        assert one.result() == other.result()


def filled(size: int) -> tuple[int, int]:
    """Return the most memory that this process had before and after it held so many bytes."""
    before = peak_memory()
    return before, len(bytearray(b"x" * size)) and peak_memory()


def resident() -> int:
    """Return the memory that this process has now, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def freed(size: int) -> tuple[int, int]:
    """Return the memory of this process once it has freed so many bytes, and once it has given them back."""
    pieces = [bytearray(b"x" * 1_000_000) for _ in range(size // 1_000_000)]
    del pieces
    before = resident()
    give_back_memory()
    return before, resident()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps no memory by these variables")
def test_a_process_that_keeps_what_it_frees_gives_it_back_where_it_is_told_to():
    with start_processes(ENVIRONMENT, 1, freed, 600_000_000) as (process,):
        kept, left = process.result()
    assert kept - left > 500_000_000


def test_the_most_memory_of_a_process_is_its_own_and_stays_after_it_is_freed():
    here = bytearray(b"x" * 400_000_000)
    with start_processes({}, 1, filled, 100_000_000) as (process,):
        before, after = process.result()
    assert before < len(here) < peak_memory()
    assert after - before > 90_000_000


def test_processes_return_a_result_for_each_argument_and_raise_their_error():
    with start_processes({}, 2, doubling, "") as started:
        assert [process.result() for process in started] == [None, None]
        assert ask(started, 1.5) == [3.0, 3.0]
        assert ask(started, 2.0) == [4.0, 4.0]
    with start_processes({}, 1, doubling, "out of luck") as started, pytest.raises(ValueError, match="out of luck"):
        started[0].result()


def test_a_process_ends_quietly_if_nobody_waits_for_its_result():
    with start_processes({}, 1, time.sleep, 1.0) as started:
        started[0].close()
    assert started[0]._process.exitcode == 0


def test_a_process_that_dies_is_an_error():
    with (
        start_processes({}, 1, os._exit, 1) as started,
        pytest.raises(RuntimeError, match="before it returned a result"),
    ):
        started[0].result()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls that would have replaced this process by another program."""
    for name in (*ENVIRONMENT, RESTARTED):
        monkeypatch.delenv(name, raising=False)
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *given: calls.append(given))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "-m", "study", "run", "k=0.1"])
    return calls


def test_a_program_is_restarted_with_its_arguments_and_the_environment_of_a_process_that_trains(started):
    restart_with_environment()
    ((program, arguments, found),) = started
    assert program == sys.executable
    assert arguments == [sys.executable, "-X", "dev", "-m", "study", "run", "k=0.1"]
    assert found.items() >= ENVIRONMENT.items()
    assert set(found) - {RESTARTED, *ENVIRONMENT} == set(os.environ)


def test_a_program_is_restarted_once_even_where_that_changes_nothing(started, monkeypatch):
    monkeypatch.setenv(RESTARTED, "1")
    restart_with_environment()
    assert started == []


def test_a_program_that_has_its_environment_or_another_library_goes_on(started, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(platform, "libc_ver", lambda: ("", ""))
        restart_with_environment()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    restart_with_environment()
    assert started == []
