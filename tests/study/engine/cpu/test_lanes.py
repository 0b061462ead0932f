"""Convolutions with the members innermost in memory, against torch's own in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn

from study.engine.cpu.fused import NormReLUPool
from study.engine.cpu.lanes import Lanes, in_lanes


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the kernels that were asked for."""
    from study.engine.cpu import vectors

    seen = []
    convolution = vectors.convolution
    monkeypatch.setattr(vectors, "convolution", lambda *sizes: seen.append(sizes) or convolution(*sizes))
    return seen


def images(members: int, channels: int, height: int, width: int, samples: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, members * channels, height, width, generator=generator, dtype=torch.float64)


def convolution(members: int, inputs: int, outputs: int, kernel: object, **settings: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(members * inputs, members * outputs, kernel, groups=members, **settings).double()


def training_step(layers: nn.Module, features: Tensor) -> dict[str, Tensor]:
    """Return everything that a training step takes from the layers: result, gradients and running statistics."""
    features = features.clone().requires_grad_()
    result = layers(features)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (result * weights.to(result.dtype)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in layers.named_parameters()}
    return {"result": result.detach(), "images": features.grad, **gradients, **dict(layers.named_buffers())}


def assert_same(members: int, layers: list[nn.Module], features: Tensor, training: bool = True) -> None:
    apart = nn.Sequential(*copy.deepcopy(layers)).train(training)
    together = Lanes(members, *layers).train(training)
    expected, actual = training_step(apart, features), training_step(together, features)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    ("members", "inputs", "outputs"),
    [(1, 1, 6), (3, 5, 7), (4, 3, 6), (8, 6, 16), (16, 3, 6)],
)
def test_a_convolution_gives_what_torch_gives(members, inputs, outputs, calls):
    assert_same(members, [convolution(members, inputs, outputs, 5)], images(members, inputs, 11, 9))
    assert calls


@pytest.mark.parametrize(
    ("kernel", "padding", "bias"),
    [
        (1, 0, True),
        (1, (1, 0), False),
        (3, 2, True),
        ((5, 2), (0, 3), True),
        ((5, 2), 2, False),
        ((1, 4), (1, 0), True),
    ],
)
def test_it_does_so_for_every_kernel_and_padding(kernel, padding, bias, calls):
    layers = [convolution(4, 2, 6, kernel, padding=padding, bias=bias)]
    assert_same(4, layers, images(4, 2, 7, 8))
    assert calls


def test_rows_that_no_registers_hold_are_done_in_parts(calls):
    assert_same(2, [convolution(2, 1, 3, 5, padding=2)], images(2, 1, 6, 61, samples=2))
    assert calls


def test_a_machine_with_narrower_registers_gives_the_same(monkeypatch, calls):
    from study.engine.cpu import vectors

    monkeypatch.setattr(vectors, "REGISTER", 32)
    assert_same(3, [convolution(3, 6, 12, 5)], images(3, 6, 9, 9))
    assert calls


def network(members: int, channels: int = 2) -> list[nn.Module]:
    """Two convolutions with a batch norm of both signs after the first."""
    norm = nn.BatchNorm2d(members * 6)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(1, 2)
    fused = NormReLUPool(norm, nn.ReLU(), nn.MaxPool2d(2)).double()
    last = (nn.MaxPool2d(2), nn.ReLU(inplace=True))
    return [convolution(members, channels, 6, 5, bias=False), fused, convolution(members, 6, 4, 3), *last]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("members", "size"), [(3, (12, 16)), (8, (13, 15))])
def test_the_layers_between_know_whose_channels_they_have(members, size, training, calls):
    assert_same(members, network(members), images(members, 2, *size), training)
    assert len(calls) == 2


