import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from study import seeds
from study.data.corruption import Corrupted, corrupt
from study.data.dataset import Dataset, to_float
from study.engine.cpu.dense import Dense
from study.engine.cpu.lanes import Lanes
from study.engine.grouped import Grouped
from study.lenses.memorization import memorization
from study.networks import build
from study.networks.catalog import NORMS
from study.networks.norms import batch_norms
from study.training import loop as packed
from study.training.loop import Member, batches, orders, steps_per_epoch
from study.training.optimizers import OPTIMIZERS
from study.trial import Trial
from tests.study.training.alone import DivergedError, predict, train
from tests.study.waits import waits

Update = Callable[[int, Tensor, dict[str, Tensor]], Tensor]


def prepared(data: Dataset, trial: Trial, seed: int = 0) -> tuple[nn.Module, Corrupted]:
    network = build.build(trial.architecture, data.shape, data.classes, trial.norm, seed).double()
    return network, corrupt(data.train, data.classes, trial.corruption, trial.k, seed)


def small_trial(**settings: object) -> Trial:
    return Trial.of({"k": 0.25, "epochs": 2, "batch_size": 8, "lr": 1e-3, **settings})


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def distance(one: nn.Module, other: nn.Module) -> float:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


# The loop, held against one that is written out


def adam(step: int, weight: Tensor, past: dict[str, Tensor], lr: float, decay: float) -> Tensor:
    gradient = weight.grad + decay * weight
    past["mean"] = 0.9 * past.get("mean", 0) + 0.1 * gradient
    past["square"] = 0.999 * past.get("square", 0) + 0.001 * gradient**2
    mean, square = past["mean"] / (1 - 0.9**step), past["square"] / (1 - 0.999**step)
    return weight - lr * mean / (square.sqrt() + 1e-8)


def adamw(step: int, weight: Tensor, past: dict[str, Tensor], lr: float, decay: float) -> Tensor:
    return adam(step, weight, past, lr, 0.0) - lr * decay * weight


def rmsprop(step: int, weight: Tensor, past: dict[str, Tensor], lr: float, decay: float) -> Tensor:
    gradient = weight.grad + decay * weight
    past["square"] = 0.99 * past.get("square", 0) + 0.01 * gradient**2
    return weight - lr * gradient / (past["square"].sqrt() + 1e-8)


def sgd(step: int, weight: Tensor, past: dict[str, Tensor], lr: float, decay: float) -> Tensor:
    past["velocity"] = 0.9 * past.get("velocity", 0) + weight.grad + decay * weight
    return weight - lr * past["velocity"]


def nesterov(step: int, weight: Tensor, past: dict[str, Tensor], lr: float, decay: float) -> Tensor:
    gradient = weight.grad + decay * weight
    past["velocity"] = 0.9 * past.get("velocity", 0) + gradient
    return weight - lr * (gradient + 0.9 * past["velocity"])


UPDATES = {"adam": adam, "adamw": adamw, "rmsprop": rmsprop, "sgd": sgd, "nesterov": nesterov}


def penalty(network: nn.Module, images: Tensor, kind: str) -> Tensor:
    """Eq. 12 layer by layer, from the features that each batch norm of a sequence is given."""
    total, features = torch.zeros((), dtype=torch.float64), images
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            channels = features.transpose(0, 1).flatten(1)
            variance = ((channels - channels.mean(dim=1, keepdim=True)) ** 2).mean(dim=1)
            logs = torch.log(layer.weight**2 / (variance + layer.eps))
            total = total + (logs if kind == "log" else F.relu(logs)).mean()
            features = F.batch_norm(features, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)
        else:
            features = layer(features)
    return total


def train_slowly(network: nn.Module, corrupted: Corrupted, trial: Trial, seed: int) -> int:
    network.train()
    past: dict[str, dict[str, Tensor]] = {name: {} for name, _ in network.named_parameters()}
    steps = 0
    for epoch in range(1, trial.epochs + 1):
        order = seeds.generator(seed, "order", epoch).permutation(len(corrupted))
        rate = trial.lr * (trial.lr_factor if trial.lr_drop == "1" and epoch > 1 else 1)
        for start in range(0, len(order), trial.batch_size):
            batch = order[start : start + trial.batch_size]
            images = corrupted.images[batch].double() / 255
            loss = 0
            for logits, label in zip(network(images), corrupted.labels[batch], strict=True):
                each_class = logits.exp().sum().log() - logits
                smooth = trial.label_smoothing
                loss = loss + ((1 - smooth) * each_class[label] + smooth * each_class.mean()) / len(batch)
            if trial.regularizer != "none":
                loss = trial.alpha * loss + (1 - trial.alpha) * penalty(network, images, trial.regularizer)
            network.zero_grad()
            loss.backward()
            steps += 1
            with torch.no_grad():
                for name, weight in network.named_parameters():
                    update = UPDATES[trial.optimizer]
                    weight.copy_(update(steps, weight, past[name], rate, trial.weight_decay))
    return steps


