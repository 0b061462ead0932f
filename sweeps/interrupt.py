"""Have Ctrl-C and SIGTERM stop a launch even where a library swallows the exception, or ends the process itself."""

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from study.terminal import STOPPING, end_at_once

STOPPED = "stopped; the same command goes on where it was."
ENDED = "ended at once, by Ray or because it was killed; the same command goes on where it was."
END_WITHIN_S = 25.0
"""Seconds from SIGTERM until the process ends wherever it is; Slurm and Kubernetes kill it after 30, without a word."""
INSIST_EVERY_S = 2.0
"""Seconds between two exceptions, until one is acknowledged."""
WITNESS = 'trap "" HUP INT TERM; read -r line || echo "$0" >&2'
"""What the shell beside the process does: say its first argument unless it is told a line before its input ends."""


class CtrlC:
    """Raise KeyboardInterrupt at Ctrl-C, again and again until it is acknowledged: a library may swallow it.

    SIGTERM, by which Slurm, Kubernetes and `ray job stop` end a process, is taken for the same, but for its deadline: a
    call of Ray's that waits for a Ray which was ended with this process hears of no signal. Ray's compiled part may
    also end the process without a word and with code 1, once it finds its raylet or object store gone; a shell that
    waits beside it, the witness, then says how to go on. All of this holds within its `with` statements. These may be
    nested; the outermost decides how long it lasts.

    Attributes:
        received: the signal that came last; that of Ctrl-C where none did.
        stopping: whether one came.
    """

    _depth, _deferred, received, stopping = 0, False, signal.SIGINT, False

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self.received, self.stopping = signal.SIGINT, False
            self._acknowledged = threading.Event()
            self._insisting: threading.Thread | None = None
            self._before = {each: signal.getsignal(each) for each in STOPPING}
            self._over = threading.Event()
            listening, self._told = socket.socketpair()
            self._told.setblocking(False)
            self._told_before = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
            arguments = ("sh", "-c", WITNESS, ENDED)
            self._witness = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
            threading.Thread(target=self._watch, args=[listening], daemon=True).start()
        self.take_over()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._depth -= 1
        if not self._depth or kind is KeyboardInterrupt:
            self.acknowledge()
        if not self._depth:
            for each, before in self._before.items():
                signal.signal(each, before)
            self._over.set()
            signal.set_wakeup_fd(self._told_before)
            self._told.close()
            self._witness.communicate(b"\n")

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
        self.received, self.stopping = signal.Signals(number), True
        if self._insisting is None:
            self._insisting = threading.Thread(target=self._insist, daemon=True)
            self._insisting.start()
        if not self._acknowledged.is_set() and not self._deferred:
            raise KeyboardInterrupt

    def _watch(self, listening: socket.socket) -> None:
        """End the process in time after SIGTERM, of which this thread hears wherever the main one is."""
        with listening:
            while number := listening.recv(1):
                if number[0] == signal.SIGTERM:
                    if not self._over.wait(END_WITHIN_S):
                        self._witness.communicate(b"\n")
                        end_at_once(signal.SIGTERM, STOPPED)
                    return

    def _insist(self) -> None:
        while not self._acknowledged.wait(INSIST_EVERY_S):
            signal.pthread_kill(threading.main_thread().ident or 0, self.received)


CTRL_C = CtrlC()
"""The one of this process, in use from before a launch's preflight until its cluster is let go."""
