import os

import pytest

from study.worker import Process, processes


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


def test_processes_take_turns_and_say_why_they_failed():
    with processes({}, 2, doubling, "") as started:
        assert [process.result() for process in started] == [None, None]
        assert ask(started, 1.5) == [3.0, 3.0]
        assert ask(started, 2.0) == [4.0, 4.0]
    with processes({}, 1, doubling, "out of luck") as started, pytest.raises(ValueError, match="out of luck"):
        started[0].result()


def test_a_process_that_dies_is_told():
    with processes({}, 1, os._exit, 1) as started, pytest.raises(RuntimeError, match="before it answered"):
        started[0].result()
