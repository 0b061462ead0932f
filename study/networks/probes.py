"""Copies of a network to try something on before any training."""

import copy

import torch
from torch import nn


def perturbed_copy(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy in float64 with a little noise on each parameter, for a scale of zero would hide its branch."""
    probe = copy.deepcopy(network).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in probe.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(parameter.device), alpha=0.01)
    return probe
