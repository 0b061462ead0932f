"""The rule of every kind of layer against batches of one."""

import pytest
import torch
from torch import nn

from study.lenses import ghost_norms
from study.networks import norms
from tests.study.lenses.networks import Bordered, Tokens, assert_each_as_if_alone, assert_exact, packed, small_resnet

CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "stride and padding that differ by side": {"kernel_size": (3, 5), "stride": (2, 3), "padding": (2, 1)},
    "dilation": {"kernel_size": 3, "dilation": (2, 3), "padding": 2, "stride": (1, 2)},
    "groups": {"kernel_size": 3, "groups": 2, "bias": False},
    "depthwise": {"kernel_size": 3, "groups": 4, "padding": 1},
    "one pixel": {"kernel_size": 1, "stride": 2, "bias": False},
    "whole map": {"kernel_size": 14},
    "few pixels": {"kernel_size": 9, "stride": 4, "bias": False},
    "padding by name": {"kernel_size": 5, "padding": "same"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
}


@pytest.mark.parametrize("large", [0, 2**60])
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_every_kind_of_convolution_has_the_norms_of_the_loop(options, large, monkeypatch):
    monkeypatch.setattr(ghost_norms, "LARGE_CONVOLUTION", large)
    monkeypatch.setattr(ghost_norms, "PATCHES", 4000)
    layers = [nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 8, **options), nn.ReLU(inplace=True)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(4))
    network(torch.zeros(1, 2, 16, 16))
    assert_exact(network, (2, 16, 16), "_by_layers")


def rms_with_shift() -> nn.Module:
    return norms.TokenRMSNorm(nn.LayerNorm(16))


LAYERS = {
    "linear": lambda: nn.Linear(16, 16),
    "linear, many tokens": lambda: nn.Sequential(nn.Linear(16, 3, bias=False), nn.Linear(3, 16)),
    "layer norm": lambda: nn.LayerNorm(16),
    "layer norm over all": lambda: nn.LayerNorm((16, 16)),
    "layer norm without shift": lambda: nn.LayerNorm(16, bias=False),
    "rms norm": lambda: nn.RMSNorm(16),
    "rms norm with shift": rms_with_shift,
    "batch norm of rows": lambda: nn.BatchNorm1d(16),
    "instance norm": lambda: nn.InstanceNorm1d(16, affine=True),
    "instance norm with running statistics": lambda: nn.InstanceNorm1d(16, affine=True, track_running_stats=True),
    "group norm": lambda: nn.GroupNorm(4, 16),
    "convolution of rows": lambda: nn.Conv1d(16, 16, 3, padding=1),
    "the user's own": Bordered,
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_every_kind_of_layer_has_the_norms_of_the_loop(layer):
    assert_exact(Tokens(layer()), (1, 16, 16), "_by_layers")


def in_groups() -> nn.Module:
    """Convolutions with groups of their own, and with biases."""
    layers = nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 12, 5, stride=2, groups=2), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(300, 4))


@pytest.mark.parametrize("large", [0, 2**60])
def test_groups_of_a_members_own_are_within_it(large, monkeypatch):
    monkeypatch.setattr(ghost_norms, "LARGE_CONVOLUTION", large)
    assert_each_as_if_alone(packed("grouped", in_groups), "_by_layers")


@pytest.mark.parametrize("frozen", ["weight", "bias", ""])
@pytest.mark.parametrize("norm", ["batch", "rms"])
def test_only_trainable_parameters_count(frozen, norm):
    network = norms.swap(small_resnet(), norm, (3, 16, 16))
    for name, parameter in network.named_parameters():
        layer, _, kind = name.rpartition(".")
        parameter.requires_grad_(kind != frozen if frozen else layer == "7")
    assert_exact(network, (3, 16, 16), "_by_layers")
