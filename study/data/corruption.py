"""From D to D': which samples are atypical, and what they were before (paper, Algorithms 1 and 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from study import seeds
from study.data.dataset import Split
from study.errors import BadInputError

COMPONENTS = 50


@dataclass(frozen=True)
class Corrupted:
    """D', with the identity of every sample: what a member is trained on, all of it or a half.

    Attributes:
        pool: uint8 [P, C, H, W], images that members have in common: a device holds them once.
        rows: int64 [N], which of them each sample is.
        labels: int64 [N], as assigned, which is what the member is trained on.
        original_labels: int64 [N], as they were in D; -1 for a sample that was not in D.
        atypical: bool [N], true on S_out and false on S_in.
        is_member: bool [N], which samples are in the member's training set: all of them but with `protocol=splits`.
    """

    pool: Tensor
    rows: Tensor
    labels: Tensor
    original_labels: Tensor
    atypical: Tensor
    is_member: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def trained(self) -> Tensor:
        """The samples of the training set, int64, ascending."""
        return self.is_member.nonzero()[:, 0]

    def half(self, is_member: Tensor) -> "Corrupted":
        """The same D' with another training set, bool [N]."""
        return replace(self, is_member=is_member.to(self.is_member.device))

    @property
    def images(self) -> Tensor:
        """A copy of all its images, uint8 [N, C, H, W]."""
        return self.pool[self.rows]


def corrupt(
    train: Split, classes: int, corruption: str, k: float, seed: int, source: Tensor | None = None
) -> Corrupted:
    """D' for one seed; see `corrupt_each`."""
    return corrupt_each(train, classes, corruption, [(k, seed)], source)[0]


def corrupt_each(
    train: Split,
    classes: int,
    corruption: str,
    members: Sequence[tuple[float, int]],
    source: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> list[Corrupted]:
    """D' of each member, over one pool of images: those of D, and those of D* that at least one member adds.

    Args:
        train: D, in the host's memory.
        classes: its number of classes.
        corruption: `none`; `label`, Algorithm 1; `ood`, Algorithm 2; or `natural`, which changes nothing and calls the
            most atypical samples S_out.
        members: k, which is |S_out| over |D|, and the seed of each.
        source: for `ood`, the images of D*, uint8 [M, C, H, W] of D's shape, in the host's memory.
        device: where the sets are to be.

    Raises:
        BadInputError: a k is above 0 yet takes in no sample of a set this small, or more than D* has.
    """
    if corruption == "ood":
        assert source is not None
        return _with_outsiders(train, classes, source, members, device)
    pool, rows = train.images.to(device), torch.arange(len(train), device=device)
    original = train.labels.to(device)
    marked = [_marked(train, classes, corruption, k, seed) for k, seed in members]
    everybody = torch.ones_like(rows, dtype=torch.bool)
    return [
        Corrupted(pool, rows, labels.to(device), original, outside.to(device), everybody) for labels, outside in marked
    ]


def _marked(train: Split, classes: int, corruption: str, k: float, seed: int) -> tuple[Tensor, Tensor]:
    """The labels, int64 [N], of a corruption that adds no image, and S_out, bool [N]."""
    labels, outside = train.labels.clone(), torch.zeros(len(train), dtype=torch.bool)
    if corruption == "natural":
        outside[torch.from_numpy(atypical(train.images, amount(k, len(train))))] = True
    elif corruption == "label":
        indices, flipped = map(
            torch.from_numpy, flip_labels(labels.numpy(), classes, k, seeds.generator(seed, "corruption"))
        )
        labels[indices], outside[indices] = flipped, True
    return labels, outside


def amount(k: float, samples: int) -> int:
    """Delta of Algorithms 1 and 2: round(k |D|).

    Raises:
        BadInputError: that is none.
    """
    delta = round(k * samples)
    if delta == 0:
        raise BadInputError(f"k={k:g} corrupts none of {samples} samples; take a larger k, or k=0.")
    return delta


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


def _with_outsiders(
    train: Split, classes: int, source: Tensor, members: Sequence[tuple[float, int]], device: torch.device | str
) -> list[Corrupted]:
    """Algorithm 2 for each member; of D*, only the images that are added go to the device, each of them once."""
    drawn = [
        draw_outsiders(len(train), classes, len(source), k, seeds.generator(seed, "corruption")) for k, seed in members
    ]
    used, places = torch.cat([chosen for chosen, _ in drawn]).unique(return_inverse=True)
    pool, inside = torch.cat([train.images, source[used]]).to(device), torch.arange(len(train))
    found = []
    for (chosen, label), added in zip(drawn, places.split([len(chosen) for chosen, _ in drawn]), strict=True):
        rows = torch.cat([inside, len(train) + added])
        labels = torch.cat([train.labels, torch.full_like(chosen, label)])
        original = torch.cat([train.labels, torch.full_like(chosen, -1)])
        outside = rows >= len(train)
        parts = (rows, labels, original, outside, torch.ones_like(outside))
        found.append(Corrupted(pool, *(part.to(device) for part in parts)))
    return found


def draw_outsiders(
    samples: int, classes: int, source: int, k: float, generator: np.random.Generator
) -> tuple[Tensor, int]:
    """Algorithm 2: round(k |D|) images of D*, none twice, to be added to D under one class that is drawn for all.

    They come last in D', and have no original label: -1. As with flips, the draws do not depend on k.

    Args:
        samples: |D|.
        classes: the number of classes of D.
        source: |D*|.
        k: how many to add over |D|.
        generator: the corruption stream.

    Returns:
        Their indices in D*, int64 [round(k |D|)], and their label.

    Raises:
        BadInputError: D* has too few images, or k takes none.
    """
    delta = amount(k, samples)
    if delta > source:
        raise BadInputError(f"k={k:g} takes {delta} images of the OOD source, which has {source}.")
    label = int(generator.integers(classes))
    return torch.from_numpy(generator.permutation(source)[:delta]), label


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
