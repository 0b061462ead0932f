"""How fast the engine trains on noise: by this the tuner chooses, and the benchmark tells what is gained."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from study.data.corruption import corrupt_each
from study.data.dataset import Split
from study.engine.backends import pack
from study.networks import build
from study.training.loop import Member, Training
from study.training.precision import be_exact
from study.trial import Trial
from study.worker import Process, one_thread

Rate = Callable[[float], float]
"""What takes a turn of so many seconds, or of one pass if that is longer, and says what it got done a second."""


def noise(samples: int, shape: tuple[int, int, int], classes: int) -> Split:
    """Images of noise with labels in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, *shape), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(samples) % classes)


def alike(trial: Trial, shape: tuple[int, int, int], classes: int, device: str, members: int) -> list[nn.Module]:
    """So many networks of the trial's kind."""
    return [build.build(trial.architecture, shape, classes, trial.norm, seed).to(device) for seed in range(members)]


def training(
    trial: Trial, shape: tuple[int, int, int], classes: int, batches: int, device: str, backend: str, members: int
) -> Callable[[], int]:
    """Members of the trial's kind as a pack, and what trains them for one pass over so many batches of noise.

    A pass returns the samples times the members that were trained on each.

    Raises:
        UnfitError: the backend can't express the network.
    """
    split = noise(batches * trial.batch_size, shape, classes)
    (corrupted,) = corrupt_each(split, classes, "none", [(0.0, 0)], device=device)
    networks = alike(trial, shape, classes, device, members)
    # The learning rate changes no speed, but a large one could diverge here.
    endless = replace(trial, epochs=2**31 - 1, lr=1e-12)
    runs = [Member(endless, seed, corrupted) for seed in range(members)]
    together = pack(backend, networks, shape)
    epochs = iter(Training(together, runs))

    def one_pass() -> int:
        next(epochs)
        together.diverged.clear()  # a network that leaves the finite numbers is no less fast, nor done
        return len(split) * members

    return one_pass


def rate(one_pass: Callable[[], int], device: str, warm_up: Callable[[], object] | None = None) -> Rate:
    """The rate of passes that say what they got done; a first one, or what stands in for it, is taken now."""

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


def engine(
    trial: Trial, shape: tuple[int, int, int], classes: int, batches: int, device: str, backend: str, members: int
) -> Rate:
    """The rate of `training` in a process of its own, set up as a worker of a sweep is."""
    one_thread()
    be_exact()
    return rate(training(trial, shape, classes, batches, device, backend, members), device)


def side_by_side(together: Sequence[Process], seconds: float) -> float:
    """The sum of the rates of processes that take a turn at the same time."""
    for process in together:
        process.send(seconds)
    return math.fsum(process.result() for process in together)
