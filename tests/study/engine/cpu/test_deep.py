"""Convolutions whose weights' gradient is a product of matrices, against torch's own in float64."""

import pytest
import torch
from torch import Tensor, nn

from study.engine.cpu import deep
from study.engine.cpu.deep import DeepConv2d, is_deep


@pytest.fixture
def products(monkeypatch):
    """The shapes of the gradients that were had by a product."""
    seen = []
    compute = deep._weight_gradient
    monkeypatch.setattr(deep, "_weight_gradient", lambda *given: seen.append(given[2].shape) or compute(*given))
    return seen


def pair(members: int, inputs: int, outputs: int, **settings: object) -> tuple[nn.Conv2d, DeepConv2d]:
    """Return a convolution of torch's, and the same as ours."""
    torch.manual_seed(0)
    torchs, ours = (
        kind(members * inputs, members * outputs, groups=members, **settings).double()
        for kind in (nn.Conv2d, DeepConv2d)
    )
    ours.load_state_dict(torchs.state_dict())
    return torchs, ours


def training_step(layer: nn.Conv2d, features: Tensor) -> list[Tensor | None]:
    features = features.clone().requires_grad_()
    result = layer(features)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (result * weights.to(result.dtype)).sum().backward()
    return [result.detach(), features.grad, layer.weight.grad, layer.bias.grad if layer.bias is not None else None]


def features(layer: nn.Conv2d, height: int, width: int, samples: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, layer.in_channels, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("members", "height", "width", "settings", "by_product"),
    [
        (1, 4, 4, {"kernel_size": 3, "padding": 1}, True),
        (3, 2, 2, {"kernel_size": 3, "padding": 1, "bias": False}, True),
        (2, 8, 7, {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 0)}, True),
        (2, 6, 6, {"kernel_size": 3, "dilation": 2}, True),
        (2, 8, 8, {"kernel_size": 3, "padding": 1}, False),
    ],
)
def test_a_training_step_gives_what_torch_gives(members, height, width, settings, by_product, memory_format, products):
    torchs, ours = (layer.to(memory_format=memory_format) for layer in pair(members, 5, 7, **settings))
    images = features(torchs, height, width).contiguous(memory_format=memory_format)
    for expected, actual in zip(training_step(torchs, images), training_step(ours, images), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    assert bool(products) == by_product
    assert ours.weight.grad.is_contiguous(memory_format=memory_format)


def test_of_frozen_weights_and_in_other_precisions_it_is_torchs(products):
    torchs, ours = pair(2, 5, 7, kernel_size=3)
    images = features(ours, 4, 4)
    ours.weight.requires_grad_(False)
    assert torch.equal(ours(images), torchs(images))
    given = images.clone().requires_grad_()
    ours(given).sum().backward()
    assert given.grad is not None
    ours.weight.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours.float()(images.float()).dtype == torch.bfloat16
    assert not products


@pytest.mark.parametrize(
    ("layer", "deep"),
    [
        (nn.Conv2d(512, 512, 3), True),
        (nn.Conv2d(256, 512, (1, 3)), True),
        (nn.Conv2d(512, 512, 1), False),
        (nn.Conv2d(512, 512, 3, groups=2), False),
        (nn.Conv2d(512, 512, 3, padding="same"), False),
        (nn.Conv2d(64, 64, 3), False),
    ],
)
def test_a_convolution_is_deep_by_its_channels(layer, deep):
    assert is_deep(layer) == deep
