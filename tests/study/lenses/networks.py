"""Networks that are hard on per-sample gradient norms, and the loop that they are held against."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock

from study import engine
from study.data.dataset import to_float
from study.engine.pack import Pack, Single
from study.lenses import gradient_norms
from study.networks import build
from tests.conftest import random_split

Shape = tuple[int, int, int]


COLOURS = (3, 16, 16)


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


def lenet() -> nn.Module:
    return build.build("lenet", COLOURS, 4, "batch", seed=0)


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
