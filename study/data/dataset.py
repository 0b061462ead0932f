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
        """The same split on the device."""
        return Split(self.images.to(device), self.labels.to(device))


def _nothing() -> Split:
    return Split(torch.empty(0, 0, 0, 0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Dataset:
    """D and the untouched test set, with the number of classes, and what was set aside for validation, if anything."""

    train: Split
    test: Split
    classes: int
    validation: Split = field(default_factory=_nothing)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes 0..255 as numbers in [0, 1] of the dtype."""
    return images.to(dtype).div_(255)
