from pathlib import Path

import numpy as np
import pytest
import torch

from study.corruptions.compute import corrupt
from study.corruptions.names import COMPUTED, FAMILIES
from study.corruptions.test_set import CorruptedTestSet
from study.data.dataset import Dataset, Split, enlarge
from study.data.load import load
from study.errors import BadInputError
from tests.study.corruptions.pictures import pictures
from tests.study.corruptions.published import publish
from tests.study.data.sources import write_idx

LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2])


def data(channels: int = 3, folder: Path | None = None, enlarged: int = 1) -> Dataset:
    split = Split(enlarge(torch.from_numpy(pictures(7, channels, 32)), enlarged), LABELS)
    return Dataset(split, split, 10, enlarged=enlarged, folder=folder)


def test_the_published_images_are_read_block_by_block(tmp_path):
    published = publish(tmp_path, LABELS.numpy())
    test_set = CorruptedTestSet("cifar10", data(folder=tmp_path))
    assert test_set.families == FAMILIES
    assert test_set.split == "cifar10_c"
    for family in ("gaussian_noise", "frost"):
        for severity in (1, 2, 5):
            images = test_set.images(family, severity, torch.tensor([0, 6, 2]))
            rows = published[family][[(severity - 1) * 7 + sample for sample in (0, 6, 2)]]
            assert images.dtype == torch.uint8
            assert (images.numpy() == rows.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "imagefolder:there"])
def test_without_the_published_images_17_families_are_computed(dataset, tmp_path):
    if dataset != "cifar10":
        publish(tmp_path, LABELS.numpy())
    test_set = CorruptedTestSet(dataset, data(folder=tmp_path))
    assert test_set.families == COMPUTED
    assert test_set.split == "test"
    images = test_set.images("fog", 3, torch.tensor([6, 2]))
    assert (images.numpy() == corrupt(pictures(7, 3, 32)[[6, 2]], "fog", 3, [6, 2])).all()


@pytest.mark.parametrize("published", [False, True])
def test_enlarged_images_are_corrupted_as_they_were_before(published, tmp_path):
    if published:
        publish(tmp_path, LABELS.numpy())
    large, small = (CorruptedTestSet("cifar10", data(3, tmp_path, times)) for times in (2, 1))
    every = torch.arange(7)
    of_large, of_small = (of.images("gaussian_noise", 4, every) for of in (large, small))
    assert of_large.shape == (7, 3, 64, 64)
    assert torch.equal(of_large, enlarge(of_small, 2))


def refusal(folder: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        CorruptedTestSet("cifar10", data(folder=folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_published_images_that_are_not_complete_or_of_others_are_refused(tmp_path):
    publish(tmp_path / "some", LABELS.numpy())
    (tmp_path / "some/CIFAR-10-C/frost.npy").unlink()
    assert "must have the 19 files of CIFAR-10-C and their labels, but frost.npy can't be read" in refusal(
        tmp_path / "some"
    )
    publish(tmp_path / "others", LABELS.numpy()[::-1])
    assert "labels.npy has other labels than the test set of cifar10." in refusal(tmp_path / "others")
    images = publish(tmp_path / "short", LABELS.numpy())
    np.save(tmp_path / "short/CIFAR-10-C/snow.npy", images["snow"][:-1])
    assert "must have 5 blocks of 7 images, bytes [35, 32, 32, 3], and not uint8 [34, 32, 32, 3]." in refusal(
        tmp_path / "short"
    )
    publish(tmp_path / "small", LABELS.numpy(), side=28)
    assert "and not uint8 [35, 28, 28, 3]" in refusal(tmp_path / "small")


def test_a_dataset_knows_the_data_folder_that_it_is_from(tmp_path):
    write_idx(tmp_path)
    for settings in ({}, {"resize": 56}):
        assert load("mnist", tmp_path, **settings).folder == tmp_path
    assert load("digits", tmp_path).folder is None
