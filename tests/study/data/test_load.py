import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from study.data.dataset import Split
from study.data.load import _load, load
from study.errors import BadInputError
from tests.study.data.sources import NOWHERE, encoded, pixels, write_idx, write_parquet


def test_a_subset_keeps_each_class_in_proportion_and_is_always_the_same():
    whole, part = load("digits", Path("unused")), load("digits", Path("unused"), 500)
    assert len(part.train) == 500
    assert part.test is whole.test
    shares = [torch.bincount(split.labels, minlength=10) / len(split) for split in (part.train, whole.train)]
    assert torch.allclose(*shares, atol=1 / 500)
    kept = {image.numpy().tobytes(): int(label) for image, label in zip(*vars(part.train).values(), strict=True)}
    given = {image.numpy().tobytes(): int(label) for image, label in zip(*vars(whole.train).values(), strict=True)}
    assert kept.items() <= given.items()
    assert hashlib.sha256(part.train.images.numpy().tobytes()).hexdigest()[:16] == "4ed9acf75f8ad025"


@pytest.mark.parametrize("size", [9, 1437, 10**6])
def test_a_subset_that_is_none_is_refused(size):
    with pytest.raises(BadInputError, match=f"must be 0 for all of it, or from 10, one a class, to 1436, not {size}"):
        load("digits", Path("unused"), size)


def by_image(split: Split) -> dict[bytes, int]:
    return {image.numpy().tobytes(): int(label) for image, label in zip(split.images, split.labels, strict=True)}


@pytest.mark.parametrize(("subset", "total"), [(0, 1437), (500, 500)])
def test_what_is_set_aside_is_no_part_of_d_and_has_each_class_in_proportion(subset, total):
    whole, data = load("digits", NOWHERE, subset), load("digits", NOWHERE, subset, 0.2)
    assert (len(data.validation), len(data.train)) == (round(0.2 * total), total - round(0.2 * total))
    aside, left = by_image(data.validation), by_image(data.train)
    assert not aside.keys() & left.keys()
    assert aside | left == by_image(whole.train)
    assert data.test is whole.test
    counts = [torch.bincount(split.labels, minlength=10) for split in (data.validation, whole.train)]
    assert (counts[0] - 0.2 * counts[1]).abs().max() <= 1
    again = _load.__wrapped__("digits", str(NOWHERE), subset, 0.2, 0, 0)
    assert torch.equal(again.validation.images, data.validation.images)
    assert torch.equal(again.train.images, data.train.images)


def test_nothing_is_set_aside_unless_it_is_asked_for():
    assert len(load("digits", NOWHERE).validation) == 0


@pytest.mark.parametrize(("subset", "share"), [(0, 0.001), (0, 0.999), (20, 0.2), (20, 0.8), (500, 0.0001)])
def test_a_share_that_leaves_a_class_without_a_sample_on_one_side_is_refused(subset, share):
    samples = subset or 1437
    said = f"^validation={share} of the {samples} training samples of digits would leave a class without a sample"
    with pytest.raises(BadInputError, match=said):
        load("digits", NOWHERE, subset, share)


@pytest.mark.parametrize("rare", [1, 2])
def test_a_rare_class_is_on_both_sides_or_the_share_is_refused(tmp_path, rare):
    labels = [0] * 30 + [1] * 30 + [2] * rare
    write_parquet(tmp_path / "train-0.parquet", list(map(encoded, pixels(60 + rare, 8, 8))), labels)
    write_parquet(tmp_path / "test-0.parquet", list(map(encoded, pixels(2, 8, 8))), [0, 1])
    with pytest.raises(BadInputError, match="would leave a class without a sample on one of the two sides"):
        load(f"parquet:{tmp_path}", NOWHERE, 0, 0.2)


def test_a_dataset_is_read_once_in_a_process(tmp_path):
    write_idx(tmp_path)
    first = load("mnist", tmp_path)
    shutil.rmtree(tmp_path)
    assert load("mnist", tmp_path) is first
    assert load("mnist", str(tmp_path), 0, test_images=0) is first
