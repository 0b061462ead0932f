"""Every backend against training each member alone, in float64, where rounding leaves no room for another result.

In float32 two orders of the same sum drift apart within an epoch, so equality there would be no test.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from study import engine
from study.data.corruption import Corrupted, corrupt_each
from study.data.dataset import Dataset
from study.engine import UnfitError
from study.engine.pack import Pack, Single
from study.errors import BadInputError
from study.lenses.gamma_sigma import by_layer
from study.networks import build, norms
from study.networks.catalog import NORMS
from study.networks.probes import perturbed_copy
from study.training.loop import Member, Training, predict
from study.training.optimizers import OPTIMIZERS
from study.trial import Trial
from tests.conftest import random_split

STEPS = 15
PACKED = ("grouped", "vmap")
COLOURS = Dataset(random_split(24, 4, 1, channels=3), random_split(10, 4, 2, channels=3), classes=4)
GREYS = Dataset(random_split(24, 4, 1), random_split(10, 4, 2), classes=4)


class SmallResNet(nn.Sequential):
    """A residual network of torchvision's own blocks, one of them with a stride and a projection."""

    def __init__(self, channels: int, classes: int) -> None:
        projection = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
        super().__init__(
            nn.Conv2d(channels, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            BasicBlock(8, 8),
            BasicBlock(8, 16, stride=2, downsample=projection),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, classes),
        )


class SmallVGG(nn.Sequential):
    """Two stages of VGG."""

    def __init__(self, channels: int, classes: int) -> None:
        layers = [
            layer
            for given, width in ((channels, 8), (8, 16))
            for layer in (
                nn.Conv2d(given, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )
        ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))


def network(architecture: str, data: Dataset, norm: str, seed: int) -> nn.Module:
    small = {"small_resnet": SmallResNet, "small_vgg": SmallVGG}
    if architecture not in small:
        return build.build(architecture, data.shape, data.classes, norm, seed).double()
    torch.manual_seed(seed)
    return norms.swap(small[architecture](data.shape[0], data.classes), norm, data.shape).double()


def members(data: Dataset, *trials: Trial, source: Tensor | None = None, device: str = "cpu") -> list[Member]:
    k_and_seed = [(trial.k, seed) for seed, trial in enumerate(trials)]
    corrupted = corrupt_each(data.train, data.classes, trials[0].corruption, k_and_seed, source, device)
    return [Member(trial, seed, of_seed) for seed, (trial, of_seed) in enumerate(zip(trials, corrupted, strict=True))]


def trained(backend: str, networks: Sequence[nn.Module], runs: Sequence[Member], data: Dataset) -> Pack:
    pack = engine.pack(backend, networks, data.shape)
    *_, last = Training(pack, runs)
    assert last == runs[0].trial.epochs
    return pack


