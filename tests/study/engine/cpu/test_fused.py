"""Batch norm, ReLU and max-pooling as one operation, against torch's own three layers in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn

from study.engine.cpu.fused import NormReLUPool, fits

CHANNELS = 5


def layers(dtype: torch.dtype = torch.float64, momentum: float | None = 0.1) -> nn.Sequential:
    """Return the three layers, with scales of both signs and running statistics unlike those of a new layer."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(CHANNELS, momentum=momentum)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(1, 2)
    return nn.Sequential(norm, nn.ReLU(), nn.MaxPool2d(2)).to(dtype)


def features(dtype: torch.dtype = torch.float64, samples: int = 7, height: int = 6, width: int = 8) -> Tensor:
    """Far from zero, as the first layer's are."""
    generator = torch.Generator().manual_seed(1)
    return 3 + torch.randn(samples, CHANNELS, height, width, generator=generator, dtype=dtype)


def training_step(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return everything that a training step takes from the layers: result, gradients and running statistics."""
    images = images.clone().requires_grad_()
    result = network(images)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (result * weights.to(result.dtype)).sum().backward()
    norm = next(layer for layer in network if isinstance(layer, nn.BatchNorm2d))
    gradients = {"features": images.grad, **{name: parameter.grad for name, parameter in norm.named_parameters()}}
    gradients = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    return {"result": result.detach(), **gradients, **{f"state {k}": v for k, v in norm.state_dict().items()}}


def assert_same(separate: nn.Sequential, images: Tensor, **tolerance: float) -> None:
    fused = NormReLUPool(*copy.deepcopy(separate))
    expected, actual = training_step(separate, images), training_step(fused, images)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, **(tolerance or {"rtol": 1e-10, "atol": 1e-10}), msg=name)


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels have run."""
    from study.engine.cpu import kernels

    seen = []
    pooled = kernels.pool
    monkeypatch.setattr(kernels, "pool", lambda *arrays: seen.append(1) or pooled(*arrays))
    return seen


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_one_operation_gives_what_three_layers_give(memory, calls):
    assert_same(layers(), features().contiguous(memory_format=memory))
    assert calls


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_in_eval_mode_the_running_statistics_are_used_and_left(memory, momentum, calls):
    assert_same(layers(momentum=momentum).eval(), features().contiguous(memory_format=memory))
    assert calls


@pytest.mark.parametrize("training", [True, False])
def test_without_a_norm_the_other_two_become_one(training, calls):
    bare = nn.Sequential(nn.Identity(), nn.ReLU(), nn.MaxPool2d(2)).train(training)
    images = torch.randn_like(features())
    separate, fused = images.clone().requires_grad_(), images.clone().requires_grad_()
    expected, actual = bare(separate), NormReLUPool(*bare)(fused)
    assert torch.equal(actual, expected)
    for result in (expected, actual):
        result.square().sum().backward()
    assert torch.equal(fused.grad, separate.grad)
    assert calls


def test_without_gradients_nothing_is_kept_for_them(monkeypatch):
    from study.engine.cpu import kernels

    kept = []
    pooled = kernels.pool
    monkeypatch.setattr(kernels, "pool", lambda *arrays: kept.append(arrays[4:]) or pooled(*arrays))
    network = NormReLUPool(*layers()).eval()
    with torch.no_grad():
        expected = network(features())
    network.requires_grad_(False)
    assert torch.equal(network(features()), expected)
    assert torch.equal(network(features().requires_grad_()), expected)
    assert [[part is not None for part in parts] for parts in kept] == [[False] * 2, [False] * 2, [True, False]]


def test_the_gradient_of_a_gradient_is_refused(calls):
    for training in (True, False):
        images = features().requires_grad_()
        (gradient,) = torch.autograd.grad(
            NormReLUPool(*layers()).train(training)(images).square().sum(), images, create_graph=True
        )
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()
    assert calls


def test_many_rows_are_added_up_as_well_as_few(calls):
    assert_same(layers(), features(samples=130, height=12, width=10))
    assert calls


def test_float32_stays_near_float64(calls):
    fused = NormReLUPool(*layers(torch.float32))
    actual, expected = training_step(fused, features().float()), training_step(layers(), features().float().double())
    for name, value in expected.items():
        torch.testing.assert_close(actual[name].to(value.dtype), value, rtol=1e-4, atol=1e-4, msg=name)
    assert calls


def test_of_equal_pixels_the_first_gets_the_gradient(calls):
    flat = features()
    flat[:, :, :4] = 1.5
    flat[:, :, :, 4:6] = -2.0
    assert_same(layers(), flat)
    assert calls


def test_where_the_relu_is_off_no_gradient_comes_through(calls):
    separate = layers()
    with torch.no_grad():
        separate[0].bias.fill_(-100)
    assert_same(separate, features())
    assert calls


def test_a_hundred_steps_leave_the_same_running_statistics():
    separate = layers(momentum=0.3)
    fused = NormReLUPool(*copy.deepcopy(separate))
    for step in range(100):
        images = features(samples=2 + step % 3)
        separate(images), fused(images)
    for name, value in separate[0].state_dict().items():
        torch.testing.assert_close(fused[0].state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_become_a_number(value, calls):
    images = features()
    images[3, 2, 1, 1] = value
    result = NormReLUPool(*layers())(images)
    assert torch.isnan(result[:, 2]).all()
    assert torch.isfinite(result[:, [0, 1, 3, 4]]).all()
    assert calls


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("pixel", [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_in_eval_mode_it_stays_in_its_own_window(value, pixel, calls):
    images = features()
    images[3, 2, *pixel] = value
    separate = layers().eval()
    assert torch.equal(NormReLUPool(*separate)(images).isfinite(), separate(images).isfinite())
    torch.testing.assert_close(NormReLUPool(*separate)(images), separate(images), equal_nan=True)
    assert calls


def _watched_at_the_end(network: nn.Sequential) -> nn.Sequential:
    network[2].register_forward_hook(lambda *_: None)
    return network


def _watched(network: nn.Sequential) -> nn.Sequential:
    network[0].register_forward_pre_hook(lambda *_: None)
    return network


def _cumulative(network: nn.Sequential) -> nn.Sequential:
    network[0].momentum = None
    return network


def _without_scale(network: nn.Sequential) -> nn.Sequential:
    network[0] = nn.BatchNorm2d(CHANNELS, affine=False).double()
    return network


def _without_statistics(network: nn.Sequential) -> nn.Sequential:
    network[0] = nn.BatchNorm2d(CHANNELS, track_running_stats=False).double()
    return network


@pytest.mark.parametrize(
    ("changed", "training"),
    [
        *((_watched, training) for training in (True, False)),
        *((_watched_at_the_end, training) for training in (True, False)),
        *((_without_scale, training) for training in (True, False)),
        *((_without_statistics, training) for training in (True, False)),
        (_cumulative, True),
    ],
)
def test_where_the_operation_does_not_apply_the_layers_are_called(changed, training, calls):
    assert_same(changed(layers()).train(training), features())
    assert not calls


def test_a_border_that_pooling_leaves_out_is_left_to_torch(calls):
    assert_same(layers(), features(height=7, width=9))
    assert not calls


@pytest.mark.parametrize(
    ("norm", "relu", "pool", "fit"),
    [
        (nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), True),
        (nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d((2, 2), ceil_mode=True), True),
        (nn.Identity(), nn.ReLU(), nn.MaxPool2d(2), True),
        (nn.InstanceNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), False),
        (nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), False),
        (nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), False),
        (nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3), False),
        (nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, stride=1), False),
        (nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, padding=1), False),
        (nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, return_indices=True), False),
    ],
)
def test_only_these_layers_become_one(norm, relu, pool, fit):
    assert fits(norm, relu, pool) is fit
