import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.errors import BadInputError
from study.networks import build, norms
from study.networks.catalog import NORMS, TOKEN_NORMS
from tests.study.networks.toys import (
    IMAGE,
    Dense,
    Encoder,
    InPlace,
    Mixed,
    OnePixel,
    PreActivation,
    Residual,
    Reused,
    Sequence,
    Tokens,
    Twice,
    Unreached,
    Volume,
)


def lenet(norm: str) -> nn.Module:
    return build.build("lenet", (1, 28, 28), 10, norm, seed=0)


def kinds(network: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in network.children()]


def swapped(network: nn.Module, norm: str) -> nn.Module:
    return norms.swap(copy.deepcopy(network), norm, IMAGE)


def equal(one: Tensor, other: Tensor, within: float = 1e-12) -> bool:
    return bool((one - other).abs().max() <= within)


def with_identity_statistics(network: nn.Module) -> nn.Module:
    """In eval mode its batch norms then do nothing but scale by 1 and shift."""
    for _, layer in norms.batch_norms(network):
        nn.init.zeros_(layer.running_mean)
        nn.init.constant_(layer.running_var, 1 - layer.eps)
    return network.eval()


# LeNet under each norm

CONVOLVED, CONNECTED = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"], ["Linear", "BatchNorm1d", "ReLU"]
WITH_BATCH = [*CONVOLVED, *CONVOLVED, "Flatten", *CONNECTED, *CONNECTED, "Linear"]
NORM_AT = [1, 5, 10, 13]
INSTEAD = {
    "batch": ["BatchNorm2d", "BatchNorm2d", "BatchNorm1d", "BatchNorm1d"],
    "none": ["Identity"] * 4,
    "group": ["GroupNorm"] * 4,
    "layer": ["GroupNorm"] * 4,
    "rms": ["ChannelRMSNorm"] * 4,
    "instance": ["InstanceNorm2d", "InstanceNorm2d", "Identity", "Identity"],
}


@pytest.mark.parametrize("norm", NORMS)
def test_a_swap_exchanges_the_norms_of_lenet_and_nothing_else(norm):
    expected = list(WITH_BATCH)
    for place, kind in zip(NORM_AT, INSTEAD[norm], strict=True):
        expected[place] = kind
    assert kinds(lenet(norm)) == expected


@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_of_lenet_has_a_bias_exactly_where_no_norm_shifts_its_output(norm):
    network = lenet(norm)
    for place in NORM_AT:
        bias = network[place - 1].bias
        if isinstance(network[place], nn.Identity):
            assert torch.equal(bias, torch.zeros(network[place - 1].weight.shape[0]))
        else:
            assert bias is None


def test_groups_divide_the_channels_and_hold_at_least_two():
    assert [lenet("group")[place].num_groups for place in NORM_AT] == [3, 8, 15, 7]
    assert [lenet("layer")[place].num_groups for place in NORM_AT] == [1, 1, 1, 1]
    for channels in range(1, 300):
        network = nn.Sequential(nn.Conv2d(3, channels, 1, bias=False), nn.BatchNorm2d(channels))
        groups = norms.swap(network, "group", IMAGE)[1].num_groups
        assert channels % groups == 0
        assert groups <= 32
        assert channels == 1 or channels // groups >= 2
        assert not [more for more in range(groups + 1, 33) if channels % more == 0 and channels // more >= 2]


@pytest.mark.parametrize(
    ("channels", "groups"), [(2, 1), (7, 1), (8, 1), (15, 1), (16, 2), (30, 3), (120, 15), (512, 32), (1024, 32)]
)
def test_a_group_of_vectors_has_at_least_eight_numbers_or_all_of_them(channels, groups):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, channels, bias=False), nn.BatchNorm1d(channels))
    assert norms.swap(network, "group", IMAGE)[2].num_groups == groups


@pytest.mark.parametrize(("pixels", "groups"), [(1, 2), (2, 4), (3, 4), (4, 8), (64, 8)])
def test_a_group_on_small_maps_has_as_many_numbers(pixels, groups):
    network = nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(pixels), nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16))
    assert norms.swap(network, "group", IMAGE)[3].num_groups == groups