def trial(**settings: object) -> Trial:
    """15 steps of 8 samples: 3 an epoch of 24."""
    return Trial.of({"k": 0.25, "batch_size": 8, "epochs": -(-STEPS // 3), "lr": 1e-3, **settings})


def difference(network: nn.Module, reference: nn.Module) -> float:
    """Return the largest difference of a parameter or running statistic, relative to the size of its tensor."""
    state, expected = network.state_dict(), reference.state_dict()
    assert state.keys() == expected.keys()
    return max(
        ((state[name] - expected[name]).abs().max() / expected[name].abs().max().clamp(min=1)).item() for name in state
    )


def assert_each_as_if_alone(backend: str, architecture: str, data: Dataset, *trials: Trial) -> None:
    runs = members(data, *trials)
    initial = [network(architecture, data, trial.norm, seed) for seed, trial in enumerate(trials)]
    pack = trained(backend, copy.deepcopy(initial), runs, data)
    for untrained, run, packed in zip(initial, runs, pack.networks, strict=True):
        alone = trained("single", [copy.deepcopy(untrained)], [run], data)
        assert difference(packed, alone.networks[0]) < 1e-10
        assert difference(packed, untrained) > 1e-3


# The shift of a norm that a later norm takes out has a gradient of nothing but rounding, which all but SGD scale up to
# a step of full size: so norms are compared under SGD, and the optimizers without a norm. Over groups of three features
# even SGD multiplies a rounding tenfold every few steps, but for small ones.
@pytest.mark.parametrize(
    ("backend", "architecture", "norm"),
    [
        *(("grouped", architecture, norm) for architecture in ("lenet", "small_resnet") for norm in NORMS),
        *(("vmap", "lenet", norm) for norm in NORMS),
        *[("vmap", "small_resnet", "batch"), ("grouped", "small_vgg", "batch"), ("vmap", "small_vgg", "batch")],
    ],
)
def test_every_norm_of_a_pack_trains_as_it_does_alone(backend, architecture, norm):
    data = GREYS if architecture == "lenet" else COLOURS
    assert_each_as_if_alone(backend, architecture, data, *[trial(norm=norm, optimizer="sgd", lr=3e-4)] * 3)


def in_eval_mode(pack: Pack, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits, and their gradient at the images, which also goes to parameters that require one."""
    pack.train(False)
    images = images.clone().requires_grad_()
    logits, _ = pack.forward(images)
    weights = torch.randn(logits.shape[-1], generator=torch.Generator().manual_seed(2), dtype=logits.dtype)
    (logits.square() * weights).sum().backward()
    assert images.grad is not None
    return logits.detach(), images.grad


@pytest.mark.parametrize("of_images_alone", [False, True])
@pytest.mark.parametrize(
    ("backend", "architecture", "norm"),
    [
        *(("grouped", architecture, norm) for architecture in ("lenet", "small_vgg", "mlp") for norm in NORMS),
        *[("grouped", "small_resnet", "batch"), ("vmap", "lenet", "batch"), ("vmap", "small_vgg", "none")],
    ],
)
def test_in_eval_mode_a_pack_has_the_gradients_of_each_alone(backend, architecture, norm, of_images_alone):
    data = GREYS if architecture in ("lenet", "mlp") else COLOURS
    probes = [perturbed_copy(network(architecture, data, norm, seed), seed) for seed in range(3)]
    images = torch.rand(3, 5, *data.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pack = engine.pack(backend, copy.deepcopy(probes), data.shape)
    before = [copy.deepcopy(dict(each.named_buffers())) for each in pack.networks]
    if of_images_alone:
        for parameter in pack.parameters:
            parameter.requires_grad_(False)
    logits, at_images = in_eval_mode(pack, images)
    with torch.no_grad():
        torch.testing.assert_close(pack.forward(images[:, :2])[0], logits[:, :2], rtol=1e-10, atol=1e-10)
    for member, probe in enumerate(probes):
        expected, gradient = in_eval_mode(Single([probe]), images[member][None])
        torch.testing.assert_close(logits[member], expected[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(at_images[member], gradient[0], rtol=1e-10, atol=1e-10)
        packed = pack.networks[member]
        assert all(torch.equal(buffer, before[member][name]) for name, buffer in packed.named_buffers())
        if not of_images_alone:
            pack.parameters_of(member)
            for own, parameter in zip(packed.parameters(), probe.parameters(), strict=True):
                torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-10, atol=1e-10)
    assert not of_images_alone or all(parameter.grad is None for parameter in pack.parameters)


@pytest.mark.parametrize("backend", PACKED)
@pytest.mark.parametrize("kind", ["log", "hinge"])
def test_the_penalty_of_a_member_is_its_own(backend, kind):
    settings = {"regularizer": kind, "optimizer": "sgd", "lr": 1e-2}
    assert_each_as_if_alone(backend, "lenet", GREYS, *(trial(alpha=alpha, **settings) for alpha in (0.5, 0.9)))


@pytest.mark.parametrize("backend", PACKED)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_steps_as_it_does_alone_and_members_may_differ_in_rate_decay_and_labels(backend, optimizer):
    settings = {"norm": "none", "optimizer": optimizer}
    runs = [trial(lr=lr, weight_decay=decay, k=k, **settings) for lr, decay, k in ((1e-3, 0.0, 0.25), (3e-3, 0.1, 0.5))]
    assert_each_as_if_alone(backend, "lenet", GREYS, *runs, runs[0])


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("architecture", ["mlp", "lenet"])
def test_plain_descent_trains_as_it_does_alone(architecture, norm):
    settings = {"optimizer": "sgd", "momentum": 0.0, "lr": 1e-2, "weight_decay": 1e-2, "norm": norm}
    assert_each_as_if_alone("grouped", architecture, GREYS, *[trial(**settings)] * 2)
    assert_each_as_if_alone("grouped", architecture, GREYS, trial(**settings), trial(**{**settings, "lr": 2e-2}))


@pytest.mark.parametrize("backend", PACKED)
def test_members_may_differ_in_their_images(backend):
    settings = trial(norm="batch", optimizer="sgd", corruption="ood")
    runs = members(GREYS, settings, settings, source=COLOURS.test.images[:, :1])
    initial = [network("lenet", GREYS, "batch", seed) for seed in (0, 1)]
    pack = trained(backend, copy.deepcopy(initial), runs, GREYS)
    for untrained, run, packed in zip(initial, runs, pack.networks, strict=True):
        assert difference(packed, trained("single", [untrained], [run], GREYS).networks[0]) < 1e-10
    logits = predict(pack, runs[0].corrupted.pool, [run.corrupted.rows for run in runs])
    for of_member, run, packed in zip(logits, runs, pack.networks, strict=True):
        assert torch.allclose(of_member, predict(Single([packed]), run.corrupted.images)[0], atol=1e-10)
    assert not torch.equal(runs[0].corrupted.images, runs[1].corrupted.images)


@pytest.mark.slow
def test_the_real_resnet_trains_as_it_does_alone():
    runs = [trial(norm="batch", optimizer="sgd", batch_size=12, epochs=1, lr=1e-2)] * 2
    assert_each_as_if_alone("grouped", "resnet18", COLOURS, *runs)


def test_a_transformer_trains_under_vmap_as_it_does_alone():
    runs = [trial(norm="layer", optimizer="sgd", epochs=1)] * 2
    assert_each_as_if_alone("vmap", "vit", COLOURS, *runs)


# Measuring a pack


@pytest.mark.parametrize("backend", PACKED)
def test_the_members_networks_are_what_the_pack_has_trained(backend):
    runs = members(COLOURS, *[trial(optimizer="sgd", epochs=4)] * 3)
    pack = trained(backend, [network("small_vgg", COLOURS, "batch", seed) for seed in range(3)], runs, COLOURS)
    logits = predict(pack, COLOURS.test.images)
    for of_member, packed in zip(logits, pack.networks, strict=True):
        assert torch.allclose(of_member, predict(Single([packed]), COLOURS.test.images)[0], atol=1e-10)
    layers = by_layer(pack.networks)
    assert layers == [by_layer([copy.deepcopy(packed)])[0] for packed in pack.networks]
    assert len({of_member[0]["ratio_mean"] for of_member in layers}) == 3


@pytest.mark.parametrize("backend", PACKED)
def test_a_member_that_diverges_takes_no_other_with_it(backend):
    runs = [trial(norm="none", optimizer="sgd", lr=lr) for lr in (1e-2, 1e30, 1e-2)]
    initial = [network("lenet", GREYS, "none", seed) for seed in range(3)]
    pack = trained(backend, copy.deepcopy(initial), members(GREYS, *runs), GREYS)
    assert list(pack.diverged) == [1]
    assert pack.alive == [0, 2]
    assert "the training loss is" in pack.diverged[1]
    for member in (0, 2):
        alone = trained("single", [initial[member]], [members(GREYS, *runs)[member]], GREYS)
        assert difference(pack.networks[member], alone.networks[0]) < 1e-10


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 4), ("norm", "none"), ("eval_every", 2), ("samples", "scores")]
)
def test_members_that_differ_in_what_a_pack_shares_are_refused(name, value):
    pack = engine.pack("grouped", [network("lenet", GREYS, "batch", seed) for seed in (0, 1)], GREYS.shape)
    with pytest.raises(BadInputError, match=f"must share {name}"):
        Training(pack, members(GREYS, trial(), trial(**{name: value})))


def test_members_that_cannot_step_together_are_refused():
    runs = members(GREYS, trial(), trial())
    pack = engine.pack("grouped", [network("lenet", GREYS, "batch", seed) for seed in (0, 1)], GREYS.shape)
    fewer = Corrupted(**{name: tensor[:20] for name, tensor in vars(runs[0].corrupted).items()})
    with pytest.raises(BadInputError, match="equally many training samples"):
        Training(pack, [runs[0], replace(runs[0], corrupted=fewer)])
    copied = replace(runs[0].corrupted, pool=runs[0].corrupted.pool.clone())
    with pytest.raises(BadInputError, match="must share one pool of images"):
        Training(pack, [runs[0], replace(runs[0], corrupted=copied)])


# Networks that a backend can't express


def test_channels_that_are_concatenated_are_no_longer_side_by_side():
    networks = [network("densenet121", COLOURS, "batch", seed) for seed in (0, 1)]
    with pytest.raises(UnfitError, match=r"grouped computes something else than DenseNet alone\."):
        engine.pack("grouped", networks, COLOURS.shape)
    assert isinstance(engine.pack("grouped", networks[:1], COLOURS.shape), Pack)


def test_a_network_with_parameters_of_its_own_is_refused_by_its_name():
    networks = [network("vit", COLOURS, "layer", seed) for seed in (0, 1)]
    with pytest.raises(UnfitError, match="VisionTransformer, can't be put side by side"):
        engine.pack("grouped", networks, COLOURS.shape)


class Reflected(nn.Sequential):
    def __init__(self) -> None:
        layers = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))


class Random(Reflected):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.rand(1)


def test_a_layer_that_cannot_be_joined_is_refused_by_its_name():
    with pytest.raises(UnfitError, match="layer '0', a Conv2d, pads with 'reflect'"):
        engine.pack("grouped", [Reflected(), Reflected()], (3, 8, 8))


@pytest.mark.parametrize("backend", PACKED)
def test_a_network_that_draws_random_numbers_is_not_packed(backend):
    with pytest.raises(UnfitError):
        engine.pack(backend, [Random(), Random()], (3, 8, 8))


class Tied(nn.Sequential):
    """Two linear layers with one weight, which is trained by both."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64 * channels, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Linear(8, 8))
        self[4].weight = self[3].weight
        self.append(nn.Linear(8, classes))


class Projected(nn.Sequential):
    """A random projection that is neither a parameter nor a buffer, each network with its own."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64 * channels, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))
        self.projection = torch.randn(classes, classes, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) @ self.projection.to(images.dtype)


@pytest.mark.parametrize("backend", PACKED)
@pytest.mark.parametrize("kind", [Tied, Projected])
def test_what_a_forward_pass_of_one_network_does_not_show_is_found_out(backend, kind):
    with pytest.raises(UnfitError):
        engine.pack(backend, [kind(1, 4), kind(1, 4)], (1, 8, 8))


class ChanceOfPython(nn.Module):
    """It draws from Python's generator in train mode, and by chance the same for each member."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        scale = 2 if self.training and random.random() < 1e-9 else 1
        return self.head(scale * self.conv(images).mean(dim=(2, 3)))


@pytest.mark.parametrize("backend", ["grouped", "vmap"])
def test_a_network_that_draws_numbers_is_not_packed_though_it_draws_the_same(backend):
    with pytest.raises(UnfitError, match="which draws random numbers: each member has its own"):
        engine.pack(backend, [ChanceOfPython(), ChanceOfPython()], (3, 8, 8))
