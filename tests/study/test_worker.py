import os
import platform
import sys
import time
from typing import Any

import pytest

from study.worker import ENVIRONMENT, STARTED_OVER, Process, peak_memory, processes, start_over


def environment(name: str) -> str:
    """What a process finds in its environment."""
    return os.environ.get(name, "nothing")


def doubling(failure: str):
    """A contender that doubles what it is sent, or fails."""
    if failure:
        raise ValueError(failure)
    return lambda number: 2 * number


def ask(started: list[Process], number: float) -> list[float]:
    for process in started:
        process.send(number)
    return [process.result() for process in started]


def test_processes_start_with_their_environment_and_leave_this_one_alone():
    with processes({"NORMLEAK_TEST": "there"}, 2, environment, "NORMLEAK_TEST") as started:
        assert [process.result() for process in started] == ["there", "there"]
        assert "NORMLEAK_TEST" not in os.environ


def filled(size: int) -> tuple[int, int]:
    """The most memory that this process had before and after it had so many bytes."""
    before = peak_memory()
    return before, len(bytearray(b"x" * size)) and peak_memory()


def test_the_most_memory_of_a_process_is_its_own_and_stays_after_it_is_freed():
    here = bytearray(b"x" * 400_000_000)
    with processes({}, 1, filled, 100_000_000) as (process,):
        before, after = process.result()
    assert before < len(here) < peak_memory()
    assert after - before > 90_000_000


def test_processes_take_turns_and_say_why_they_failed():
    with processes({}, 2, doubling, "") as started:
        assert [process.result() for process in started] == [None, None]
        assert ask(started, 1.5) == [3.0, 3.0]
        assert ask(started, 2.0) == [4.0, 4.0]
    with processes({}, 1, doubling, "out of luck") as started, pytest.raises(ValueError, match="out of luck"):
        started[0].result()


def test_a_process_ends_quietly_if_nobody_waits_for_its_answer():
    with processes({}, 1, time.sleep, 1.0) as started:
        started[0].close()
    assert started[0]._process.exitcode == 0


def test_a_process_that_dies_is_told():
    with processes({}, 1, os._exit, 1) as started, pytest.raises(RuntimeError, match="before it answered"):
        started[0].result()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What this process was to be replaced by, were it not for the test."""
    for name in (*ENVIRONMENT, STARTED_OVER):
        monkeypatch.delenv(name, raising=False)
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *given: calls.append(given))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "-m", "study", "run", "k=0.1"])
    return calls


def test_a_program_is_started_over_with_its_arguments_and_what_a_process_that_trains_is_to_have(started):
    start_over()
    ((program, arguments, found),) = started
    assert program == sys.executable
    assert arguments == [sys.executable, "-X", "dev", "-m", "study", "run", "k=0.1"]
    assert found.items() >= ENVIRONMENT.items()
    assert set(found) - {STARTED_OVER, *ENVIRONMENT} == set(os.environ)


def test_a_program_is_started_over_once_even_where_that_changes_nothing(started, monkeypatch):
    monkeypatch.setenv(STARTED_OVER, "1")
    start_over()
    assert started == []


def test_a_program_that_has_its_environment_or_another_library_goes_on(started, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(platform, "libc_ver", lambda: ("", ""))
        start_over()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    start_over()
    assert started == []
