"""Nothing that an attack finds depends on the backend, the size of a pack or of a batch."""

import pytest
import torch
from torch import nn

from study import attacks
from study.attacks import Descent, Draws, Outcome
from study.engine.pack import Pack, Single
from tests.study.attacks.networks import SAMPLES, assert_equal, attacked, images_and_labels, in_eval_mode
from tests.study.lenses.networks import COLOURS, lenet, small_resnet, transformer, used

CLOSE = {"rtol": 0.0, "atol": 1e-10}
DESCENTS = {
    "fgsm": attacks.fgsm(0.01, (0, 1)),
    "bim": attacks.bim(0.01, 0.002, 6),
    "pgd-linf": attacks.pgd("linf", 0.01, 6, restarts=2),
    "pgd-l2": attacks.pgd("l2", 0.2, 6, restarts=2),
    "margin": attacks.pgd("l2", 0.2, 6, loss="margin"),
    "advertorch": attacks.advertorch("l2", 0.2, 0.05, 6, (0.1, 0.9)),
}


def colour_transformer() -> nn.Module:
    network = transformer()
    network.conv_proj = nn.Conv2d(3, 8, 8, stride=8)
    return network


PACKS = {
    "grouped-lenet": lenet,
    "grouped-resnet": small_resnet,
    "vmap-resnet": small_resnet,
    "vmap-vit": colour_transformer,
}


@pytest.mark.parametrize("descent", DESCENTS.values(), ids=DESCENTS.keys())
@pytest.mark.parametrize("packed", PACKS)
def test_every_member_is_attacked_as_if_alone(packed, descent):
    networks = [used(PACKS[packed](), COLOURS).eval() for _ in range(3)]
    images, labels = images_and_labels(networks[0])
    seeds = [4, 9, 4]
    found, together = attacked(in_eval_mode(packed.partition("-")[0], networks), images, labels, descent, seeds)
    for member, network in enumerate(networks):
        wanted, outcome = attacked(Single([network]), images, labels, descent, [seeds[member]])
        torch.testing.assert_close(found[member], wanted[0], **CLOSE)
        assert_equal(of_member(together, member), outcome, **CLOSE)
    assert together.fooled.any(dim=1).all()
    assert not together.fooled.all()


def of_member(outcome: Outcome, member: int) -> Outcome:
    columns = {name: value[member][None] for name, value in vars(outcome).items() if isinstance(value, torch.Tensor)}
    return Outcome(**{"flat": None, **columns}, failed={})


@pytest.mark.parametrize("descent", DESCENTS.values(), ids=DESCENTS.keys())
@pytest.mark.parametrize("size", [1, 7, 512])
def test_the_size_of_a_batch_does_not_matter(size, descent):
    pack = in_eval_mode("grouped", [used(lenet(), COLOURS).eval() for _ in range(2)])
    images, labels = images_and_labels(pack.networks[0].eval())
    whole, outcome = attacked(pack, images, labels, descent)
    parts = [
        attacks.attack(pack, *part[:2], descent, Draws([7, 7], part[2]))
        for part in zip(images.split(size), labels.split(size), SAMPLES.split(size), strict=True)
    ]
    torch.testing.assert_close(torch.cat([found for found, _ in parts], dim=1), whole, **CLOSE)
    assert_equal(attacks.join([part for _, part in parts]), outcome, **CLOSE)


def test_members_may_have_images_and_labels_of_their_own():
    pack = in_eval_mode("grouped", [used(lenet(), COLOURS).eval() for _ in range(2)])
    images, labels = images_and_labels(pack.networks[0].eval())
    others, theirs = images.flip(3), labels.flip(0)
    descent = DESCENTS["pgd-linf"]
    both, _ = attacked(pack, torch.stack([images, others]), torch.stack([labels, theirs]), descent)
    torch.testing.assert_close(both[0], attacked(pack, images, labels, descent)[0][0], **CLOSE)
    torch.testing.assert_close(both[1], attacked(pack, others, theirs, descent)[0][1], **CLOSE)


def broken_pack(backend: str) -> Pack:
    """Three members, of which the second computes no numbers."""
    networks = [used(small_resnet(), COLOURS).eval() for _ in range(3)]
    pack = in_eval_mode(backend, networks)
    with torch.no_grad():
        pack.networks[1][0].weight.fill_(torch.nan)
    return pack


@pytest.mark.parametrize("backend", ["grouped", "vmap"])
@pytest.mark.parametrize("descent", DESCENTS.values(), ids=DESCENTS.keys())
def test_a_member_without_finite_gradients_is_reported_and_the_others_go_on(descent, backend):
    pack = broken_pack(backend)
    images, labels = images_and_labels(pack.networks[0].eval())
    found, outcome = attacked(pack, images, labels, descent, [7, 7, 7])
    assert outcome.failed == {1: "a gradient is not finite"}
    assert outcome.loss[1].isnan().all()
    for member in (0, 2):
        alone, _ = attacked(Single([pack.networks[member].eval()]), images, labels, descent)
        torch.testing.assert_close(found[member], alone[0], **CLOSE)
    assert pack.diverged == {}


def test_a_member_that_fails_on_one_batch_has_failed():
    pack = broken_pack("grouped")
    images, labels = images_and_labels(pack.networks[0].eval())
    outcome = attacks.judge(pack, images, images, labels)
    assert outcome.failed == {1: "the logits are not finite"}
    sound = Outcome(**{**vars(outcome), "failed": {}})
    assert attacks.join([sound, outcome, sound]).failed == outcome.failed


class Narrow(nn.Module):
    """A network whose gradient is not finite for dark images alone, though every logit is."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(768, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1).sqrt())


def test_one_image_without_a_finite_gradient_is_enough():
    network = Narrow().double().eval()
    images = torch.rand(4, *COLOURS, dtype=torch.float64) + 0.1
    images[2] = 0
    _, outcome = attacked(Single([network]), images, network(images).argmax(dim=1), attacks.fgsm(0.01, (0, 1)))
    assert outcome.failed == {0: "a gradient is not finite"}


def test_of_a_member_that_fails_on_the_way_nothing_is_said():
    network = Narrow().double().eval()
    images = torch.rand(4, *COLOURS, dtype=torch.float64) / 10 + 0.05
    labels = network(images).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 4
    # Not before the second step are there values of 0, and by then the first image has left.
    _, outcome = attacked(Single([network]), images, labels, Descent("linf", 0.1, 0.1, 2, (0, 1), verdict="any"))
    assert outcome.failed == {0: "a gradient is not finite"}
    assert outcome.steps.tolist() == [[0, 1, 1, 1]]
    assert outcome.loss.isnan().all()


def test_descents_that_make_no_sense_are_refused():
    for wrong in ({"steps": 0}, {"restarts": 2}, {"clip_first": True}):
        with pytest.raises(ValueError, match=r"start|clip_first"):
            Descent(**{"norm": "linf", "epsilon": 0.1, "step": 0.1, "steps": 2, **wrong})
