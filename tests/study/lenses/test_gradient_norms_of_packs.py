"""Gradient norms of members side by side against those that each member has alone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from study.engine.grouped import PackedLinear
from study.lenses import ghost_norms, gradient_norms
from study.networks import norms
from tests.study.lenses.networks import (
    COLOURS,
    EXACT,
    NORMS,
    PACKED,
    assert_each_as_if_alone,
    lenet,
    loops,
    of_pack,
    own_data,
    packed,
    small_resnet,
    transformer,
)


def small_vgg() -> nn.Module:
    layers = [
        layer
        for given, width in ((3, 6), (6, 8))
        for layer in (
            nn.Conv2d(given, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, ceil_mode=True),
        )
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def padded_by_name() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 4))


BUILT = {"lenet": lenet, "resnet": small_resnet, "vgg": small_vgg}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT.keys())
def test_members_side_by_side_have_the_norms_of_their_own_loops(build, norm):
    assert_each_as_if_alone(packed("grouped", lambda: norms.swap(build(), norm, COLOURS)), "_by_layers")


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT.keys())
def test_members_that_no_layer_computes_together_have_them_too(build):
    assert_each_as_if_alone(packed("vmap", build, size=2), "_each_by_layers")


def test_members_with_a_layer_that_has_no_rule_side_by_side_go_alone():
    assert_each_as_if_alone(packed("grouped", padded_by_name), "_each_by_layers")


def test_a_rule_that_is_wrong_for_members_side_by_side_is_found_out(monkeypatch):
    def of_all(*given: Any) -> Tensor:
        *rest, members = given
        return ghost_norms._linear(*rest, 1).expand(-1, members)

    monkeypatch.setitem(ghost_norms.RULES, PackedLinear, of_all)
    assert_each_as_if_alone(packed("grouped", lenet), "_each_by_layers")


def test_members_that_need_torch_func_have_them_too():
    shape = (1, 16, 16)
    assert_each_as_if_alone(packed("vmap", transformer, size=2, shape=shape), "_by_vmap", shape)


@pytest.mark.parametrize("backend", PACKED)
def test_the_norms_of_a_pack_do_not_depend_on_the_chunk(backend, monkeypatch):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack, samples=7)
    whole = of_pack(pack, images, labels)
    for chunk in (1, 3, 100):
        torch.testing.assert_close(of_pack(pack, images, labels, chunk), whole, **EXACT)
    monkeypatch.setattr(gradient_norms, "AT_ONCE", 1)
    torch.testing.assert_close(of_pack(pack, images, labels), whole, **EXACT)


@pytest.mark.parametrize("backend", PACKED)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("member", [0, 2])
def test_a_member_without_finite_gradients_diverges_alone(backend, member, value):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack)
    wanted = loops(pack, images, labels)
    with torch.no_grad():
        next(pack.networks[member].parameters())[0, 0, 0, 0] = value
    found = of_pack(pack, images, labels)
    assert pack.diverged == {member: "a gradient is not finite"}
    assert found[member].isnan().all()
    torch.testing.assert_close(found[pack.alive], wanted[pack.alive], **EXACT)


@pytest.mark.parametrize("backend", PACKED)
def test_members_that_have_diverged_before_have_no_norms(backend):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack)
    pack.diverged |= {0: "its loss", 1: "its loss"}
    found = of_pack(pack, images, labels)
    assert found.isnan().all(dim=1).tolist() == [True, True, False]
    torch.testing.assert_close(found[2], loops(pack, images, labels)[2], **EXACT)
    pack.diverged[2] = "its logits"
    assert of_pack(pack, images, labels).isnan().all()
    assert set(pack.diverged.values()) == {"its loss", "its logits"}


@pytest.mark.parametrize("backend", PACKED)
def test_a_pack_is_left_as_it_was(backend):
    pack = packed(backend, small_resnet)
    images, labels = own_data(pack)
    pack.train()
    layers = [layer for network in pack.networks for layer in network.modules()]
    layers += [] if pack.joint_network is None else list(pack.joint_network.modules())
    layers[1].training = layers[-1].training = False
    kept = pack.parameters[0]
    kept.grad = torch.full_like(kept, 7)
    flags = [layer.training for layer in layers]
    state = [copy.deepcopy(network.state_dict()) for network in pack.networks]
    with torch.no_grad():
        of_pack(pack, images, labels)
    assert [layer.training for layer in layers] == flags
    assert all(parameter.requires_grad for parameter in pack.parameters)
    assert all(parameter.requires_grad for network in pack.networks for parameter in network.parameters())
    assert [parameter for parameter in pack.parameters if parameter.grad is not None] == [kept]
    assert (kept.grad == 7).all()
    assert not any(layer._forward_hooks for layer in layers)
    for network, before in zip(pack.networks, state, strict=True):
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_frozen_parameters_of_a_pack_do_not_count():
    def partly_frozen() -> nn.Module:
        network = small_resnet()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.endswith("bias") or name == "0.weight")
        return network

    pack = packed("grouped", partly_frozen)
    trained = [parameter.requires_grad for parameter in pack.joint_network.parameters()]
    assert_each_as_if_alone(pack, "_by_layers")
    assert [parameter.requires_grad for parameter in pack.joint_network.parameters()] == trained
    assert 0 < sum(trained) < len(trained)
