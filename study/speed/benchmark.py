"""Compare the engine's speed with that of a plain DataLoader loop, side by side on this machine.

Each contender is a set of processes that are set up once and then take turns, round after round, so that other load on
the machine slows all of them alike. Rates are model-samples a second of the whole machine: samples times the members
that were trained on each.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import ToTensor

from study.lenses.mechanism import SAMPLES
from study.perturbations import passes
from study.speed import backend_choice
from study.speed.costs import gradient_norm_cost, input_gradient_cost, mechanism_cost
from study.speed.throughput import Rate, build_networks, engine_rate, rate, total_rate
from study.speed.timings import Choice, fastest
from study.speed.workloads import CLASSES, Workload
from study.training.optimizers import make_optimizer
from study.worker import ENVIRONMENT, start_processes, use_one_thread

MEASURED, QUICK_EPOCHS, QUICK_SAMPLES = 10, 30, 1437
"""The training that the cost of the mechanism is told for, a small one: ten measured epochs of 30 over the digits."""

ATTACKED = 48
"""How many test images the cost of robustness is told for, over the same training on a half of the digits."""


Contender = tuple[Mapping[str, str], int, Callable[..., Any], tuple[Any, ...]]
"""The environment of a contender's processes, their number, and the function that sets one up, with its arguments."""


