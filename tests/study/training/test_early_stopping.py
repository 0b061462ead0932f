"""Early stopping and convergence against training for exactly as many epochs, in float64."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from study import run
from study.data.corruption import corrupt
from study.data.dataset import Dataset
from study.data.splits import training_sets
from study.engine import BACKENDS
from study.lenses import registry
from study.lenses.trained import Trained
from study.networks import build as build_module
from study.record.rows import Measurements, Records
from study.training.early_stopping import has_converged, reported_epoch, restore, snapshot
from study.training.loop import Member, Training
from study.trial import Trial
from tests.conftest import random_split

DATA = Dataset(random_split(40, 4, 1), random_split(12, 4, 2), 4, validation=random_split(16, 4, 3))
# Everything that can be measured is; SGD, because other optimizers scale up a gradient that is nothing but rounding.
TRIAL = Trial(
    **{"k": 0.25, "validation": 0.2, "epochs": 6, "batch_size": 8, "optimizer": "sgd", "lr": 0.05},
    **{"stopping": "best", "protocol": "splits", "models": 6, "samples": "gradients", "queries": "mirror"},
)
# Two of its three members converge, after 37 and 30 epochs.
CONVERGING = replace(TRIAL, stopping="converged", epochs=40, batch_size=20, lr=0.5)


def test_the_best_point_is_the_first_of_the_highest_validation_accuracy():
    curve = [{"epoch": epoch, "val_acc": accuracy} for epoch, accuracy in enumerate((0.1, 0.5, 0.3, 0.5, 0.2), 1)]
    assert reported_epoch("best", curve) == curve[1]
    assert reported_epoch("none", curve) == curve[-1]
    assert reported_epoch("best", curve[:1]) == reported_epoch("none", curve[:1]) == curve[0]


def losses(*by_epoch: tuple[float | None, float]) -> list[dict[str, float | None]]:
    return [{"mem_loss": out, "clean_loss": clean} for out, clean in by_epoch]


def test_a_network_has_converged_where_the_loss_on_all_of_its_training_set_was_low_three_times_in_a_row():
    # With 2 samples in S_out and 8 in S_in, 0.2 and 0.8 of it.
    low, high = (0.005, 0.0), (0.0051, 0.0)
    assert has_converged(losses(high, low, low, low), 2, 8)
    assert not has_converged(losses(low, low, low, high), 2, 8)
    assert not has_converged(losses(low, low, high, low, low), 2, 8)
    assert not has_converged(losses(low, low), 2, 8)
    assert has_converged(losses(*[(0.0, 0.00125)] * 3), 2, 8)
    assert not has_converged(losses(*[(0.0, 0.00126)] * 3), 2, 8)
    # Without corruption there is no S_out.
    assert has_converged(losses(*[(None, 0.001)] * 3), 0, 10)


def test_a_network_is_put_back_in_place_with_its_running_statistics():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before, places = snapshot(network), [tensor.data_ptr() for tensor in network.state_dict().values()]
    network(torch.rand(5, 3))
    with torch.no_grad():
        network[0].weight.add_(1)
    restore(network, before)
    assert [tensor.data_ptr() for tensor in network.state_dict().values()] == places
    assert network[1].running_mean.tolist() == [0, 0]
    assert all(map(torch.equal, (*network.parameters(), *network.buffers()), before))


def members(trial: Trial) -> list[Member]:
    """Three models on halves of one D', of one pool."""
    corrupted = corrupt(DATA.train, DATA.classes, "label", trial.k, seed=0)
    sets = training_sets(corrupted, trial.models, seed=0)
    return [Member(trial, 0, own, model) for model, own in enumerate(sets[:3])]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Tensor], nn.Module]]:
    """Each member's logits and gradient norms at its end and its network, in the order of `run_pack`, in float64."""
    found: list[tuple[dict[str, Tensor], nn.Module]] = []
    at_end, build = registry.at_end, build_module.build

    def seen(trained: Trained) -> Measurements:
        measurements = at_end(trained)
        logits = {**vars(trained.logits), "mirror": trained.mirror_logits}
        for member, network in enumerate(trained.pack.networks):
            of_member = {name: tensor[member] for name, tensor in logits.items()}
            found.append(({**of_member, **measurements[member].samples}, network))
        return measurements

    monkeypatch.setattr(registry, "at_end", seen)
    monkeypatch.setattr(build_module, "build", lambda *given: build(*given).double())
    return found


def packed(members: Sequence[Member], backend: str) -> list[Records]:
    packs = [[member] for member in members] if backend == "single" else [members]
    return [found for each in packs for found in run.run_pack(each, DATA, "cpu", backend, lambda _: None)]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("trial", [TRIAL, CONVERGING], ids=lambda trial: trial.stopping)
