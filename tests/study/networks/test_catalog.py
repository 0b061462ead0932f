from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from study.networks.build import BUILDERS
from study.networks.catalog import COUNTED_INPUTS, NETWORKS, NORMS, TOKEN_NORMS
from study.networks.mlp import deep_mlp
from study.networks.parts import Builder, Shape
from study.run import run
from study.trial import Trial
from sweeps import registry
from sweeps.estimate import flops
from sweeps.sweep import Scale


def two_layers(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(shape[0], 4, kernel_size=5, stride=4, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    )


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a network that is a row and a builder, and nothing else."""
    monkeypatch.setitem(NETWORKS, "two_layers", replace(NETWORKS["lenet"], name="two_layers", printed="Two layers"))
    monkeypatch.setitem(BUILDERS, "two_layers", two_layers)
    return "two_layers"


def test_every_row_has_a_builder_and_every_builder_a_row():
    assert NETWORKS.keys() == BUILDERS.keys()
    assert all(row.name == name for name, row in NETWORKS.items())


@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_network_is_built_with_the_norm_that_its_row_names(architecture):
    kinds = {"batch": {nn.BatchNorm1d, nn.BatchNorm2d}, "layer": {nn.LayerNorm}}
    network = BUILDERS[architecture]((3, 32, 32), 10)
    found = {type(layer) for layer in network.modules() if "Norm" in type(layer).__name__}
    assert found <= kinds.get(NETWORKS[architecture].built_with, set())
    assert bool(found) == (NETWORKS[architecture].built_with != "none")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", NETWORKS)
def test_the_operations_of_a_row_are_those_of_a_pass(architecture):
    for shape, classes in COUNTED_INPUTS:
        counted = operations(BUILDERS[architecture], shape, classes)
        assert NETWORKS[architecture].operations_for(shape, classes, hidden_layers=1) == counted


def test_the_operations_of_a_deep_mlp_grow_with_its_layers():
    shape = (1, 28, 28)
    counted = operations(lambda shape, classes: deep_mlp(shape, classes, 7), shape, 10)
    assert NETWORKS["deep_mlp"].operations_for(shape, 10, hidden_layers=7) == counted


def operations(builder: Builder, shape: Shape, classes: int) -> int:
    # On the meta device shapes are worked out and nothing is computed.
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        builder(shape, classes).eval()(torch.zeros(1, *shape))
    return counter.get_total_flops()


def test_the_operations_of_lenet_are_those_counted_by_hand():
    # Two convolutions, 6x1x5x5 on 28x28 and 16x6x5x5 on 10x10, and three linear layers; a product and a sum each.
    macs = 6 * 25 * 28 * 28 + 16 * 6 * 25 * 10 * 10 + 400 * 120 + 120 * 84 + 84 * 10
    assert NETWORKS["lenet"].operations_for((1, 28, 28), 10) == 2 * macs


def test_operations_that_were_not_counted_are_unknown():
    assert NETWORKS["lenet"].operations_for((1, 20, 20), 10) is None
    assert NETWORKS["lenet"].operations_for((1, 28, 28), 7) is None


@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_network_can_be_planned_with_every_norm_that_it_can_be_given(architecture):
    norms = {"batch": NORMS, "layer": TOKEN_NORMS, "none": ("none",)}[NETWORKS[architecture].built_with]
    overrides = {"architecture": [architecture], "norm": list(norms), "k": [0.1], **needs(architecture)}
    plan = registry.sweep("quickstart").plan(Scale.quick, overrides)
    assert [trial.norm for trial in plan.trials] == list(norms)
    assert all(flops(trial) for trial in plan.trials)


def needs(architecture: str) -> dict[str, list[int]]:
    return {"hidden_layers": [3]} if architecture == "deep_mlp" else {}


def test_a_network_is_a_row_and_a_builder(added, tmp_path):
    trial = Trial(architecture=added, norm="group", k=0.1, epochs=1)
    assert flops(trial)
    (member,) = run(trial, tmp_path, backend="single").members
    assert (member["status"], member["architecture"], member["parameters"]) == ("ok", added, 4 * 25 + 8 + 50)
