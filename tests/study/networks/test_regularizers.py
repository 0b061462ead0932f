import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from study import run
from study.data.corruption import corrupt
from study.data.dataset import to_float
from study.errors import BadInputError
from study.networks import build
from study.networks.norms import batch_norms
from study.networks.regularizers import LOG_FLOOR, watch_penalty
from study.trial import Trial
from tests.study.training.alone import train

# Two features, of variance 1/4 and 13/4, so that with this epsilon their sigma is 1 and 2.
FEATURES = torch.tensor([[0.0, 0.0], [1.0, math.sqrt(13)]], dtype=torch.float64)
EPS = 0.75


def norm(gammas: list[float], eps: float = EPS) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(len(gammas), eps=eps).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(gammas))
    return layer


def penalty_of(network: nn.Module, kind: str, features: Tensor = FEATURES) -> Tensor:
    with watch_penalty(network, kind) as penalty:
        network.train()(features)
        return penalty()


@pytest.mark.parametrize(
    ("gammas", "log", "hinge"),
    [
        ([2, 4], (math.log(4) + math.log(4)) / 2, math.log(4)),
        ([2, 1], (math.log(4) + math.log(1 / 4)) / 2, math.log(4) / 2),
        ([-2, -1], (math.log(4) + math.log(1 / 4)) / 2, math.log(4) / 2),
        ([0.5, 1], math.log(1 / 4), 0),
        ([1, 2], 0, 0),
    ],
)
def test_the_penalty_is_what_a_hand_computes(gammas, log, hinge):
    assert penalty_of(norm(gammas), "log").item() == pytest.approx(log, abs=1e-12)
    assert penalty_of(norm(gammas), "hinge").item() == pytest.approx(hinge, abs=1e-12)


def test_epsilon_is_part_of_the_variance():
    assert penalty_of(norm([1, 1], eps=EPS + 3), "log").item() == pytest.approx(-(math.log(4) + math.log(7)) / 2)


def test_variance_is_over_samples_and_pixels():
    maps = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    variance = maps.transpose(0, 1).reshape(3, -1).var(dim=1, unbiased=False)
    expected = -(variance + 1e-5).log().mean().item()
    assert penalty_of(nn.BatchNorm2d(3, eps=1e-5).double(), "log", maps).item() == pytest.approx(expected, abs=1e-12)


def test_layers_add_up_whatever_their_width():
    network = nn.Sequential(norm([2, 4]), norm([6, 5]))
    first = (math.log(4 / 1) + math.log(16 / 4)) / 2
    # What the first layer lets through has variances of 4 times 1/4 and 4 times 13/4.
    second = (math.log(36 / (1 + EPS)) + math.log(25 / (13 + EPS))) / 2
    assert penalty_of(network, "log").item() == pytest.approx(first + second, abs=1e-12)


def test_hinge_and_its_gradient_are_zero_where_no_ratio_is_above_1():
    layer, features = norm([0.9, 1.9]), FEATURES.clone().requires_grad_()
    value = penalty_of(layer, "hinge", features)
    value.backward()
    assert value.item() == 0
    assert not layer.weight.grad.any()
    assert not features.grad.any()


def test_hinge_pulls_only_at_the_ratios_above_1():
    layer = norm([2, 1])
    penalty_of(layer, "hinge").backward()
    # d/dgamma of (1/2) log(gamma^2 / sigma^2) is 1/gamma.
    assert layer.weight.grad.tolist() == pytest.approx([1 / 2, 0])


@pytest.mark.parametrize("gamma", [0.0, 1e-30, 0.9 * math.sqrt(LOG_FLOOR)])
def test_log_stops_at_its_floor(gamma):
    layer = norm([gamma, 2 * gamma])
    value = penalty_of(layer, "log")
    value.backward()
    assert value.item() == pytest.approx(math.log(LOG_FLOOR))
    assert not layer.weight.grad.any()


