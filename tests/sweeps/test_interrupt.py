import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from sweeps import interrupt
from sweeps.interrupt import CtrlC
from tests.ray_runs import ROOT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_come_again_until_they_are_heard(number, monkeypatch):
    monkeypatch.setattr(interrupt, "INSIST_EVERY_S", 0.2)
    before, insisting = signal.getsignal(number), CtrlC()
    with insisting:
        assert insisting.received == signal.SIGINT
        with suppress(KeyboardInterrupt):  # as a library does in which it comes up
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(100)  # until it comes again
        insisting.acknowledge()
        time.sleep(0.5)  # in which it would have come again
    assert insisting.received == number
    assert signal.getsignal(number) is before


SWALLOWS = """
import sys, time
from sweeps import interrupt

interrupt.END_WITHIN_S = 0.5
with interrupt.CTRL_C:
    said = False
    while True:
        try:
            while True:
                try:
                    said = said or not print("runs", flush=True)
                    time.sleep(100)
                except KeyboardInterrupt:
                    pass
        except KeyboardInterrupt:  # that came between two of these lines
            pass
"""


def test_what_swallows_every_exception_is_ended_in_time_after_sigterm_and_says_how_to_go_on():
    started = subprocess.Popen(
        [sys.executable, "-c", SWALLOWS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "runs\n"
        started.terminate()
        _, errors = started.communicate()
    finally:
        started.kill()
    assert (started.returncode, errors) == (143, f"{interrupt.STOPPED}\n")


def test_what_holds_it_is_done_to_its_end(monkeypatch):
    monkeypatch.setattr(interrupt, "INSIST_EVERY_S", 0.1)
    holding, done = CtrlC(), []

    def work() -> None:
        with holding:
            with holding.defer():
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.3)
                done.append("what was begun")
            time.sleep(10)
            done.append("more")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["what was begun"]


def test_who_is_within_another_lets_it_through_once_and_leaves_the_handler_to_it(monkeypatch):
    monkeypatch.setattr(interrupt, "INSIST_EVERY_S", 0.1)
    before, nested = signal.getsignal(signal.SIGINT), CtrlC()
    with nested:
        with pytest.raises(KeyboardInterrupt), nested:
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == nested._interrupt
        time.sleep(0.3)  # it was heard
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_what_is_ended_without_a_word_has_one_said_for_it(end: str):
    """As Ray's compiled part ends it, or the machine that has run out of memory."""
    ends = f"import os, signal\nfrom sweeps.interrupt import CTRL_C\nwith CTRL_C:\n    {end}"
    ended = subprocess.run([sys.executable, "-c", ends], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    assert (abs(ended.returncode), ended.stderr) in [
        (1, f"{interrupt.ENDED}\n"),
        (signal.SIGKILL, f"{interrupt.ENDED}\n"),
    ]


def test_what_comes_to_its_end_has_nothing_said():
    ends = "from sweeps.interrupt import CTRL_C\nwith CTRL_C:\n    pass"
    ended = subprocess.run([sys.executable, "-c", ends], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=True)
    assert ended.stderr == ""
