"""Random numbers for single test images: noise, and the points where attacks start."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from study import seeds


@dataclass(frozen=True)
class Draws:
    """Where the random numbers for a batch of test images come from.

    An image's numbers depend on the member's seed, the stream's name and the image's index in the test set alone: they
    are alike in all arms, and whatever the batch and the pack.

    Attributes:
        seeds: that of each member, M.
        samples: the index of each image in the test set, int64 [B].
    """

    seeds: Sequence[int]
    samples: Tensor

    def normal(self, shape: Sequence[int], *stream: str | int) -> Tensor:
        """Return standard normal numbers for each image, float64 [M, B, *shape] on the CPU, from the named stream."""
        return self._draw(np.random.Generator.standard_normal, shape, stream)

    def uniform(self, shape: Sequence[int], *stream: str | int) -> Tensor:
        """Return numbers from [0, 1) for each image, float64 [M, B, *shape] on the CPU, from the named stream."""
        return self._draw(np.random.Generator.random, shape, stream)

    def _draw(self, draw: Callable[..., np.ndarray], shape: Sequence[int], stream: tuple[str | int, ...]) -> Tensor:
        samples = self.samples.tolist()
        drawn = {}
        for seed in dict.fromkeys(self.seeds):
            key = seeds.key(seed, "attack", *stream)
            numbers = np.empty((len(samples), math.prod(shape)))
            for sample, into in zip(samples, numbers, strict=True):
                # The generator counts up from the lowest word, so the numbers of two images never overlap.
                draw(np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, sample])), out=into)
            drawn[seed] = torch.from_numpy(numbers).view(-1, *shape)
        if len(drawn) == 1:
            return drawn[self.seeds[0]].expand(len(self.seeds), len(samples), *shape)
        return torch.stack([drawn[seed] for seed in self.seeds])
