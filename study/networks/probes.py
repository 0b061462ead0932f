"""Copies of a network to try something on before any training."""

import copy

import torch
from torch import nn


def perturbed_copy(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy in float64 with a little noise on each parameter, for a scale of zero would hide its branch."""
    return perturb(copy.deepcopy(network).double(), seed)


@torch.no_grad()
def perturb(network: nn.Module, seed: int = 0) -> nn.Module:
    """Add a little noise to each parameter of a network, which is returned."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.add_(noise.to(parameter.device), alpha=0.01)
    return network
