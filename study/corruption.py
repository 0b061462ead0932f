"""From D to D': which samples are atypical, and what they were before (paper, Algorithm 1)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from study import seeds
from study.data import Split
from study.errors import BadInputError


@dataclass(frozen=True)
class Corrupted:
    """D': what a member is trained on, with the identity of every sample.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: int64 [N], as assigned, which is what the member is trained on.
        original_labels: int64 [N], as they were in D.
        atypical: bool [N], true on S_out and false on S_in.
    """

    images: Tensor
    labels: Tensor
    original_labels: Tensor
    atypical: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Corrupted":
        """The same set with every tensor on the device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in vars(self).items()})


def corrupt(train: Split, classes: int, corruption: str, k: float, seed: int) -> Corrupted:
    """D' for one seed, on the device of `train`.

    Raises:
        BadInputError: k is above 0 yet corrupts no sample of a set this small.
    """
    labels = train.labels.cpu().numpy()
    atypical = np.zeros(len(labels), dtype=bool)
    assigned = labels.copy()
    if corruption == "label":
        indices, flipped = flip_labels(labels, classes, k, seeds.generator(seed, "corruption"))
        atypical[indices], assigned[indices] = True, flipped
    device = train.labels.device
    return Corrupted(
        images=train.images,
        labels=torch.from_numpy(assigned).to(device),
        original_labels=train.labels,
        atypical=torch.from_numpy(atypical).to(device),
    )


def flip_labels(
    labels: np.ndarray, classes: int, k: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1: round(k |D|) samples, each given a uniform label among the other classes.

    The draws do not depend on k: what is flipped at k = 0.1 is flipped, to the same label, at k = 0.3.

    Args:
        labels: int64 [N], the original labels, each in [0, classes).
        classes: the number of classes, at least 2.
        k: the fraction to flip, in (0, 1).
        generator: the corruption stream.

    Returns:
        The indices of the flipped samples, int64 [round(k N)], ascending, and their new labels in that order.

    Raises:
        BadInputError: there is no other class, or k flips nothing.
    """
    if classes < 2:
        raise BadInputError(f"labels can't be flipped among {classes} class.")
    amount = round(k * len(labels))
    if amount == 0:
        raise BadInputError(f"k={k:g} corrupts none of {len(labels)} samples; take a larger k, or k=0.")
    indices = np.sort(generator.permutation(len(labels))[:amount])
    shift = generator.integers(1, classes, size=len(labels))
    return indices, (labels[indices] + shift[indices]) % classes
