"""How a process that trains is set up: one thread, and memory that is kept rather than given back.

Networks this small are slower on more threads, and round differently; one such process a core fills a machine. Most of
the environment is read when a process starts, so whoever starts it sets it.
"""

import multiprocessing
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Every step frees what the next one asks for again: left to itself, glibc hands the pages back in between.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
    # Torch then asks for huge pages for its large tensors.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""For `os.environ` of the parent: none of it changes a result."""


STARTED_OVER = "NORMLEAK_STARTED_OVER"
"""In the environment of a program that was started over: whatever it finds, once is enough."""


def in_place() -> bool:
    """Whether this process has `ENVIRONMENT`."""
    return all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())


def start_over() -> None:
    """Start the program of this process over with `ENVIRONMENT`, unless it has that, or another C library than glibc.

    The process stays the same, with its streams, its terminal and its arguments. Only for a program that has done
    nothing yet.
    """
    if in_place() or STARTED_OVER in os.environ or platform.libc_ver()[0] != "glibc":
        return
    environment = {**os.environ, **ENVIRONMENT, STARTED_OVER: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def one_thread() -> None:
    """Have torch compute on one thread in this process, whatever it was started with."""
    import torch

    torch.set_num_threads(1)


def peak_memory() -> int:
    """The most memory that this process had, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # A parent's, which `getrusage` counts on Linux, is not in it.
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


class Process:
    """A process that has called a function and, where that returned one, calls it with whatever it is sent."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, function, arguments))
        self._process.start()
        there.close()

    def send(self, argument: object) -> None:
        """Have it called once more."""
        self._connection.send(argument)

    def result(self) -> Any:
        """What came of the call: None of the first one, if that made the function of the later ones."""
        try:
            found = self._connection.recv()
        except EOFError:
            raise RuntimeError("a process ended before it answered") from None
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """Have it end once it has answered."""
        self._connection.close()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self.close()
        self._process.join()


def _serve(connection: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        made = function(*arguments)
        connection.send(None if callable(made) else made)
        while True:
            connection.send(made(connection.recv()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):  # who asked has gone, or is stopped
        return
    except Exception as error:
        connection.send(error)


@contextmanager
def processes(
    environment: Mapping[str, str], count: int, function: Callable[..., Any], *arguments: Any
) -> Iterator[list[Process]]:
    """So many processes that start with the environment beside this one's."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        started = [Process(function, arguments) for _ in range(count)]
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield started
    finally:
        for process in started:
            process.close()
        for process in started:
            process.stop()
