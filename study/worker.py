"""Processes that train: each has one thread, and keeps the memory that it frees.

Networks this small are slower on more threads, and round differently; one such process a core fills a machine. Most of
the environment is read when a process starts, so it is set by the process that starts it.
"""

import ctypes
import multiprocessing
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Every step frees what the next one allocates again; by default glibc gives the pages back in between.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
    # Torch then asks for huge pages for its large tensors.
    "THP_MEM_ALLOC_ENABLE": "1",
    # The products of cuBLAS repeat with a workspace of fixed size, which `deterministic=on` needs on a GPU.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Sets of text, over which a network of the user's may be initialized, have one order in all processes.
    "PYTHONHASHSEED": "0",
}
"""The environment variables of a process that trains; none of them changes the result of a built-in network."""

RESTARTED = "NORMLEAK_RESTARTED"
"""The environment variable that says that a program was restarted, so that it isn't restarted for ever."""


def has_environment() -> bool:
    """Return whether this process was given `ENVIRONMENT`."""
    return all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())


def restart_with_environment() -> None:
    """Restart the program of this process with `ENVIRONMENT`, unless it has that, or another C library than glibc.

    The process stays the same, with its streams, its terminal and its arguments. A program must call this before it
    does anything else.
    """
    if has_environment() or RESTARTED in os.environ or platform.libc_ver()[0] != "glibc":
        return
    environment = {**os.environ, **ENVIRONMENT, RESTARTED: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def use_one_thread() -> None:
    """Have torch compute on one thread in this process, whatever its environment says."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch, and products of matrices by numpy, computed on one thread in the block, and as before after it."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    use_one_thread()
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def give_back_memory() -> None:
    """Give memory that has been freed back to the system, which a process with `ENVIRONMENT` keeps otherwise.

    It is to be called once what takes much, and is not allocated again, is done, such as reading a dataset.
    """
    pa.default_memory_pool().release_unused()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # On Linux, `getrusage` counts the memory of the parent as well.
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


class Process:
    """Another process, which calls a function, and if that returns a function, calls this one with all that is sent."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, function, arguments))
        self._process.start()
        there.close()

    def send(self, argument: object) -> None:
        """Send an argument for another call."""
        self._connection.send(argument)

    def result(self) -> Any:
        """Return the result of the next call, once it is there; None of a first call that returned a function."""
        try:
            result = self._connection.recv()
        except EOFError:
            raise RuntimeError("a process ended before it returned a result") from None
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """Let the process end after its last call."""
        self._connection.close()

    def stop(self) -> None:
        """Let the process end, and wait until it has."""
        self.close()
        self._process.join()


def _serve(connection: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        result = function(*arguments)
        connection.send(None if callable(result) else result)
        while True:
            connection.send(result(connection.recv()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):  # the other process has ended, or is stopped
        return
    except Exception as error:
        connection.send(error)


@contextmanager
def start_processes(
    environment: Mapping[str, str], count: int, function: Callable[..., Any], *arguments: Any
) -> Iterator[list[Process]]:
    """Start processes that call the function, each with the environment on top of this one's; end them at last."""
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
