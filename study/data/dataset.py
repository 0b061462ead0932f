"""A dataset in memory: images as uint8 with their labels, for training, testing and validation."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images, uint8 [N, C, H, W], and their labels, int64 [N], on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """Return the same split on a device."""
        return Split(self.images.to(device), self.labels.to(device))


def _empty_split() -> Split:
    return Split(torch.empty(0, 0, 0, 0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Dataset:
    """D, the untouched test set, the number of classes, and the validation set, which is empty unless asked for."""

    train: Split
    test: Split
    classes: int
    validation: Split = field(default_factory=_empty_split)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Scale bytes 0..255 to numbers in [0, 1] of the dtype.

    The paper names no other preparation, so there is none: no standardization, no augmentation.
    """
    return images.to(dtype).div_(255)
