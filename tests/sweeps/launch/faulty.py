"""A network that a worker trains as any other unless a file in the folder of `FAULTS` says what goes wrong in it."""

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from study.networks import rehearsal

FAULTS = "NORMLEAK_TEST_FAULTS"
"""In the environment of the nodes: the folder with a file for each fault that is on."""


class Faulty(nn.Module):
    """Norm and classifier; its fault comes up in training, whose batches are larger than those that try a network."""

    def __init__(self, fault: Callable[[Tensor], Tensor], inputs: int, classes: int) -> None:
        super().__init__()
        self.fault = fault
        self.layers = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, images: Tensor) -> Tensor:
        trained = self.training and len(images) > rehearsal.IMAGES
        on = trained and (Path(os.environ[FAULTS]) / self.fault.__name__).exists()
        logits = self.layers(images)
        return self.fault(logits) if on else logits


def hang(logits: Tensor) -> Tensor:
    (Path(os.environ[FAULTS]) / "hanging").touch()
    time.sleep(1000)
    return logits


def use_all_memory(logits: Tensor) -> Tensor:
    """As much of it as there is for a process that may have but a little more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, most))
    kept = []
    while True:
        kept.append(torch.ones(2**22))


def no_number(logits: Tensor) -> Tensor:
    return logits * float("nan")


def fill_the_disk(logits: Tensor) -> Tensor:
    """Up to its last byte: that on which the link lies, or leads to."""
    with (Path(os.environ[FAULTS]) / "fill_the_disk").resolve().open("ab", buffering=0) as file:
        for size in (2**16, 2**8, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return logits


def take_the_node_down(logits: Tensor) -> Tensor:
    """At once and without grace, as a power cut would; the next node may live. What was being done then is kept."""
    (Path(os.environ[FAULTS]) / "taken_down").write_text(" ".join(at.name for at in traceback.extract_stack()))
    (Path(os.environ[FAULTS]) / "take_the_node_down").unlink()
    process = os.getppid()
    while (name := Path(f"/proc/{process}/stat").read_text().split())[1] != "(raylet)":
        process = int(name[3])
    for lost in (process, os.getpid()):
        os.kill(lost, signal.SIGKILL)
    return logits


def slow(logits: Tensor) -> Tensor:
    time.sleep(0.1)
    return logits


def _network(fault: Callable[[Tensor], Tensor]) -> Callable[[tuple[int, int, int], int], nn.Module]:
    def network(shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Faulty(fault, shape[0] * shape[1] * shape[2], classes)

    return network


hangs, exhausts, diverges, fills, lags, downs = map(
    _network, (hang, use_all_memory, no_number, fill_the_disk, slow, take_the_node_down)
)
