"""Images as bytes and as numbers in [0, 1], and the random numbers for each."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study import seeds

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.float64]


def to_numbers(images: Bytes) -> Numbers:
    """Return bytes as numbers in [0, 1]."""
    return images / 255.0


def to_bytes(images: NDArray[Any]) -> Bytes:
    """Return numbers, clipped to [0, 1], as bytes; they are cut off and not rounded, as in the published files."""
    return np.asarray(np.clip(images, 0, 1) * 255).astype(np.uint8)


class Streams:
    """Random numbers for images, from a stream for each: no image's depend on which others are in the batch.

    Numbers are drawn in order: the same calls give the same numbers.
    """

    def __init__(self, family: str, severity: int, samples: Iterable[int]) -> None:
        """Start the streams of the images that have these indices in the test set."""
        key = seeds.key(0, "corruption", family, severity)
        # The generator counts up from the lowest word, so the numbers of two images never overlap.
        bits = (np.random.Philox(key=key, counter=[0, 0, 0, int(sample)]) for sample in samples)
        self._generators = [np.random.Generator(each) for each in bits]

    def normal(self, *shape: int) -> Numbers:
        """Return standard normal numbers, [N, *shape]."""
        return np.stack([generator.standard_normal(shape) for generator in self._generators])

    def uniform(self, *shape: int) -> Numbers:
        """Return numbers from [0, 1), [N, *shape]."""
        return np.stack([generator.random(shape) for generator in self._generators])

    def coins(self, *shape: int) -> NDArray[np.int64]:
        """Return 0 or 1 with equal chances, [N, *shape]."""
        return np.stack([generator.integers(2, size=shape) for generator in self._generators])

    def poisson(self, means: Numbers) -> NDArray[np.int64]:
        """Return counts of these means, [N, ...]."""
        return np.stack([generator.poisson(mean) for generator, mean in zip(self._generators, means, strict=True)])