def test_group_norm_of_vectors_leaves_more_than_signs():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 16, bias=False), nn.BatchNorm1d(16))
    output = norms.swap(network, "group", IMAGE)(torch.randn(500, *IMAGE))
    assert ((output.abs() - 1).abs() < 0.01).float().mean() < 0.05


@pytest.mark.parametrize("norm", ["group", "instance", "layer", "rms"])
def test_a_single_number_has_nothing_to_normalize_over(norm):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1, bias=False), nn.BatchNorm1d(1))
    images = torch.randn(5, *IMAGE)
    assert torch.equal(swapped(network, norm)(images), swapped(network, "none")(images))


@pytest.mark.parametrize("norm", ["group", "instance", "layer", "rms"])
def test_an_exchanged_norm_starts_with_scale_1_and_shift_0_and_keeps_epsilon(norm):
    network = norms.swap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.25)), norm, IMAGE)
    assert network[1].eps == 0.25
    assert torch.equal(network[1].weight, torch.ones(4))
    assert torch.equal(network[1].bias, torch.zeros(4))


@pytest.mark.parametrize("norm", ["group", "instance", "layer", "rms"])
def test_an_exchanged_norm_starts_from_the_scale_and_shift_that_it_replaces(norm):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    nn.init.zeros_(network[1].weight)
    nn.init.constant_(network[1].bias, 2)
    before = network[1]
    exchanged = norms.swap(network, norm, IMAGE)[1]
    assert torch.equal(exchanged.weight, torch.zeros(4))
    assert torch.equal(exchanged.bias, torch.full((4,), 2.0))
    assert exchanged.weight is not before.weight


def test_the_bias_of_none_starts_from_the_shift_that_it_replaces():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    nn.init.constant_(network[1].bias, 2)
    assert torch.equal(norms.swap(network, "none", IMAGE)[0].bias, torch.full((4,), 2.0))


@pytest.mark.parametrize("norm", ["group", "instance", "layer", "rms"])
def test_a_norm_without_scale_and_shift_is_exchanged_for_one_without(norm):
    network = norms.swap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), norm, IMAGE)
    assert not list(network[1].parameters())


def test_batch_is_the_network_as_it_was_built():
    network = Residual()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert norms.swap(network, "batch", IMAGE) is network
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


# What the exchanged norms compute


