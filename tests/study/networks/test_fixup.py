import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.data.corruption import corrupt
from study.data.dataset import Dataset
from study.engine import pack
from study.errors import BadInputError
from study.networks import build, fixup, norms
from study.networks.fixup import ScalarNorm, Shifted
from study.networks.wide_resnet import PreActivationBlock, wide_resnet
from study.training.loop import Member, Training
from study.trial import Trial
from tests.study.networks.examples import IMAGE, noise

BLOCKS = {"resnet18": (8, 2), "resnet50": (16, 3), "wrn10_2": (3, 2)}
"""The residual blocks of each network, and the convolutions of their branches."""


def arm(architecture: str, norm: str = "fixup", seed: int = 5) -> nn.Module:
    return build.build(architecture, IMAGE, 10, norm, seed)


@pytest.mark.parametrize("architecture", BLOCKS)
def test_weights_are_those_of_the_other_arms_but_for_the_rules(architecture):
    blocks, depth = BLOCKS[architecture]
    ours, theirs = (dict(arm(architecture, norm).named_parameters()) for norm in ("fixup", "none"))
    scaled = zero = 0
    for name, weight in ours.items():
        if weight.ndim < 4:
            continue
        if not weight.any():
            zero += 1
        elif torch.equal(weight, theirs[name]):
            assert not any(part in name for part in ("conv1", "conv2")) or name.startswith("conv1")
        else:
            torch.testing.assert_close(weight, theirs[name] * blocks ** (-1 / (2 * depth - 2)))
            scaled += 1
    assert (zero, scaled) == (blocks, blocks * (depth - 1))


@pytest.mark.parametrize("architecture", ["resnet18", "wrn10_2"])
def test_every_branch_starts_from_nothing_and_so_does_the_classifier(architecture):
    network = arm(architecture).eval()
    found: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, PreActivationBlock):
            module.conv2.register_forward_hook(lambda _, __, output: found.append(output.clone()))
        elif type(module).__name__ in ("BasicBlock", "Bottleneck"):
            last = module.bn2 if type(module).__name__ == "BasicBlock" else module.bn3
            last.register_forward_hook(lambda _, __, output: found.append(output.clone()))
    assert not network(noise()).any()
    assert len(found) == BLOCKS[architecture][0]
    assert not any(output.any() for output in found)


@pytest.mark.parametrize("architecture", BLOCKS)
def test_no_norm_is_left_but_that_before_the_classifier_of_a_wide_network(architecture):
    left = [name for name, _ in norms.batch_norms(arm(architecture))]
    assert left == (["norm"] if architecture.startswith("wrn") else [])


def by_hand(block: nn.Module, images: Tensor, p: dict[str, float], weights: tuple[Tensor, Tensor]) -> Tensor:
    """A basic block of Fixup, from its definition: x + scale * conv2(relu(conv1(x + a) + b) + c) + d."""
    first = F.conv2d(images + p["a"], weights[0], padding=1) + p["b"]
    second = F.conv2d(F.relu(first) + p["c"], weights[1], padding=1)
    return F.relu(images + p["scale"] * second + p["d"])


