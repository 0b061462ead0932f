"""The arithmetic of training: the paper's float32, or a faster and coarser one that a trial asks for by name.

Measurements are always in the network's own dtype: only the steps of training are made coarser.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from study.errors import BadInputError


def check(precision: str, device: str) -> None:
    """Refuse an arithmetic that the device doesn't have.

    Raises:
        BadInputError: `tf32` away from a GPU, which alone has it.
    """
    if precision == "tf32" and torch.device(device).type != "cuda":
        raise BadInputError(f"precision=tf32 needs a GPU, which {device} is not: use fp32, or bf16.")


def be_exact() -> None:
    """Have float32 be float32 in this process: left to itself, torch computes a GPU's convolutions in TF32."""
    _set("ieee")


@contextmanager
def step_in(precision: str) -> Iterator[None]:
    """A step, forward and backward: products of float32 numbers in TF32 where the precision is `tf32`."""
    if precision != "tf32":
        yield
        return
    _set("tf32")
    try:
        yield
    finally:
        _set("ieee")


def forward_in(precision: str, device: torch.device) -> torch.autocast:
    """A forward pass: with torch's automatic mixed precision where the precision is `bf16`."""
    # What is cached in one step would be a stranger to a graph that was captured in another.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def _set(precision: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
