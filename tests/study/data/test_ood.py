from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images

from study.data.ood import match_shape, ood_images


def test_ood_images_take_the_channels_and_the_size_of_the_dataset():
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    colour = match_shape(grey, (3, 16, 16))
    assert colour.shape == (1, 3, 16, 16)
    assert (colour == grey).all()
    # Luminance of pure red, green and blue, by the weights of ITU-R 601.
    pure = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    pure[[0, 1, 2], [0, 1, 2]] = 255
    assert match_shape(pure, (1, 4, 4))[:, 0, 0, 0].tolist() == pytest.approx(
        [0.2989 * 255, 0.587 * 255, 0.114 * 255], abs=1
    )
    flat = torch.full((2, 1, 28, 28), 77, dtype=torch.uint8)
    assert match_shape(flat, (3, 32, 32)).unique().tolist() == [77]


def test_photos_are_tiles_that_do_not_overlap_and_lie_in_a_package():
    tiles = ood_images("photos", Path("nowhere"), (3, 28, 28))
    assert tiles.shape == (2 * (427 // 28) * (640 // 28), 3, 28, 28)
    photo = torch.from_numpy(load_sample_images().images[0].copy()).permute(2, 0, 1)
    assert (tiles[0] == photo[:, :28, :28]).all()
    assert (tiles[1] == photo[:, :28, 28:56]).all()
    assert (tiles[640 // 28] == photo[:, 28:56, :28]).all()
