"""What a measurement costs: its seconds for a sample over those of an ordinary pass, in turns.

Each function sets a process up, and returns the function that measures the cost.
"""

import copy
from dataclasses import replace
from functools import partial

import torch
from torch.nn.functional import cross_entropy

from study.data.corruption import corrupt_each
from study.data.dataset import Dataset, Split, to_float
from study.engine import pack
from study.lenses import mechanism
from study.lenses.gradient_norms import grad_norms
from study.lenses.mechanism import SAMPLES
from study.lenses.trained import Trained
from study.speed.throughput import Rate, build_networks, noise, rate, training_pass
from study.speed.workloads import CLASSES, Workload
from study.training.loop import Member
from study.training.precision import use_full_float32
from study.worker import use_one_thread

GRADIENTS = 128
"""How many samples' gradient norms are timed: so many that the check before them takes a small part of the time."""


def gradient_norm_cost(workload: Workload, device: str, backend: str, members: int) -> Rate:
    """Return the function that measures the seconds of gradient norms over those of an ordinary pass over the samples.

    The gradient norms are a member's in a pack of that backend; the pass, forward and backward, is that of a network
    alone.
    """
    use_one_thread()
    use_full_float32()
    split = noise(GRADIENTS, workload.shape, CLASSES).to(device)
    networks = build_networks(workload.trial, workload.shape, CLASSES, device, members)
    network = copy.deepcopy(networks[0]).eval()
    packed = pack(backend, networks, workload.shape)

    few = Split(split.images[: workload.batch_size], split.labels[: workload.batch_size])

    def ordinary() -> int:
        network.zero_grad()
        cross_entropy(network(to_float(few.images, torch.float32)), few.labels).backward()
        return len(few)

    def norms(samples: Split = split) -> int:
        rows = torch.arange(len(samples), device=device)
        grad_norms(packed, samples.images, [rows] * members, [samples.labels] * members)
        return len(samples) * members

    return _cost(rate(norms, device, warm_up=partial(norms, few)), rate(ordinary, device))


def mechanism_cost(workload: Workload, device: str, backend: str, members: int) -> Rate:
    """Return the function that measures the seconds of a sample in the lens on the mechanism over those in training.

    Logits are left out: whatever else is measured after an epoch needs them too.
    """
    use_one_thread()
    use_full_float32()
    split, few = (noise(samples, workload.shape, CLASSES) for samples in (2 * SAMPLES, 2))
    trial = replace(workload.trial, corruption="label", k=0.5, mechanism=2)
    corrupted = corrupt_each(split, CLASSES, "label", [(trial.k, 0)] * members, device=device)
    together = [Member(trial, seed, own) for seed, own in enumerate(corrupted)]
    networks = build_networks(trial, workload.shape, CLASSES, device, members)
    trained = Trained(pack(backend, networks, workload.shape), together, Dataset(few, few.to(device), CLASSES), 1)
    _ = trained.logits
    load = (workload.trial, workload.shape, CLASSES, workload.batches, device)

    def look() -> int:
        mechanism.measure(trained)
        return len(split) * members

    return _cost(rate(look, device), rate(training_pass(*load, backend, members), device))


def input_gradient_cost(workload: Workload, device: str, backend: str, members: int) -> Rate:
    """Return the function that measures the seconds of an attack's step over those of a training step of the same pack.

    An attack's step is a forward pass in eval mode, and a backward pass to the images alone.
    """
    use_one_thread()
    use_full_float32()
    split = noise(workload.batch_size, workload.shape, CLASSES).to(device)
    packed = pack(backend, build_networks(workload.trial, workload.shape, CLASSES, device, members), workload.shape)
    packed.train(False)
    for parameter in packed.parameters:
        parameter.requires_grad_(False)
    images = to_float(split.images, packed.dtype).repeat(members, 1, 1, 1, 1).requires_grad_()
    labels = split.labels.repeat(members)

    def attack() -> int:
        logits, _ = packed.forward(images)
        torch.autograd.grad(cross_entropy(logits.flatten(0, 1), labels, reduction="sum"), images)
        return len(split) * members

    load = (workload.trial, workload.shape, CLASSES, workload.batches, device)
    return _cost(rate(attack, device), rate(training_pass(*load, backend, members), device))


def _cost(measured: Rate, ordinary: Rate) -> Rate:
    """Return the function that measures two rates, half of the time each, and returns the second over the first."""

    def cost(seconds: float) -> float:
        rate_of_ordinary = ordinary(seconds / 2)
        return rate_of_ordinary / measured(seconds / 2)

    return cost
