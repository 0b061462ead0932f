"""How a process that trains is set up: one thread, and memory that is kept rather than given back.

Networks this small are slower on more threads, and round differently; one such process a core fills a machine. Most of
the environment is read when a process starts, so whoever starts it sets it.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


def one_thread() -> None:
    """Have torch compute on one thread in this process, whatever it was started with."""
    import torch

    torch.set_num_threads(1)


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

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._connection.close()
        self._process.join()


def _serve(connection: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        made = function(*arguments)
        connection.send(None if callable(made) else made)
        while True:
            connection.send(made(connection.recv()))
    except (EOFError, KeyboardInterrupt):
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
            process.stop()
