"""Images of another dataset, made to look like those of D in size and channels."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from study.data.load import load


@cache
def ood_images(name: str, data_dir: Path, shape: tuple[int, int, int]) -> Tensor:
    """The images of a D* brought to the shape of D: uint8 [M, C, H, W].

    Colour becomes grey by luminance, grey becomes colour by repetition, and another size is resampled bilinearly with
    antialiasing. `photos` are tiles of the two photographs that scikit-learn brings along.

    Raises:
        BadInputError: the dataset can't be had.
    """
    images = _tiles(shape) if name == "photos" else load(name, data_dir).train.images
    return match(images, shape)


def match(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images, uint8 [M, c, h, w], with the channels and the size of [C, H, W]."""
    from torchvision.transforms.v2 import functional

    channels, height, width = shape
    if images.shape[1] != channels:
        images = functional.rgb_to_grayscale(images) if channels == 1 else images.repeat(1, channels, 1, 1)
    if tuple(images.shape[2:]) != (height, width):
        images = functional.resize(images, [height, width], antialias=True)
    return images


def _tiles(shape: tuple[int, int, int]) -> Tensor:
    from sklearn.datasets import load_sample_images

    _, height, width = shape
    tiles = []
    for photo in load_sample_images().images:
        whole = torch.from_numpy(photo.copy()).permute(2, 0, 1)
        tiled = whole.unfold(1, height, height).unfold(2, width, width)
        tiles.append(tiled.permute(1, 2, 0, 3, 4).flatten(0, 1))
    return torch.cat(tiles)
