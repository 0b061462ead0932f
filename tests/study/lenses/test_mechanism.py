"""Margins and gradients through training against batches of one and plain autograd, in float64."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from study import run
from study.data.corruption import corrupt_each
from study.data.dataset import to_float
from study.engine import BACKENDS, pack
from study.lenses import mechanism
from study.lenses.mechanism import chosen_samples
from study.lenses.trained import Trained, measured_epochs
from study.networks.build import build
from study.networks.norms import batch_norms
from study.training.loop import Member
from study.trial import Trial
from tests.study.records import small_trial

KS = (0.25, 0.5)


def members(tiny, trials):
    amounts = [(trial.k, trial.seed[0]) for trial in trials]
    kind = "label" if trials[0].k else "none"
    of_each = corrupt_each(tiny.train, tiny.classes, kind, amounts)
    return [Member(trial, trial.seed[0], own) for trial, own in zip(trials, of_each, strict=True)]


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_margins_and_gradients_are_those_of_batches_of_one(backend, norm, tiny, monkeypatch):
    monkeypatch.setattr(mechanism, "SAMPLES", 12)  # more than there are of the first member's S_out
    trials = [small_trial(k=k, norm=norm, mechanism=2, seed=(seed,)) for seed, k in enumerate(KS)]
    together = members(tiny, trials[:1] if backend == "single" else trials)
    networks = [build("lenet", tiny.shape, tiny.classes, norm, member.seed).double() for member in together]
    with torch.no_grad():
        for network in networks:
            for _, layer in batch_norms(network):
                layer.weight.uniform_(-1, 2)
                layer.running_var.uniform_(0.5, 2)
    alone = copy.deepcopy(networks)
    measured = mechanism.at_epoch(Trained(pack(backend, networks, tiny.shape), together, tiny, 2))
    for position, member in enumerate(together):
        tables = measured[position].tables
        corrupted, network = member.corrupted, alone[position].eval()
        chosen = [row["sample"] for row in tables["margins"]]
        out = corrupted.atypical[chosen]
        assert (int(out.sum()), len(chosen)) == ((10, 22) if member.trial.k == 0.25 else (12, 24))
        assert [row["group"] == "corrupted" for row in tables["margins"]] == out.tolist()
        sizes, pushes = [], []
        for row in tables["margins"]:
            sample = row["sample"]
            logits = network(to_float(corrupted.images[sample : sample + 1], torch.float64))
            p = logits.softmax(dim=1)[0, corrupted.labels[sample]]
            assert row["margin"] == pytest.approx((p / (1 - p)).log().item(), rel=1e-9)
            loss = cross_entropy(logits, corrupted.labels[sample : sample + 1])
            gradients = dict(
                zip(
                    dict(network.named_parameters()),
                    torch.autograd.grad(loss, list(network.parameters())),
                    strict=True,
                )
            )
            norm_of_all = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm().item()
            assert row["grad_norm"] == pytest.approx(norm_of_all, rel=1e-9)
            layers = {name: (layer, gradients[f"{name}.weight"]) for name, layer in batch_norms(network)}
            sizes.append([gradient.abs().mean().item() for _, gradient in layers.values()])
            pushes.append([-(gradient * layer.weight.sign()).mean().item() for layer, gradient in layers.values()])
        n_out, n_in = int(corrupted.atypical.sum()), int((~corrupted.atypical).sum())
        assert len(tables["gamma_gradients"]) == (4 if norm == "batch" else 0)
        for depth, row in enumerate(tables["gamma_gradients"]):
            size, push = (
                torch.tensor([each[depth] for each in values], dtype=torch.float64) for values in (sizes, pushes)
            )
            for group, of in (("out", out), ("in", ~out)):
                assert row[f"size_{group}"] == pytest.approx(size[of].mean().item(), rel=1e-9)
                assert row[f"push_{group}"] == pytest.approx(push[of].mean().item(), rel=1e-9)
            of_out, of_in = n_out * row["size_out"], n_in * row["size_in"]
            assert row["share_out"] == pytest.approx(of_out / (of_out + of_in))


def test_epochs_are_in_geometric_steps_from_0_to_the_last_and_evaluated():
    assert measured_epochs(5, Trial(epochs=16)) == {0, 2, 4, 8, 16}
    assert measured_epochs(5, Trial(epochs=17, eval_every=5)) == {0, 5, 10, 17}
    assert measured_epochs(1, Trial(epochs=200)) == {0}
    assert len(measured_epochs(10, Trial(epochs=200))) == 10


def test_both_arms_are_looked_at_the_same_samples_and_trained_as_without_a_look(tiny):
    found = {}
    for norm in ("batch", "none"):
        trial = small_trial(norm=norm, epochs=4, mechanism=3)
        (found[norm],) = run.run_pack(members(tiny, [trial]), tiny, "cpu", "single", lambda _: None)
        (without,) = run.run_pack(members(tiny, [replace(trial, mechanism=0)]), tiny, "cpu", "single", lambda _: None)
        assert found[norm].tables["epochs"] == without.tables["epochs"]
        assert without.tables["margins"] == without.tables["gamma_gradients"] == []
    samples = {
        norm: [(row["epoch"], row["sample"]) for row in records.tables["margins"]] for norm, records in found.items()
    }
    assert samples["batch"] == samples["none"]
    assert sorted({epoch for epoch, _ in samples["batch"]}) == [0, 2, 4]
    assert [(row["epoch"], row["depth"]) for row in found["batch"].tables["gamma_gradients"]] == [
        (epoch, depth) for epoch in (0, 2, 4) for depth in range(4)
    ]


def test_without_corruption_there_is_nothing_of_s_out(tiny):
    (member,) = members(tiny, [small_trial(k=0.0, mechanism=1)])
    (records,) = run.run_pack([member], tiny, "cpu", "single", lambda _: None)
    assert len(chosen_samples(member)) == len(records.tables["margins"]) == 40
    assert {(row["size_out"], row["share_out"]) for row in records.tables["gamma_gradients"]} == {(None, 0.0)}


def test_samples_of_the_other_half_are_not_looked_at(tiny):
    (member,) = members(tiny, [small_trial()])
    half = torch.arange(40) % 2 == 0
    assert set(chosen_samples(replace(member, corrupted=member.corrupted.with_training_set(half))).tolist()) == {
        *range(0, 40, 2)
    }