def test_log_goes_down_without_a_stop_above_its_floor():
    layer = norm([0.02, 0.04])
    value = penalty_of(layer, "log")
    value.backward()
    assert value.item() == pytest.approx(math.log(0.02**2))
    assert layer.weight.grad.tolist() == pytest.approx([1 / 0.02, 1 / 0.04])


@pytest.mark.parametrize("kind", ["log", "hinge"])
@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(3), lambda: nn.BatchNorm2d(3)], ids=["vectors", "maps"])
def test_gradients_through_gamma_and_the_batch_variance_are_those_of_finite_differences(kind, make):
    layer = make().double()
    features = torch.randn(6, 3, *([2, 2] if isinstance(layer, nn.BatchNorm2d) else []), dtype=torch.float64)
    gamma = torch.tensor([2.0, 0.3, -1.5], dtype=torch.float64, requires_grad=True)

    def penalty(features: Tensor, gamma: Tensor) -> Tensor:
        with watch_penalty(layer, kind) as value:
            functional_call(layer, {"weight": gamma}, features)
            return value()

    assert torch.autograd.gradcheck(penalty, (features.requires_grad_(), gamma))


def test_the_penalty_is_of_the_last_pass_in_train_mode():
    layer = norm([2, 4])
    with watch_penalty(layer, "log") as penalty:
        layer.train()(3 * FEATURES)
        layer.train()(FEATURES)
        value = penalty().item()
        layer.eval()(100 * FEATURES)
        assert penalty().item() == value == pytest.approx(math.log(4))


def test_nothing_is_watched_once_the_block_is_left():
    layer = norm([2, 4])
    with watch_penalty(layer, "log") as penalty:
        layer.train()(FEATURES)
    layer.train()(100 * FEATURES)
    assert penalty().item() == pytest.approx(math.log(4))


def test_none_is_no_penalty():
    with watch_penalty(nn.Linear(2, 2), "none") as penalty:
        assert penalty().item() == 0


def test_watching_changes_no_output():
    watched, plain = norm([2, 4]), norm([2, 4])
    with watch_penalty(watched, "hinge"):
        assert torch.equal(watched.train()(FEATURES), plain.train()(FEATURES))


@pytest.fixture
def trained(tiny) -> Callable[..., nn.Module]:
    def of(**settings: object) -> nn.Module:
        trial = Trial.of({"k": 0.25, "epochs": 3, "batch_size": 8, "optimizer": "sgd", "lr": 0.05, **settings})
        network = build.build("lenet", tiny.shape, tiny.classes, "batch", seed=0).double()
        list(train(network, corrupt(tiny.train, 4, "label", 0.25, seed=0), trial, seed=0))
        return network

    return of


@pytest.mark.parametrize("kind", ["log", "hinge"])
def test_training_goes_over_into_plain_training_as_alpha_goes_to_1(trained, kind):
    plain, close, far = (trained(), trained(regularizer=kind, alpha=1 - 1e-10), trained(regularizer=kind, alpha=0.5))
    # LeNet starts with variances far below 1, so that both kinds have ratios above 1 to pull at.
    assert 0 < distance(plain, close) < 1e-7
    assert distance(plain, far) > 1e-3


