"""What the engine gains over the loop that a user would write, measured side by side on this machine.

Every contender is a set of processes that are set up once and then take turns, round after round, so that whatever else
the machine is doing meets all of them alike. A figure is model-samples a second of the whole machine: samples times the
members that were trained on each.
"""

import copy
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import ToTensor

from study.data.dataset import Split, to_float
from study.engine import pack
from study.lenses.gradient_norms import grad_norms
from study.networks import build
from study.speed import backend_choice
from study.speed.throughput import Rate, alike, engine, noise, rate, side_by_side
from study.training.precision import be_exact
from study.trial import Trial
from study.worker import ENVIRONMENT, one_thread, processes

CLASSES = 10
GRADIENTS = 128
"""Of how many samples the gradient norms are timed: the check that comes before them is then a small part."""


@dataclass(frozen=True)
class Work:
    """One architecture to be raced.

    Attributes:
        architecture: a key of `models.BUILDERS`.
        shape: channels, height and width of an image, as in the study.
        batch_size: 256 as in the paper, or less where a step of 256 would take a CPU many seconds.
        members: how many networks the engine is given to train.
        batches: how many there are in one pass over the noise that everybody trains on.
    """

    architecture: str
    shape: tuple[int, int, int]
    batch_size: int
    members: int
    batches: int

    @property
    def samples(self) -> int:
        """In one pass."""
        return self.batches * self.batch_size

    @property
    def trial(self) -> Trial:
        """With batch norm, and the paper's optimizer."""
        return Trial(architecture=self.architecture, batch_size=self.batch_size)


def works(device: str) -> list[Work]:
    """What is raced on the device."""
    on_gpu = torch.device(device).type == "cuda"
    large, batches = (256, 64) if on_gpu else (32, 2)
    return [
        Work("lenet", (1, 28, 28), 256, 32 if on_gpu else 16, 64 if on_gpu else 16),
        *(Work(name, (3, 32, 32), large, 5, batches) for name in ("resnet18", "vgg8")),
        # Each of its processes takes gigabytes.
        Work("densenet121", (3, 32, 32), 256 if on_gpu else 16, 5, batches),
    ]


Contender = tuple[Mapping[str, str], int, Callable[..., Any], tuple[Any, ...]]
"""What its processes have in their environment, how many there are, and the function and arguments that set one up."""


@dataclass(frozen=True)
class Race:
    """Model-samples a second of each contender in each round, and what the gradient norms cost.

    Attributes:
        work: what was raced.
        chosen: the tuner's choice, in words.
        heats: those of the plain loop in its variants, against one another.
        rates: those of the best of these against the engine's plain loop, `single`, and the engine's choice.
        gradient_norms: seconds of a member's gradient norms, in the engine's pack, over those of one forward and
            backward pass of a network alone, by round.
    """

    work: Work
    chosen: str
    heats: Mapping[str, Sequence[float]]
    rates: Mapping[str, Sequence[float]]
    gradient_norms: Sequence[float]

    @property
    def plain(self) -> str:
        """The best of the plain loops."""
        return _best(self.heats)

    def ratio(self, contender: str, to: str) -> float:
        """The median over rounds of the one's rate over the other's in the same round."""
        rates = self.rates if contender in self.rates else self.heats
        return median(one / other for one, other in zip(rates[contender], rates[to], strict=True))

    def figures(self) -> dict[str, Any]:
        """Everything that is printed, JSON-ready."""
        return {
            "architecture": self.work.architecture,
            "shape": list(self.work.shape),
            "batch_size": self.work.batch_size,
            "members": self.work.members,
            "chosen": self.chosen,
            "plain": self.plain,
            "heats": {name: list(rates) for name, rates in self.heats.items()},
            "rates": {name: list(rates) for name, rates in self.rates.items()},
            "engine_over_plain": self.ratio("engine", self.plain),
            "engine_over_single": self.ratio("engine", "single"),
            "single_over_plain": self.ratio("single", self.plain),
            "gradient_norms_over_pass": median(self.gradient_norms),
        }


