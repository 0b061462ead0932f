"""The suite `corruptions` of the lens on robustness."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from study import run
from study.corruptions import test_set
from study.corruptions.names import COMPUTED, FAMILIES
from study.data.dataset import Dataset, Split
from study.engine.pack import Single
from study.errors import BadInputError
from study.lenses import robustness
from study.lenses.trained import Trained
from study.networks import build
from study.perturbations import passes, perturbations
from study.record.checkpoints import CheckpointStore
from study.storage.store import LocalStore
from study.training.loop import Member
from study.trial import Trial
from tests.study.corruptions.pictures import pictures
from tests.study.corruptions.published import publish
from tests.study.records import NOWHERE

CORRUPTIONS = Trial(
    robustness="corruptions", lr=0.01, epochs=2, subset=200, batch_size=32, attack_samples=40, seed=(0, 1), norm="none"
)


def test_each_family_and_severity_is_a_row_and_their_mean_error_is_the_members():
    records = run.run(CORRUPTIONS, NOWHERE, backend="grouped")
    for member in records.members:
        rows = [row for row in records.tables["robustness"] if row["member"] == member["member"]]
        assert [(row["perturbation"], row["severity"]) for row in rows] == [
            (family, severity) for family in COMPUTED for severity in (1, 2, 3, 4, 5)
        ]
        for row in rows:
            assert (row["suite"], row["split"], row["space"], row["n"]) == ("corruptions", "test", "pixel", 40)
            assert row["epsilon"] is row["norm"] is row["moved"] is None
            assert row["acc"] <= row["top5"] <= 1
            assert row["loss_mean"] > 0
        assert {row["clean_acc"] for row in rows} == {rows[0]["clean_acc"]}
        assert member["corruption_error"] == pytest.approx(1 - np.mean([row["acc"] for row in rows]))
        assert member.get("pgd_linf_acc") is None
    # Both networks are shown the same images, whatever their seeds.
    moved = [[row["max_distance"] for row in records.tables["robustness"] if row["member"] == at] for at in (0, 1)]
    assert moved[0] == moved[1]


def test_no_result_depends_on_the_pack_or_the_batch(monkeypatch):
    together = run.run(CORRUPTIONS, NOWHERE, backend="grouped")
    monkeypatch.setattr(robustness, "PREDICT_BATCH", 7)
    monkeypatch.setattr("study.training.loop.PREDICT_BATCH", 512)
    alone = run.run(replace(CORRUPTIONS, seed=(1,)), NOWHERE, backend="single")
    ours = [row for row in together.tables["robustness"] if row["member"] == 1]
    for one, other in zip(ours, alone.tables["robustness"], strict=True):
        assert one["max_distance"] == other["max_distance"]
        assert one["loss_mean"] == pytest.approx(other["loss_mean"], rel=1e-3)


def test_a_family_that_was_done_before_a_stop_is_not_shown_again(tmp_path, monkeypatch):
    shown, images = [], test_set.CorruptedTestSet.images

    def stops_at_the_eighth(self, family, severity, samples):
        shown.append((family, severity))
        if len(shown) == 8:
            raise KeyboardInterrupt
        return images(self, family, severity, samples)

    monkeypatch.setattr(test_set.CorruptedTestSet, "images", stops_at_the_eighth)
    store = CheckpointStore(LocalStore(tmp_path), "sweep")
    given = {"backend": "single", "store": store, "save_every_s": 0.0}
    trial = replace(CORRUPTIONS, seed=(0,))
    with pytest.raises(KeyboardInterrupt):
        run.run(trial, NOWHERE, **given)
    resumed = run.run(trial, NOWHERE, **given)
    assert len(shown) == 85 + 1
    assert shown[7] == shown[8] == ("shot_noise", 3)
    assert len(resumed.tables["robustness"]) == 85


def test_published_images_are_shown_where_they_are(tmp_path):
    labels = torch.arange(12) % 10
    published = publish(tmp_path, labels.numpy())
    split = Split(torch.from_numpy(pictures(12, 3, 32)), labels)
    data = Dataset(split, split, 10, folder=tmp_path)
    trial = replace(CORRUPTIONS, dataset="cifar10", attack_samples=5)
    network = build.build("lenet", data.shape, 10, "none", 0).double().eval()
    packed = Single([network])
    robustness.check(trial, network, data)
    corrupted = run.corrupt(split, 10, "none", 0.0, 0)
    (found,) = robustness.at_end(Trained(packed, [Member(trial, 0, corrupted)], data, 2)).values()
    rows = found.tables["robustness"]
    assert [row["perturbation"] for row in rows[::5]] == list(FAMILIES)
    assert {row["split"] for row in rows} == {"cifar10_c"}
    at = robustness.attacked_samples(trial, split)
    (frost,) = (row for row in rows if (row["perturbation"], row["severity"]) == ("frost", 2))
    images = torch.from_numpy(published["frost"][12 + at.numpy()].transpose(0, 3, 1, 2)) / 255.0
    logits = network(images.double())
    assert frost["acc"] == (logits.argmax(dim=1) == labels[at]).double().mean().item()
    assert frost["loss_mean"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels[at]).item(), rel=1e-6)
    assert found.members["corruption_error"] == pytest.approx(1 - np.mean([row["acc"] for row in rows]))


def test_points_and_images_that_are_too_small_are_refused(tmp_path):
    trial = Trial(dataset="spheres", architecture="spheres_mlp", robustness="corruptions")
    with pytest.raises(BadInputError, match="changes images, and the points of spheres are none"):
        run.run(trial, tmp_path)
    with pytest.raises(BadInputError, match="at least 8 pixels a side, and those of parquet:there have 1 and 7x9"):
        perturbations(["corruptions"], "parquet:there", (1, 7, 9))
    with pytest.raises(BadInputError, match="of one or three channels"):
        perturbations(["corruptions"], "parquet:there", (4, 32, 32))


def test_a_corruption_costs_a_look_at_each_image():
    assert passes(["corruptions"], "cifar10", (3, 32, 32), 100) == pytest.approx(19 * 5 * 100 / 3)
    both = passes(["pixel", "corruptions"], "mnist", (1, 28, 28), 100)
    assert both == pytest.approx(passes(["pixel"], "mnist", (1, 28, 28), 100) + 19 * 5 * 100 / 3)
    keys = {each.key for each in perturbations(["pixel", "corruptions"], "mnist", (1, 28, 28))}
    assert len(keys) == len(perturbations(["pixel", "corruptions"], "mnist", (1, 28, 28)))