def test_every_optimizer_is_written_out_here():
    assert set(UPDATES) == set(OPTIMIZERS)


# A shift that a later batch norm takes out has a gradient of nothing but rounding, which all but SGD scale up to a step
# of full size. So the norms and the penalties are held to the last digits under SGD, the optimizers without a norm.
@pytest.mark.parametrize(
    "settings",
    [
        *({"optimizer": name, "weight_decay": decay, "norm": "none"} for name in UPDATES for decay in (0.0, 0.1)),
        *({"optimizer": "sgd", "norm": norm} for norm in NORMS),
        *({"optimizer": "sgd", "regularizer": kind, "alpha": 0.75} for kind in ("log", "hinge")),
        {"optimizer": "sgd", "label_smoothing": 0.3},
        {"optimizer": "sgd", "lr_drop": "1", "lr_factor": 0.25},
        {"optimizer": "sgd", "label_smoothing": 0.1, "regularizer": "hinge", "alpha": 0.75},
    ],
    ids=lambda settings: "-".join(f"{value}" for value in settings.values()),
)
def test_training_is_what_a_slow_and_obvious_loop_computes(tiny, settings):
    trial = small_trial(**settings)
    fast, corrupted = prepared(tiny, trial)
    slow, _ = prepared(tiny, trial)
    start = state(fast)
    assert list(train(fast, corrupted, trial, seed=0)) == [1, 2]
    assert train_slowly(slow, corrupted, trial, seed=0) == 10
    assert distance(fast, slow) < 1e-12
    assert max((tensor - start[name]).abs().max() for name, tensor in fast.named_parameters()) > 1e-3


# The batches


@given(st.integers(1, 300), st.integers(2, 64), st.integers(0, 1000), st.integers(1, 200))
def test_every_sample_comes_once_an_epoch_but_for_a_last_one_left_alone(samples, batch_size, seed, epoch):
    found = [batch[0] for batch in batches(orders([seed], samples, epoch), batch_size)]
    indices = torch.cat(found).tolist() if found else []
    alone = samples % batch_size == 1
    assert len(set(indices)) == len(indices) == samples - alone
    assert set(indices) <= set(range(samples))
    assert all(len(batch) == batch_size for batch in found[:-1])
    assert all(2 <= len(batch) <= batch_size for batch in found)
    assert steps_per_epoch(samples, batch_size) == len(found)


def test_the_order_is_that_of_the_seed_and_the_epoch():
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(torch.cat(batches(orders([seed], 50, epoch), 8), dim=1)[0].tolist())

    assert order(0, 1) == tuple(seeds.generator(0, "order", 1).permutation(50))
    assert len({order(seed, epoch) for seed in range(5) for epoch in range(1, 6)}) == 25


def test_the_order_does_not_depend_on_the_arm(tiny):
    def seen(norm: str) -> list[list[float]]:
        trial = small_trial(norm=norm)
        network, corrupted = prepared(tiny, trial)
        images: list[list[float]] = []
        network.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0].flatten().tolist()))
        list(train(network, corrupted, trial, seed=0))
        return images

    reference = seen("batch")
    assert len(reference) == 10
    assert all(seen(norm) == reference for norm in NORMS)


@pytest.mark.parametrize("samples", [33, 34])
def test_training_sees_every_sample_of_every_epoch_as_bytes_scaled_to_1(tiny, samples):
    trial = small_trial(k=0)
    network, corrupted = prepared(tiny, trial)
    few = Corrupted(**{name: tensor[:samples] for name, tensor in vars(corrupted).items()})
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for epoch in train(network, few, trial, seed=0):
        # 33 leaves one sample alone in the last batch of 8.
        left_out = seeds.generator(0, "order", epoch).permutation(33)[-1:] if samples == 33 else []
        expected = np.delete(few.images.double().numpy() / 255, left_out, axis=0)
        assert np.array_equal(np.unique(torch.cat(seen).numpy(), axis=0), np.unique(expected, axis=0))
        assert sum(map(len, seen)) == len(expected)
        seen.clear()


def test_training_is_on_the_assigned_labels(tiny):
    trial = small_trial(k=0.5, epochs=40, lr=1e-2)
    network, corrupted = prepared(tiny, trial)
    list(train(network, corrupted, trial, seed=0))
    network.train()
    learned = network(to_float(corrupted.images, torch.float64)).argmax(dim=1)
    assert (learned == corrupted.labels).double().mean() == 1


# The host


def pack_of(data: Dataset, members: int, **settings: object) -> tuple[Grouped, list[Member]]:
    trial = small_trial(**settings)
    found = [prepared(data, trial, seed) for seed in range(members)]
    runs = [Member(trial, seed, corrupted) for seed, (_, corrupted) in enumerate(found)]
    return Grouped([network for network, _ in found]), runs


def test_the_host_waits_for_the_losses_once_an_epoch(tiny):
    pack, runs = pack_of(tiny, 3, optimizer="sgd", regularizer="hinge", alpha=0.5)
    epochs = iter(packed.Training(pack, runs))
    next(epochs)
    with waits() as found:
        next(epochs)
    assert found == ["tolist"]


