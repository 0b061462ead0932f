"""Run a whole training step on a GPU as one CUDA graph: gather, forward, backward and the optimizer's update.

The kernels of small networks are so short that a GPU waits for its host to launch the next one. A graph is launched as
a whole.
"""

import warnings
from collections.abc import Callable
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
    return step if device.type != "cuda" else _GraphedStep(step, device)


@dataclass
class _Captured:
    """A CUDA graph and the tensor that it reads its samples from."""

    samples: Tensor
    graph: torch.cuda.CUDAGraph


class _GraphedStep:
    """A step that is captured, for each shape of its samples, after it has been taken `WARM_UP` times."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device
        self._taken: dict[torch.Size, int] = {}
        self._captured: dict[torch.Size, _Captured | None] = {}
        self._stream = torch.cuda.Stream(device)
        # The graphs may share memory: no two replays overlap, and all that outlives a step lies outside of the graphs.
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, samples: Tensor) -> None:
        # Streams and captures belong to the current device, which need not be the pack's.
        with torch.cuda.device(self._device):
            if samples.shape not in self._captured:
                self._warm_up(samples)
            elif captured := self._captured[samples.shape]:
                captured.samples.copy_(samples)
                captured.graph.replay()
            else:
                self._step(samples)

    def _warm_up(self, samples: Tensor) -> None:
        """Take the step on the side stream, as a capture requires; after the last warm-up, capture it for later."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # A capturable optimizer warns of every step that isn't captured.
            warnings.filterwarnings("ignore", message=".*capturable")
            self._step(samples)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._taken[samples.shape] = self._taken.get(samples.shape, 0) + 1
        if self._taken[samples.shape] >= WARM_UP:
            self._captured[samples.shape] = self._capture(samples)

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