def moments(output: Tensor, dim: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return output.mean(dim=dim), output.var(dim=dim, unbiased=False)


@pytest.mark.parametrize("place", NORM_AT)
def test_layer_norm_normalizes_over_all_channels_and_pixels_of_a_sample(place):
    layer = lenet("layer")[place].double()
    features = 3 + 5 * torch.randn(4, layer.num_channels, *([6, 7] if place < 9 else []), dtype=torch.float64)
    output = layer(features)
    mean, variance = moments(output, tuple(range(1, features.ndim)))
    assert equal(mean, torch.zeros(4))
    assert equal(variance, torch.ones(4), within=1e-5)  # epsilon takes its share
    assert equal(output, F.layer_norm(features, features.shape[1:], eps=layer.eps))
    # Were each channel normalized by itself, none would keep a mean of its own.
    if features.ndim > 2:
        assert (output.mean(dim=(2, 3)).abs() > 1e-3).any()


def test_instance_norm_normalizes_each_channel_over_its_pixels():
    output = lenet("instance").double()[1](3 + 5 * torch.randn(4, 6, 9, 9, dtype=torch.float64))
    mean, variance = moments(output, (2, 3))
    assert equal(mean, torch.zeros(4, 6))
    assert equal(variance, torch.ones(4, 6), within=1e-5)


def test_group_norm_normalizes_each_group_of_a_sample():
    output = lenet("group").double()[5](3 + 5 * torch.randn(4, 16, 9, 9, dtype=torch.float64))
    mean, variance = moments(output.view(4, 8, 2, 9, 9), (2, 3, 4))
    assert equal(mean, torch.zeros(4, 8))
    assert equal(variance, torch.ones(4, 8), within=1e-5)


@pytest.mark.parametrize("place", NORM_AT)
def test_rms_norm_divides_by_the_root_mean_square_of_a_sample_without_centering(place):
    layer = lenet("rms")[place].double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    pixels = [6, 7] if place < 9 else []
    features = 3 + 5 * torch.randn(4, len(layer.weight), *pixels, dtype=torch.float64)
    scale, shift = (parameter.view(-1, *[1] * len(pixels)) for parameter in (layer.weight, layer.bias))
    expected = torch.stack([x / (x.square().mean() + layer.eps).sqrt() * scale + shift for x in features])
    assert equal(layer(features), expected)
    assert equal(layer(2 * features), layer(features), within=1e-4)
    assert not equal(layer(features + 1), layer(features), within=1e-2)


@pytest.mark.parametrize("norm", ["none", "group", "instance", "layer", "rms"])
def test_no_arm_but_batch_mixes_the_samples_of_a_batch(norm):
    network, images = lenet(norm).double().train(), torch.rand(6, 1, 28, 28, dtype=torch.float64)
    together = network(images)
    alone = torch.cat([network(image) for image in images.split(1)])
    assert equal(together, alone)
    batch = lenet("batch").double().train()
    assert not equal(batch(images), torch.cat([batch(part) for part in images.split(2)]), within=1e-3)


@pytest.mark.parametrize("toy", [Residual, PreActivation, InPlace, Dense, Sequence, OnePixel, Reused, Volume, Mixed])
def test_none_is_the_function_of_batch_norm_with_identity_statistics(toy):
    network, images = toy(), torch.randn(5, *IMAGE, dtype=torch.float64)
    none = swapped(network, "none").double().eval()
    assert equal(none(images), with_identity_statistics(network.double())(images))


def test_none_of_lenet_is_the_function_of_batch_norm_with_identity_statistics():
    images = torch.rand(5, 1, 28, 28, dtype=torch.float64)
    reference = with_identity_statistics(lenet("batch").double())
    assert equal(lenet("none").double().eval()(images), reference(images))


def test_the_biases_of_none_can_express_every_shift_of_batch_norm():
    reference, none = with_identity_statistics(lenet("batch").double()), lenet("none").double().eval()
    with torch.no_grad():
        for place in NORM_AT:
            nn.init.normal_(reference[place].bias)
            none[place - 1].bias.copy_(reference[place].bias)
    images = torch.rand(5, 1, 28, 28, dtype=torch.float64)
    assert equal(none(images), reference(images))


# Where a norm stands


def biased(network: nn.Module) -> list[str]:
    weighted = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [name for name, layer in network.named_modules() if isinstance(layer, weighted) and layer.bias is not None]


@pytest.mark.parametrize(
    ("toy", "expected"),
    [
        (Residual, ["conv1", "conv2", "shortcut.0", "head"]),
        # conv2 goes into a sum, and a convolution that follows a norm has nothing to make up for.
        (PreActivation, ["stem", "conv1", "head"]),
        (InPlace, ["head"]),
        (Dense, ["head"]),
        (Sequence, ["conv", "head"]),
        (OnePixel, ["conv", "head"]),
        (Reused, ["conv1", "conv2", "head"]),
        (Volume, ["conv", "head"]),
        (Mixed, ["conv", "head"]),
        # The last norm takes a sum.
        (Tokens, ["embed", "mlp", "head"]),
    ],
)
def test_none_gives_a_bias_to_the_layer_whose_output_the_norm_took_and_to_no_other(toy, expected):
    network = swapped(toy(), "none")
    assert biased(network) == expected
    for name in set(expected) - set(biased(toy())):
        assert not network.get_submodule(name).bias.any()


def test_a_bias_that_is_already_there_is_kept():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = network[0].bias.clone()
    assert torch.equal(norms.swap(network, "none", IMAGE)[0].bias, before)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "toy", [Residual, PreActivation, InPlace, Dense, Sequence, OnePixel, Twice, Reused, Volume, Mixed]
)
def test_every_network_trains_under_every_norm(toy, norm):
    network = swapped(toy(), norm).train()
    network(torch.randn(6, *IMAGE)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
@pytest.mark.parametrize(
    "toy", [Residual, PreActivation, InPlace, Dense, Sequence, OnePixel, Twice, Reused, Volume, Mixed]
)
def test_no_batch_norm_is_left_behind(toy, norm):
    assert not list(norms.batch_norms(swapped(toy(), norm)))


def test_instance_is_none_where_there_is_one_pixel():
    network = OnePixel()
    instance, none = swapped(network, "instance"), swapped(network, "none")
    images = torch.randn(5, *IMAGE)
    assert torch.equal(instance(images), none(images))
    assert biased(instance) == biased(none)


def test_instance_on_vectors_is_none():
    instance, none = lenet("instance"), lenet("none")
    features = torch.randn(5, 400)
    assert torch.equal(instance[9:](features), none[9:](features))


@pytest.mark.parametrize("training", [True, False])
def test_a_swap_leaves_mode_and_global_generator_as_they_were(training):
    network = Residual().train(training)
    before = torch.get_rng_state()
    norms.swap(network, "group", IMAGE)
    assert torch.equal(torch.get_rng_state(), before)
    assert {network.training, network.conv1.training, network.relu.training} == {training}


def test_a_network_without_norms_is_refused():
    for norm in NORMS:
        with pytest.raises(BadInputError, match="Linear has neither batch norm nor layer norm"):
            norms.swap(nn.Linear(3, 4), norm, IMAGE)


@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_norm_over_processes_is_refused_by_name(norm):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4))
    with pytest.raises(BadInputError, match="'1' is a SyncBatchNorm"):
        norms.swap(network, norm, IMAGE)


