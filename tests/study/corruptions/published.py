"""A small folder in the layout of CIFAR-10-C."""

from pathlib import Path

import numpy as np

from study.corruptions.names import FAMILIES


def publish(data_dir: Path, labels: np.ndarray, side: int = 32) -> dict[str, np.ndarray]:
    """Write random images for all families, and return them by family, [5 x images, side, side, 3]."""
    folder = data_dir / "CIFAR-10-C"
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    shape = (5 * len(labels), side, side, 3)
    images = {family: drawn.integers(256, size=shape).astype(np.uint8) for family in FAMILIES}
    for family, of_family in images.items():
        np.save(folder / f"{family}.npy", of_family)
    np.save(folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return images