def test_to_measure_a_pack_the_host_waits_as_often_as_for_one_member(tiny, monkeypatch):
    for layer in (Lanes, Dense):  # their kernels are for a CPU, which there is nothing to wait for
        monkeypatch.setattr(layer, "_applies", lambda *_: False)

    def measured(members: int) -> list[str]:
        pack, runs = pack_of(tiny, members)
        corrupted = [run.corrupted for run in runs]
        with waits() as found:
            logits = packed.predict(pack, corrupted[0].pool, [each.rows for each in corrupted])
            memorization(logits, corrupted, {"test": (logits[:, :12], tiny.test)})
        return found

    assert measured(1) == measured(3) == ["tolist"] * 2


def test_the_next_order_is_worked_out_before_the_host_waits_and_none_in_vain(tiny, monkeypatch):
    done: list[object] = []
    ordinary_orders, ordinary_tolist = packed.orders, Tensor.tolist
    monkeypatch.setattr(packed, "orders", lambda *given: done.append(given[2]) or ordinary_orders(*given))
    monkeypatch.setattr(Tensor, "tolist", lambda losses: done.append("losses") or ordinary_tolist(losses))
    list(packed.Training(*pack_of(tiny, 2, epochs=3)))
    assert done == [1, 2, "losses", 3, "losses", "losses"]
    done.clear()
    list(packed.Training(*pack_of(tiny, 2, epochs=30, lr=1e30, norm="none", optimizer="sgd")))
    assert done == [1, 2, "losses"]


# Between the epochs


def test_measuring_between_epochs_does_not_change_the_training(tiny):
    trial = small_trial(epochs=3, regularizer="hinge", alpha=0.5)
    measured, corrupted = prepared(tiny, trial)
    undisturbed, _ = prepared(tiny, trial)
    for _ in train(measured, corrupted, trial, seed=0):
        predict(measured, tiny.test.images)
        assert not measured.training
    list(train(undisturbed, corrupted, trial, seed=0))
    assert distance(measured, undisturbed) == 0


def test_training_is_the_same_each_time_whatever_the_global_generator(tiny):
    trial = small_trial()
    one, corrupted = prepared(tiny, trial)
    other, _ = prepared(tiny, trial)
    list(train(one, corrupted, trial, seed=0))
    torch.manual_seed(1234)
    list(train(other, corrupted, trial, seed=0))
    assert distance(one, other) == 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_that_leaves_the_finite_numbers_is_a_divergence(tiny, norm, name):
    trial = small_trial(norm=norm, optimizer=name, lr=1e30, epochs=5)
    network, corrupted = prepared(tiny, trial)
    network.float()

    def train_and_measure() -> None:
        for _ in train(network, corrupted, trial, seed=0):
            predict(network, tiny.test.images)

    with pytest.raises(DivergedError):
        train_and_measure()


def test_a_divergence_says_in_which_epoch(tiny):
    trial = small_trial(norm="none", lr=1e30, optimizer="sgd")
    network, corrupted = prepared(tiny, trial)
    with pytest.raises(DivergedError, match=r"^the training loss is (nan|inf) in epoch 1$"):
        list(train(network.float(), corrupted, trial, seed=0))


# Prediction


@pytest.mark.parametrize("norm", NORMS)
def test_predictions_do_not_depend_on_the_batch_they_are_made_in(tiny, norm, monkeypatch):
    trial = small_trial(norm=norm)
    network, corrupted = prepared(tiny, trial)
    list(train(network, corrupted, trial, seed=0))
    together = predict(network, corrupted.images)
    for size in (1, 7, 40):
        monkeypatch.setattr("study.training.loop.PREDICT_BATCH", size)
        assert (predict(network, corrupted.images) - together).abs().max() < 1e-12


def test_predictions_are_made_in_eval_mode_and_leave_the_network_as_it_was(tiny):
    trial = small_trial()
    network, corrupted = prepared(tiny, trial)
    list(train(network, corrupted, trial, seed=0))
    before = state(network)
    logits = predict(network.train(), tiny.test.images)
    assert logits.dtype == torch.float64
    assert logits.shape == (12, 4)
    assert not logits.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    # Eval mode is batch norm by its running statistics: put them at 0 and 1, and the norms only scale and shift.
    for _, layer in batch_norms(network):
        nn.init.zeros_(layer.running_mean)
        nn.init.constant_(layer.running_var, 1 - layer.eps)
    features = to_float(tiny.test.images, torch.float64)
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            shape = (1, -1, *[1] * (features.ndim - 2))
            features = features * layer.weight.view(shape) + layer.bias.view(shape)
        else:
            features = layer(features)
    assert (predict(network, tiny.test.images) - features).abs().max() < 1e-12


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_is_a_divergence(tiny, value):
    network, _ = prepared(tiny, small_trial())
    with torch.no_grad():
        network[-1].bias[2] = value
    with pytest.raises(DivergedError):
        predict(network, tiny.test.images)
