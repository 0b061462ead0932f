import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock

from study import engine
from study.data.dataset import to_float
from study.engine.grouped import PackedLinear
from study.engine.pack import Pack, Single
from study.errors import BadInputError
from study.lenses import ghost_norms, gradient_norms
from study.networks import build as build_module
from study.networks import norms
from tests.conftest import random_split

Shape = tuple[int, int, int]
PACKED = ("grouped", "vmap")
NORMS = ("batch", "none", "group", "layer", "instance", "rms")
EXACT = {"rtol": 1e-9, "atol": 0.0}


def data(shape: tuple[int, int, int], samples: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    split = random_split(samples, classes, seed=3, channels=shape[0], size=shape[1])
    return split.images, split.labels


def used(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """In float64, as after some training: no parameter at 0 or 1, and running statistics that have seen data."""
    network.double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        network(to_float(data(shape, samples=9)[0], torch.float64))
    return network


def looped(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The slow and obvious way: a batch of one, a backward pass, the norm over all parameters."""
    network, norms = copy.deepcopy(network).eval(), []
    dtype = next(network.parameters()).dtype
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        network.zero_grad()
        F.cross_entropy(network(to_float(image, dtype)), label).backward()
        gradients = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
        norms.append(torch.cat(gradients).double().norm())
    return torch.stack(norms)


def of_pack(pack: Pack, images: Sequence[Tensor], labels: Sequence[Tensor], chunk: int | None = None) -> Tensor:
    """With a pool of all members' images, in which each has a part of its own."""
    rows = torch.arange(sum(map(len, images))).split(list(map(len, images)))
    return gradient_norms.grad_norms(pack, torch.cat([*images]), rows, labels, chunk)


def grad_norms(network: nn.Module, images: Tensor, labels: Tensor, chunk: int | None = None) -> Tensor:
    """Those of one network alone."""
    rows = torch.arange(len(images), device=images.device)
    (norms,) = gradient_norms.grad_norms(Single([network]), images, [rows], [labels], chunk)
    return norms


def assert_exact(network: nn.Module, shape: tuple[int, int, int], way: str) -> None:
    """The norms are the loop's, and were found in the way that is meant to be tested."""
    network = used(network, shape)
    images, labels = data(shape)
    torch.testing.assert_close(grad_norms(network, images, labels), looped(network, images, labels), **EXACT)
    assert gradient_norms._exact_way(Single([network.eval()]), shape).__name__ == way


def small_resnet() -> nn.Module:
    shortcut = nn.Sequential(nn.Conv2d(6, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8))
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        BasicBlock(6, 6),
        BasicBlock(6, 8, stride=2, downsample=shortcut),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


class PreActivation(nn.Module):
    """A residual block that normalizes first, with work in place on the norm's output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = features + self.conv(F.relu(self.norm(features), inplace=True))
        return self.head(features.mean(dim=(2, 3)))


class Tokens(nn.Module):
    """Rows of an image as tokens, through the layer under test and a linear layer that looks at each token."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.mixed = nn.Linear(16, 6)
        self.head = nn.Linear(16 * 6, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.mixed(self.layer(images[:, 0])), inplace=True).flatten(1))


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Linear(16, 16)
        self.head = nn.Linear(256, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.again(torch.tanh(self.again(images[:, 0]))).flatten(1))


class Forked(nn.Module):
    """A network that `vmap` can't run: the pixels decide what is computed."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) * (1 if images.sum() > 0 else 2)


class Borrowed(Twice):
    """A layer called once whose weight is used once more behind its back."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.linear(self.again(images[:, 0]), self.again.weight).flatten(1))


class Uncalled(Twice):
    """A layer that is never called, though its weight is used."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.linear(images[:, 0], self.again.weight).flatten(1))


class Overwritten(Twice):
    """What a layer took is changed in place, to which autograd does not object as the layer's weight is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.again.weight.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0] * 1
        taken = self.again(rows)
        return self.head((taken + rows.mul_(2)).flatten(1))


class Bordered(nn.Module):
    """A layer of the user's own, with a parameter of two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.randn(16, 16))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.mask.tanh()


class Mixing(nn.Module):
    """Centers over the batch, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(256, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.head(images.flatten(1))
        return features - features.mean(dim=0) / 2


@pytest.mark.parametrize("norm", NORMS)
def test_lenet_has_the_norms_of_the_loop(norm):
    assert_exact(build_module.build("lenet", (1, 28, 28), 4, norm, seed=0), (1, 28, 28), "_by_layers")


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_network_has_the_norms_of_the_loop(norm):
    network = norms.swap(small_resnet(), norm, (3, 16, 16))
    assert_exact(network, (3, 16, 16), "_by_layers")


def test_a_pre_activation_network_has_the_norms_of_the_loop():
    assert_exact(PreActivation(), (1, 16, 16), "_by_layers")


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


def transformer() -> nn.Module:
    network = VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=4
    )
    network.conv_proj = nn.Conv2d(1, 8, 8, stride=8)
    return network


def encoder() -> nn.Module:
    return Tokens(nn.TransformerEncoderLayer(16, 2, dim_feedforward=12, batch_first=True))


def tied() -> nn.Module:
    network = nn.Sequential(nn.Flatten(2), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256), nn.Flatten())
    network[3].weight = network[1].weight
    return network.append(nn.Linear(256, 4))


def parametrized() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(256, 4)))


