"""Augmentation: shift and mirror an image each time that it is trained on, alike in all arms."""

from collections.abc import Sequence

import torch
from torch import Tensor

from study import seeds
from study.data.corruption import Corrupted

MOST_PIXELS = 4
"""By how many pixels an image is shifted at most, in each direction."""


class Augmentation:
    """Change the images of a batch as the draws of the epoch say.

    What becomes of a sample in an epoch depends on the member's seed, the epoch and the sample alone, as in the arms of
    a comparison it must.
    """

    def __init__(self, name: str, stream_seeds: Sequence[int], corrupted: Corrupted) -> None:
        """Make the augmentation of the members of a pack.

        Args:
            name: a value of the setting `augmentation`.
            stream_seeds: those of the members, in order.
            corrupted: a member's D', for its size and its device.
        """
        self._name, self._seeds = name, stream_seeds
        # A captured step reads them where they are, so each epoch's draws replace the numbers of the last.
        shape = (len(stream_seeds), len(corrupted) if name != "none" else 0, 3)
        self._draws = torch.zeros(shape, dtype=torch.int64, device=corrupted.labels.device)

    def draw(self, epoch: int) -> None:
        """Draw the shifts of all samples of an epoch, and whether they are mirrored."""
        if self._name == "none":
            return
        for member, seed in enumerate(self._seeds):
            draws = seeds.generator(seed, "augment", epoch)
            samples = self._draws.shape[1]
            shifts = draws.integers(-MOST_PIXELS, MOST_PIXELS, (samples, 2), endpoint=True)
            mirrored = draws.integers(0, 2, (samples, 1))
            drawn = torch.cat([torch.from_numpy(shifts), torch.from_numpy(mirrored)], dim=1)
            self._draws[member].copy_(drawn)

    def __call__(self, images: Tensor, samples: Tensor) -> Tensor:
        """Return the images of a batch as this epoch has them.

        Args:
            images: [M, B, C, H, W].
            samples: int64 [M, B], what each is in the member's D'.
        """
        if self._name == "none":
            return images
        drawn = self._draws.gather(1, samples[..., None].expand(-1, -1, 3)).flatten(0, 1)
        down, right, mirrored = drawn.unbind(dim=1)
        height, width = images.shape[-2:]
        rows = torch.arange(height, device=images.device) + down[:, None]
        columns = torch.arange(width, device=images.device) + right[:, None]
        columns = torch.where(mirrored[:, None] > 0, columns.flip(1), columns)
        flat = images.flatten(0, 1)
        image = torch.arange(len(flat), device=images.device)[:, None, None]
        if self._name == "reflect_crops":
            taken = flat[image, :, _reflected(rows, height)[:, :, None], _reflected(columns, width)[:, None, :]]
        else:
            inside_rows, inside_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
            taken = flat[image, :, inside_rows[:, :, None], inside_columns[:, None, :]]
            inside = (rows == inside_rows)[:, :, None] & (columns == inside_columns)[:, None, :]
            taken = taken * inside[..., None]
        return taken.movedim(-1, 1).reshape(images.shape)


def _reflected(positions: Tensor, size: int) -> Tensor:
    """Return positions beyond an image's edge as those of the reflection, in which the edge itself comes once."""
    positions = positions.abs()
    return torch.where(positions >= size, 2 * (size - 1) - positions, positions)