def test_a_block_is_that_of_fixup():
    block = copy.deepcopy(arm("resnet18").layer1[0]).double()
    p = {"a": 0.1, "b": -0.2, "c": 0.3, "d": -0.4, "scale": 1.5}
    with torch.no_grad():
        nn.init.normal_(block.conv2.weight, std=0.1)
        block.conv1.shift.fill_(p["a"])
        block.bn1.shift.fill_(p["b"])
        block.conv2.shift.fill_(p["c"])
        block.bn2.shift.fill_(p["d"])
        block.bn2.scale.fill_(p["scale"])
    images = torch.randn(2, 64, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = by_hand(block, images, p, (block.conv1.weight, block.conv2.weight))
    torch.testing.assert_close(block(images), wanted, rtol=1e-12, atol=1e-12)


def test_a_block_with_norms_before_convolutions_is_that_of_fixup():
    block = copy.deepcopy(arm("wrn10_2").group2[0]).double()
    numbers = iter((0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 1.5))
    with torch.no_grad():
        nn.init.normal_(block.conv2.weight, std=0.1)
        parts = (block.norm1.shift, block.conv1.shift, block.norm2.shift, block.conv2.shift)
        for parameter in (*parts, block.conv2.shift_after, block.shortcut.shift, block.conv2.scale):
            parameter.fill_(next(numbers))
    images = torch.randn(2, 32, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rectified = F.relu(images + 0.1)
    first = F.relu(F.conv2d(rectified - 0.2, block.conv1.weight, padding=1, stride=2) + 0.3)
    branch = 1.5 * F.conv2d(first - 0.4, block.conv2.weight, padding=1) + 0.5
    wanted = branch + F.conv2d(rectified - 0.6, block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(images), wanted, rtol=1e-12, atol=1e-12)


def trained(tiny: Dataset, backend: str, networks: list[nn.Module], rates: tuple[float, float]) -> list[Tensor]:
    settings = {"architecture": "wrn10_2", "norm": "fixup", "epochs": 1, "batch_size": 16, "optimizer": "sgd"}
    settings["momentum"] = 0.0 if rates[0] == rates[1] else 0.9
    trials = [Trial.of({**settings, "lr": lr}) for lr in rates]
    corrupted = corrupt(tiny.train, tiny.classes, "none", 0.0, 0)
    for packed in [networks] if backend != "single" else [[network] for network in networks]:
        members = [Member(trials[networks.index(network)], networks.index(network), corrupted) for network in packed]
        list(Training(pack(backend, packed, tiny.shape), members))
    return [torch.cat([parameter.detach().flatten() for parameter in network.parameters()]) for network in networks]


def small(channels: int, classes: int, seed: int) -> nn.Module:
    """A wide network of few numbers with Fixup, in float64."""
    torch.manual_seed(seed)
    return fixup.swap(wide_resnet("wrn10_2", (channels, 16, 16), classes)).double()


@pytest.mark.parametrize(
    ("backend", "rates"), [("grouped", (0.01, 0.01)), ("grouped", (0.01, 0.02)), ("vmap", (0.01, 0.01))]
)
def test_a_pack_with_fixup_trains_as_each_member_alone(tiny: Dataset, backend, rates):
    def networks() -> list[nn.Module]:
        return [small(tiny.shape[0], tiny.classes, seed) for seed in (0, 1)]

    alone, packed = (trained(tiny, name, networks(), rates) for name in ("single", backend))
    for one, other in zip(alone, packed, strict=True):
        assert (one - other).abs().max() < 1e-9


def test_single_numbers_learn_at_a_tenth_of_the_rate(tiny: Dataset):
    network = small(tiny.shape[0], tiny.classes, 0)
    corrupted = corrupt(tiny.train, tiny.classes, "none", 0.0, 0)
    trial = Trial(architecture="wrn10_2", norm="fixup", lr=0.01, epochs=1, batch_size=16)
    training = Training(pack("single", [network], tiny.shape), [Member(trial, 0, corrupted)])
    rates = {parameter: group["lr"] for group in training._optimizer.param_groups for parameter in group["params"]}
    slow = set(fixup.scalars(network))
    assert len(slow) == sum(isinstance(layer, Shifted | ScalarNorm) for layer in network.modules()) + 2 * 3
    assert [rates[parameter] for parameter in slow] == [pytest.approx(0.001)] * len(slow)
    assert {rate for parameter, rate in rates.items() if parameter not in slow} == {0.01}


def test_a_deep_network_learns_with_fixup_where_it_has_no_norms():
    images, labels = noise(8), torch.arange(8) % 10
    network = arm("resnet18").train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(10.0).log().item())
    assert losses[-1] < losses[0]


def test_a_network_without_residual_blocks_is_refused():
    with pytest.raises(BadInputError, match="norm=fixup is for residual networks, and architecture=lenet is none"):
        Trial(norm="fixup")
    with pytest.raises(BadInputError, match="and Sequential has none"):
        fixup.swap(build.build("lenet", (1, 28, 28), 10, "batch", 0))


def test_a_wide_network_has_the_layers_that_its_name_says():
    network = wide_resnet("wrn28_10", (3, 32, 32), 10)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    # 28 layers with weights: 25 convolutions of 3x3, counted with the stem, and the classifier; three 1x1 shortcuts.
    assert sum(layer.kernel_size == (3, 3) for layer in convolutions) == 25
    assert sum(layer.kernel_size == (1, 1) for layer in convolutions) == 3
    assert network.classifier.in_features == 640
    assert build.count_parameters(network) == 36_479_194
