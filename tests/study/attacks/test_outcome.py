import pytest
import torch
from torch import nn
from torch.nn import functional as F

from study import attacks
from study.attacks.gradients import l2_norms
from study.attacks.outcome import ranks
from study.engine.pack import Single
from tests.study.attacks.networks import in_eval_mode, mlp


def test_the_rank_is_how_many_classes_come_before_the_label():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0]]).expand(4, 4)
    assert ranks(logits, torch.arange(4)).tolist() == [0, 2, 1, 3]


def test_of_equal_logits_the_first_comes_first_as_in_argmax():
    logits = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    for labels in ([0, 1], [1, 2], [2, 0]):
        labels = torch.tensor(labels)
        found = ranks(logits, labels)
        assert torch.equal(found == 0, logits.argmax(dim=1) == labels)
    assert ranks(logits, torch.tensor([2, 2])).tolist() == [2, 1]


def test_ranks_below_five_are_the_top_five():
    logits, labels = torch.randn(3, 50, 10), torch.randint(0, 10, (3, 50))
    wanted = (logits.topk(5, dim=2).indices == labels[..., None]).any(dim=2)
    assert torch.equal(ranks(logits, labels) < 5, wanted)


@pytest.mark.parametrize("backend", ["grouped", "vmap"])
def test_perturbed_images_are_judged_by_every_member(backend):
    networks = [mlp(), mlp()]
    originals, labels = torch.rand(30, 3, 16, 16, dtype=torch.float64), torch.randint(0, 4, (30,))
    perturbed = torch.stack([originals + 0.1 * torch.randn_like(originals) for _ in networks])
    outcome = attacks.judge(in_eval_mode(backend, networks), originals, perturbed, labels, epsilon=0.2)
    for member, network in enumerate(networks):
        logits = network(perturbed[member])
        assert torch.equal(outcome.fooled[member], logits.argmax(dim=1) != labels)
        torch.testing.assert_close(outcome.loss[member], F.cross_entropy(logits, labels, reduction="none"))
        noise = (perturbed[member] - originals).flatten(1).abs()
        torch.testing.assert_close(outcome.linf[member], noise.amax(dim=1))
        torch.testing.assert_close(outcome.l2[member], noise.norm(dim=1))
        assert torch.equal(outcome.moved[member], (noise > 0.2).sum(dim=1))
    assert outcome.flat is None
    assert outcome.failed == {}
    assert outcome.moved.sum() > 0


def test_images_that_all_members_share_need_no_copies():
    network = mlp()
    originals, labels = torch.rand(5, 3, 16, 16, dtype=torch.float64), torch.arange(5) % 4
    shared = attacks.judge(in_eval_mode("grouped", [network, network]), originals, originals.flip(3), labels)
    own = attacks.judge(Single([network]), originals[None], originals.flip(3)[None], labels[None])
    torch.testing.assert_close(shared.loss[1], own.loss[0])
    assert shared.moved.sum() == 0


def test_the_outcomes_of_batches_are_joined():
    network = mlp()
    pack, images, labels = Single([network]), torch.rand(9, 3, 16, 16, dtype=torch.float64), torch.arange(9) % 4
    parts = [
        attacks.judge(pack, *(part, part), own) for part, own in zip(images.split(4), labels.split(4), strict=True)
    ]
    whole, joined = attacks.judge(pack, images, images, labels), attacks.join(parts)
    assert torch.equal(joined.rank, whole.rank)
    torch.testing.assert_close(joined.loss, whole.loss)
    assert joined.flat is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_are_right_for_values_whose_squares_are_no_numbers(dtype):
    values = torch.randn(2, 3, 1, 4, 4, dtype=dtype)
    scales = torch.tensor([[1.0, 1e-25, 1e25], [0.0, 1e-12, 1e12]], dtype=torch.float64)
    norms = l2_norms(values * scales.to(dtype)[..., None, None, None])
    torch.testing.assert_close(norms, values.double().flatten(2).norm(dim=2) * scales, rtol=1e-6, atol=0)
    values[0, 1, 0, 0, 0] = torch.inf
    values[1, 2, 0, 0, 0] = torch.nan
    assert l2_norms(values).isfinite().tolist() == [[True, False, True], [True, True, False]]


class Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, images):
        return self.bias.expand(len(images), 4)


def test_no_images_can_not_be_attacked():
    with pytest.raises(ValueError, match="no image"):
        attacks.attack(Single([Nothing().eval()]), torch.zeros(0, 3, 2, 2), torch.zeros(0).long(), attacks.fgsm(0.1))
