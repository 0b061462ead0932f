"""Attacks against those of foolbox, which are another's."""

from typing import Any

import eagerpy
import foolbox
import pytest
import torch
from torch import Tensor, nn

from study import attacks
from study.attacks import Descent, Draws
from tests.study.attacks.networks import SAMPLES, alone, images_and_labels, resnet

MEAN, STD = (0.49, 0.48, 0.45), (0.2, 0.21, 0.19)
EXACT = {"rtol": 0.0, "atol": 1e-12}


class Standardize(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(values, dtype=images.dtype)[:, None, None] for values in (MEAN, STD))
        return (images - mean) / std


@pytest.fixture(params=[False, True], ids=["plain", "standardized"])
def networks(request: pytest.FixtureRequest) -> tuple[nn.Module, foolbox.PyTorchModel]:
    """The network as we attack it, and as foolbox does: the standardization is a layer, or foolbox's own."""
    network = resnet()
    preprocessing = None
    if request.param:
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
        preprocessing = {"mean": mean, "std": std, "axis": -3}
    theirs = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu", preprocessing=preprocessing)
    return nn.Sequential(Standardize(), network).eval() if request.param else network, theirs


def assert_alike(networks: tuple[nn.Module, Any], ours: Descent, theirs: Any) -> None:
    network, model = networks
    images, labels = images_and_labels(network)
    criterion = foolbox.criteria.Misclassification(labels)
    wanted = theirs.run(model, images, criterion, epsilon=ours.epsilon)
    found, outcome = alone(network, images, labels, ours)
    torch.testing.assert_close(found, wanted, **EXACT)
    assert torch.equal(outcome.fooled[0], model(wanted).argmax(dim=1) != labels)
    assert (found - images).abs().amax() > 0.1 * ours.epsilon
    assert ((found == 0) & (images > 0)).any(), "the bounds take part"


@pytest.mark.parametrize("epsilon", [0.02, 0.2])
def test_fgsm(networks, epsilon):
    assert_alike(networks, attacks.fgsm(epsilon, (0, 1)), foolbox.attacks.LinfFastGradientAttack())
    assert_alike(networks, attacks.fgsm(10 * epsilon, (0, 1), "l2"), foolbox.attacks.L2FastGradientAttack())


def test_bim(networks):
    theirs = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.004, steps=15, random_start=False)
    assert_alike(networks, attacks.bim(0.03, 0.004, 15, (0, 1)), theirs)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.03), ("l2", 0.3), ("l2", 1.0)])
def test_pgd(networks, norm, epsilon):
    theirs = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    step = epsilon / 8
    ours = Descent(norm, epsilon, step, 20, (0, 1))
    assert_alike(networks, ours, theirs(abs_stepsize=step, steps=20, random_start=False))


def start(norm: str, images: Tensor, epsilon: float) -> Tensor:
    """Our first random start, from the same streams and by the definition."""
    draws = Draws([7], SAMPLES)
    if norm == "linf":
        return images + epsilon * (2 * draws.uniform(images.shape[1:], "linf", 0)[0] - 1)
    direction = draws.normal(images.shape[1:], "l2", 0)[0]
    radius = epsilon * draws.uniform((), "radius", 0)[0] ** (1 / images[0].numel())
    return images + direction * (radius / direction.flatten(1).norm(dim=1))[:, None, None, None]


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.03), ("l2", 1.0)])
def test_pgd_from_a_random_start(networks, norm, epsilon):
    theirs = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm](
        abs_stepsize=epsilon / 8, steps=20, random_start=True
    )
    theirs.get_random_start = lambda images, radius: eagerpy.astensor(start(norm, images.raw, radius))
    assert_alike(networks, Descent(norm, epsilon, epsilon / 8, 20, (0, 1), random_start=True), theirs)
