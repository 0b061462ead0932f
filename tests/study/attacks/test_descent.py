"""What attacks leave alone, how far they go, and what no saturated loss can hide."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study import attacks
from study.attacks import Descent, Draws
from study.engine.pack import Single
from study.errors import BadInputError
from tests.study.attacks.networks import SAMPLES, alone, attacked, images_and_labels, in_eval_mode, mlp, resnet, scaled
from tests.study.lenses.networks import COLOURS, small_resnet, used

DESCENTS = [
    attacks.fgsm(0.02, (0, 1)),
    attacks.bim(0.02, 0.004, 8),
    attacks.pgd("linf", 0.02, 8, restarts=2),
    attacks.pgd("l2", 0.3, 8, restarts=2),
    attacks.advertorch("l2", 0.3, 0.06, 8, (0.0, 1.0)),
]


@pytest.mark.parametrize("descent", DESCENTS)
@pytest.mark.parametrize("backend", ["single", "grouped", "vmap"])
def test_all_is_left_as_it_was(backend, descent):
    networks = [used(small_resnet(), COLOURS).eval() for _ in range(1 if backend == "single" else 2)]
    for network in networks:
        network[0].weight.requires_grad_(False)
    pack = in_eval_mode(backend, networks)
    images, labels = images_and_labels(pack.networks[0].eval())
    tensors = [images, labels, *pack.parameters]
    tensors += [tensor for network in pack.networks for tensor in network.state_dict().values()]
    values, flags = [tensor.clone() for tensor in tensors], [tensor.requires_grad for tensor in tensors]
    for parameter in pack.parameters:
        parameter.grad = torch.full_like(parameter, 3)
    attacked(pack, images, labels, descent)
    attacks.judge(pack, images, images, labels)
    assert all(torch.equal(tensor, value) for tensor, value in zip(tensors, values, strict=True))
    assert [tensor.requires_grad for tensor in tensors] == flags
    assert all((parameter.grad == 3).all() for parameter in pack.parameters)
    assert not pack.training
    assert len(pack.parameters) == len([*small_resnet().parameters()]) - 1


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(768, 4)

    def forward(self, images: Tensor) -> Tensor:
        raise ZeroDivisionError


class Blind(Failing):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.zeros(len(images), 768))


def test_after_an_error_parameters_can_be_trained_again():
    network = Failing().eval()
    with pytest.raises(ZeroDivisionError):
        attacked(Single([network]), torch.zeros(1, *COLOURS), torch.zeros(1, dtype=torch.int64), DESCENTS[0])
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_network_that_does_not_look_is_refused():
    with pytest.raises(BadInputError, match="Blind has no gradient in its images"):
        attacked(Single([Blind().eval()]), torch.zeros(1, *COLOURS), torch.zeros(1, dtype=torch.int64), DESCENTS[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("descent", [*DESCENTS, attacks.pgd("linf", 0.02, 40), attacks.fgsm(0.3, norm="l2")])
def test_no_image_leaves_the_ball_or_the_bounds(descent, dtype):
    network = resnet().to(dtype)
    images, labels = images_and_labels(network.double())
    images = images.to(dtype)
    found, outcome = alone(network.to(dtype), images, labels, descent)
    distance = (found.double() - images.double()).flatten(1).norm(p={"linf": torch.inf, "l2": 2}[descent.norm], dim=1)
    assert distance.max() <= descent.epsilon * (1 + (1e-15 if descent.norm == "linf" else 1e-6))
    assert distance.max() > 0.99 * descent.epsilon
    assert outcome.moved.sum() == 0
    if descent.bounds:
        assert found.min() >= 0
        assert found.max() <= 1


def test_an_image_that_fools_at_once_is_not_touched_and_takes_no_steps():
    network = resnet()
    images, labels = images_and_labels(network)
    found, outcome = alone(network, images, labels, attacks.pgd("linf", 0.02, 8, restarts=3))
    wrong = network(images).argmax(dim=1) != labels
    assert wrong.any()
    assert torch.equal(found[wrong], images[wrong])
    assert outcome.steps[0, wrong].tolist() == [0] * int(wrong.sum())
    assert outcome.fooled[0, wrong].all()


def test_images_that_fool_leave_the_batch():
    network, images = mlp(), torch.rand(100, *COLOURS, dtype=torch.float64)
    labels = network(images).argmax(dim=1)
    labels[:20] = (labels[:20] + 1) % 4
    seen: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    pack = Single([network])
    attacks.attack(pack, images, labels, Descent("linf", 0.05, 0.01, 9))
    assert seen == [100] * 10
    seen.clear()
    attacks.attack(pack, images, labels, Descent("linf", 0.05, 0.01, 9, verdict="any"))
    assert seen[:2] == [100, 80]
    assert seen == sorted(seen, reverse=True)
    assert 0 < seen[-1] < 60
    seen.clear()
    attacks.attack(pack, images, labels, Descent("linf", 0.9, 0.1, 9, verdict="any"))
    assert len(seen) < 9, "once all are fooled there is nothing more to do"


def any_iterate(network: nn.Module, image: Tensor, label: Tensor, starts: list[Tensor], epsilon: float) -> bool:
    """Whether an image is misclassified as it is or at any of 8 steps from any start; in linf, in [0, 1]."""
    if network(image).argmax() != label:
        return True
    for start in starts:
        now = start
        for _ in range(8):
            now = now.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(now), label), now)
            stepped = now.detach() + 2.5 * epsilon / 8 * gradient.sign()
            now = (image + (stepped - image).clamp(-epsilon, epsilon)).clamp(0, 1)
            if network(now).argmax() != label:
                return True
    return False


@pytest.mark.parametrize("epsilon", [0.003, 0.01, 0.02])
def test_an_image_is_robust_if_it_survives_every_iterate_from_every_start(epsilon):
    network = resnet()
    images, labels = images_and_labels(network)
    _, outcome = alone(network, images, labels, attacks.pgd("linf", epsilon, 8, restarts=3))
    wanted = []
    uniform = [Draws([7], SAMPLES).uniform(COLOURS, "linf", restart)[0] for restart in range(3)]
    for image, label, *noise in zip(images.split(1), labels.split(1), *uniform, strict=True):
        starts = [(image + epsilon * (2 * each - 1)).clamp(0, 1) for each in noise]
        wanted.append(any_iterate(network, image, label, starts, epsilon))
    assert outcome.fooled[0].tolist() == wanted


def plain(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Which images the gradient of the cross-entropy in the network's own dtype fools, in 10 steps of linf."""
    now = images
    for _ in range(10):
        now = now.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(now), labels, reduction="sum"), now)
        now = images + (now.detach() + epsilon / 4 * gradient.sign() - images).clamp(-epsilon, epsilon)
    return network(now).argmax(dim=1) != labels


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_a_saturated_loss_hides_nothing(loss, norm):
    network = mlp().float()
    images = torch.rand(100, *COLOURS)
    labels = network(images).argmax(dim=1)
    epsilon = {"linf": 0.05, "l2": 1.0}[norm]
    descent = Descent(norm, epsilon, epsilon / 4, 10, loss=loss)
    fooled = {}
    for name, each in (("as it is", network), ("saturated", scaled(network, 1e4))):
        draws = Draws([7], torch.arange(100))
        outcome = attacks.attack(Single([each]), images, labels, descent, draws)[1]
        fooled[name] = outcome.fooled.double().mean().item()
    assert fooled["as it is"] > 0.3
    assert fooled["saturated"] >= fooled["as it is"] - 0.02
    if (loss, norm) == ("ce", "linf"):
        assert plain(network, images, labels, epsilon).double().mean() >= fooled["as it is"] - 0.02
        assert not plain(scaled(network, 1e4), images, labels, epsilon).any()


def test_images_of_a_saturated_network_are_flat():
    network, images = mlp().float(), torch.rand(100, *COLOURS)
    labels = network(images).argmax(dim=1)
    share = {}
    for factor in (1, 100, 1e4):
        each = scaled(network, factor)
        outcome = attacks.attack(Single([each]), images, labels, attacks.fgsm(0.01))[1]
        norms = {}
        for dtype in (torch.float32, torch.float64):
            own = images.to(dtype, copy=True).requires_grad_()
            loss = F.cross_entropy(each.to(dtype)(own), labels, reduction="sum")
            norms[dtype] = torch.autograd.grad(loss, own)[0].flatten(1).norm(dim=1)
        assert torch.equal(outcome.flat[0], norms[torch.float64] < 1e-6)
        # In float32 the label's own entry is lost where its probability is rounded to 1.
        assert (norms[torch.float32][outcome.flat[0]] < 1e-6).all()
        share[factor] = outcome.flat.double().mean().item()
    assert share[1] == 0 < share[100] < share[1e4] == 1
