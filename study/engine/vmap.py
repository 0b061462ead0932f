"""Attention under `torch.func.vmap`."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from study.engine.pack import Pack
from study.networks.regularizers import penalized


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by its formula: `vmap` would run the fused kernels sample by sample, and warn of it as of any such."""
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
            name: self._join([each[name] for each in named], torch.stack([each[name].detach() for each in named]))
            for name in named[0]
        }
        self._buffers = {name: self._stacked(name) for name, _ in networks[0].named_buffers()}

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
            with penalized(self._network, regularizer) as penalty:
                logits = functional_call(self._network, (parameters, buffers), (images,))
                return logits, penalty()[0]

        with plain_attention():
            return vmap(one)(self._parameters, self._buffers, images)

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._network.train(mode)

    def _stacked(self, name: str) -> Tensor:
        """The members' buffers of that name in one tensor, into which they look from now on."""
        stacked = torch.stack([network.get_buffer(name) for network in self.networks])
        owner, _, key = name.rpartition(".")
        for network, view in zip(self.networks, stacked, strict=True):
            network.get_submodule(owner)._buffers[key] = view
        return stacked
