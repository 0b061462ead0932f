"""Ctrl-C that no library can swallow."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INSIST_EVERY_S = 2.0


class CtrlC:
    """Ctrl-C as an exception that comes again until it is heard: a library in which it comes up may swallow it.

    Its `with` statements may be nested: the outermost one decides how long.
    """

    _depth, _held = 0, False

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._heard = threading.Event()
            self._insisting: threading.Thread | None = None
            self._before = signal.signal(signal.SIGINT, self._interrupt)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._depth -= 1
        if not self._depth or kind is KeyboardInterrupt:
            self.heard()
        if not self._depth:
            signal.signal(signal.SIGINT, self._before)

    def heard(self) -> None:
        """It has reached who stops the run."""
        self._heard.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is begun is done to its end; what came up meanwhile comes again after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _interrupt(self, *_: object) -> None:
        if self._insisting is None:
            self._insisting = threading.Thread(target=self._insist, daemon=True)
            self._insisting.start()
        if not self._heard.is_set() and not self._held:
            raise KeyboardInterrupt

    def _insist(self) -> None:
        while not self._heard.wait(INSIST_EVERY_S):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


CTRL_C = CtrlC()
"""That of this process, from before a launch looks ahead until its cluster is let go."""
