"""What has the host wait for a GPU, seen on a CPU: values that are asked for, and sizes that depend on values.

The compiled kernels of `study.engine.cpu` read tensors as arrays; on a GPU they aren't called.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ASKING = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")
BY_VALUE = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten.unique")


@contextmanager
def waits() -> Iterator[list[str]]:
    """The list of all that is done within which would wait, by name."""
    found: list[str] = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            indices = args[1] if str(function).startswith(("aten.index.", "aten.index_put")) else ()
            by_mask = any(isinstance(each, Tensor) and each.dtype == torch.bool for each in indices)
            if by_mask or str(function).startswith(BY_VALUE):
                found.append(str(function))
            return function(*args, **(kwargs or {}))

    def asked(name: str) -> Any:
        ordinary = getattr(Tensor, name)

        def ask(self: Tensor, *arguments: Any) -> Any:
            if "/engine/cpu/" not in sys._getframe(1).f_code.co_filename:
                found.append(name)
            return ordinary(self, *arguments)

        return ask

    with pytest.MonkeyPatch.context() as patch, Seen():
        for name in ASKING:
            patch.setattr(Tensor, name, asked(name))
        yield found
