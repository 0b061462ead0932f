"""A dataset in memory: images as uint8 with their labels, for training, testing and validation."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images, uint8 or (points of the spheres) float32 [N, C, H, W], and their labels, int64 [N], on one device."""

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
    """D, the untouched test set, and the validation set, which is empty unless asked for.

    Attributes:
        train: D.
        test: the test set.
        classes: the number of classes.
        validation: the validation set.
        enlarged: how many times as high and wide the images were made, by repeating pixels.
        folder: the data folder that it was read from, where further test sets may lie; None for data of other origin.
    """

    train: Split
    test: Split
    classes: int
    validation: Split = field(default_factory=_empty_split)
    enlarged: int = 1
    folder: Path | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return bytes 0..255 as numbers in [0, 1] of the dtype; floats keep their values.

    The first paper names no other preparation, so by default there is none.
    """
    return images.to(dtype) if images.is_floating_point() else images.to(dtype).div_(255)


def enlarge(images: Tensor, times: int) -> Tensor:
    """Return images [..., H, W] of so many times the height and the width, by repeating pixels."""
    return images if times == 1 else images.repeat_interleave(times, -2).repeat_interleave(times, -1)