@pytest.mark.parametrize("kind", ["log", "hinge"])
def test_alpha_1_is_the_unregularized_network(tiny, kind):
    # Such a trial is one without a regularizer, and the step itself gives the same.
    plain, weighed = (Trial(k=0.25, epochs=4, batch_size=8, lr=1e-2, regularizer=name) for name in ("none", kind))
    assert weighed == plain
    object.__setattr__(weighed, "regularizer", kind)
    networks = []
    for trial in (plain, weighed):
        network = build.build("lenet", tiny.shape, tiny.classes, "batch", seed=0).double()
        assert list(train(network, corrupt(tiny.train, 4, "label", 0.25, seed=0), trial, seed=0)) == [1, 2, 3, 4]
        networks.append(network)
    for one, other in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(one, other)


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def test_the_penalty_brings_down_the_ratios_that_it_is_about(trained):
    settings = {"epochs": 10, "lr": 0.01}
    penalties = {}
    for name, network in {
        "plain": trained(**settings),
        "hinge": trained(**settings, regularizer="hinge", alpha=0.2),
    }.items():
        images = torch.rand(64, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        penalties[name] = penalty_of(network, "hinge", images).item()
    assert penalties["hinge"] < penalties["plain"] - 0.1


def ratios_of(network: nn.Module, images: Tensor) -> Tensor:
    """|gamma| over the batch's own sigma, of all channels of all layers."""
    found: list[Tensor] = []

    def watch(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        variance = inputs[0].transpose(0, 1).flatten(1).var(dim=1, unbiased=False)
        found.append(layer.weight.abs() / (variance + layer.eps).sqrt())

    for _, layer in batch_norms(network):
        layer.register_forward_pre_hook(watch)
    with torch.no_grad():
        network.train()(images)
    return torch.cat(found)


def test_log_collapses_to_its_floor_and_hinge_stops_at_a_ratio_of_1(tiny, trained):
    settings = {"epochs": 100, "batch_size": 40, "optimizer": "adam", "lr": 0.01}
    images = to_float(tiny.train.images, torch.float64)
    networks = {
        "plain": trained(**settings),
        **{kind: trained(**settings, regularizer=kind, alpha=0.5) for kind in ("log", "hinge")},
    }
    ratios = {kind: ratios_of(network, images) for kind, network in networks.items()}
    assert ratios["plain"].max() > 5
    # Most channels are pushed below the floor, where the pull ends, and gamma itself goes with them.
    assert ratios["log"].median() < math.sqrt(LOG_FLOOR)
    gammas = {kind: torch.cat([layer.weight for _, layer in batch_norms(own)]) for kind, own in networks.items()}
    assert gammas["log"].abs().median() < 0.2 * gammas["plain"].abs().median()
    assert ratios["hinge"].max() < 1.02
    assert ratios["hinge"].median() > 0.3


# Networks that have no gamma


def without_gamma(shape: tuple[int, int, int], classes: int) -> nn.Module:
    layers = nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, affine=False)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def without_norms(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def with_layer_norm(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LayerNorm(math.prod(shape)), nn.Linear(math.prod(shape), classes))


@pytest.mark.parametrize("kind", ["log", "hinge"])
@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (without_gamma, "needs a gamma, which batch norm '3' of architecture={} lacks: build it with affine=True."),
        (without_norms, "Sequential has neither batch norm nor layer norm, so there is nothing to compare."),
        (with_layer_norm, "Sequential is built with layer norm over tokens, which have no pixels for norm=batch"),
    ],
)
def test_a_network_without_a_gamma_is_refused_before_anything_is_trained(kind, factory, said):
    architecture = f"{__name__}:{factory.__name__}"
    trial = Trial(architecture=architecture, k=0.1, epochs=1, regularizer=kind, alpha=0.5)
    told: list[float] = []
    for refused in (lambda: run.check(trial, Path()), lambda: run.run(trial, Path(), progress=told.append)):
        with pytest.raises(BadInputError) as caught:
            refused()
        assert said.format(architecture) in str(caught.value)
        assert str(caught.value).count("\n") == 0
    assert told == []


def test_a_network_of_the_users_with_gammas_is_regularized():
    trial = Trial(architecture=f"{__name__}:with_gamma", subset=100, k=0.1, epochs=1, regularizer="hinge", alpha=0.5)
    run.check(trial, Path())
    (row,) = run.run(trial, Path(), backend="single").members
    assert row["status"] == "ok"


def with_gamma(shape: tuple[int, int, int], classes: int) -> nn.Module:
    layers = nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, classes))
