"""Gradient norms of one network against batches of one, and the networks that are refused."""

import copy

import pytest
import torch
from torch import nn

from study.data.dataset import Dataset
from study.engine.pack import Single
from study.errors import BadInputError
from study.lenses import gradient_norms, mechanism
from study.networks import build, norms
from study.trial import Trial
from tests.conftest import random_split
from tests.study.lenses.networks import (
    EXACT,
    NORMS,
    Borrowed,
    Forked,
    Mixing,
    Overwritten,
    PreActivation,
    Twice,
    Uncalled,
    assert_exact,
    data,
    encoder,
    grad_norms,
    of_pack,
    parametrized,
    small_resnet,
    tied,
    transformer,
    used,
)


@pytest.mark.parametrize("norm", NORMS)
def test_lenet_has_the_norms_of_the_loop(norm):
    assert_exact(build.build("lenet", (1, 28, 28), 4, norm, seed=0), (1, 28, 28), "_by_layers")


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_network_has_the_norms_of_the_loop(norm):
    network = norms.swap(small_resnet(), norm, (3, 16, 16))
    assert_exact(network, (3, 16, 16), "_by_layers")


def test_a_pre_activation_network_has_the_norms_of_the_loop():
    assert_exact(PreActivation(), (1, 16, 16), "_by_layers")


OTHERWISE = {
    "vision transformer": transformer,
    "torch's encoder": encoder,
    "a layer twice": Twice,
    "a weight behind its layer's back": Borrowed,
    "a weight without its layer": Uncalled,
    "an input that is overwritten": Overwritten,
    "a weight of two layers": tied,
    "a weight that is computed": parametrized,
}


@pytest.mark.parametrize("build", OTHERWISE.values(), ids=OTHERWISE.keys())
def test_what_hooks_would_get_wrong_has_the_norms_of_the_loop_too(build):
    gradient_norms.check_exact(build(), (1, 16, 16), 4)
    assert_exact(build(), (1, 16, 16), "_by_vmap")


