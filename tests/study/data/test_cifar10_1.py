from pathlib import Path

import numpy as np
import pytest
import torch

from study.data import cifar10_1
from study.data.dataset import Dataset, Split, enlarge
from study.errors import BadInputError
from tests.study.data.second import publish


def cifar10(folder: Path | None, enlarged: int = 1) -> Dataset:
    split = Split(enlarge(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), enlarged), torch.arange(4))
    return Dataset(split, split, 10, enlarged=enlarged, folder=folder)


def test_its_images_are_read_with_the_channels_first(tmp_path):
    images, labels = publish(tmp_path)
    split = cifar10_1.read(cifar10(tmp_path))
    assert split is not None
    assert split.images.dtype == torch.uint8
    assert (split.images.numpy() == images.transpose(0, 3, 1, 2)).all()
    assert (split.labels.dtype, split.labels.tolist()) == (torch.int64, labels.tolist())


def test_they_are_enlarged_as_the_first_test_set_is(tmp_path):
    publish(tmp_path)
    large, small = (cifar10_1.read(cifar10(tmp_path, times)) for times in (2, 1))
    assert torch.equal(large.images, enlarge(small.images, 2))


def test_there_is_none_without_its_files(tmp_path, capsys):
    assert cifar10_1.read(cifar10(tmp_path)) is None
    assert cifar10_1.read(cifar10(None)) is None
    cifar10_1.say_missing.cache_clear()
    cifar10_1.say_missing(tmp_path)
    cifar10_1.say_missing(tmp_path)
    said = capsys.readouterr().err
    assert said.count("put cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy into") == 1
    assert str(tmp_path) in said


def refusal(folder: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        cifar10_1.read(cifar10(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_not_what_they_promise_are_refused_in_one_sentence(tmp_path):
    publish(tmp_path / "one")
    (tmp_path / "one" / cifar10_1.LABELS).unlink()
    assert "must have both files of CIFAR-10.1" in refusal(tmp_path / "one")
    publish(tmp_path / "cut")
    whole = (tmp_path / "cut" / cifar10_1.IMAGES).read_bytes()
    (tmp_path / "cut" / cifar10_1.IMAGES).write_bytes(whole[:-100])
    assert "but cifar10.1_v6_data.npy can't be read" in refusal(tmp_path / "cut")
    publish(tmp_path / "small", side=28)
    assert "bytes ['N', 32, 32, 3], and not uint8 [12, 28, 28, 3]" in refusal(tmp_path / "small")
    publish(tmp_path / "labels")
    for labels in (np.arange(11), np.arange(12), np.ones(12)):
        np.save(tmp_path / "labels" / cifar10_1.LABELS, labels)
        assert "must have a label from 0 to 9 for each of 12 images." in refusal(tmp_path / "labels")
