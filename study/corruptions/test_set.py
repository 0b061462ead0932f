"""A corrupted test set: the published files of CIFAR-10-C where they lie in the data folder, and else computed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.corruptions.compute import corrupt
from study.corruptions.names import COMPUTED, FAMILIES, SEVERITIES
from study.corruptions.pixels import Bytes
from study.data.dataset import Dataset, enlarge
from study.errors import BadInputError

FOLDER = "CIFAR-10-C"
"""The folder of the published files within the data folder."""


class CorruptedTestSet:
    """The test images of a dataset under each family of corruptions, at each severity."""

    def __init__(self, dataset: str, data: Dataset) -> None:
        """Find the published files of the dataset, where there are any.

        Raises:
            BadInputError: they are not complete, or are of other images.
        """
        self._data = data
        folder = data.folder / FOLDER if dataset == "cifar10" and data.folder else None
        self._files: Mapping[str, Bytes] = {}
        if folder is not None and folder.is_dir():
            self._files = _open(folder, data)

    @property
    def families(self) -> tuple[str, ...]:
        """The names of the families that can be had."""
        return FAMILIES if self._files else COMPUTED

    @property
    def split(self) -> str:
        """Where the images are from: `cifar10_c` are the published ones, `test` those that are computed."""
        return "cifar10_c" if self._files else "test"

    def images(self, family: str, severity: int, samples: Tensor) -> Tensor:
        """Return the test images of these indices under a corruption, uint8 [N, C, H, W] on the test set's device.

        Images that were enlarged are corrupted as they were before, and then enlarged.
        """
        given, times = self._data.test.images, self._data.enlarged
        if self._files:
            file = self._files[family]
            block = len(file) // len(SEVERITIES)
            rows = np.asarray(file[(severity - 1) * block + samples.cpu().numpy()])
            corrupted = np.ascontiguousarray(rows.transpose(0, 3, 1, 2))
        else:
            originals = given[samples.to(given.device), :, ::times, ::times].cpu().numpy()
            corrupted = corrupt(originals, family, severity, samples.tolist())
        return enlarge(torch.from_numpy(corrupted), times).to(given.device)


def _open(folder: Path, data: Dataset) -> dict[str, Bytes]:
    """Return the published files of all families as memory maps, [5 x images, H, W, 3]: a block for each severity."""
    labels = data.test.labels.cpu().numpy()
    channels, height, width = (
        size // of for size, of in zip(data.shape, (1, data.enlarged, data.enlarged), strict=True)
    )
    shape = len(SEVERITIES) * len(labels), height, width, channels
    published = _array(folder / "labels.npy")
    if not np.array_equal(published[: len(labels)], labels):
        raise BadInputError(f"{folder / 'labels.npy'} has other labels than the test set of cifar10.")
    files = {family: _array(folder / f"{family}.npy") for family in FAMILIES}
    for family, file in files.items():
        if file.dtype != np.uint8 or file.shape != shape:
            raise BadInputError(
                f"{folder / family}.npy must have {len(SEVERITIES)} blocks of {len(labels)} images, bytes "
                f"{list(shape)}, and not {file.dtype} {list(file.shape)}."
            )
    return files


def _array(path: Path) -> NDArray[Any]:
    """Return the array of a file as a memory map."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(
            f"{path.parent} must have the {len(FAMILIES)} files of CIFAR-10-C and their labels, but {path.name} can't "
            f"be read: {error}"
        ) from None
    return array
