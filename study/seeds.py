"""Named streams of random numbers.

A stream depends on the member's seed and on the stream's name alone, never on the arm. With norm=batch and norm=none
the same labels are flipped, the same batches come in the same order and shared weights start from the same values, so
that every comparison is paired. Nor does one stream depend on how much was drawn from another.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def key(seed: int, *stream: str | int) -> int:
    """Return the 63-bit integer that seeds the stream of that name, such as `key(0, "order", epoch)`."""
    name = "/".join(map(str, (seed, *stream)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """Return a NumPy generator at the start of the named stream (PCG64, the same on every platform)."""
    return np.random.Generator(np.random.PCG64(key(seed, *stream)))


@contextmanager
def torch_stream(seed: int, *stream: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Set torch's global generators to the start of the named stream, and put them back as they were afterwards.

    Layers draw their initial weights from the generator of the CPU, and what they draw in training from that of their
    device; so both are set.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(key(seed, *stream))
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(key(seed, *stream))
        yield
