"""Small trainings on noise, whose networks the checks compare."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from study.data.corruption import corrupt_each
from study.engine import pack
from study.engine.branches import Branches
from study.engine.pack import Pack
from study.networks import build
from study.speed.throughput import noise
from study.training.checkpoint import decode, encode
from study.training.loop import Member, Training
from study.trial import Trial

CLASSES = 10
BATCH = 8

MakePack = Callable[[Sequence[nn.Module]], Pack]


@dataclass(frozen=True)
class Small:
    """A small training.

    Attributes:
        network: makes a network for images of a shape, by its seed.
        shape: channels, height and width of an image.
        trial: how it is trained.
        dtype: the arithmetic.
    """

    network: Callable[[int], nn.Module]
    shape: tuple[int, int, int]
    trial: Trial
    dtype: torch.dtype = torch.float64

    @classmethod
    def of(cls, architecture: str, dtype: torch.dtype = torch.float64, **settings: object) -> "Small":
        """Return the training of a built-in network."""
        shape = (1, 28, 28) if architecture == "lenet" else (3, 32, 32)
        trial = Trial.of({"architecture": architecture, "batch_size": BATCH, "k": 0.25, **settings})
        return cls(partial(_build, architecture, shape, trial.norm), shape, trial, dtype)

    def networks(self, seeds: Sequence[int], device: str) -> list[nn.Module]:
        """Return the untrained networks of the members of these seeds."""
        return [self.network(seed).to(device, self.dtype) for seed in seeds]

    @property
    def samples(self) -> int:
        """How many samples it has: two full batches an epoch and a smaller one, which is captured apart."""
        return 5 * self.trial.batch_size // 2

    def images(self, seeds: Sequence[int], device: str) -> Tensor:
        """Return images for each of these members, [M, B, C, H, W]."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images = [
            torch.rand(self.trial.batch_size, *self.shape, generator=own, dtype=torch.float64) for own in generators
        ]
        return torch.stack(images).to(device, self.dtype)

    def train(
        self, make: MakePack, seeds: Sequence[int], device: str, graphs: bool = True, stop_after: int = 0
    ) -> tuple[Pack, Training]:
        """Train members side by side, and return them and their training.

        Args:
            make: makes a pack of their networks.
            seeds: the seed of each member.
            device: a torch device.
            graphs: see `Training`.
            stop_after: the epochs after which training is stopped, to go on in new networks from a checkpoint; 0 is
                never.
        """
        amounts, checkpoint = [(self.trial.k, seed) for seed in seeds], None
        corrupted = corrupt_each(noise(self.samples, self.shape, CLASSES), CLASSES, "label", amounts, device=device)
        runs = [Member(self.trial, seed, own) for seed, own in zip(seeds, corrupted, strict=True)]
        with _default_dtype(self.dtype):
            if stop_after:
                training = Training(make(self.networks(seeds, device)), runs, graphs)
                next(epoch for epoch in training if epoch == stop_after)
                checkpoint = encode(training.state())
            packed = make(self.networks(seeds, device))
            training = Training(packed, runs, graphs)
            if checkpoint:
                training.restore(decode(checkpoint))
            list(training)
        return packed, training


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Have torch's default be this dtype: in it, Adam on a GPU counts its steps and corrects its bias."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _build(architecture: str, shape: tuple[int, int, int], norm: str, seed: int) -> nn.Module:
    return build.build(architecture, shape, CLASSES, norm, seed)


def packed_by(backend: str, shape: tuple[int, int, int]) -> MakePack:
    """Return the function that makes a pack by a backend, or of branches."""
    return Branches if backend == "branches" else lambda networks: pack(backend, networks, shape)


def single(networks: Sequence[nn.Module]) -> Pack:
    """Make a pack of one network."""
    return pack("single", networks, (0, 0, 0))


def tensors_of(packed: Pack) -> list[Tensor]:
    """Return the weights and running statistics of each member, on the CPU."""
    return [tensor.cpu() for network in packed.networks for tensor in network.state_dict().values()]


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference of any number, relative to the size of its tensor; NaN where one isn't finite."""
    differences = [
        ((one.cpu().double() - other.cpu().double()).abs().max() / other.cpu().abs().max().clamp(min=1)).item()
        for one, other in zip(found, expected, strict=True)
    ]
    return largest(differences)


def largest(numbers: Iterable[float]) -> float:
    """Return the largest number, or NaN if there is one."""
    return max(numbers, key=lambda number: (math.isnan(number), number))


Name = TypeVar("Name")


def made_on(device: str, trainings: Mapping[Name, Small]) -> dict[Name, Small]:
    """Return the trainings that a device makes: on a CPU those of LeNet alone, for others take it minutes."""
    on_gpu = torch.device(device).type == "cuda"
    return {name: small for name, small in trainings.items() if on_gpu or small.trial.architecture == "lenet"}
