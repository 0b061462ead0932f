"""The rules of advertorch 0.2 against a loop over images that states them one after the other."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study import attacks
from tests.study.attacks.networks import alone, images_and_labels, mlp, resnet, scaled

STEPS = 12


def stated(
    network: nn.Module,
    image: Tensor,
    label: Tensor,
    norm: str,
    epsilon: float,
    step: float,
    bounds: tuple[float, float],
) -> Tensor:
    """Attack one image [1, C, H, W]: the sum of the cross-entropy, no random start, the last iterate."""
    low, high = bounds
    delta = torch.zeros_like(image)
    for _ in range(STEPS):
        delta.requires_grad_()
        loss = F.cross_entropy(network(image + delta), label, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = delta.detach()
        if norm == "linf":
            delta = delta + step * gradient.sign()
            delta = delta.clamp(-epsilon, epsilon)
            delta = (image + delta).clamp(low, high) - image
        else:
            delta = delta + step * gradient / max(gradient.norm().item(), 1e-6)
            delta = (image + delta).clamp(low, high) - image
            delta = delta * min(epsilon / delta.norm().item(), 1) if delta.any() else delta
    return (image + delta).clamp(low, high)


def standardized() -> tuple[nn.Module, Tensor, Tensor]:
    """A network and images with values beyond the bounds [-2, 2] of the paper, as those of CIFAR-10 have."""
    network = resnet()
    images, labels = images_and_labels(network)
    return network, images * 5.2 - 2.6, labels


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (-torch.inf, torch.inf)], ids=["clipped", "unclipped"])
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.03), ("linf", 0.2), ("l2", 0.3), ("l2", 3.0)])
def test_every_image_is_as_the_rules_say(norm, epsilon, bounds):
    network, images, labels = standardized()
    pairs = zip(images.split(1), labels.split(1), strict=True)
    wanted = torch.cat([stated(network, *pair, norm, epsilon, epsilon / 5, bounds) for pair in pairs])
    ours = attacks.advertorch(norm, epsilon, epsilon / 5, STEPS, None if bounds[0] == -torch.inf else bounds)
    found, outcome = alone(network, images, labels, ours)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    logits = network(wanted)
    torch.testing.assert_close(
        outcome.loss[0], F.cross_entropy(logits, labels, reduction="none"), rtol=1e-9, atol=1e-12
    )
    assert torch.equal(outcome.fooled[0], logits.argmax(dim=1) != labels)
    distances = (wanted - images).abs()
    torch.testing.assert_close(outcome.linf[0], distances.amax(dim=(1, 2, 3)))
    torch.testing.assert_close(outcome.l2[0], distances.flatten(1).norm(dim=1))


def test_images_below_the_floor_stand_almost_still_and_are_called_flat():
    network, images = scaled(mlp(), 40), standardized()[1]
    labels = network(images).argmax(dim=1)
    pairs = list(zip(images.split(1), labels.split(1), strict=True))
    wanted = torch.cat([stated(network, *pair, "l2", 0.1, 0.01, (-3.0, 3.0)) for pair in pairs])
    found, outcome = alone(network, images, labels, attacks.advertorch("l2", 0.1, 0.01, STEPS, (-3.0, 3.0)))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    images.requires_grad_()
    (gradients,) = torch.autograd.grad(F.cross_entropy(network(images), labels, reduction="sum"), images)
    flat = gradients.flatten(1).norm(dim=1) < 1e-6
    assert torch.equal(outcome.flat[0], flat)
    assert 0 < flat.sum() < len(flat)
    assert outcome.l2[0, flat].max() < 0.099 <= outcome.l2[0, ~flat].min()
    with_exact_steps = attacks.Descent("l2", 0.1, 0.01, STEPS)
    assert alone(network, images, labels, with_exact_steps)[1].l2.min() > 0.099


def test_clipping_moves_values_farther_than_epsilon():
    network, images, labels = standardized()
    for norm in ("linf", "l2"):
        _, outcome = alone(network, images, labels, attacks.advertorch(norm, 0.03, 0.003, STEPS, (-2.0, 2.0)))
        assert torch.equal(outcome.moved[0], (images.abs() > 2.03).sum(dim=(1, 2, 3)))
        assert outcome.linf.max() > 0.5


def test_in_linf_advertorch_is_pgd_of_the_last_iterate():
    network, images, labels = standardized()
    ours, _ = alone(network, images, labels, attacks.advertorch("linf", 0.1, 0.02, 9, (-2.0, 2.0)))
    plain, _ = alone(network, images, labels, attacks.Descent("linf", 0.1, 0.02, 9, (-2.0, 2.0)))
    assert torch.equal(ours, plain)
