"""Measure how fast the engine trains, on noise; `backend_choice` and `benchmark` compare these rates."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from study.data.corruption import corrupt_each
from study.data.dataset import Split
from study.engine.backends import pack
from study.engine.pack import Pack
from study.networks import build
from study.training.loop import Member, Training
from study.training.precision import use_full_float32
from study.trial import Trial
from study.worker import Process, use_one_thread

Rate = Callable[[float], float]
"""A function that works for so many seconds, or for one pass if that takes longer, and returns its rate per second."""


def noise(samples: int, shape: tuple[int, int, int], classes: int) -> Split:
    """Make a split of random images, whose labels are 0, 1, 2, ... in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, *shape), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(samples) % classes)


def build_networks(
    trial: Trial, shape: tuple[int, int, int], classes: int, device: str, members: int
) -> list[nn.Module]:
    """Build a network of the trial's kind for each of so many members."""
    options = trial.network_options
    return [
        build.build(trial.architecture, shape, classes, trial.norm, seed, options).to(device) for seed in range(members)
    ]


def training_pass(
    trial: Trial, shape: tuple[int, int, int], classes: int, batches: int, device: str, backend: str, members: int
) -> Callable[[], int]:
    """Return a function that trains a pack of the trial's kind for one pass over so many batches of noise.

    A pass returns its model-samples: samples times the members that were trained on each.

    Raises:
        UnfitError: the backend can't express the network.
    """
    networks = build_networks(trial, shape, classes, device, members)
    return pass_of(pack(backend, networks, shape), trial, shape, classes, batches)


def pass_of(
    packed: Pack, trial: Trial, shape: tuple[int, int, int], classes: int, batches: int, graphs: bool = True
) -> Callable[[], int]:
    """Return the function that trains a pack for one pass; see `training_pass`, and `Training` for `graphs`."""
    split, members = noise(batches * trial.batch_size, shape, classes), len(packed)
    (corrupted,) = corrupt_each(split, classes, "none", [(0.0, 0)], device=str(packed.device))
    # The learning rate does not change the speed, but training could diverge with a large one.
    endless = replace(trial, epochs=2**31 - 1, lr=1e-12)
    runs = [Member(endless, seed, corrupted) for seed in range(members)]
    epochs = iter(Training(packed, runs, graphs))

    def one_pass() -> int:
        next(epochs)
        packed.diverged.clear()  # a network that diverges is no slower, and must go on
        return len(split) * members

    return one_pass


def rate(one_pass: Callable[[], int], device: str, warm_up: Callable[[], object] | None = None) -> Rate:
    """Return the function that measures the rate of passes, each of which returns how much it got done.

    A first pass, or `warm_up` in its place, is made at once and not measured.
    """

    def wait() -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    def turn(seconds: float) -> float:
        wait()
        start, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - start < seconds:
            done += one_pass()
        wait()
        return done / (time.perf_counter() - start)

    (warm_up or one_pass)()
    return turn


def engine_rate(
    trial: Trial, shape: tuple[int, int, int], classes: int, batches: int, device: str, backend: str, members: int
) -> Rate:
    """Return the rate of `training_pass` in this process, which is set up like a worker of a sweep."""
    use_one_thread()
    use_full_float32()
    return rate(training_pass(trial, shape, classes, batches, device, backend, members), device)


def total_rate(processes: Sequence[Process], seconds: float) -> float:
    """Have processes work at the same time for so many seconds, and return the sum of their rates."""
    for process in processes:
        process.send(seconds)
    return math.fsum(process.result() for process in processes)