OTHERWISE = {
    "vision transformer": transformer,
    "torch's encoder": encoder,
    "a layer twice": Twice,
    "a weight behind its layer's back": Borrowed,
    "a weight without its layer": Uncalled,
    "an input that is overwritten": Overwritten,
    "a weight of two layers": tied,
    "a weight that is computed": parametrized,
}


@pytest.mark.parametrize("build", OTHERWISE.values(), ids=OTHERWISE.keys())
def test_what_hooks_would_get_wrong_has_the_norms_of_the_loop_too(build):
    gradient_norms.check(build(), (1, 16, 16), 4)
    assert_exact(build(), (1, 16, 16), "_by_vmap")


def test_a_branch_that_starts_at_zero_does_not_hide_what_is_behind_it():
    network = Borrowed()
    nn.init.zeros_(network.head.weight)
    assert gradient_norms._exact_way(Single([network.eval()]), (1, 16, 16)) is gradient_norms._by_vmap


@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_the_norms_do_not_depend_on_the_chunk(build, monkeypatch):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape, samples=7)
    whole = grad_norms(network, images, labels)
    for chunk in (1, 3, 7, 100):
        torch.testing.assert_close(grad_norms(network, images, labels, chunk), whole, **EXACT)
    monkeypatch.setattr(gradient_norms, "WHOLE", 1)
    torch.testing.assert_close(grad_norms(network, images, labels), whole, **EXACT)


@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_float32_is_close_to_float64(build):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape, samples=20)
    wide = grad_norms(network, images, labels)
    narrow = grad_norms(network.float(), images, labels)
    assert narrow.dtype == torch.float64
    torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=0)


def test_the_gradient_of_a_sample_that_is_known_well_is_not_lost_in_float32():
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 4)).double()
    with torch.no_grad():
        network[3].bias.copy_(torch.tensor([120.0, 0, 0, 0]))
    images, labels = data((1, 16, 16))
    labels = torch.zeros_like(labels)
    wide = grad_norms(network, images, labels)
    assert (wide > 0).all()
    assert (wide < 1e-45).all()
    torch.testing.assert_close(grad_norms(network.float(), images, labels), wide, rtol=1e-4, atol=0)


@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_the_network_is_left_as_it_was(build):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape)
    layers = list(network.modules())
    layers[1].training = False
    frozen, kept = list(network.parameters())[:2]
    frozen.requires_grad_(False)
    kept.grad = torch.full_like(kept, 7)
    flags, state = [layer.training for layer in layers], copy.deepcopy(network.state_dict())
    gradient_norms.check(network, shape, 4)
    with torch.no_grad():
        grad_norms(network, images, labels)
    assert [layer.training for layer in layers] == flags
    assert [parameter.requires_grad for parameter in network.parameters()] == [
        parameter is not frozen for parameter in network.parameters()
    ]
    assert [parameter for parameter in network.parameters() if parameter.grad is not None] == [kept]
    assert (kept.grad == 7).all()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in layers)


@pytest.mark.parametrize("frozen", ["weight", "bias", ""])
@pytest.mark.parametrize("norm", ["batch", "rms"])
def test_only_trainable_parameters_count(frozen, norm):
    network = norms.swap(small_resnet(), norm, (3, 16, 16))
    for name, parameter in network.named_parameters():
        layer, _, kind = name.rpartition(".")
        parameter.requires_grad_(kind != frozen if frozen else layer == "7")
    assert_exact(network, (3, 16, 16), "_by_layers")


def test_no_samples_have_no_norms():
    images, labels = data((1, 16, 16))
    assert grad_norms(transformer(), images[:0], labels[:0]).shape == (0,)


