"""From D to D': which samples are atypical, and what they were before (paper, Algorithms 1 and 2)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from study import seeds
from study.data import Split
from study.errors import BadInputError

COMPONENTS = 50


@dataclass(frozen=True)
class Corrupted:
    """D': what a member is trained on, with the identity of every sample.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: int64 [N], as assigned, which is what the member is trained on.
        original_labels: int64 [N], as they were in D; -1 for a sample that was not in D.
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


def corrupt(
    train: Split, classes: int, corruption: str, k: float, seed: int, source: Tensor | None = None
) -> Corrupted:
    """D' for one seed, on the device of `train`.

    Args:
        train: D.
        classes: its number of classes.
        corruption: `none`; `label`, Algorithm 1; `ood`, Algorithm 2; or `natural`, which changes nothing and calls the
            most atypical samples S_out.
        k: |S_out| over |D|.
        seed: the member's seed.
        source: for `ood`, the images of D*, uint8 [M, C, H, W] of D's shape.

    Raises:
        BadInputError: k is above 0 yet takes in no sample of a set this small, or more than D* has.
    """
    if corruption == "none":
        return _marked(train, train.labels.clone(), np.arange(0))
    if corruption == "natural":
        return _marked(train, train.labels.clone(), atypical(train.images, amount(k, len(train))))
    generator = seeds.generator(seed, "corruption")
    if corruption == "ood":
        assert source is not None
        return add_outsiders(train, classes, source, k, generator)
    indices, flipped = flip_labels(train.labels.cpu().numpy(), classes, k, generator)
    labels = train.labels.clone()
    labels[torch.from_numpy(indices).to(labels.device)] = torch.from_numpy(flipped).to(labels.device)
    return _marked(train, labels, indices)


def amount(k: float, samples: int) -> int:
    """Delta of Algorithms 1 and 2: round(k |D|).

    Raises:
        BadInputError: that is none.
    """
    delta = round(k * samples)
    if delta == 0:
        raise BadInputError(f"k={k:g} corrupts none of {samples} samples; take a larger k, or k=0.")
    return delta


def _marked(train: Split, labels: Tensor, indices: np.ndarray) -> Corrupted:
    """D with other labels and the samples at the indices marked as atypical."""
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.from_numpy(indices)] = True
    return Corrupted(train.images, labels, train.labels, mask.to(labels.device))


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
    indices = np.sort(generator.permutation(len(labels))[: amount(k, len(labels))])
    shift = generator.integers(1, classes, size=len(labels))
    return indices, (labels[indices] + shift[indices]) % classes


def add_outsiders(train: Split, classes: int, source: Tensor, k: float, generator: np.random.Generator) -> Corrupted:
    """Algorithm 2: round(k |D|) images of D*, none twice, added to D under one class that is drawn for all of them.

    They come last in D', and have no original label: -1. As with flips, the draws do not depend on k.

    Raises:
        BadInputError: D* has too few images.
    """
    delta = amount(k, len(train))
    if delta > len(source):
        raise BadInputError(f"k={k:g} takes {delta} images of the OOD source, which has {len(source)}.")
    label = int(generator.integers(classes))
    chosen = torch.from_numpy(generator.permutation(len(source))[:delta]).to(source.device)
    added = torch.full((delta,), label, dtype=torch.int64, device=train.labels.device)
    outside = torch.arange(len(train) + delta, device=train.labels.device) >= len(train)
    return Corrupted(
        images=torch.cat([train.images, source[chosen].to(train.images.device)]),
        labels=torch.cat([train.labels, added]),
        original_labels=torch.cat([train.labels, torch.full_like(added, -1)]),
        atypical=outside,
    )


def atypical(images: Tensor, count: int) -> np.ndarray:
    """The natural outliers: the images farthest from the mean of D in Mahalanobis distance.

    The distance is taken among the leading principal components of the pixels (50, or as many as there are), where
    it is the norm of the whitened scores. The paper names statistical outlier detection but no detector; this one is
    classical, has no randomness, and is the same for all seeds.

    Args:
        images: uint8 [N, C, H, W].
        count: how many to take.

    Returns:
        int64 [count], ascending.
    """
    from sklearn.decomposition import PCA

    pixels = images.cpu().flatten(1).float().numpy() / 255
    components = min(COMPONENTS, *pixels.shape)
    scores = PCA(components, whiten=True, svd_solver="covariance_eigh").fit_transform(pixels)
    distances = np.square(scores).sum(axis=1)
    return np.sort(np.argsort(-distances, kind="stable")[:count])