@dataclass(frozen=True)
class Race:
    """The rates of each contender in each round, in model-samples a second, and what measurements cost.

    Attributes:
        workload: what was trained.
        chosen: the backend that the engine chose, in words.
        heats: the rates of the variants of the plain loop, among themselves.
        rates: the rates of the best of these, of the engine's plain loop (`single`), and of the engine's choice.
        gradient_norms: by round, the seconds of a member's gradient norms in the engine's pack over the seconds of one
            forward and backward pass of a network alone.
        mechanism: by round, the seconds of a sample at which the lens on the mechanism looks over those of a sample in
            training, both in the engine's pack.
        input_gradients: by round, the seconds of a forward pass in eval mode with the gradient at the images over those
            of a training step, both in the engine's pack.
    """

    workload: Workload
    chosen: str
    heats: Mapping[str, Sequence[float]]
    rates: Mapping[str, Sequence[float]]
    gradient_norms: Sequence[float]
    mechanism: Sequence[float]
    input_gradients: Sequence[float]

    @property
    def plain(self) -> str:
        """The name of the fastest variant of the plain loop."""
        return _fastest(self.heats)

    @property
    def mechanism_over_training(self) -> float:
        """How long a training takes that measures the mechanism, over the same one that doesn't; see `MEASURED`."""
        looked_at, trained = MEASURED * 2 * SAMPLES, QUICK_EPOCHS * QUICK_SAMPLES
        return 1 + median(self.mechanism) * looked_at / trained

    @property
    def robustness_over_training(self) -> float:
        """How long the attacks of `robustness=pixel` take at most, over the training before them; see `ATTACKED`.

        At most, for an image that is fooled is attacked no further.
        """
        steps = passes(("pixel",), "digits", self.workload.shape, ATTACKED) / (2 / 3)
        return steps * median(self.input_gradients) / (QUICK_EPOCHS * (QUICK_SAMPLES // 2))

    def ratio(self, contender: str, to: str) -> float:
        """Return the median over rounds of a contender's rate over another's in the same round."""
        rates = self.rates if contender in self.rates else self.heats
        return median(rate / reference for rate, reference in zip(rates[contender], rates[to], strict=True))

    def figures(self) -> dict[str, Any]:
        """Return everything that is printed, ready for JSON."""
        return {
            "architecture": self.workload.architecture,
            "shape": list(self.workload.shape),
            "batch_size": self.workload.batch_size,
            "members": self.workload.members,
            "chosen": self.chosen,
            "plain": self.plain,
            "heats": {name: list(rates) for name, rates in self.heats.items()},
            "rates": {name: list(rates) for name, rates in self.rates.items()},
            "engine_over_plain": self.ratio("engine", self.plain),
            "engine_over_single": self.ratio("engine", "single"),
            "single_over_plain": self.ratio("single", self.plain),
            "gradient_norms_over_pass": median(self.gradient_norms),
            "mechanism_over_training": self.mechanism_over_training,
            "input_gradients_over_step": median(self.input_gradients),
            "robustness_over_training": self.robustness_over_training,
        }


def race(workload: Workload, device: str, seconds: float, rounds: int) -> Race:
    """Have the variants of the plain loop, the engine's plain loop and the engine's choice take turns.

    Args:
        workload: what to train.
        device: a torch device.
        seconds: the length of a turn, which is at least one pass.
        rounds: how many turns each contender has.
    """
    on_gpu = torch.device(device).type == "cuda"
    cores = 1 if on_gpu else len(os.sched_getaffinity(0))
    with start_processes(ENVIRONMENT, 1, choose_backend, workload, device) as (choosing,):
        choice = choosing.result()
    contenders: dict[str, Contender] = {}
    for count in sorted({1, cores}):
        for loaders in (0, 2):
            where = "" if on_gpu else f", {count} process{'es' * (count > 1)}"
            threads = max(1, cores // count)
            name = f"plain{where}, {loaders} loader workers"
            contenders[name] = ({}, count, plain_loop, (workload, device, loaders, threads))
    load = (workload.trial, workload.shape, CLASSES, workload.batches, device)
    contenders["single"] = (ENVIRONMENT, cores, engine_rate, (*load, "single", 1))
    contenders["engine"] = (ENVIRONMENT, cores, engine_rate, (*load, choice.backend, choice.members))
    pack_of_engine = (workload, device, choice.backend, choice.members)
    contenders["gradient norms"] = (ENVIRONMENT, 1, gradient_norm_cost, pack_of_engine)
    contenders["mechanism"] = (ENVIRONMENT, 1, mechanism_cost, pack_of_engine)
    contenders["input gradients"] = (ENVIRONMENT, 1, input_gradient_cost, pack_of_engine)
    # All at once would take more memory than a laptop has, so the plain loops have a race of their own before.
    heats = _rates_in_turns(
        {name: contender for name, contender in contenders.items() if name.startswith("plain")}, seconds, rounds
    )
    best = _fastest(heats)
    others = {name: contender for name, contender in contenders.items() if name not in heats or name == best}
    rates = _rates_in_turns(others, seconds, rounds)
    costs = [rates.pop(name) for name in ("gradient norms", "mechanism", "input gradients")]
    return Race(workload, str(choice), heats, rates, *costs)


def _rates_in_turns(contenders: Mapping[str, Contender], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Return the rate of each contender in each round; the processes of all of them exist throughout."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(start_processes(environment, count, function, *arguments))
            for name, (environment, count, function, arguments) in contenders.items()
        }
        for of_contender in started.values():
            for process in of_contender:
                stack.callback(process.close)  # at the end all are closed before any is waited for
                process.result()
        for _ in range(rounds):
            for name, of_contender in started.items():
                rates[name].append(total_rate(of_contender, seconds))
    return rates


def _fastest(rates: Mapping[str, Sequence[float]]) -> str:
    return max(rates, key=lambda name: median(rates[name]))


# The contenders beside the engine: each function sets a process up, and returns the function that measures its rate.


def _torchvision(workload: Workload) -> Any:
    """Return noise as torchvision's own dataset for such images, which makes each sample from bytes by a PIL image."""
    channels, height, width = workload.shape
    pixels = np.random.default_rng(0).integers(0, 256, (workload.samples, height, width, channels), dtype=np.uint8)
    labels = np.arange(workload.samples) % CLASSES
    if channels == 1:
        grey = datasets.MNIST.__new__(datasets.MNIST)  # its constructor needs files
        grey.data, grey.targets = torch.from_numpy(pixels[..., 0]), torch.from_numpy(labels)
        grey.transform, grey.target_transform = ToTensor(), None
        return grey
    colour = datasets.CIFAR10.__new__(datasets.CIFAR10)
    colour.data, colour.targets = pixels, labels.tolist()
    colour.transform, colour.target_transform = ToTensor(), None
    return colour


def plain_loop(workload: Workload, device: str, loaders: int, threads: int) -> Rate:
    """Return the rate of the loop that a user would write: a DataLoader and one network.

    On a GPU its convolutions are in TF32, torch's default.
    """
    torch.set_num_threads(threads)
    trial = workload.trial
    (network,) = build_networks(trial, workload.shape, CLASSES, device, members=1)
    parameters = {(trial.lr, trial.weight_decay): list(network.parameters())}
    optimizer = make_optimizer(trial.optimizer, trial.momentum, parameters)
    on_gpu = torch.device(device).type == "cuda"
    loader = DataLoader(
        _torchvision(workload),
        batch_size=workload.batch_size,
        shuffle=True,
        num_workers=loaders,
        persistent_workers=loaders > 0,
        # As in a user's program; this process was spawned, and by default would spawn its workers too.
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


def choose_backend(workload: Workload, device: str) -> Choice:
    """Choose the engine's backend for a workload, here and now."""
    use_one_thread()
    timings = backend_choice.time_backends(workload.trial, workload.shape, CLASSES, device)
    return fastest(timings, workload.members)
