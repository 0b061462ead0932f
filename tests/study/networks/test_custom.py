import sys

import pytest
import torch
from torch import nn

from study.errors import BadInputError
from study.networks import build
from study.networks.catalog import NORMS, TOKEN_NORMS
from study.networks.norms import batch_norms
from tests.study.networks.examples import IMAGE, noise

SOURCE = """
import random
import numpy as np
import torch
from torch import nn

def small(shape, classes):
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * (height - 2) * (width - 2), classes),
    )

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.body, self.ln, self.head = nn.Linear(shape[-1], 6, bias=False), nn.LayerNorm(6), nn.Linear(6, classes)

    def forward(self, images):
        return self.head(self.ln(self.body(images)).mean(dim=(1, 2)))

def lazy(shape, classes):
    return nn.Sequential(
        nn.LazyConv2d(4, 3, bias=False), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes)
    )

def trains_only(shape, classes):
    network = small(shape, classes)
    network.train(False)
    return network

def reseeds(shape, classes):
    torch.manual_seed(0)
    return small(shape, classes)

def raises(shape, classes): raise RuntimeError("no weights.\\nNone at all")
def takes_too_few(shape): return small(shape, 10)
def no_module(shape, classes): return lambda images: images
def too_many_logits(shape, classes): return small(shape, classes + 1)
def a_map(shape, classes): return nn.Sequential(nn.Conv2d(shape[0], classes, 3), nn.BatchNorm2d(classes))
def wrong_size(shape, classes): return small((shape[0], 9, 9), classes)
def no_norm(shape, classes): return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

class Two(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.net = small(shape, classes)

    def forward(self, images):
        return self.net(images), images

class Peeks(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.net = small(shape, classes)

    def forward(self, images):
        return self.net(images) * self.net[1].num_features

ONE = small((3, 16, 16), 10)
AT_IMPORT = np.random.rand(), random.random()

def drawn(shape, classes):
    network = small(shape, classes)
    with torch.no_grad():
        network[0].weight.mul_(random.random()).add_(np.random.rand())
    return network

class Aux(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.net, self.aux = small(shape, classes), nn.LazyLinear(classes)

    def forward(self, images):
        return (self.net(images), self.aux(images.flatten(1))) if self.training else self.net(images)

class Untracked(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(*small(shape, classes))
        self[1] = nn.BatchNorm2d(4, track_running_stats=False)

def shared(shape, classes): return ONE
"""