class Attending(nn.Module):
    """Attention over the pixels that come out of a batch norm, of which torch.func gets the gradient wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 8, 4, stride=4, bias=False), nn.BatchNorm2d(8)
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.bn(self.conv(images)).flatten(2).transpose(1, 2)
        return self.head((tokens + self.attention(tokens, tokens, tokens)[0]).mean(dim=1))


SLOW = {
    "attention after batch norm": Attending,
    "a layer twice": lambda: Forked(Twice()),
    "a weight of two layers": lambda: Forked(tied()),
    "a weight without its layer": lambda: Forked(Uncalled()),
    "a weight behind its layer's back": lambda: Forked(Borrowed()),
    "an input that is overwritten": lambda: Forked(Overwritten()),
    "a parameter beside layers": lambda: Forked(transformer()),
}


@pytest.mark.parametrize("build", SLOW.values(), ids=SLOW.keys())
def test_what_nothing_else_gets_right_has_the_norms_of_the_loop_sample_by_sample(build):
    assert gradient_norms.check_exact(build(), (1, 16, 16), 4) is gradient_norms._by_samples
    assert_exact(build(), (1, 16, 16), "_by_samples")


def test_that_it_is_slow_is_said_and_the_mechanism_is_refused(capsys):
    split = random_split(8, 4, seed=0, channels=1, size=16)
    given = Dataset(split, split, classes=4)
    gradient_norms.check(Trial(samples="gradients"), Attending(), given)
    assert capsys.readouterr().err == "gradient norms of Attending can be had sample by sample alone, which is slow.\n"
    with pytest.raises(BadInputError, match=r"several samples of Attending at once, .*: use mechanism=0"):
        mechanism.check(Trial(mechanism=2), Attending(), given)


def test_a_branch_that_starts_at_zero_does_not_hide_what_is_behind_it():
    network = Borrowed()
    nn.init.zeros_(network.head.weight)
    assert gradient_norms._exact_way(Single([network.eval()]), (1, 16, 16)) is gradient_norms._by_vmap


@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_the_norms_do_not_depend_on_the_chunk(build, monkeypatch):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape, samples=7)
    whole = grad_norms(network, images, labels)
    for chunk in (1, 3, 7, 100):
        torch.testing.assert_close(grad_norms(network, images, labels, chunk), whole, **EXACT)
    monkeypatch.setattr(gradient_norms, "WHOLE", 1)
    torch.testing.assert_close(grad_norms(network, images, labels), whole, **EXACT)


@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_float32_is_close_to_float64(build):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape, samples=20)
    wide = grad_norms(network, images, labels)
    narrow = grad_norms(network.float(), images, labels)
    assert narrow.dtype == torch.float64
    torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=0)


def test_the_gradient_of_a_sample_that_is_known_well_is_not_lost_in_float32():
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 4)).double()
    with torch.no_grad():
        network[3].bias.copy_(torch.tensor([120.0, 0, 0, 0]))
    images, labels = data((1, 16, 16))
    labels = torch.zeros_like(labels)
    wide = grad_norms(network, images, labels)
    assert (wide > 0).all()
    assert (wide < 1e-45).all()
    torch.testing.assert_close(grad_norms(network.float(), images, labels), wide, rtol=1e-4, atol=0)


@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_the_network_is_left_as_it_was(build):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape)
    layers = list(network.modules())
    layers[1].training = False
    frozen, kept = list(network.parameters())[:2]
    frozen.requires_grad_(False)
    kept.grad = torch.full_like(kept, 7)
    flags, state = [layer.training for layer in layers], copy.deepcopy(network.state_dict())
    gradient_norms.check_exact(network, shape, 4)
    with torch.no_grad():
        grad_norms(network, images, labels)
    assert [layer.training for layer in layers] == flags
    assert [parameter.requires_grad for parameter in network.parameters()] == [
        parameter is not frozen for parameter in network.parameters()
    ]
    assert [parameter for parameter in network.parameters() if parameter.grad is not None] == [kept]
    assert (kept.grad == 7).all()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in layers)


def test_no_samples_have_no_norms():
    images, labels = data((1, 16, 16))
    assert grad_norms(transformer(), images[:0], labels[:0]).shape == (0,)


def test_a_diverged_network_is_told_apart_from_a_large_gradient():
    network = PreActivation()
    nn.init.constant_(network.conv.weight, float("nan"))
    pack = Single([network])
    images, labels = data((1, 16, 16))
    assert of_pack(pack, [images], [labels]).isnan().all()
    assert pack.diverged == {0: "a gradient is not finite"}


@pytest.mark.parametrize("norm", NORMS)
def test_the_networks_of_the_study_pass_the_check(norm):
    gradient_norms.check_exact(build.build("lenet", (1, 16, 16), 4, norm, seed=0), (1, 16, 16), 4)


def no_running_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(392, 4)
    )


def frozen() -> nn.Module:
    return Twice().requires_grad_(False)


REFUSED = {
    "batch statistics": (no_running_statistics, "layer '1' has no running statistics"),
    "samples that see each other": (Mixing, "Mixing mixes the samples of a batch"),
    "nothing to train": (frozen, "Twice has no trainable parameters"),
    "no parameters": (nn.Flatten, "Flatten has no trainable parameters"),
    "another number of classes": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 5)), "has 5 logits, not 4"),
    "images that don't fit": (lambda: nn.Linear(3, 4), "Linear fails on single images in float64: RuntimeError"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_network_without_exact_norms_is_refused_in_one_sentence(build, message):
    network = build()
    with pytest.raises(BadInputError, match=message) as caught:
        gradient_norms.check_exact(network, (1, 16, 16), 4)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert network.training


def test_norms_are_refused_where_the_check_was_left_out():
    network = Mixing()
    with pytest.raises(BadInputError, match="mixes the samples"):
        grad_norms(network, *data((1, 16, 16)))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("build", [small_resnet, transformer])
def test_a_gpu_finds_the_same_norms(build):
    shape = (3, 16, 16) if build is small_resnet else (1, 16, 16)
    network = used(build(), shape)
    images, labels = data(shape)
    expected = grad_norms(network, images, labels)
    found = grad_norms(network.cuda(), images.cuda(), labels.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-9, atol=0)
