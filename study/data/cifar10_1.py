"""CIFAR-10.1 (Recht et al., 2018), a second test set of CIFAR-10 that was drawn anew, where it is in the data folder.

It is never fetched: version 6 has 2,000 images of the same ten classes, in two files of NumPy.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from study.data.dataset import Dataset, Split, enlarge
from study.errors import BadInputError

IMAGES, LABELS = "cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy"
"""The names of its files, of uint8 [N, 32, 32, 3] and of integers [N]."""


def read(data: Dataset) -> Split | None:
    """Return the second test set beside CIFAR-10's own, enlarged as that is; None where its files aren't there.

    Args:
        data: CIFAR-10.

    Raises:
        BadInputError: one of the files is missing, or they are not what their names say.
    """
    if data.folder is None or not any((data.folder / name).exists() for name in (IMAGES, LABELS)):
        return None
    images, labels = (_array(data.folder / name) for name in (IMAGES, LABELS))
    channels, height, width = data.shape
    shape = [len(images), height // data.enlarged, width // data.enlarged, channels]
    if images.dtype != np.uint8 or list(images.shape) != shape or not len(images):
        raise BadInputError(
            f"{data.folder / IMAGES} must have images, bytes {['N', *shape[1:]]}, and not {images.dtype} "
            f"{list(images.shape)}."
        )
    fit = labels.shape == (len(images),) and np.issubdtype(labels.dtype, np.integer)
    if not fit or labels.min() < 0 or labels.max() >= data.classes:
        raise BadInputError(
            f"{data.folder / LABELS} must have a label from 0 to {data.classes - 1} for each of {len(images)} images."
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    split = Split(enlarge(pixels, data.enlarged), torch.from_numpy(labels.astype(np.int64)))
    return split.to(data.test.labels.device)


@cache
def say_missing(folder: Path | None) -> None:
    """Say, once a process, that there are no results on CIFAR-10.1, and what would give them."""
    where = "the data folder" if folder is None else repr(str(folder))
    print(f"no results on cifar10.1: for them put {IMAGES} and {LABELS} into {where}.", file=sys.stderr)


def _array(path: Path) -> NDArray[Any]:
    """Return the array of a file."""
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(
            f"{path.parent} must have both files of CIFAR-10.1, {IMAGES} and {LABELS}, but {path.name} can't be read: "
            f"{error}"
        ) from None
    return array
