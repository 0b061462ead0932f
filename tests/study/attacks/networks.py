"""Networks and images for attacks, as after some training and in float64."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from study import attacks, engine
from study.attacks import Descent, Draws, Outcome
from study.data.dataset import to_float
from study.engine.pack import Pack, Single
from tests.study.lenses.networks import COLOURS, data, small_resnet, used

SAMPLES = torch.tensor([3, 4, 8, 0, 11, 12, 13, 40, 41, 42, 50, 51])
"""Where the images stand in an imaginary test set."""


def images_and_labels(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Some images, and for most of them the label that the network gives."""
    images = to_float(data(COLOURS, len(SAMPLES))[0], torch.float64)
    labels = network.eval()(images).argmax(dim=1)
    labels[::5] = (labels[::5] + 1) % 4
    return images, labels


def resnet() -> nn.Module:
    return used(small_resnet(), COLOURS).eval()


def mlp() -> nn.Module:
    """A network that tells random images apart, and of which an attack fools some and not all."""
    layers = nn.Flatten(), nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 4)
    return nn.Sequential(*layers).double().eval()


def scaled(network: nn.Module, factor: float) -> nn.Module:
    """The same network with logits that are larger by a factor."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network[-1].parameters():
            parameter.mul_(factor)
    return network


def in_eval_mode(backend: str, networks: Sequence[nn.Module]) -> Pack:
    pack = engine.pack(backend, [copy.deepcopy(network) for network in networks], COLOURS)
    pack.train(False)
    return pack


def attacked(
    pack: Pack, images: Tensor, labels: Tensor, descent: Descent, seeds: Sequence[int] | None = None
) -> tuple[Tensor, Outcome]:
    draws = Draws([7] * len(pack) if seeds is None else seeds, SAMPLES[: images.shape[-4]])
    return attacks.attack(pack, images, labels, descent, draws)


def alone(network: nn.Module, images: Tensor, labels: Tensor, descent: Descent) -> tuple[Tensor, Outcome]:
    """What is found of one network by itself, without the dimension of members in the images."""
    found, outcome = attacked(Single([network]), images, labels, descent)
    return found[0], outcome


def assert_equal(found: Outcome, wanted: Outcome, **tolerance: float) -> None:
    for name in ("rank", "loss", "linf", "l2", "moved", "steps", "flat"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), **tolerance)
    assert found.failed == wanted.failed
