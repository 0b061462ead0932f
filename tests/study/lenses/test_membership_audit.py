import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from study.data.corruption import corrupt
from study.data.splits import halves
from study.lenses import membership
from study.mia.audit import ATTACKS
from study.mia.roc import attack_metrics
from tests.conftest import random_split

MODELS, SAMPLES = 8, 40


def samples(models: int = MODELS, mirror: bool = False, seed: int = 0) -> pa.Table:
    """Models that score what they were trained on higher, and know the labels of nothing else."""
    generator = np.random.default_rng(seed)
    is_member = halves(np.arange(SAMPLES) < 10, models, seed)
    return pa.table(
        {
            "member": np.repeat(np.arange(models), SAMPLES),
            "sample": np.tile(np.arange(SAMPLES), models),
            "group": np.tile(np.where(np.arange(SAMPLES) < 10, "corrupted", "clean"), models),
            "label": np.tile(np.arange(SAMPLES) % 4, models),
            "original_label": np.tile((np.arange(SAMPLES) + 1) % 4, models),
            "is_member": is_member.ravel(),
            "score": (is_member + 0.5 * generator.normal(size=is_member.shape)).ravel(),
            "mirror_score": generator.normal(size=is_member.size) if mirror else pa.nulls(is_member.size, pa.float32()),
            "correct": (is_member & (np.arange(SAMPLES) != 3)).ravel(),
        }
    )


def matrices(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return tuple(table[name].to_numpy().reshape(MODELS, SAMPLES) for name in ("score", "is_member"))


def test_every_attack_on_every_model_and_group_has_a_row():
    rows = membership.attack_all(samples(), MODELS)
    found = {(row["member"], row["attack"], row["group"]) for row in rows}
    groups = ("all", "clean", "corrupted")
    assert found == {(model, attack, group) for model in range(MODELS) for attack in ATTACKS for group in groups}
    assert len(rows) == len(found)


def test_a_row_is_what_the_attack_achieves_on_the_group():
    scores, is_member = matrices(samples())
    found = ATTACKS["lira_online"](scores, is_member)
    (row,) = (
        row
        for row in membership.attack_all(samples(), MODELS)
        if (row["member"], row["attack"], row["group"]) == (5, "lira_online", "corrupted")
    )
    wanted = attack_metrics(found[5, :10], is_member[5, :10])
    assert (row["auc"], row["n_in"], row["n_out"]) == (wanted.auc, 5, 5)
    assert (
        membership.main_attack(membership.attack_all(samples(), MODELS), 5)["mia_auc"]
        == attack_metrics(found[5], is_member[5]).auc
    )


def test_a_mirror_image_is_a_query_of_its_own():
    table = samples(mirror=True)
    scores, is_member = matrices(table)
    mirrored = table["mirror_score"].to_numpy().reshape(MODELS, SAMPLES)
    attack = ATTACKS["lira_offline"]
    wanted = attack_metrics((attack(scores, is_member)[2] + attack(mirrored, is_member)[2]) / 2, is_member[2]).auc
    of_two = (row for row in membership.attack_all(table, MODELS) if (row["member"], row["group"]) == (2, "all"))
    assert next(row for row in of_two if row["attack"] == "lira_offline")["auc"] == pytest.approx(wanted)


def test_where_too_few_models_are_left_there_is_no_attack():
    assert membership.attack_all(samples(models=2), 2) == []


def test_the_images_are_those_that_only_the_models_trained_on_them_know():
    corrupted = corrupt(random_split(SAMPLES, 4, 0), 4, "none", 0.0, 0)
    rows = membership.most_memorized(samples(), MODELS, corrupted)
    assert [row["sample"] for row in rows] == [0, 1, 2, *range(4, 13)]
    assert all((row["in_acc"], row["out_acc"]) == (1.0, 0.0) for row in rows)
    assert rows[0]["group"] == "corrupted"
    assert (rows[-1]["label"], rows[-1]["original_label"]) == (0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_kept_as_it_is(channels):
    corrupted = corrupt(random_split(SAMPLES, 4, 0, channels=channels), 4, "none", 0.0, 0)
    row = membership.most_memorized(samples(), MODELS, corrupted)[4]
    pixels = np.asarray(Image.open(io.BytesIO(row["image"])))
    wanted = corrupted.images[row["sample"]].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, wanted[..., 0] if channels == 1 else wanted)
