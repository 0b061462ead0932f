"""Run a whole training step on a GPU as one CUDA graph: gather, forward, backward and the optimizer's update.

The kernels of small networks are so short that a GPU waits for its host to launch the next one. A graph is launched as
a whole.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[[Tensor], None]
WARM_UP = 3
"""Steps taken without a graph before the capture, as torch requires. They are training steps like all others."""


def with_cuda_graphs(step: Step, device: torch.device) -> Step:
    """Return a step that is replayed from a CUDA graph, one for each shape of its argument; on a CPU, the step itself.

    An epoch's last batch, which may be smaller, thus has a graph of its own. The step must read nothing but its
    argument and tensors that stay in place. A step that can't be captured, as where a network reads a value on the
    host, is taken without a graph.
    """
    return step if device.type != "cuda" else GraphedStep(step, device)


@dataclass
class _Captured:
    """A CUDA graph and the tensor that it reads its samples from."""

    samples: Tensor
    graph: torch.cuda.CUDAGraph


class GraphedStep:
    """A step that is captured, for each shape of its samples, after it has been taken `WARM_UP` times.

    Attributes:
        replays: how many steps were replayed from a graph.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self.replays = 0
        self._step, self._device = step, device
        self._taken: dict[torch.Size, int] = {}
        self._captured: dict[torch.Size, _Captured | None] = {}
        self._stream = torch.cuda.Stream(device)
        # The graphs may share memory: no two replays overlap, and all that outlives a step lies outside of the graphs.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, samples: Tensor) -> None:
        """Take the step, replayed where it has been captured."""
        # Streams and captures belong to the current device, which need not be the pack's.
        with torch.cuda.device(self._device):
            if samples.shape not in self._captured:
                self._warm_up(samples)
            elif captured := self._captured[samples.shape]:
                captured.samples.copy_(samples)
                captured.graph.replay()
                self.replays += 1
            else:
                self._step(samples)

    def _warm_up(self, samples: Tensor) -> None:
        """Take the step on the side stream, as a capture requires; after the last warm-up, capture it for later.

        One at which the host waits for the GPU can't be captured. That is seen before it is tried, for a capture that
        fails leaves its memory taken, and before torch 2.12 no random numbers could be drawn after it.
        """
        self._taken[samples.shape] = self._taken.get(samples.shape, 0) + 1
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), _watch_waits() as waits:
            self._step(samples)
        torch.cuda.current_stream().wait_stream(self._stream)
        if self._taken[samples.shape] >= WARM_UP:
            self._captured[samples.shape] = None if waits() else self._capture(samples)

    def _capture(self, samples: Tensor) -> _Captured | None:
        """Capture the step without taking it; None where it can't be captured."""
        graph, static = torch.cuda.CUDAGraph(), samples.clone()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                self._step(static)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        return _Captured(static, graph)


WAITING = "called a synchronizing CUDA operation"
"""How torch warns of an operation at which the host waits for the GPU, in its mode of debugging these."""


@contextmanager
def _watch_waits() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether the host has waited for the GPU within the context, by torch's own warnings.

    All warnings of these few steps are taken: a capturable optimizer warns of each that isn't captured.
    """
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: any(WAITING in str(warning.message) for warning in seen)
        finally:
            torch.cuda.set_sync_debug_mode(before)
