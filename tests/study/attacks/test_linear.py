"""Attacks on two-class linear networks, of which the margins are known."""

import pytest
import torch
from torch import Tensor, nn

from study import attacks
from study.attacks.descent import Descent
from study.attacks.draws import Draws
from study.engine.pack import Single
from study.errors import BadInputError

SHAPE = (1, 4, 4)
LENGTHS = {"linf": 1, "l2": 2}
"""By the norm of a ball, the norm of the weights that a margin is divided by."""


def linear(dtype: torch.dtype = torch.float64) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).to(dtype).eval()


def data(samples: int = 200) -> tuple[Tensor, Tensor]:
    return torch.rand(samples, *SHAPE, dtype=torch.float64) - 0.5, torch.randint(0, 2, (samples,))


def margins(network: nn.Module, images: Tensor, labels: Tensor, norm: str) -> Tensor:
    """How far each image is from the other side, or below 0 where it is there already."""
    weight = (network[1].weight[1] - network[1].weight[0]).detach()
    logits = network(images).detach()
    return (logits[:, 1] - logits[:, 0]) * (2 * labels - 1) / weight.norm(p=LENGTHS[norm])


def attacked(network: nn.Module, images: Tensor, labels: Tensor, descent: Descent) -> attacks.Outcome:
    draws = Draws([5], torch.arange(len(images)))
    return attacks.attack(Single([network]), images, labels, descent, draws)[1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.0, 0.003, 0.03, 0.1, 0.3])
def test_exactly_the_images_with_a_margin_below_epsilon_are_fooled(norm, epsilon):
    network, (images, labels) = linear(), data()
    wanted = margins(network, images, labels, norm) < epsilon
    for descent in (
        attacks.fgsm(epsilon, norm=norm),
        attacks.fgsm(epsilon, norm=norm, verdict="any"),
        attacks.pgd(norm, epsilon, steps=5, restarts=2, bounds=None),
        attacks.pgd(norm, epsilon, steps=5, bounds=None, loss="margin"),
        Descent(norm, epsilon, epsilon / 4, 4),
    ):
        assert torch.equal(attacked(network, images, labels, descent).fooled[0], wanted), descent


def test_the_margins_differ_and_some_epsilon_fools_some():
    network, (images, labels) = linear(), data()
    found = {norm: (margins(network, images, labels, norm) < 0.1).double().mean().item() for norm in LENGTHS}
    assert 0.5 < found["l2"] < found["linf"] < 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_is_as_good_as_twenty(norm):
    network, (images, labels) = linear(), data()
    one = attacked(network, images, labels, attacks.fgsm(0.1, norm=norm))
    many = attacked(network, images, labels, Descent(norm, 0.1, 0.02, 20))
    torch.testing.assert_close(one.loss, many.loss, rtol=1e-10, atol=0)
    assert set(one.steps.flatten().tolist()) == {1}
    assert set(many.steps.flatten().tolist()) == {20}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_epsilon_of_0_leaves_the_images_as_they_are(norm):
    network, (images, labels) = linear(), data()
    pack, draws = Single([network]), Draws([0], torch.arange(len(images)))
    for descent in (Descent(norm, 0.0, 0.1, 3, (-1.0, 1.0)), attacks.pgd(norm, 0.0, restarts=2, bounds=None)):
        found, outcome = attacks.attack(pack, images, labels, descent, draws)
        assert torch.equal(found[0], images)
        assert torch.equal(outcome.fooled[0], network(images).argmax(dim=1) != labels)


def test_a_network_in_train_mode_is_refused():
    images, labels = data()
    with pytest.raises(BadInputError, match="Sequential is in train mode"):
        attacked(linear().train(), images, labels, attacks.fgsm(0.1))
    with pytest.raises(BadInputError, match="Sequential is in train mode"):
        attacks.judge(Single([linear().train()]), images, images, labels)
