"""Many steps in one call, against each member's own steps with torch's layers in float64."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from study import engine
from study.data.dataset import Dataset
from study.engine.cpu import descent as descent_kernels
from study.engine.cpu import whole_steps
from study.engine.cpu.whole_steps import WholeSteps
from study.training.loop import Training
from study.trial import Trial
from tests.conftest import random_split
from tests.study.engine.test_backends import GREYS, difference, members, network, trained

NETWORKS = ("linear", "mlp", "deep_mlp", "mlp_2d", "spheres_mlp", "deep_linear")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each call took."""
    taken: list[int] = []
    call = WholeSteps.__call__

    def counted(self, images, *others):
        taken.append(images.shape[1])
        call(self, images, *others)

    monkeypatch.setattr(WholeSteps, "__call__", counted)
    return taken


def descent(**settings: object) -> Trial:
    """Batches of 5 of the 24 samples, the last of 4, at rates that drop once."""
    plain = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.02, "weight_decay": 0.01, "lr_drop": "3", "lr_factor": 0.1}
    return Trial.of({"k": 0.25, "batch_size": 5, "epochs": 6, **plain, **settings})


def of_constants(architecture: str, trial: Trial, seed: int, data: Dataset = GREYS) -> nn.Module:
    """A network whose batch norms have the trial's constants."""
    built = network(architecture, data, trial.norm, seed)
    for layer in built.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.eps, layer.momentum = trial.norm_eps, trial.norm_momentum or None
    return built


def assert_as_alone(architecture: str, *trials: Trial, data: Dataset = GREYS) -> None:
    """Each of a pack has the weights and running statistics that single steps of it alone lead to."""
    runs = members(data, *trials)
    initial = [of_constants(architecture, trial, seed, data) for seed, trial in enumerate(trials)]
    pack = trained("grouped", copy.deepcopy(initial), runs, data)
    for untrained, run, packed in zip(initial, runs, pack.networks, strict=True):
        alone = trained("single", [copy.deepcopy(untrained)], [run], data).networks[0]
        assert difference(alone, untrained) > 1e-6
        assert difference(packed, alone) < 1e-10


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("architecture", NETWORKS)
def test_each_member_is_what_its_own_steps_make_of_it(architecture, norm, steps):
    if architecture == "linear" and norm == "batch":
        pytest.skip("it has no norm")
    # Gradients grow from layer to layer of a deep network with batch norm, and rounding errors with them.
    first = descent(norm=norm, lr=1e-4 if architecture == "deep_linear" else 0.02)
    assert_as_alone(architecture, first, replace(first, lr=first.lr / 2), replace(first, weight_decay=0.0))
    assert steps == [4, 1] * first.epochs


def test_running_statistics_may_be_the_mean_over_all_batches(steps):
    assert_as_alone("mlp", *[descent(norm_momentum=0.0, norm_eps=1e-3)] * 2)
    assert steps


@pytest.mark.parametrize("size", [16, 28])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_larger_batches_go_by_products_of_matrices(norm, size, steps):
    """So do, on their way forward, those of images too large for the cache."""
    data = Dataset(random_split(24, 4, 1, size=size), random_split(10, 4, 2, size=size), classes=4)
    assert_as_alone("mlp", *[descent(norm=norm, batch_size=22)] * 2, data=data)
    assert steps == [1, 1] * 6
    assert descent_kernels.MANY < 22
    assert (22 * size**2 * 8 > descent_kernels.CACHE) == (size == 28)


def test_an_epoch_may_take_several_calls(steps, monkeypatch):
    monkeypatch.setattr("study.training.loop.WHOLE_STEPS", 3)
    assert_as_alone("deep_mlp", descent(norm="batch"))
    assert steps == [3, 1, 1] * 6


def test_images_of_one_call_are_no_more_than_memory_is_meant_for(steps, monkeypatch):
    monkeypatch.setattr("study.training.loop.WHOLE_PIXELS", 2 * 5 * 256 * 2 + 1)
    assert_as_alone("deep_mlp", *[descent(norm="batch")] * 2)
    assert steps == [2, 2, 1] * 6


