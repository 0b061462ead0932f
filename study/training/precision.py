"""The arithmetic of training: the paper's float32, or a faster and coarser one that a trial asks for by name.

Measurements are always in the network's own dtype: only the steps of training are made coarser.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from study.errors import BadInputError


def check(precision: str, device: str) -> None:
    """Refuse a precision that the device doesn't have.

    Raises:
        BadInputError: the precision is `tf32` and the device is no GPU.
    """
    if precision == "tf32" and torch.device(device).type != "cuda":
        raise BadInputError(f"precision=tf32 needs a GPU, which {device} is not: use fp32, or bf16.")


def use_full_float32() -> None:
    """Compute float32 in full precision in this process: by default torch computes a GPU's convolutions in TF32."""
    _set("ieee")


@contextmanager
def step_context(precision: str) -> Iterator[None]:
    """Compute products of float32 numbers in TF32 within the context, if the precision is `tf32`.

    The context spans a whole step, forward and backward.
    """
    if precision != "tf32":
        yield
        return
    _set("tf32")
    try:
        yield
    finally:
        _set("ieee")


def forward_context(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass: torch's automatic mixed precision, if the precision is `bf16`."""
    # A CUDA graph can't use a cast weight that autocast has cached outside of it.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def _set(precision: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
