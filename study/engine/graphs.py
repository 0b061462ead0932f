"""On a GPU, a whole training step as one CUDA graph: gather, forward, backward and the optimizer's update.

Small networks leave a GPU waiting for its host to launch their kernels; a graph is launched as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[[Tensor], None]
WARM_UP = 3
"""Steps taken one by one before the capture, as torch asks: they count like all others."""


def graphed(step: Step, device: torch.device) -> Step:
    """The step replayed from a graph for each shape of its rows, so that an epoch's last batch has one of its own.

    The step must read nothing but its rows and tensors that stay where they are. On a CPU it is returned as it is.
    """
    return step if device.type != "cuda" else _Graphed(step)


@dataclass
class _Captured:
    """A graph and the rows that it reads."""

    rows: Tensor
    graph: torch.cuda.CUDAGraph


class _Graphed:
    """A step that is captured, for each shape, after it has been taken a few times."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._taken: dict[torch.Size, int] = {}
        self._captured: dict[torch.Size, _Captured] = {}
        self._stream = torch.cuda.Stream()

    def __call__(self, rows: Tensor) -> None:
        found = self._captured.get(rows.shape)
        if found is None:
            self._warm_up(rows)
            return
        found.rows.copy_(rows)
        found.graph.replay()

    def _warm_up(self, rows: Tensor) -> None:
        """Take the step on the side, as a capture needs it; after the last of these, capture it without taking it."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step(rows)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._taken[rows.shape] = self._taken.get(rows.shape, 0) + 1
        if self._taken[rows.shape] >= WARM_UP:
            graph, static = torch.cuda.CUDAGraph(), rows.clone()
            with torch.cuda.graph(graph, stream=self._stream):
                self._step(static)
            self._captured[rows.shape] = _Captured(static, graph)
