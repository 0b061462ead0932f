"""The backend `vmap`: members as a batch dimension of `torch.func.vmap`.

It is for networks whose layers can't be put side by side in channels, as `grouped` needs.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from study.engine.pack import Pack
from study.networks.regularizers import watch_penalty


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention by its formula within the context, and silence the warning of slow operations under `vmap`.

    Under `vmap` the fused kernels would run sample by sample.
    """
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


class Vmapped(Pack):
    """M networks as one function of stacked parameters and buffers."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(networks)
        self._network = copy.deepcopy(networks[0]).to("meta")
        named = [dict(network.named_parameters()) for network in networks]
        self._parameters: dict[str, Tensor] = {
            name: self._join(
                [parameters[name] for parameters in named],
                torch.stack([parameters[name].detach() for parameters in named]),
            )
            for name in named[0]
        }
        self._buffers = {name: self._stack(name) for name, _ in networks[0].named_buffers()}

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""

        def forward_member(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor
        ) -> tuple[Tensor, Tensor]:
            with watch_penalty(self._network, regularizer) as penalty:
                logits = functional_call(self._network, (parameters, buffers), (images,))
                return logits, penalty()[0]

        with plain_attention():
            return vmap(forward_member)(self._parameters, self._buffers, images)

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._network.train(mode)

    def _stack(self, name: str) -> Tensor:
        """Stack the members' buffers of that name, make them views into the stack, and return it."""
        stacked = torch.stack([network.get_buffer(name) for network in self.networks])
        owner, _, key = name.rpartition(".")
        for network, view in zip(self.networks, stacked, strict=True):
            network.get_submodule(owner)._buffers[key] = view
        return stacked
