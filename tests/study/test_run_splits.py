"""Trials with `protocol=splits`: many models, each on a half of one D'."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from study import run
from study.data.corruption import corrupt
from study.data.dataset import to_float
from study.data.load import load
from study.lenses import membership
from study.lenses.membership import score
from study.mia.audit import ATTACKS
from study.mia.roc import attack_metrics
from study.networks import build
from study.record.rows import Records
from study.trial import Trial
from tests.study.records import NOWHERE, read_back, small_trial
from tests.study.training.alone import train

SPLITS = Trial(
    k=0.1, subset=61, epochs=2, batch_size=16, lr=1e-2, eval_every=2, protocol="splits", models=6, seed=(2, 4)
)


@pytest.fixture(scope="module")
def split() -> Records:
    """Two seeds of six models each, on real digits, of which an odd number."""
    return run.run(SPLITS, NOWHERE, backend="single")


def by_model(records: Records, column: str, seed: int) -> np.ndarray:
    """[6, 61] of one seed."""
    return records.tables["samples"][column].to_numpy().reshape(2, 6, 61)[SPLITS.seed.index(seed)]


def test_each_seed_has_its_models_in_order(split):
    assert [(row["member"], row["seed"], row["model"]) for row in split.members] == [
        (number, *member) for number, member in enumerate(SPLITS.members)
    ]
    assert {row["status"] for row in split.members} == {"ok"}


@pytest.mark.parametrize("seed", SPLITS.seed)
def test_every_sample_is_in_the_training_sets_of_half_of_the_models(split, seed):
    is_member = by_model(split, "is_member", seed)
    assert (is_member.sum(axis=0) == 3).all()
    assert set(is_member.sum(axis=1)) == {30, 31}
    sizes = [row["n_in"] + row["n_out"] for row in split.members if row["seed"] == seed]
    assert sizes == is_member.sum(axis=1).tolist()


def test_all_models_of_a_seed_have_one_d_prime_and_seeds_have_their_own(split):
    labels = split.tables["samples"]["label"].to_numpy().reshape(2, 6, 61)
    assert (labels == labels[:, :1]).all()
    assert (labels[0] != labels[1]).any()
    assert (by_model(split, "is_member", 2) != by_model(split, "is_member", 4)).any()


def test_arms_have_the_same_members(split):
    other = run.run(replace(SPLITS, norm="none"), NOWHERE, backend="single")
    assert other.tables["samples"]["is_member"] == split.tables["samples"]["is_member"]
    assert other.tables["samples"]["label"] == split.tables["samples"]["label"]
    assert other.tables["samples"]["score"] != split.tables["samples"]["score"]


def test_what_is_memorized_is_what_a_model_was_trained_on(split):
    row, model = split.members[3], 3
    group, correct, inside = (by_model(split, name, 2)[model] for name in ("group", "correct", "is_member"))
    assert row["mem_acc"] == pytest.approx(correct[(group == "corrupted") & inside].mean())
    assert row["clean_acc"] == pytest.approx(correct[(group == "clean") & inside].mean())


def test_each_model_is_attacked_with_the_others_of_its_seed_as_shadows(split):
    scores, is_member = by_model(split, "score", 4), by_model(split, "is_member", 4)
    found = ATTACKS["lira_online"](scores, is_member)
    for model, row in enumerate(row for row in split.members if row["seed"] == 4):
        assert row["mia_attack"] == "lira_online"
        assert row["mia_auc"] == attack_metrics(found[model], is_member[model]).auc
        (of_model,) = (
            each
            for each in split.tables["attacks"]
            if (each["member"], each["attack"], each["group"]) == (row["member"], "lira_online", "all")
        )
        assert of_model["auc"] == row["mia_auc"]


def test_the_images_of_each_seed_are_kept(split, tmp_path):
    tables = read_back(split, SPLITS, tmp_path)
    assert [row["seed"] for row in tables["images"]] == [2] * 12 + [4] * 12
    assert all(row["image"].startswith(b"\x89PNG") for row in tables["images"])
    assert len(tables["attacks"]) == len(split.tables["attacks"]) > 0


def test_a_model_never_sees_what_it_was_not_trained_on(tiny):
    corrupted = corrupt(tiny.train, tiny.classes, "label", 0.25, 0)
    inside = torch.arange(len(corrupted)) % 2 == 0
    # Whatever else there is in D', and however it is labelled, training is the same.
    other = replace(
        corrupted,
        pool=torch.where(inside[:, None, None, None], corrupted.pool, 255 - corrupted.pool),
        labels=torch.where(inside, corrupted.labels, (corrupted.labels + 1) % tiny.classes),
    )
    networks = [build.build("lenet", tiny.shape, tiny.classes, "batch", 0) for _ in range(2)]
    for network, given in zip(networks, (corrupted, other), strict=True):
        assert list(train(network, given.with_training_set(inside), small_trial(), 0)) == [1, 2]
    for one, same in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(one, same)


def test_models_that_diverged_are_left_out_of_the_attacks(split):
    trial = replace(SPLITS, seed=(2,), models=8)
    ordinary = run.run(trial, NOWHERE, backend="single")
    broken = run.run(trial, NOWHERE, backend="single")
    broken.tables["attacks"], broken.tables["images"] = [], []
    broken.members[1] |= {"status": "diverged", "mia_auc": None}
    broken.tables["samples"] = broken.tables["samples"].filter(pc.not_equal(broken.tables["samples"]["member"], 1))
    members = run.make_members([trial], load("digits", NOWHERE, 61), NOWHERE, "cpu")
    membership.audit_with_shadows(trial, members, broken)
    assert {row["member"] for row in broken.tables["attacks"]} == set(range(8)) - {1}
    assert broken.members[1]["mia_auc"] is None
    assert broken.members[0]["mia_auc"] != ordinary.members[0]["mia_auc"]


def test_a_model_that_tells_no_samples_apart_is_no_shadow_and_no_target():
    trial = replace(SPLITS, seed=(2,), models=8)
    broken = run.run(trial, NOWHERE, backend="single")
    before = broken.members[1]["mia_auc"]
    broken.tables["attacks"], broken.tables["images"] = [], []
    broken.members[1] |= {"mia_attack": "global_threshold", "mia_auc": 0.5}
    samples = broken.tables["samples"]
    constant = pc.if_else(pc.equal(samples["member"], 1), pa.scalar(0.25, pa.float32()), samples["score"])
    broken.tables["samples"] = samples.set_column(samples.schema.get_field_index("score"), "score", constant)
    members = run.make_members([trial], load("digits", NOWHERE, 61), NOWHERE, "cpu")
    membership.audit_with_shadows(trial, members, broken)
    assert {row["member"] for row in broken.tables["attacks"]} == set(range(8)) - {1}
    assert [row["mia_attack"] for row in broken.members] == ["lira_online", "global_threshold"] + ["lira_online"] * 6
    assert broken.members[1]["mia_auc"] == 0.5 != before


def test_mirror_images_are_scored_in_the_order_of_the_samples():
    trial = replace(SPLITS, queries="mirror", seed=(2,))
    records = run.run(trial, NOWHERE, backend="single")
    data = load("digits", NOWHERE, 61)
    member = run.make_members([trial], data, NOWHERE, "cpu")[0]
    network = build.build("lenet", data.shape, data.classes, "batch", member.stream_seed)
    assert list(train(network, member.corrupted, trial, member.seed)) == [1, 2]
    with torch.no_grad():
        logits = network.eval()(to_float(member.corrupted.images.flip(3), torch.float32))
    wanted = score(logits, member.corrupted.labels)
    found = torch.from_numpy(records.tables["samples"]["mirror_score"].to_numpy()[:61].copy())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("queries", ["image", "mirror"])
def test_scores_do_not_depend_on_how_many_are_scored_at_once(monkeypatch, queries):
    trial = replace(SPLITS, seed=(2,), queries=queries)
    together = run.run(trial, NOWHERE, backend="single").tables["samples"]
    monkeypatch.setattr("study.training.loop.PREDICT_BATCH", 7)
    apart = run.run(trial, NOWHERE, backend="single").tables["samples"]
    for name in ("score", "mirror_score") if queries == "mirror" else ("score",):
        np.testing.assert_allclose(apart[name].to_numpy(), together[name].to_numpy(), rtol=1e-4, atol=1e-4)
