"""Load the images of another dataset in the size and with the channels of D's images."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from study.data.load import load


@cache
def ood_images(name: str, data_dir: str | Path, shape: tuple[int, int, int]) -> Tensor:
    """Load the images of a D* in the shape of D's images: uint8 [M, C, H, W].

    Colour becomes grey by luminance, grey becomes colour by repetition, and another size is resampled bilinearly with
    antialiasing. `photos` are tiles of the two photographs that come with scikit-learn.

    Raises:
        BadInputError: the dataset can't be loaded.
    """
    images = _photo_tiles(shape) if name == "photos" else load(name, data_dir).train.images
    return match_shape(images, shape)


def match_shape(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Convert images, uint8 [M, c, h, w], to the channels and the size of a shape [C, H, W]."""
    from torchvision.transforms.v2 import functional

    channels, height, width = shape
    if images.shape[1] != channels:
        images = functional.rgb_to_grayscale(images) if channels == 1 else images.repeat(1, channels, 1, 1)
    if tuple(images.shape[2:]) != (height, width):
        images = functional.resize(images, [height, width], antialias=True)
    return images


def _photo_tiles(shape: tuple[int, int, int]) -> Tensor:
    """Cut scikit-learn's photographs into tiles of that height and width that don't overlap: uint8 [M, 3, H, W]."""
    from sklearn.datasets import load_sample_images

    _, height, width = shape
    tiles = []
    for photo in load_sample_images().images:
        whole = torch.from_numpy(photo.copy()).permute(2, 0, 1)
        tiled = whole.unfold(1, height, height).unfold(2, width, width)
        tiles.append(tiled.permute(1, 2, 0, 3, 4).flatten(0, 1))
    return torch.cat(tiles)
