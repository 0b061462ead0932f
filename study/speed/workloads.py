"""What the benchmark trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from study.trial import Trial

CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """One architecture to be benchmarked.

    Attributes:
        architecture: a key of `build.BUILDERS`.
        shape: channels, height and width of an image, as in the study.
        batch_size: 256 as in the paper, or less where a step of 256 would take a CPU many seconds.
        members: how many networks the engine trains.
        batches: how many batches of noise make one pass.
        settings: what else its trial has, by name; batch norm and the first paper's Adam without it.
    """

    architecture: str
    shape: tuple[int, int, int]
    batch_size: int
    members: int
    batches: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many samples make one pass."""
        return self.batches * self.batch_size

    @property
    def trial(self) -> Trial:
        """The trial of this architecture."""
        return Trial.of({"architecture": self.architecture, "batch_size": self.batch_size, **self.settings})


def workloads_on(device: str) -> list[Workload]:
    """Return the workloads that are benchmarked on a device."""
    on_gpu = torch.device(device).type == "cuda"
    large, batches = (256, 64) if on_gpu else (32, 2)
    plain = {"optimizer": "sgd", "momentum": 0.0}
    deep = plain | {"hidden_layers": 10}
    return [
        Workload("lenet", (1, 28, 28), 256, 32 if on_gpu else 16, 64 if on_gpu else 16),
        Workload("mlp", (1, 28, 28), 128, 32 if on_gpu else 16, 64 if on_gpu else 16, plain),
        Workload("deep_mlp", (1, 28, 28), 50, 32 if on_gpu else 16, 64 if on_gpu else 8, deep),
        Workload("deep_mlp", (1, 28, 28), 5, 32 if on_gpu else 16, 64, deep),
        *(Workload(name, (3, 32, 32), large, 5, batches) for name in ("resnet18", "vgg8")),
        # Each of its processes takes gigabytes.
        Workload("densenet121", (3, 32, 32), 256 if on_gpu else 16, 5, batches),
    ]