def test_weights_that_are_not_trained_get_no_gradient(monkeypatch):
    from study.engine.cpu import vectors

    monkeypatch.setattr(vectors, "weight_gradient", None)
    together = Lanes(3, *network(3)).eval().requires_grad_(False)
    apart = nn.Sequential(*copy.deepcopy(together))
    expected, actual = training_step(apart, images(3, 2, 12, 16)), training_step(together, images(3, 2, 12, 16))
    torch.testing.assert_close(actual["images"], expected["images"], rtol=1e-10, atol=1e-10)


def test_float32_stays_near_float64(calls):
    layers = Lanes(8, *network(8))
    actual, expected = (
        training_step(copy.deepcopy(layers).float(), images(8, 2, 12, 16).float()),
        training_step(layers, images(8, 2, 12, 16)),
    )
    for name, value in expected.items():
        torch.testing.assert_close(actual[name].to(value.dtype), value, rtol=1e-3, atol=1e-3, msg=name)
    assert calls


def test_a_member_that_is_not_a_number_keeps_it_to_itself(calls):
    layers, features = Lanes(4, *network(4)), images(4, 2, 12, 12)
    features[2, 2 * 2] = torch.nan
    actual = training_step(layers, features)
    output = actual["result"].unflatten(1, (4, -1)).transpose(0, 1)
    for values in (output, actual["0.weight"].unflatten(0, (4, -1))):
        assert values.flatten(1).isnan().any(dim=1).tolist() == [False, False, True, False]
    assert calls


def _watched(layers: Lanes) -> Lanes:
    layers[2].register_forward_hook(lambda *_: None)
    return layers


def _watched_before(layers: Lanes) -> Lanes:
    layers[1][0].register_forward_pre_hook(lambda *_: None)
    return layers


@pytest.mark.parametrize("changed", [_watched, _watched_before])
@pytest.mark.parametrize("training", [True, False])
def test_where_the_kernels_do_not_apply_the_layers_are_called(changed, training, calls):
    layers = Lanes(3, *network(3)).train(training)
    expected = training_step(nn.Sequential(*copy.deepcopy(layers)), images(3, 2, 12, 12))
    actual = training_step(changed(layers), images(3, 2, 12, 12))
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-10, atol=1e-10, msg=name)
    assert not calls


def test_wide_images_and_autocast_are_left_to_torch(calls):
    layers = Lanes(3, *network(3)).float()
    layers(images(3, 2, 12, 66).float())
    with torch.autocast("cpu", torch.bfloat16):
        assert layers(images(3, 2, 12, 12).float()).dtype == torch.bfloat16
    assert not calls


@pytest.mark.parametrize(
    ("layer", "fit"),
    [
        (nn.Conv2d(6, 12, 3, groups=2), True),
        (nn.Conv2d(6, 12, 3, groups=2, padding=1), True),
        (nn.Conv2d(6, 12, 3), False),
        (nn.Conv2d(6, 12, 3, groups=6), False),
        (nn.Conv2d(6, 12, 3, groups=2, stride=2), False),
        (nn.Conv2d(6, 12, 3, groups=2, dilation=2), False),
        (nn.Conv2d(6, 12, 3, groups=2, padding="same"), False),
        (nn.Conv2d(6, 34, 3, groups=2), False),
        (nn.ReLU(), False),
    ],
)
def test_only_narrow_and_plain_convolutions_are_taken(layer, fit):
    assert isinstance(in_lanes([layer], 2)[0], Lanes) is fit


@pytest.mark.parametrize(
    ("norm", "kinds"),
    [
        (nn.InstanceNorm2d(4), [nn.ReLU, Lanes, nn.InstanceNorm2d, Lanes, nn.Flatten]),
        (nn.GroupNorm(2, 4), [nn.ReLU, nn.Conv2d, nn.ReLU, nn.GroupNorm, Lanes, nn.Flatten]),
    ],
)
def test_a_run_ends_at_the_first_layer_that_asks_about_channels(norm, kinds):
    first, second = nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 8, 3, groups=2)
    result = in_lanes([nn.ReLU(), first, nn.ReLU(), norm, second, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()], 2)
    assert [type(layer) for layer in result] == kinds