@pytest.fixture
def user_nets(tmp_path, monkeypatch):
    """A module `user_nets` in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "user_nets.py").write_text(SOURCE)
    yield
    sys.modules.pop("user_nets", None)


def build_custom(name: str, norm: str = "batch", seed: int = 0, classes: int = 10) -> nn.Module:
    return build.build(f"user_nets:{name}", IMAGE, classes, norm, seed)


@pytest.mark.parametrize(
    ("name", "norms"), [("small", NORMS), ("lazy", NORMS), ("trains_only", NORMS), ("Net", TOKEN_NORMS)]
)
def test_a_network_of_the_users_goes_through_every_arm_with_shared_weights(user_nets, name, norms):
    arms = {norm: build_custom(name, norm, classes=7) for norm in norms}
    for norm, network in arms.items():
        assert network(noise()).shape == (2, 7)
        reference = arms["layer" if name == "Net" else "batch"].state_dict()
        state = network.state_dict()
        assert all(torch.equal(state[key], reference[key]) for key in state.keys() & reference.keys())
        assert ("Norm" in repr(network)) == (norm != "none")
    assert build.count_parameters(arms["none"]) < build.count_parameters(arms[norms[0]])


@pytest.mark.parametrize("name", ["small", "lazy", "Net", "drawn"])
def test_initial_weights_of_a_network_of_the_users_depend_on_the_seed_alone(user_nets, name):
    norm = "layer" if name == "Net" else "batch"
    one = build_custom(name, norm, seed=1).state_dict()
    torch.rand(10)
    again, other = build_custom(name, norm, seed=1).state_dict(), build_custom(name, norm, seed=2).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_looking_at_a_network_of_the_users_shows_it_no_data(user_nets):
    build_custom("small")
    before = torch.get_rng_state()
    _, layer = next(batch_norms(build_custom("small")))
    assert int(layer.num_batches_tracked) == 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", "architecture=user_nets:raises failed for 3x16x16 images: RuntimeError: no weights."),
        ("takes_too_few", "failed for 3x16x16 images: TypeError: takes_too_few() takes 1 positional argument"),
        ("no_module", "architecture=user_nets:no_module must return a torch.nn.Module, not function."),
        ("too_many_logits", "must give logits of shape [2, 10] for two images, not [2, 11]."),
        ("a_map", "must give logits of shape [2, 10] for two images, not [2, 10, 14, 14]."),
        ("Two", "must give logits of shape [2, 10] for two images, not a tuple."),
        ("wrong_size", "architecture=user_nets:wrong_size fails on two 3x16x16 images: RuntimeError: "),
        (
            "Aux",
            "has a lazy layer that eval mode never reaches, so 'aux.weight' has no shape: give",
        ),
        ("no_norm", "Sequential has neither batch norm nor layer norm, so there is nothing to compare."),
        ("smal", "unknown network of module user_nets 'smal': did you mean 'small'?"),
        ("ONE_", "unknown network of module user_nets 'ONE_'"),
    ],
)
def test_a_network_of_the_users_that_cannot_be_used_is_refused_in_one_line(user_nets, name, said):
    with pytest.raises(BadInputError) as caught:
        build_custom(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_that_reads_its_norms_is_refused_before_it_trains(user_nets):
    build_custom("Peeks", "batch")
    with pytest.raises(BadInputError, match="user_nets:Peeks with norm=none fails on two 3x16x16 images: Attribute"):
        build_custom("Peeks", "none")


def test_a_network_that_two_members_would_share_is_refused(user_nets):
    build_custom("shared", seed=0)
    with pytest.raises(BadInputError, match="returned one network twice"):
        build_custom("shared", seed=1)


def test_what_a_module_draws_as_it_is_imported_is_the_same_in_every_process(user_nets):
    build_custom("small")
    first = sys.modules.pop("user_nets").AT_IMPORT
    build_custom("small")
    assert first == sys.modules["user_nets"].AT_IMPORT


def images_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    return noise(16), torch.arange(16) % 10


def test_a_network_is_rehearsed_once_for_each_arm(user_nets, monkeypatch):
    images, labels = images_and_labels()
    rehearsed = []
    monkeypatch.setattr(build.rehearsal, "rehearse", lambda *given: rehearsed.append(given[:2]))
    for norm in ("batch", "none", "batch"):
        build.check("user_nets:small", norm, 0, images, labels, 10, 16)
        build.check("lenet", norm, 0, images, labels, 10, 16)
    assert rehearsed == [("user_nets:small", "batch"), ("user_nets:small", "none")]


@pytest.mark.parametrize(("name", "said"), [("small", False), ("lazy", False), ("reseeds", True)])
def test_that_a_network_has_the_same_weights_with_every_seed_is_said(user_nets, capsys, name, said):
    build.check(f"user_nets:{name}", "batch", 0, *images_and_labels(), 10, 16)
    assert ("starts from the same weights with every seed." in capsys.readouterr().err) == said


def test_a_network_that_was_refused_is_refused_again(user_nets):
    images, labels = images_and_labels()
    for _ in range(2):
        with pytest.raises(BadInputError, match="layer '1' has no running statistics"):
            build.check("user_nets:Untracked", "batch", 0, images, labels, 10, 16)
    build.check("user_nets:Untracked", "none", 0, images, labels, 10, 16)
