"""On a GPU, a whole training step as one CUDA graph: gather, forward, backward and the optimizer's update.

Small networks leave a GPU waiting for its host to launch their kernels; a graph is launched as a whole.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[[Tensor], None]
WARM_UP = 3
"""Steps taken one by one before the capture, as torch asks: they count like all others."""


def graphed(step: Step, device: torch.device) -> Step:
    """The step replayed from a graph for each shape of its rows, so that an epoch's last batch has one of its own.

    The step must read nothing but its rows and tensors that stay where they are. One that can't be captured, as where a
    network asks for a value on the host, goes on as it is; on a CPU every step does.
    """
    return step if device.type != "cuda" else _Graphed(step, device)


@dataclass
class _Captured:
    """A graph and the rows that it reads."""

    rows: Tensor
    graph: torch.cuda.CUDAGraph


class _Graphed:
    """A step that is captured, for each shape, after it has been taken a few times."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device
        self._taken: dict[torch.Size, int] = {}
        self._captured: dict[torch.Size, _Captured | None] = {}
        self._stream = torch.cuda.Stream(device)
        # No two replays overlap, and none leaves anything to the next but what lies outside of all graphs.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, rows: Tensor) -> None:
        # Streams and captures are those of the current device, which need not be the pack's.
        with torch.cuda.device(self._device):
            if rows.shape not in self._captured:
                self._warm_up(rows)
            elif captured := self._captured[rows.shape]:
                captured.rows.copy_(rows)
                captured.graph.replay()
            else:
                self._step(rows)

    def _warm_up(self, rows: Tensor) -> None:
        """Take the step on the side, as a capture needs it; after the last of these, capture it without taking it."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # Optimizers that can be captured complain of every step that isn't.
            warnings.filterwarnings("ignore", message=".*capturable")
            self._step(rows)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._taken[rows.shape] = self._taken.get(rows.shape, 0) + 1
        if self._taken[rows.shape] >= WARM_UP:
            self._captured[rows.shape] = self._capture(rows)

    def _capture(self, rows: Tensor) -> _Captured | None:
        graph, static = torch.cuda.CUDAGraph(), rows.clone()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                self._step(static)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        return _Captured(static, graph)
