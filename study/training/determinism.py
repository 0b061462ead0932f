"""Repeatable arithmetic on a GPU: where a trial asks for it, a run that is made again, or resumed, has the same digits.

Some of a GPU's algorithms add up in whatever order their threads come, and which algorithm a convolution takes may be
left to a race. On a CPU a process that trains has one thread, which adds up in one order: there is nothing to set.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from study.errors import BadInputError
from study.worker import ENVIRONMENT

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""The variable by which cuBLAS is told its workspace; with one of `FIXED` its products repeat."""
FIXED = (":4096:8", ":16:8")


def check(deterministic: str, device: str) -> None:
    """Refuse to promise equal digits on a GPU in a process whose environment can't hold that.

    Raises:
        BadInputError: cuBLAS was not given a fixed workspace before the process started.
    """
    if _must_be_set(deterministic, torch.device(device)) and os.environ.get(CUBLAS) not in FIXED:
        raise BadInputError(
            f"deterministic=on needs {CUBLAS}={ENVIRONMENT[CUBLAS]} in the environment before Python starts; the "
            "commands set it themselves."
        )


@contextmanager
def algorithms(deterministic: str, device: torch.device) -> Iterator[None]:
    """Have torch take only algorithms that repeat within the context, if the trial asks for it and the device is a GPU.

    An operation that has no such algorithm raises a `RuntimeError` that names it.
    """
    if not _must_be_set(deterministic, device):
        yield
        return
    memory, cudnn = torch.utils.deterministic, torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    _set(True, False, False)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        _set(*before)
        torch.use_deterministic_algorithms(enabled, warn_only=warns)


def _must_be_set(deterministic: str, device: torch.device) -> bool:
    return deterministic == "on" and device.type == "cuda"


def _set(deterministic: bool, benchmark: bool, fill: bool) -> None:
    torch.backends.cudnn.deterministic = deterministic
    # It takes the algorithm that is fastest now, which may be another one the next time.
    torch.backends.cudnn.benchmark = benchmark
    # Nothing here reads memory that was not written, and to fill it takes time.
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