def test_a_diverged_network_is_told_apart_from_a_large_gradient():
    network = PreActivation()
    nn.init.constant_(network.conv.weight, float("nan"))
    pack = Single([network])
    images, labels = data((1, 16, 16))
    assert of_pack(pack, [images], [labels]).isnan().all()
    assert pack.diverged == {0: "a gradient is not finite"}


# Packs: each member has the norms that it has alone


def small_vgg() -> nn.Module:
    layers = [
        layer
        for given, width in ((3, 6), (6, 8))
        for layer in (
            nn.Conv2d(given, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, ceil_mode=True),
        )
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def in_groups() -> nn.Module:
    """Convolutions with groups of their own, and with biases."""
    layers = nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 12, 5, stride=2, groups=2), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(300, 4))


def padded_by_name() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 4))


def lenet() -> nn.Module:
    return build_module.build("lenet", COLOURS, 4, "batch", seed=0)


COLOURS = (3, 16, 16)
BUILT = {"lenet": lenet, "resnet": small_resnet, "vgg": small_vgg}


def packed(backend: str, build: Callable[[], nn.Module], size: int = 3, shape: Shape = COLOURS) -> Pack:
    return engine.pack(backend, [used(build(), shape) for _ in range(size)], shape)


def own_data(pack: Pack, samples: int = 5, shape: Shape = COLOURS) -> tuple[list[Tensor], list[Tensor]]:
    """Images and labels that are another's for each member."""
    images, labels = data(shape, samples)
    shifts = range(len(pack))
    return [images.roll(shift, dims=3) for shift in shifts], [(labels + shift) % 4 for shift in shifts]


def loops(pack: Pack, images: list[Tensor], labels: list[Tensor]) -> Tensor:
    return torch.stack([looped(*each) for each in zip(pack.networks, images, labels, strict=True)])


def assert_each_as_if_alone(pack: Pack, way: str, shape: Shape = COLOURS) -> None:
    images, labels = own_data(pack, shape=shape)
    wanted = loops(pack, images, labels)
    torch.testing.assert_close(of_pack(pack, images, labels), wanted, **EXACT)
    assert not torch.allclose(wanted[0], wanted[1], rtol=1e-3)
    pack.train(False)
    for network in pack.networks:
        network.eval()
    assert gradient_norms._exact_way(pack, shape).__name__ == way


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT.keys())
def test_members_side_by_side_have_the_norms_of_their_own_loops(build, norm):
    assert_each_as_if_alone(packed("grouped", lambda: norms.swap(build(), norm, COLOURS)), "_by_layers")


@pytest.mark.parametrize("large", [0, 2**60])
def test_groups_of_a_members_own_are_within_it(large, monkeypatch):
    monkeypatch.setattr(ghost_norms, "LARGE_CONVOLUTION", large)
    assert_each_as_if_alone(packed("grouped", in_groups), "_by_layers")


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT.keys())
def test_members_that_no_layer_computes_together_have_them_too(build):
    assert_each_as_if_alone(packed("vmap", build, size=2), "_each_by_layers")


def test_members_with_a_layer_that_has_no_rule_side_by_side_go_alone():
    assert_each_as_if_alone(packed("grouped", padded_by_name), "_each_by_layers")


def test_a_rule_that_is_wrong_for_members_side_by_side_is_found_out(monkeypatch):
    def of_all(*given: Any) -> Tensor:
        *rest, members = given
        return ghost_norms._linear(*rest, 1).expand(-1, members)

    monkeypatch.setitem(ghost_norms.RULES, PackedLinear, of_all)
    assert_each_as_if_alone(packed("grouped", lenet), "_each_by_layers")


def test_members_that_need_torch_func_have_them_too():
    shape = (1, 16, 16)
    assert_each_as_if_alone(packed("vmap", transformer, size=2, shape=shape), "_by_vmap", shape)


@pytest.mark.parametrize("backend", PACKED)
def test_the_norms_of_a_pack_do_not_depend_on_the_chunk(backend, monkeypatch):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack, samples=7)
    whole = of_pack(pack, images, labels)
    for chunk in (1, 3, 100):
        torch.testing.assert_close(of_pack(pack, images, labels, chunk), whole, **EXACT)
    monkeypatch.setattr(gradient_norms, "AT_ONCE", 1)
    torch.testing.assert_close(of_pack(pack, images, labels), whole, **EXACT)


@pytest.mark.parametrize("backend", PACKED)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("member", [0, 2])
def test_a_member_without_finite_gradients_diverges_alone(backend, member, value):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack)
    wanted = loops(pack, images, labels)
    with torch.no_grad():
        next(pack.networks[member].parameters())[0, 0, 0, 0] = value
    found = of_pack(pack, images, labels)
    assert pack.diverged == {member: "a gradient is not finite"}
    assert found[member].isnan().all()
    torch.testing.assert_close(found[pack.alive], wanted[pack.alive], **EXACT)