def test_a_batch_norm_that_is_never_reached_is_refused_by_name():
    with pytest.raises(BadInputError, match="'spare' is never reached"):
        norms.swap(Unreached(), "none", IMAGE)


# Norms that are more than torch's own


class NormAct(nn.BatchNorm2d):
    """A norm with its activation within, as timm has them."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input))


class Upcasting(nn.BatchNorm2d):
    """A norm that computes in float32 whatever it is given, and is no other norm for that."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float()).to(input.dtype)


class ByHand(nn.BatchNorm2d):
    """A norm with an activation and dropout that calls the function, as timm's does."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Dropout2d(0.5), nn.SiLU()

    def forward(self, input: Tensor) -> Tensor:
        batch = self.training or not self.track_running_stats
        statistics = self.running_mean, self.running_var
        normalized = F.batch_norm(input, *statistics, self.weight, self.bias, batch, self.momentum, self.eps)
        return self.act(self.drop(normalized))


class Dropping(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(super().forward(input), training=self.training)


class Bounded(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-6, 6)


class Conditional(nn.BatchNorm2d):
    def forward(self, input: Tensor, scale: float = 2.0) -> Tensor:
        return scale * super().forward(input)


class Settings(nn.BatchNorm2d):
    """A norm with its author's settings, and the forward pass of torch."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.01)


