"""Load a dataset by its name, take a subset of it, and set samples aside for validation."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from study.data import files
from study.data.builtin import BUILTIN
from study.data.catalog import DATASETS
from study.data.dataset import Dataset, Split, enlarge
from study.data.decoding import decode_part
from study.errors import BadInputError
from study.storage.fetch import local_folder
from study.worker import give_back_memory


def load(
    name: str,
    data_dir: str | Path,
    subset: int = 0,
    validation: float = 0.0,
    resize: int = 0,
    test_images: int = 0,
) -> Dataset:
    """Load the dataset of that name, once per process; torchvision's are downloaded where they are missing.

    Args:
        name: a built-in name, `parquet:DIR` or `imagefolder:DIR`, where DIR may be a URI.
        data_dir: where torchvision's datasets are, in torchvision's layout: a folder, or a URI of which the files of
            this dataset are fetched.
        subset: how many training samples to keep, each class in proportion; 0 keeps all. The draw is always the same.
        validation: the share of these that is set aside for validation, each class in proportion, by a draw that is
            always the same.
        resize: the height and width to which images are enlarged by repeating pixels; 0 leaves them.
        test_images: how many test images to read of `imagenet`, each class in proportion, by a draw that is always the
            same; 0 reads its usual number. Of any other dataset all are read.

    Raises:
        BadInputError: the files are missing, unreadable or not what the name promises; there is no such subset; a
            class would have no sample set aside, or none left; or images can't be enlarged so.
    """
    # The cache tells a default that is left out from one that is named.
    return _load(name, str(data_dir), subset, validation, resize, test_images)


@cache
def _load(name: str, data_dir: str, subset: int, validation: float, resize: int, test_images: int) -> Dataset:
    """Load a dataset as `load` says."""
    if resize:
        return _enlarged(name, load(name, data_dir, subset, validation), resize)
    if validation:
        whole = load(name, data_dir, subset)
        validation_set, train = _split_validation(name, whole.train, validation)
        return replace(whole, train=train, validation=validation_set)
    if subset:
        whole = load(name, data_dir)
        return replace(whole, train=_subset(name, whole, subset))
    found, folder = files.survey(name), None
    if found is not None:
        train, test, classes = decode_part(found.train), decode_part(found.test), len(found.classes)
    else:
        needed = DATASETS[name].files
        folder = local_folder(data_dir, *needed) if needed else None
        train, test = BUILTIN[name](folder or Path(), *([test_images] if test_images else []))
        classes = int(train.labels.max()) + 1 if len(train) else DATASETS[name].classes
    give_back_memory()  # the encoded images may be gigabytes
    _check(name, train, test, classes)
    return Dataset(train, test, classes, folder=folder)


def _enlarged(name: str, data: Dataset, side: int) -> Dataset:
    """Return the dataset with images of that height and width."""
    _, height, width = data.shape
    times = side // height
    if (times * height, times * width) != (side, side):
        raise BadInputError(
            f"resize repeats the pixels of {name}, whose images have {height}x{width}: {side} is no multiple of that."
        )
    train, test, validation = (
        Split(enlarge(split.images, times), split.labels) for split in (data.train, data.test, data.validation)
    )
    return replace(data, train=train, test=test, validation=validation, enlarged=times)


def _subset(name: str, whole: Dataset, size: int) -> Split:
    """Return so many training samples, each class in proportion."""
    train = whole.train
    if not whole.classes <= size < len(train):
        raise BadInputError(
            f"subset of {name} must be 0 for all of it, or from {whole.classes}, one a class, "
            f"to {len(train) - 1}, not {size}."
        )
    try:
        return _stratified_split(train, size)[0]
    except ValueError as error:
        raise BadInputError(f"{name} has no subset of {size} by class: {error}") from None


def _split_validation(name: str, train: Split, share: float) -> tuple[Split, Split]:
    """Split D into the validation set and the rest."""
    refusal = BadInputError(
        f"validation={share:g} of the {len(train)} training samples of {name} would leave a class without a sample "
        f"on one of the two sides; take another share, or more samples."
    )
    try:
        sides = _stratified_split(train, round(share * len(train)))
    except ValueError:
        raise refusal from None
    if any(len(side.labels.unique()) < len(train.labels.unique()) for side in sides):
        raise refusal
    return sides


def _stratified_split(train: Split, size: int) -> tuple[Split, Split]:
    """Split off so many samples, each class in proportion.

    Both sides keep their order, and the draw is always the same.

    Raises:
        ValueError: there are too few samples of a class, or in all.
    """
    from sklearn.model_selection import train_test_split

    labels = train.labels.numpy()
    indices = train_test_split(np.arange(len(labels)), train_size=size, stratify=labels, random_state=0)
    first, rest = (torch.from_numpy(np.sort(side)) for side in indices)
    return Split(train.images[first], train.labels[first]), Split(train.images[rest], train.labels[rest])


def _check(name: str, train: Split, test: Split, classes: int) -> None:
    """Refuse splits that don't fit each other."""
    shapes = {tuple(split.images.shape[1:]) for split in (train, test)}
    if len(shapes) > 1:
        raise BadInputError(
            f"{name}: images of the training and the test set differ in shape: {sorted(shapes)}; "
            "make all of one size, and all grey or all in colour."
        )
    lowest = min(int(split.labels.min()) for split in (train, test) if len(split))
    if lowest < 0 or int(test.labels.max()) >= classes:
        raise BadInputError(f"{name}: labels must run from 0, and the test set must not have a class of its own.")