def test_each_member_is_what_training_for_exactly_its_epochs_makes_of_it(trial, backend, measured):
    records = packed(members(trial), backend)
    epochs = [found.members[0]["epoch"] for found in records]
    assert len(set(epochs)) > 1
    assert min(epochs) < trial.epochs
    for each, (found, epoch) in enumerate(zip(records, epochs, strict=True)):
        shorter = replace(trial, stopping="none", epochs=epoch)
        (alone,) = packed(members(shorter)[each : each + 1], "single")
        wanted = alone.members[0]
        for name in ("mem_acc", "clean_loss", "test_acc", "val_loss", "mia_auc", "val_mia_auc", "gamma_over_sigma"):
            assert found.members[0][name] == pytest.approx(wanted[name], abs=1e-10)
        (own, network), (other, twin) = measured[each], measured[-1]
        for name in ("train", "test", "validation", "mirror", "grad_norm"):
            torch.testing.assert_close(own[name], other[name], rtol=1e-10, atol=1e-10)
        for tensor, same in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
            # Members side by side share the count of their batches, which is of no consequence after training.
            if tensor.ndim:
                torch.testing.assert_close(tensor, same, rtol=1e-10, atol=1e-10)
        assert found.tables["samples"]["correct"] == alone.tables["samples"]["correct"]
        assert found.tables["samples"]["score"].to_pylist() == pytest.approx(
            alone.tables["samples"]["score"].to_pylist(), rel=1e-6
        )


def test_the_curves_are_whole_and_those_of_a_network_that_is_not_stopped():
    stopped, whole = (packed(members(replace(TRIAL, stopping=how)), "grouped") for how in ("best", "none"))
    for one, other in zip(stopped, whole, strict=True):
        assert one.tables["epochs"] == other.tables["epochs"]
        assert one.tables["layers"] == other.tables["layers"]
        assert [point["epoch"] for point in one.tables["epochs"]] == list(range(1, TRIAL.epochs + 1))
        row = one.members[0]
        best = one.tables["epochs"][row["epoch"] - 1]
        assert best["val_acc"] == max(point["val_acc"] for point in one.tables["epochs"])
        assert {name: row[name] for name in best if name != "step"} == {
            name: value for name, value in best.items() if name != "step"
        }
        assert other.members[0]["epoch"] == TRIAL.epochs


def test_a_curve_ends_where_its_member_has_converged_whoever_trains_on_beside_it(measured):
    together = members(CONVERGING)
    by_backend = {backend: packed(together, backend) for backend in BACKENDS}
    for found, alone in zip(by_backend["grouped"] + by_backend["vmap"], by_backend["single"] * 2, strict=True):
        row = found.members[0]
        assert (row["epoch"], row["converged"]) == (alone.members[0]["epoch"], alone.members[0]["converged"])
        assert row["converged"] == (row["epoch"] < CONVERGING.epochs)
        for table in ("epochs", "layers"):
            assert [row["epoch"] for row in found.tables[table]] == [row["epoch"] for row in alone.tables[table]]
        assert found.tables["epochs"][-1]["epoch"] == row["epoch"]
        assert found.tables["epochs"][-1]["mem_loss"] == pytest.approx(alone.tables["epochs"][-1]["mem_loss"], 1e-9)
    # Training ends with its last member, and says that it has.
    fractions: list[float] = []
    run.run_pack(together[:1], DATA, "cpu", "single", fractions.append)
    assert fractions[-2:] == [37 / 40, 1.0]


def test_what_becomes_of_a_member_after_it_has_converged_is_of_no_account(measured, monkeypatch):
    whole = packed(members(CONVERGING), "grouped")
    finite = Training.__iter__

    def later_lost(training: Training) -> Iterator[int]:
        for epoch in finite(training):
            if epoch == 39:
                training._pack.diverged[1] = "the training loss is nan"
            yield epoch

    monkeypatch.setattr(Training, "__iter__", later_lost)
    found = packed(members(CONVERGING), "grouped")
    assert [each.members[0]["status"] for each in found] == ["ok"] * 3
    assert [each.members[0]["mem_loss"] for each in found] == [each.members[0]["mem_loss"] for each in whole]


def test_a_member_that_diverges_has_no_best_epoch_and_takes_no_other_with_it():
    sound, lost = members(replace(TRIAL, norm="none"))[:2]
    lost = replace(lost, trial=replace(lost.trial, lr=1e30))
    one, other = packed([sound, lost], "grouped")
    assert (one.members[0]["status"], other.members[0]["status"]) == ("ok", "diverged")
    assert "epoch" not in other.members[0]
    assert one.members[0]["epoch"] == packed([sound], "single")[0].members[0]["epoch"]
