"""Plain networks side by side as parallel branches, each on a stream of its own, so that a GPU overlaps them.

Captured in a CUDA graph, the branches of a step are launched at once. It takes any network as its author wrote it, and
one process; what it gains over the backends has to be timed (`python -m study check`), so it is none of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from study.engine.pack import Pack
from study.networks.regularizers import watch_penalty


class Branches(Pack):
    """M networks, of which each computes by itself; on a GPU their forward and backward passes run at the same time.

    A network that draws random numbers draws others than it would alone.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(networks)
        self._network = nn.ModuleList(self.networks)
        self.parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        on_gpu = self.device.type == "cuda"
        self._streams = [torch.cuda.Stream(self.device) if on_gpu else None for _ in networks]

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""
        logits, penalties = [], []
        for network, own, stream in zip(self.networks, images, self._streams, strict=True):
            # Each branch forks from the caller's stream and joins it again, which a capture follows. Autograd runs a
            # branch's backward pass on the stream of its forward pass, and joins it in the same way. No branch takes
            # memory that another stream still reads: it waits for the caller's stream before it takes any.
            if stream is not None:
                stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream), watch_penalty(network, regularizer) as penalty:
                logits.append(network(own))
                penalties.append(penalty())
        for stream in self._streams:
            if stream is not None:
                torch.cuda.current_stream(self.device).wait_stream(stream)
        return torch.stack(logits), torch.cat(penalties)

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._network.train(mode)

    def parameters_of(self, member: int) -> list[nn.Parameter]:
        """See `Pack.parameters_of`."""
        own = [parameter for parameter in self.networks[member].parameters() if parameter.requires_grad]
        for parameter in own:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return own