def race(work: Work, device: str, seconds: float, rounds: int) -> Race:
    """Let the plain loop in its variants, the engine's plain loop and the engine's choice take turns.

    Args:
        work: what to train.
        device: a torch device.
        seconds: how long each takes its turn; at least one pass.
        rounds: how many turns each has.
    """
    on_gpu = torch.device(device).type == "cuda"
    cores = 1 if on_gpu else len(os.sched_getaffinity(0))
    with processes(ENVIRONMENT, 1, tuned, work, device) as (tuning,):
        choice = tuning.result()
    contenders: dict[str, Contender] = {}
    for count in sorted({1, cores}):
        for loaders in (0, 2):
            where = "" if on_gpu else f", {count} process{'es' * (count > 1)}"
            threads = max(1, cores // count)
            contenders[f"plain{where}, {loaders} loader workers"] = ({}, count, plain, (work, device, loaders, threads))
    load = (work.trial, work.shape, CLASSES, work.batches, device)
    contenders["single"] = (ENVIRONMENT, cores, engine, (*load, "single", 1))
    contenders["engine"] = (ENVIRONMENT, cores, engine, (*load, choice.backend, choice.members))
    contenders["gradient norms"] = (ENVIRONMENT, 1, gradient_norms, (work, device, choice.backend, choice.members))
    # All at once would take more memory than a laptop has: the plain loops find their best among themselves.
    heats = _in_turns({name: each for name, each in contenders.items() if name.startswith("plain")}, seconds, rounds)
    best = _best(heats)
    others = {name: each for name, each in contenders.items() if name not in heats or name == best}
    rates = _in_turns(others, seconds, rounds)
    return Race(work, str(choice), heats, rates, rates.pop("gradient norms"))


def _in_turns(contenders: Mapping[str, Contender], seconds: float, rounds: int) -> dict[str, list[float]]:
    """What each contender gets done in each round, all of them being there all the time."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(processes(environment, count, function, *arguments))
            for name, (environment, count, function, arguments) in contenders.items()
        }
        for together in started.values():
            for process in together:
                stack.callback(process.close)  # all of them, before any is waited for
                process.result()
        for _ in range(rounds):
            for name, together in started.items():
                rates[name].append(side_by_side(together, seconds))
    return rates


def _best(rates: Mapping[str, Sequence[float]]) -> str:
    return max(rates, key=lambda name: median(rates[name]))


# The contenders beside the engine: each sets itself up, and then says of a turn what came of it ---------------------


def _torchvision(work: Work) -> Any:
    """Noise in torchvision's own dataset for such images: a sample is made from bytes by way of a PIL image."""
    channels, height, width = work.shape
    pixels = np.random.default_rng(0).integers(0, 256, (work.samples, height, width, channels), dtype=np.uint8)
    labels = np.arange(work.samples) % CLASSES
    if channels == 1:
        grey = datasets.MNIST.__new__(datasets.MNIST)  # its constructor wants files
        grey.data, grey.targets = torch.from_numpy(pixels[..., 0]), torch.from_numpy(labels)
        grey.transform, grey.target_transform = ToTensor(), None
        return grey
    colour = datasets.CIFAR10.__new__(datasets.CIFAR10)
    colour.data, colour.targets = pixels, labels.tolist()
    colour.transform, colour.target_transform = ToTensor(), None
    return colour


def plain(work: Work, device: str, loaders: int, threads: int) -> Rate:
    """The loop that a user would write: a DataLoader and one network; on a GPU with torch's own TF32 convolutions."""
    torch.set_num_threads(threads)
    network = build.build(work.architecture, work.shape, CLASSES, "batch", seed=0).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    on_gpu = torch.device(device).type == "cuda"
    loader = DataLoader(
        _torchvision(work),
        batch_size=work.batch_size,
        shuffle=True,
        num_workers=loaders,
        persistent_workers=loaders > 0,
        # As in a program of the user's; this process, which was spawned, would spawn them.
        multiprocessing_context="fork" if loaders and sys.platform == "linux" else None,
        pin_memory=on_gpu,
    )

    def one_pass() -> int:
        network.train()
        samples = 0
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            samples += len(labels)
        return samples

    return rate(one_pass, device)


def gradient_norms(work: Work, device: str, backend: str, members: int) -> Rate:
    """Seconds of the gradient norms of some samples over those of an ordinary forward and backward pass over them.

    The norms are those of a member of that pack, and the pass is that of a network alone.
    """
    one_thread()
    be_exact()
    split = noise(GRADIENTS, work.shape, CLASSES).to(device)
    networks = alike(work.trial, work.shape, CLASSES, device, members)
    network = copy.deepcopy(networks[0]).eval()
    together = pack(backend, networks, work.shape)

    few = Split(split.images[: work.batch_size], split.labels[: work.batch_size])

    def ordinary() -> int:
        network.zero_grad()
        cross_entropy(network(to_float(few.images, torch.float32)), few.labels).backward()
        return len(few)

    def norms(of: Split = split) -> int:
        rows = torch.arange(len(of), device=device)
        grad_norms(together, of.images, [rows] * members, [of.labels] * members)
        return len(of) * members

    rates = [rate(ordinary, device), rate(norms, device, warm_up=partial(norms, few))]

    def measured(seconds: float) -> float:
        of_ordinary, of_norms = (each(seconds / 2) for each in rates)
        return of_ordinary / of_norms

    return measured


def tuned(work: Work, device: str) -> backend_choice.Choice:
    """What the tuner chooses for this work, here and now."""
    one_thread()
    return backend_choice.fastest(backend_choice.measure(work.trial, work.shape, CLASSES, device), work.members)
