"""A small second test set in the files of CIFAR-10.1."""

from pathlib import Path

import numpy as np

from study.data.cifar10_1 import IMAGES, LABELS


def publish(folder: Path, count: int = 12, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Write random images, uint8 [N, side, side, 3], with labels of all ten classes, and return both."""
    images = np.random.default_rng(1).integers(256, size=(count, side, side, 3)).astype(np.uint8)
    labels = (np.arange(count) % 10).astype(np.int32)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / IMAGES, images)
    np.save(folder / LABELS, labels)
    return images, labels
