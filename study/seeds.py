"""Named streams of random numbers.

A stream depends on the member's seed and on the stream's name alone, never on the arm. With norm=batch and norm=none
the same labels are flipped, the same batches come in the same order and shared weights start from the same values, so
that every comparison is paired. Nor does one stream depend on how much was drawn from another.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def key(seed: int, *stream: str | int) -> int:
    """Return the 63-bit integer that seeds the stream of that name, such as `key(0, "order", epoch)`."""
    name = "/".join(map(str, (seed, *stream)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """Return a NumPy generator at the start of the named stream (PCG64, the same on every platform)."""
    return np.random.Generator(np.random.PCG64(key(seed, *stream)))


@contextmanager
def torch_stream(seed: int, *stream: str | int, device: "torch.device | None" = None) -> Iterator[None]:
    """Set all global generators to the start of the named stream, and put them back as they were afterwards.

    Layers draw their initial weights from torch's generator of the CPU, and what they draw in training from that of
    their device; so both are set. A network of the user's may draw from NumPy's or from Python's instead.
    """
    import torch

    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), host_stream(seed, *stream):
        torch.default_generator.manual_seed(key(seed, *stream))
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(key(seed, *stream))
        yield


@contextmanager
def host_stream(seed: int, *stream: str | int) -> Iterator[None]:
    """Do for the global generators of NumPy and of Python what `torch_stream` does."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    number = key(seed, *stream)
    try:
        np.random.seed([number >> 32, number % 2**32])
        random.seed(number)
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def global_state() -> bytes:
    """Return a digest of the state of the CPU's global generators, which changes as numbers are drawn."""
    import torch

    of_numpy = [np.asarray(part).tolist() for part in np.random.get_state()]
    parts = torch.get_rng_state().tolist(), of_numpy, random.getstate()
    return hashlib.sha256(repr(parts).encode()).digest()
