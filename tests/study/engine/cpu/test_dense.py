"""Linear layers with the members' axis first, against the layers within in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn

from study.engine.cpu.dense import Dense, Descent, PackedLinear, in_dense

MEMBERS = 3


@pytest.fixture
def calls(monkeypatch):
    """How often a norm was computed by the kernels."""
    from study.engine.cpu import rows

    seen = []
    normalize = rows.normalize
    monkeypatch.setattr(rows, "normalize", lambda *arrays: seen.append(1) or normalize(*arrays))
    return seen


def linear(inputs: int, outputs: int, bias: bool = True) -> PackedLinear:
    layer = PackedLinear(nn.Linear(inputs, outputs), MEMBERS)
    layer.weight = nn.Parameter(torch.randn(MEMBERS * outputs, inputs, dtype=torch.float64) / inputs**0.5)
    if bias:
        layer.bias = nn.Parameter(torch.randn(MEMBERS * outputs, dtype=torch.float64))
    return layer


def norm(channels: int, **settings: object) -> nn.BatchNorm1d:
    """A batch norm with scales of both signs and running statistics unlike those of a new layer."""
    layer = nn.BatchNorm1d(MEMBERS * channels, **settings).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    if layer.running_mean is not None:
        layer.running_mean.normal_()
        layer.running_var.uniform_(1, 2)
    return layer


def layers(**settings: object) -> list[nn.Module]:
    """Norms before and after a ReLU and without one, linear layers with and without each of these and a bias."""
    torch.manual_seed(0)
    return [
        *(nn.Flatten(), linear(12, 7, bias=False), norm(7, **settings), nn.ReLU()),
        *(linear(7, 6), nn.Identity(), nn.ReLU(), norm(6, **settings)),
        *(linear(6, 9), norm(9, **settings), nn.Identity(), nn.ReLU(inplace=True), linear(9, 4)),
    ]


def features(samples: int = 70) -> Tensor:
    """More samples than one block of the kernels has, far from zero."""
    generator = torch.Generator().manual_seed(1)
    return 3 + torch.randn(samples, MEMBERS * 3, 2, 2, generator=generator, dtype=torch.float64)


def step(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return everything that a training step takes from the layers: result, gradients and running statistics."""
    images = images.clone().requires_grad_()
    result = network(images)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (result * weights.to(result.dtype)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    return {"result": result.detach(), "images": images.grad, **gradients, **dict(network.named_buffers())}


def assert_same(together: Dense, images: Tensor) -> None:
    apart = nn.Sequential(*copy.deepcopy(together)).train(together.training)
    expected, actual = step(apart, images), step(together, images)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("training", [True, False])
def test_members_first_gives_what_the_layers_give(training, momentum, calls):
    assert_same(Dense(MEMBERS, *layers(momentum=momentum)).train(training), features())
    assert calls


@pytest.mark.parametrize("training", [True, False])
def test_it_needs_no_image_before_it(training, calls):
    assert_same(Dense(MEMBERS, *layers()[1:]).train(training), features().flatten(1))
    assert calls


def test_the_norm_may_stay_as_it_is_and_the_images_too(calls):
    together = Dense(MEMBERS, *layers()).eval()
    for frozen in (norm for norm in together if isinstance(norm, nn.BatchNorm1d)):
        frozen.requires_grad_(False)
    assert_same(together, features())
    with torch.no_grad():
        torch.testing.assert_close(together(features()[:2]), together(features())[:2], rtol=1e-12, atol=1e-12)
    assert calls


def test_what_is_not_a_number_stays_with_its_member(calls):
    together, images = Dense(MEMBERS, *layers()), features()
    images[4, 3 + 1, 0, 0] = torch.nan
    actual = step(together, images)
    nans = actual["1.weight"].unflatten(0, (MEMBERS, -1)).flatten(1).isnan().any(dim=1)
    assert nans.tolist() == [False, True, False]
    assert actual["result"].unflatten(1, (MEMBERS, -1)).isnan().any(dim=2).any(dim=0).tolist() == [False, True, False]
    assert calls


def _watched(together: Dense) -> Dense:
    together[2].register_forward_pre_hook(lambda *_: None)
    return together


def _without_scale(together: Dense) -> Dense:
    together[2] = norm(7, affine=False)
    return together


def _without_statistics(together: Dense) -> Dense:
    together[2] = norm(7, track_running_stats=False)
    return together


@pytest.mark.parametrize("changed", [_watched, _without_scale, _without_statistics])
@pytest.mark.parametrize("training", [True, False])
def test_where_the_kernels_do_not_apply_the_layers_are_called(changed, training, calls):
    assert_same(changed(Dense(MEMBERS, *layers())).train(training), features())
    assert not calls


def test_autocast_is_left_to_torch(calls):
    with torch.autocast("cpu", torch.bfloat16):
        assert Dense(MEMBERS, *layers()).float()(features().float()).dtype == torch.bfloat16
    assert not calls


def test_plain_descent_leaves_the_weights_where_an_optimizer_would():
    separate = Dense(MEMBERS, *layers())
    together = copy.deepcopy(separate)
    rate, decay = 0.01, 0.1
    optimizers = [torch.optim.SGD(each.parameters(), lr=rate, weight_decay=decay) for each in (separate, together)]
    for _ in range(5):
        for network, optimizer in zip((separate, together), optimizers, strict=True):
            optimizer.zero_grad()
            if network is together:
                with network.descending(Descent(rate, decay)):
                    result = network(features())
            else:
                result = network(features())
            result.square().mean().backward()
            optimizer.step()
    assert all(layer.weight.grad is None for layer in together if isinstance(layer, PackedLinear))
    for (name, actual), expected in zip(together.named_parameters(), separate.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10, msg=name)


def test_outside_of_the_context_gradients_change_nothing():
    network = Dense(MEMBERS, *layers())
    with network.descending(Descent(0.1, 0.0)):
        pass
    before = copy.deepcopy(network.state_dict())
    network.eval()(features()).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_run_ends_at_the_first_layer_that_is_of_no_such_kind():
    first, second, third = linear(12, 7), linear(7, 6), linear(6, 4)
    given = [
        nn.ReLU(),
        nn.Flatten(),
        first,
        nn.ReLU(),
        nn.GELU(),
        second,
        nn.Identity(),
        third,
        nn.Flatten(),
        nn.ReLU(),
    ]
    result = in_dense(list(given), MEMBERS)
    assert [type(layer) for layer in result] == [nn.ReLU, Dense, nn.GELU, Dense, nn.Flatten, nn.ReLU]
    assert [[*layer] for layer in result if isinstance(layer, Dense)] == [given[1:4], given[5:8]]


def test_a_flattening_of_something_else_is_left_alone():
    assert [type(layer) for layer in in_dense([nn.Flatten(0), linear(2, 2)], MEMBERS)] == [nn.Flatten, Dense]