@pytest.mark.parametrize("backend", PACKED)
def test_members_that_have_diverged_before_have_no_norms(backend):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack)
    pack.diverged |= {0: "its loss", 1: "its loss"}
    found = of_pack(pack, images, labels)
    assert found.isnan().all(dim=1).tolist() == [True, True, False]
    torch.testing.assert_close(found[2], loops(pack, images, labels)[2], **EXACT)
    pack.diverged[2] = "its logits"
    assert of_pack(pack, images, labels).isnan().all()
    assert set(pack.diverged.values()) == {"its loss", "its logits"}


@pytest.mark.parametrize("backend", PACKED)
def test_a_pack_is_left_as_it_was(backend):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack)
    pack.train()
    layers = [layer for network in pack.networks for layer in network.modules()]
    layers += [] if pack.joint_network is None else list(pack.joint_network.modules())
    layers[1].training = layers[-1].training = False
    kept = pack.parameters[0]
    kept.grad = torch.full_like(kept, 7)
    flags = [layer.training for layer in layers]
    state = [copy.deepcopy(network.state_dict()) for network in pack.networks]
    with torch.no_grad():
        of_pack(pack, images, labels)
    assert [layer.training for layer in layers] == flags
    assert all(parameter.requires_grad for parameter in pack.parameters)
    assert all(parameter.requires_grad for network in pack.networks for parameter in network.parameters())
    assert [parameter for parameter in pack.parameters if parameter.grad is not None] == [kept]
    assert (kept.grad == 7).all()
    assert not any(layer._forward_hooks for layer in layers)
    for network, before in zip(pack.networks, state, strict=True):
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_frozen_parameters_of_a_pack_do_not_count():
    def partly_frozen() -> nn.Module:
        network = small_resnet()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.endswith("bias") or name == "0.weight")
        return network

    pack = packed("grouped", partly_frozen)
    trained = [parameter.requires_grad for parameter in pack.joint_network.parameters()]
    assert_each_as_if_alone(pack, "_by_layers")
    assert [parameter.requires_grad for parameter in pack.joint_network.parameters()] == trained
    assert 0 < sum(trained) < len(trained)


@pytest.mark.parametrize("norm", NORMS)
def test_the_networks_of_the_study_pass_the_check(norm):
    gradient_norms.check(build_module.build("lenet", (1, 16, 16), 4, norm, seed=0), (1, 16, 16), 4)


def no_running_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(392, 4)
    )


def frozen() -> nn.Module:
    return Twice().requires_grad_(False)


REFUSED = {
    "batch statistics": (no_running_statistics, "layer '1' has no running statistics"),
    "samples that see each other": (Mixing, "Mixing mixes the samples of a batch"),
    "a layer twice": (
        lambda: Forked(Twice()),
        "layer 'inner.again' is called more than once; with torch.func: Runtime",
    ),
    "a weight of two layers": (lambda: Forked(tied()), "layer 'inner.3' shares a parameter with layer 'inner.1'"),
    "a weight without its layer": (lambda: Forked(Uncalled()), "comes to the output of layer 'inner.again'"),
    "a weight behind its layer's back": (lambda: Forked(Borrowed()), "the norms are not those of batches of one"),
    "an input that is overwritten": (lambda: Forked(Overwritten()), "'inner.again' takes is changed in place"),
    "a parameter beside layers": (lambda: Forked(transformer()), "layer 'inner' has parameters of its own beside"),
    "nothing to train": (frozen, "Twice has no trainable parameters"),
    "no parameters": (nn.Flatten, "Flatten has no trainable parameters"),
    "another number of classes": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 5)), "has 5 logits, not 4"),
    "images that don't fit": (lambda: nn.Linear(3, 4), "Linear fails on single images in float64: RuntimeError"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_network_without_exact_norms_is_refused_in_one_sentence(build, message):
    network = build()
    with pytest.raises(BadInputError, match=message) as caught:
        gradient_norms.check(network, (1, 16, 16), 4)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert network.training


def test_norms_are_refused_where_the_check_was_left_out():
    network = Mixing()
    with pytest.raises(BadInputError, match="mixes the samples"):
        grad_norms(network, *data((1, 16, 16)))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_a_gpu_finds_the_same_norms(build):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape)
    expected = grad_norms(network, images, labels)
    found = grad_norms(network.cuda(), images.cuda(), labels.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-9, atol=0)
