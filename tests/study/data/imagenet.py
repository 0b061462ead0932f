"""A small ImageNet: the folders of all classes, of which the first few have JPEGs, and random published weights."""

from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

CLASSES = 1_000


def wnid(label: int) -> str:
    return f"n{1440764 + 7 * label:08d}"


def publish(data_dir: Path, with_images: int = 3, of_each: int = 2, inside: str = "imagenet/val") -> Path:
    """Write the folders of all classes and a few images, wide ones and high ones, and return their folder."""
    drawn = np.random.default_rng(0)
    for label in range(CLASSES):
        (data_dir / inside / wnid(label)).mkdir(parents=True)
    for label in range(with_images):
        for number in range(of_each):
            shape = (300, 400, 3) if number % 2 else (280, 260, 3)
            image = Image.fromarray(drawn.integers(256, size=shape).astype(np.uint8))
            image.save(data_dir / inside / wnid(label) / f"ILSVRC2012_val_{number:08d}.JPEG", quality=95)
    return data_dir / inside


def publish_weights(folder: Path, model: str, seed: int = 0) -> Path:
    """Write random weights of one of torchvision's networks under their official name."""
    torch.manual_seed(seed)
    url = torchvision.models.get_model_weights(model)["IMAGENET1K_V1"].url
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / url.rpartition("/")[2]
    torch.save(torchvision.models.get_model(model).state_dict(), path)
    return path
