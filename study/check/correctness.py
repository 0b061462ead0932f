"""Does a device compute right? Each function compares it with what is known to be right, and has a verdict."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.check.finding import Finding, Subject, judged
from study.check.small import Small, distance, largest, made_on, packed_by, single, tensors_of
from study.engine.pack import Pack, UnfitError
from study.training.optimizers import OPTIMIZERS
from study.training.precision import use_full_float32

EQUAL = 1e-8
"""The most by which numbers in float64 may differ that are equal but for rounding, which training makes larger."""
FLOAT32, TF32 = 1e-5, 1e-3
"""Far above the rounding of a product in float32, and about that of TF32, the shorter arithmetic of a GPU."""
PACKED = ("grouped", "vmap", "branches")

# The shift of a norm that a later norm takes out has a gradient of rounding alone, which all optimizers but SGD scale
# up to a step of full size: so norms are compared under SGD, and the other optimizers without a norm.
TRAININGS = {
    "LeNet": Small.of("lenet", norm="batch", optimizer="sgd", lr=3e-4, epochs=6),
    "ResNet18": Small.of("resnet18", norm="batch", optimizer="sgd", lr=3e-4, epochs=2),
    "ViT": Small.of("vit", norm="layer", optimizer="sgd", lr=3e-4, epochs=2),
}


def float32(subject: Subject) -> Finding:
    """Whether products and convolutions of float32 have the precision of float32."""
    use_full_float32()
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def here(tensor: Tensor) -> Tensor:
        return tensor.to(subject.device, torch.float32)

    one, other = random(256, 256), random(256, 256)
    images, kernels = random(8, 64, 16, 16), random(64, 64, 3, 3)
    off = max(
        _relative(here(one) @ here(other), one @ other),
        _relative(F.conv2d(here(images), here(kernels)), F.conv2d(images, kernels)),
    )
    return judged(
        off < FLOAT32,
        f"products and convolutions of float32 are off by {off:.0e} of their size (TF32 would be by about {TF32:.0e})",
        off=off,
    )


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.cpu().double() - exact).abs().max() / exact.abs().max())


def as_on_the_cpu(subject: Subject) -> Finding:
    """Whether networks that are trained on a GPU are those that the CPU trains."""
    apart = {}
    for name, small in TRAININGS.items():
        short = replace(small, trial=replace(small.trial, epochs=1))  # a CPU takes its time over the large ones
        apart[name] = distance(*(tensors_of(short.train(single, [0], on)[0]) for on in (subject.device, "cpu")))
    return judged(
        largest(apart.values()) < EQUAL,
        f"in float64 {_names(apart)} trained here and on the CPU differ by {largest(apart.values()):.0e} at most",
        apart=apart,
    )


def replay(subject: Subject) -> Finding:
    """Whether steps that a GPU replays from a CUDA graph are those that it takes one operation at a time."""
    apart, replays = {}, {}
    for optimizer in OPTIMIZERS:
        norm = "batch" if optimizer == "sgd" else "none"
        small = Small.of("lenet", norm=norm, optimizer=optimizer, lr=3e-4, epochs=6)
        replayed, training = small.train(single, [0], subject.device)
        eager, _ = small.train(single, [0], subject.device, graphs=False)
        apart[optimizer] = distance(tensors_of(replayed), tensors_of(eager))
        replays[optimizer] = training.replays
    if not all(replays.values()):
        return judged(False, "no step of LeNet could be captured in a CUDA graph: training is slower", replays=replays)
    return judged(
        largest(apart.values()) < EQUAL,
        f"in float64 LeNets by {_names(apart)} differ by {largest(apart.values()):.0e} at most from eager steps; "
        f"{min(replays.values())} of 18 steps were replayed",
        apart=apart,
        replays=replays,
    )


def packs(subject: Subject) -> Finding:
    """Whether each member of a pack has the logits, gradients and weights that it has alone."""
    apart: dict[str, float] = {}
    unfit: list[str] = []
    for name, small in made_on(subject.device, TRAININGS).items():
        alone = _each_alone(subject, small)
        for backend in PACKED:
            try:
                apart[f"{backend} {name}"] = distance(_together(subject, small, backend), alone)
            except UnfitError:
                unfit.append(f"{backend} {name}")
    sentence = f"in float64 {len(apart)} packs differ from the plain loop by {largest(apart.values()):.0e} at most"
    wrong = [name for name, difference in apart.items() if not difference < EQUAL]
    return judged(
        not wrong,
        sentence + (f": {', '.join(wrong)}" if wrong else f" ({_names(apart)})") + _told_unfit(unfit),
        apart=apart,
        unfit=unfit,
    )


SEEDS = (0, 1)


def _each_alone(subject: Subject, small: Small) -> list[Tensor]:
    """Return the logits, gradients and trained weights of each member by the plain loop, one operation at a time."""
    first, trained = [], []
    for seed in SEEDS:
        packed = single(small.networks([seed], subject.device))
        first += _forward_and_backward(packed, small.images([seed], subject.device))
        trained += tensors_of(small.train(single, [seed], subject.device, graphs=False)[0])
    return first + trained


def _together(subject: Subject, small: Small, backend: str) -> list[Tensor]:
    """Return the same of a pack, whose steps a GPU replays."""
    make = packed_by(backend, small.shape)
    packed = make(small.networks(SEEDS, subject.device))
    found = _forward_and_backward(packed, small.images(SEEDS, subject.device))
    return found + tensors_of(small.train(make, SEEDS, subject.device)[0])


def _forward_and_backward(packed: Pack, images: Tensor) -> list[Tensor]:
    """Return of each member its logits in train mode and the gradient of the sum of their squares."""
    packed.train()
    for member in range(len(packed)):
        packed.parameters_of(member)  # from now on with gradients that are views into the pack's
    logits, _ = packed.forward(images)
    logits.square().sum().backward()
    return [
        tensor
        for member, network in enumerate(packed.networks)
        for tensor in (logits[member].detach(), *(p.grad for p in network.parameters() if p.grad is not None))
    ]


class _Drawing(nn.Module):
    """A network that draws random numbers, as dropout does, and may read a value on the host, which no graph can."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self._reads = reads
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        if self._reads and images.sum().item() < 0:
            images = -images
        logits: Tensor = self.layers(images)
        return logits


def _drawing(reads: bool, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _Drawing(reads)


def fallback(subject: Subject) -> Finding:
    """Whether a network with dropout, and one that can't be captured, train and repeat what they drew."""
    apart, replays = {}, {}
    for name, reads in (("dropout", False), ("reads a value on the host", True)):
        small = replace(Small.of("lenet", lr=1e-3, epochs=6), network=partial(_drawing, reads))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole, training = small.train(single, [0], subject.device)
            others = small.train(single, [0], subject.device), small.train(single, [0], subject.device, stop_after=3)
        apart[name] = max(distance(tensors_of(other), tensors_of(whole)) for other, _ in others)
        replays[name] = training.replays
    captured = replays["reads a value on the host"] > 0
    way = "is taken without a graph" if subject.on_gpu else "needs nothing else on a CPU"
    return judged(
        largest(apart.values()) < EQUAL and not captured,
        f"a network that no graph can hold {way}; it and one with dropout draw the same numbers when they are trained "
        f"again or resumed (differences of {largest(apart.values()):.0e} at most)",
        apart=apart,
        replays=replays,
    )


def _names(found: dict[str, float]) -> str:
    return ", ".join(found)


def _told_unfit(unfit: Sequence[str]) -> str:
    return f"; not packed so, for their layers don't fit: {', '.join(unfit)}" if unfit else ""
