"""Corrupt a test set by a family, at a severity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.corruptions import blur, colour, digital, elastic, noise, weather
from study.corruptions.names import COMPUTED
from study.corruptions.pixels import Bytes, Streams

AT_ONCE = 256
"""How many images are corrupted side by side, so that what lies between takes little memory."""


@dataclass(frozen=True)
class Family:
    """A corruption, and its parameter at each severity."""

    corrupt: Callable[[Bytes, Any, Streams], Bytes]
    parameters: tuple[Any, Any, Any, Any, Any]


COMPUTED_BY: Mapping[str, Family] = {
    "gaussian_noise": Family(noise.gaussian, (0.04, 0.06, 0.08, 0.09, 0.1)),
    "shot_noise": Family(noise.shot, (500, 250, 100, 75, 50)),
    "impulse_noise": Family(noise.impulse, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Family(blur.defocus, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": Family(blur.glass, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": Family(blur.motion, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": Family(blur.zoom, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": Family(
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "fog": Family(weather.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Family(colour.brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Family(colour.contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Family(
        elastic.elastic, ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    ),
    "pixelate": Family(digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Family(digital.jpeg, (80, 65, 58, 50, 40)),
    "speckle_noise": Family(noise.speckle, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Family(blur.gaussian, (0.4, 0.6, 0.7, 0.8, 1)),
    "saturate": Family(colour.saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
}
"""The families that are computed, with the parameters of the published files, by severity from 1."""


def corrupt(images: Bytes, family: str, severity: int, samples: Sequence[int]) -> Bytes:
    """Return images as a corruption leaves them, uint8 [N, C, H, W].

    Args:
        images: uint8 [N, C, H, W], of one or three channels and of at least `LEAST_SIDE` pixels a side.
        family: one of `COMPUTED`.
        severity: from 1 to 5.
        samples: the index of each image in the test set, on which alone its random numbers depend.
    """
    of = COMPUTED_BY[family]
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(images), AT_ONCE)]
    corrupted = [
        of.corrupt(images[part], of.parameters[severity - 1], Streams(family, severity, samples[part]))
        for part in parts
    ]
    return np.concatenate(corrupted) if corrupted else images


@dataclass(frozen=True)
class Computed:
    """A test set's corruptions, computed as they are asked for."""

    images: Bytes
    families = COMPUTED
    split = "test"

    def read(self, family: str, severity: int, samples: Sequence[int]) -> Bytes:
        """Return the images of these indices, corrupted."""
        return corrupt(self.images[np.asarray(samples)], family, severity, samples)
