"""Have Ctrl-C and SIGTERM stop a launch even where a library swallows the exception."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from study.terminal import STOPPING

INSIST_EVERY_S = 2.0
"""Seconds between two exceptions, until one is acknowledged."""


class CtrlC:
    """Raise KeyboardInterrupt at Ctrl-C, again and again until it is acknowledged: a library may swallow it.

    SIGTERM, by which Slurm, Kubernetes and `ray job stop` end a process, is taken for the same. This holds within its
    `with` statements. These may be nested; the outermost decides how long it lasts.

    Attributes:
        received: the signal that came last; that of Ctrl-C where none did.
    """

    _depth, _deferred, received = 0, False, signal.SIGINT

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self.received = signal.SIGINT
            self._acknowledged = threading.Event()
            self._insisting: threading.Thread | None = None
            self._before = {each: signal.getsignal(each) for each in STOPPING}
        self.take_over()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._depth -= 1
        if not self._depth or kind is KeyboardInterrupt:
            self.acknowledge()
        if not self._depth:
            for each, before in self._before.items():
                signal.signal(each, before)

    def take_over(self) -> None:
        """Be the one who hears of the signals, as also after a library has taken them for itself."""
        for each in STOPPING:
            signal.signal(each, self._interrupt)

    def acknowledge(self) -> None:
        """Raise it no more: it has reached the code that stops the run."""
        self._acknowledged.set()

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Let what is begun come to its end; a Ctrl-C meanwhile is raised after it."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if self._insisting is None:
            self._insisting = threading.Thread(target=self._insist, daemon=True)
            self._insisting.start()
        if not self._acknowledged.is_set() and not self._deferred:
            raise KeyboardInterrupt

    def _insist(self) -> None:
        while not self._acknowledged.wait(INSIST_EVERY_S):
            signal.pthread_kill(threading.main_thread().ident or 0, self.received)


CTRL_C = CtrlC()
"""The one of this process, in use from before a launch's preflight until its cluster is let go."""