def test_running_statistics_may_stand_still(steps):
    runs = members(GREYS, *[descent()] * 2)
    initial = [network("mlp", GREYS, "batch", seed) for seed in range(2)]
    for layer in (layer for each in initial for layer in each.modules() if isinstance(layer, nn.BatchNorm1d)):
        layer.momentum = 0.0
    pack = trained("grouped", copy.deepcopy(initial), runs, GREYS)
    alone = trained("single", [copy.deepcopy(initial[1])], [runs[1]], GREYS).networks[0]
    assert steps
    assert difference(pack.networks[1], alone) < 1e-10


def test_a_member_that_diverges_leaves_the_others_as_they_would_be(steps):
    sound = descent(norm="none")
    runs = members(GREYS, sound, replace(sound, lr=1e200), sound)
    initial = [of_constants("mlp", sound, seed) for seed in range(3)]
    pack = engine.pack("grouped", copy.deepcopy(initial), GREYS.shape)
    training = Training(pack, runs)
    assert [*training][-1] == sound.epochs
    assert pack.alive == [0, 2]
    assert steps
    for member in pack.alive:
        alone = trained("single", [copy.deepcopy(initial[member])], [runs[member]], GREYS).networks[0]
        assert difference(pack.networks[member], alone) < 1e-10


def test_float32_stays_near_float64(steps):
    runs = members(GREYS, descent(), descent())
    wide = [of_constants("mlp", runs[0].trial, seed) for seed in range(2)]
    narrow = [copy.deepcopy(each).float() for each in wide]
    packs = [trained("grouped", each, runs, GREYS) for each in (wide, narrow)]
    for expected, found in zip(*(pack.networks for pack in packs), strict=True):
        assert difference(found.double(), expected) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9},
        {"optimizer": "adam"},
        {"label_smoothing": 0.1},
        {"precision": "bf16"},
        {"augmentation": "reflect_crops"},
        {"regularizer": "hinge", "alpha": 0.5},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_is_not_plain_takes_single_steps(settings, steps):
    runs = members(GREYS, *[descent(norm="batch", **settings)] * 2)
    networks = [of_constants("mlp", runs[0].trial, seed).to(torch.float32) for seed in range(2)]
    trained("grouped", networks, runs, GREYS)
    assert not steps


def test_layers_of_more_weights_than_a_cache_holds_take_single_steps(monkeypatch):
    pack = engine.pack("grouped", [network("mlp", GREYS, "batch", seed) for seed in range(2)], GREYS.shape)
    monkeypatch.setattr(whole_steps, "LARGEST", 256 * 128)
    assert isinstance(pack.whole_steps(), WholeSteps)
    monkeypatch.setattr(whole_steps, "LARGEST", 256 * 128 - 1)
    assert pack.whole_steps() is None


class Scaled(nn.Sequential):
    """Something comes before the dense layers."""

    def __init__(self) -> None:
        super().__init__(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 4))


class Tied(nn.Sequential):
    """One layer comes twice: it must stay as it is until both of its gradients are known."""

    def __init__(self) -> None:
        twice = nn.Linear(8, 8)
        super().__init__(nn.Flatten(), nn.Linear(256, 8), twice, nn.ReLU(), twice)


class Frozen(nn.Sequential):
    """The first layer is not trained."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(256, 8).requires_grad_(False), nn.ReLU(), nn.Linear(8, 4))


class Unscaled(nn.Sequential):
    """Its norm has no weight."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(256, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 4))


@pytest.mark.parametrize("make", [Scaled, Tied, Frozen, Unscaled])
def test_other_networks_take_single_steps(make):
    assert engine.pack("grouped", [make(), make()], GREYS.shape).whole_steps() is None


@pytest.mark.parametrize("backend", ["single", "vmap"])
def test_other_backends_take_single_steps(backend):
    assert engine.pack(backend, [network("mlp", GREYS, "none", 0)], GREYS.shape).whole_steps() is None