class Scaled(nn.BatchNorm2d):
    """A norm with a parameter beside its scale and shift, of which nothing is seen at first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, input: Tensor) -> Tensor:
        return self.gain * super().forward(input)


def hooked() -> nn.Module:
    layer = nn.BatchNorm2d(4)
    layer.register_forward_hook(lambda _, inputs, output: output + inputs[0])
    return layer


def overwritten() -> nn.Module:
    layer = nn.BatchNorm2d(4)
    layer.forward = lambda input: F.relu(nn.BatchNorm2d.forward(layer, input))
    return layer


def parametrized() -> nn.Module:
    return torch.nn.utils.parametrizations.weight_norm(nn.BatchNorm2d(4), dim=None)


def after_a_convolution(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
@pytest.mark.parametrize(
    "kind", [NormAct, ByHand, Dropping, Bounded, Conditional, Scaled, hooked, overwritten, parametrized]
)
def test_a_norm_that_does_more_is_refused_by_name(kind, norm):
    layer = kind() if kind in (hooked, overwritten, parametrized) else kind(4)
    said = f"batch norm '1' is a {type(layer).__name__} that does more than batch norm, and norm={norm} would lose it"
    with pytest.raises(BadInputError, match=said):
        norms.swap(after_a_convolution(layer), norm, IMAGE)
    assert norms.swap(network := after_a_convolution(layer), "batch", IMAGE) is network


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", [Upcasting, Settings])
def test_a_norm_that_is_one_of_torchs_in_all_that_it_computes_is_exchanged(kind, norm):
    ours, torchs = after_a_convolution(kind(4)), after_a_convolution(nn.BatchNorm2d(4, eps=kind(4).eps))
    torchs.load_state_dict(ours.state_dict())
    images = torch.randn(5, *IMAGE)
    assert equal(swapped(ours, norm)(images), swapped(torchs, norm)(images), within=1e-5)


def test_a_hook_that_only_looks_stands_in_nobodys_way():
    layer, seen = nn.BatchNorm2d(4), []
    layer.register_forward_hook(lambda *_: seen.append(1))
    assert kinds(norms.swap(after_a_convolution(layer), "none", IMAGE))[1] == "Identity"


def test_a_batch_norm_of_an_unknown_kind_is_refused_by_name():
    class Any(nn.modules.batchnorm._BatchNorm):
        def _check_input_dim(self, input: Tensor) -> None:
            pass

    for norm in NORMS:
        with pytest.raises(BadInputError, match="batch norm '1' is a Any, of which it isn't known what it normalizes"):
            norms.swap(after_a_convolution(Any(4)), norm, IMAGE)


def test_a_lazy_norm_that_is_never_reached_is_refused_by_name():
    network = after_a_convolution(nn.BatchNorm2d(4))
    network.spare = nn.LazyBatchNorm2d()
    with pytest.raises(BadInputError, match="batch norm 'spare' is never reached"):
        norms.swap(network, "none", IMAGE)


def test_a_norm_that_is_called_past_its_module_is_refused_where_it_is_replaced():
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
            self.order = [self.conv, self.bn]

        def forward(self, images: Tensor) -> Tensor:
            for layer in self.order:
                images = layer(images)
            return images

    network = norms.swap(Listed(), "none", IMAGE)
    with pytest.raises(BadInputError, match="norm 'bn' is still called where it was replaced"):
        network(torch.zeros(2, *IMAGE))


def test_a_norm_with_two_names_in_one_module_is_exchanged_under_both():
    class Alias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)
            self.bn = self.norm = nn.BatchNorm2d(4)

        def forward(self, images: Tensor) -> Tensor:
            return self.norm(self.conv(images))

    assert kinds(norms.swap(Alias(), "group", IMAGE)) == ["Conv2d", "GroupNorm"]


def test_a_norm_that_is_given_its_input_by_name_is_exchanged():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

        def forward(self, images: Tensor) -> Tensor:
            return self.bn(input=self.conv(input=images))

    network = norms.swap(Named(), "none", IMAGE)
    assert network.conv.bias is not None
    with norms.running_statistics_of(Named(), torch.randn(5, *IMAGE)):
        pass


@pytest.mark.parametrize("norm", ["group", "instance", "layer", "rms"])
def test_a_scale_or_a_shift_that_is_missing_or_not_trained_stays_so(norm):
    layer = nn.BatchNorm2d(4)
    layer.bias = None
    exchanged = norms.swap(after_a_convolution(layer), norm, IMAGE)[1]
    assert exchanged.bias is None
    assert exchanged(torch.randn(2, 4, 6, 6)).shape == (2, 4, 6, 6)
    layer = nn.BatchNorm2d(4)
    layer.bias.requires_grad_(False)
    exchanged = norms.swap(after_a_convolution(layer), norm, IMAGE)[1]
    assert (exchanged.weight.requires_grad, exchanged.bias.requires_grad) == (True, False)


def test_a_shift_that_is_not_trained_is_a_bias_that_is_not_trained():
    layer = nn.BatchNorm2d(4)
    layer.bias.requires_grad_(False)
    assert not norms.swap(after_a_convolution(layer), "none", IMAGE)[0].bias.requires_grad


def test_a_norm_with_an_activation_keeps_it_where_the_statistics_of_a_batch_are_measured():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), NormAct(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).double()
    images = torch.randn(6, *IMAGE, dtype=torch.float64)
    wanted = copy.deepcopy(network).train()(images)
    with norms.running_statistics_of(network, images):
        assert equal(network.eval()(images), wanted)


# What gets a bias


class Ignoring(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight)


class Standardized(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)) / self.weight.std()
        return F.conv2d(input, weight, self.bias)


class Rectified(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input))


@pytest.mark.parametrize(
    ("feeder", "layer"),
    [
        (nn.ConvTranspose2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)),
        (nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(3, 4, 3, bias=False)), nn.BatchNorm1d(4)),
        (nn.Sequential(nn.Unflatten(1, (1, 3)), nn.ConvTranspose3d(1, 4, 3, bias=False)), nn.BatchNorm3d(4)),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False)), nn.BatchNorm1d(4)),
        (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Dropout(0.5)), nn.BatchNorm2d(4)),
        (Standardized(3, 4, 3, bias=False), nn.BatchNorm2d(4)),
    ],
    ids=["transposed", "transposed 1d", "transposed 3d", "linear", "dropout", "standardized"],
)
def test_what_feeds_a_norm_that_is_removed_has_a_bias_that_can_be_its_shift(feeder, layer):
    network = nn.Sequential(feeder, layer)
    nn.init.normal_(layer.bias)
    reference = with_identity_statistics(copy.deepcopy(network).double())
    none = norms.swap(network, "none", IMAGE).double().eval()
    assert sum(parameter.numel() for name, parameter in none.named_parameters() if name.endswith("bias")) == 4
    images = torch.randn(5, *IMAGE, dtype=torch.float64)
    assert equal(none(images), reference(images))


def test_a_layer_that_leaves_out_its_bias_is_refused_by_name():
    network = nn.Sequential(Ignoring(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    with pytest.raises(BadInputError, match="layer '0' is a Ignoring that leaves out its bias, which norm=none gives"):
        norms.swap(network, "none", IMAGE)


def test_a_layer_that_goes_on_after_its_bias_gets_none():
    network = norms.swap(nn.Sequential(Rectified(3, 4, 3, bias=False), nn.BatchNorm2d(4)), "none", IMAGE)
    assert network[0].bias is None


# Networks built with layer norm


def test_layer_is_a_network_of_tokens_as_it_was_built():
    network = Tokens()
    before = repr(network)
    assert norms.swap(network, "layer", IMAGE) is network
    assert repr(network) == before


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in TOKEN_NORMS])
def test_norms_over_pixels_are_refused_for_tokens(norm):
    with pytest.raises(
        BadInputError, match=f"Tokens is built with layer norm .* norm={norm}: use norm=layer, none or rms"
    ):
        norms.swap(Tokens(), norm, IMAGE)


def test_none_of_tokens_has_no_norm_left():
    network = swapped(Tokens(), "none").eval()
    images = torch.randn(5, *IMAGE)
    tokens = network.embed(images.transpose(1, 2).flatten(2))
    assert torch.equal(network(images), network.head((tokens + network.mlp(tokens)).mean(dim=1)))


def test_rms_of_tokens_divides_each_token_by_its_root_mean_square_without_centering():
    network = swapped(Tokens(), "rms").double()
    tokens = 3 + 5 * torch.randn(4, 7, 6, dtype=torch.float64)
    for layer, eps in ((network.ln1, 1e-3), (network.ln2, 1e-5), (network.ln3, 1e-5)):
        nn.init.normal_(layer.weight)
        shift = 0 if layer.bias is None else nn.init.normal_(layer.bias)
        rms = (tokens.square().mean(dim=-1, keepdim=True) + eps).sqrt()
        assert equal(layer(tokens), tokens / rms * layer.weight + shift)


def test_rms_of_tokens_has_the_scale_and_the_shift_of_the_layer_norm_that_it_replaces():
    network = Tokens()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    after = norms.swap(network, "rms", IMAGE).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("norm", ["none", "rms"])
def test_torchs_transformer_layers_compute_the_same_in_train_and_in_eval_mode(norm, norm_first):
    network = swapped(Encoder(norm_first), norm)
    images = torch.randn(5, *IMAGE)
    with torch.no_grad():
        assert equal(network.train()(images), network.eval()(images), within=1e-5)
        layered = Encoder(norm_first)
        layered.load_state_dict(network.state_dict(), strict=False)
        assert not equal(network(images), layered.eval()(images), within=1e-3)


def test_layer_norms_beside_batch_norms_stay_in_every_arm():
    for norm in NORMS:
        network = swapped(Mixed(), norm)
        assert type(network.ln) is nn.LayerNorm
        assert isinstance(network.bn, nn.BatchNorm2d) == (norm == "batch")


def test_a_layer_norm_with_a_forward_pass_of_its_own_is_removed_but_not_replaced():
    class Transposed(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.transpose(1, -1)).transpose(1, -1)

    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), Transposed(4))
    assert kinds(swapped(network, "none")) == ["Conv2d", "Identity"]
    with pytest.raises(BadInputError, match="layer norm '1' is a Transposed with a forward pass of its own"):
        swapped(network, "rms")


def test_a_layer_norm_that_does_more_is_refused_by_name():
    class Activated(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            return F.gelu(super().forward(input))

    for norm in ("none", "rms"):
        with pytest.raises(BadInputError, match="layer norm '1' is a Activated that does more than layer norm"):
            norms.swap(nn.Sequential(nn.Linear(8, 4), Activated(4)), norm, IMAGE)


def test_a_layer_norm_that_computes_in_float32_is_exchanged():
    class Upcasting(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.float()).type(input.dtype)

    for norm, kind in (("none", "Identity"), ("rms", "TokenRMSNorm")):
        assert kinds(norms.swap(nn.Sequential(nn.Linear(8, 4), Upcasting(4)), norm, IMAGE)) == ["Linear", kind]


def test_a_layer_norm_over_pixels_too_leaves_no_bias_behind():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.LayerNorm([4, 6, 6]))
    assert swapped(network, "none")[0].bias is None
    images = torch.randn(5, *IMAGE, dtype=torch.float64)
    rms = swapped(network, "rms").double()
    features = rms[0](images)
    assert equal(rms(images), features / (features.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt())


def test_a_layer_norm_that_is_never_reached_is_refused_by_name():
    network = Tokens()
    network.spare = nn.LayerNorm(3)
    with pytest.raises(BadInputError, match="layer norm 'spare' is never reached"):
        norms.swap(network, "none", IMAGE)


@pytest.mark.parametrize("toy", [Tokens, Encoder])
@pytest.mark.parametrize("norm", TOKEN_NORMS)
def test_every_network_of_tokens_trains_under_every_norm(toy, norm):
    network = swapped(toy(), norm).train()
    network(torch.randn(6, *IMAGE)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


# gamma over sigma


def test_gamma_over_sigma_is_what_a_hand_computes():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, eps=0.25), nn.Linear(2, 1), nn.BatchNorm1d(1, eps=0))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([3.0, -1.0]))
        network[1].running_var.copy_(torch.tensor([2.0, 0.0]))
        network[3].weight.fill_(5)
        network[3].running_var.fill_(4)
    found = norms.gammas_and_sigmas(network)
    assert {name: [each.tolist() for each in pair] for name, pair in found.items()} == {
        "1": [[3, 1], pytest.approx([math.sqrt(2.25), math.sqrt(0.25)])],
        "3": [[pytest.approx(network[3].weight.item())], [2]],
    }
    assert not found["1"][0].requires_grad


def test_gamma_over_sigma_leaves_out_norms_that_lack_either():
    network = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.BatchNorm1d(2, track_running_stats=False))
    assert norms.gammas_and_sigmas(network) == {}
    assert norms.gammas_and_sigmas(lenet("none")) == {}


@pytest.mark.parametrize("toy", [Dense, InPlace, PreActivation, Residual, Volume])
def test_with_the_statistics_of_a_batch_a_network_in_eval_mode_is_one_in_train_mode_at_it(toy):
    network, images = toy().double(), torch.randn(6, *IMAGE, dtype=torch.float64)
    # The slow way: train mode, where running statistics are the batch's own if their momentum is 1.
    slow = copy.deepcopy(network).train()
    for _, layer in norms.batch_norms(slow):
        layer.momentum = 1.0
    wanted = slow(images)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flags = [module.training for module in network.modules()]
    with norms.running_statistics_of(network, images):
        assert [module.training for module in network.modules()] == flags
        assert equal(copy.deepcopy(network).eval()(images), wanted)
        for (_, layer), (_, trained) in zip(norms.batch_norms(network), norms.batch_norms(slow), strict=True):
            assert equal(layer.running_mean, trained.running_mean)
            # The running variance is the unbiased one, over more values by far than the samples.
            assert equal(layer.running_var / trained.running_var, torch.ones(()), within=1 / 5)
            assert (layer.running_var <= trained.running_var).all()
    assert all(map(torch.equal, network.state_dict().values(), before.values()))
