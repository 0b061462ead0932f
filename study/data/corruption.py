"""Corrupt D into D', with a record of the atypical samples and of their original labels (paper, Algorithms 1 and 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from study import seeds
from study.data.dataset import Split
from study.errors import BadInputError

COMPONENTS = 50
"""The principal components of the pixels in which natural outliers are found."""


@dataclass(frozen=True)
class Corrupted:
    """D' of one member, with what each of its samples is.

    Attributes:
        pool: uint8 [P, C, H, W], the images, which several members share, so that a device holds them once.
        rows: int64 [N], the image of each sample, as a row of the pool.
        labels: int64 [N], the assigned labels, on which the member is trained.
        original_labels: int64 [N], the labels in D; -1 for a sample that was not in D.
        atypical: bool [N], true on S_out and false on S_in.
        is_member: bool [N], true in the member's training set: everywhere, except with `protocol=splits`.
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
    def training_samples(self) -> Tensor:
        """The samples of the training set, int64, ascending."""
        return self.is_member.nonzero()[:, 0]

    def with_training_set(self, is_member: Tensor) -> "Corrupted":
        """Return the same D' with another training set, bool [N]."""
        return replace(self, is_member=is_member.to(self.is_member.device))

    @property
    def images(self) -> Tensor:
        """A copy of the images of all samples, uint8 [N, C, H, W]."""
        return self.pool[self.rows]


@dataclass(frozen=True)
class Rules:
    """What the paper leaves open or says in two ways; the defaults are those of its Algorithms 1 and 2.

    Attributes:
        k_of: what k is a share of: `D`, or `S_in`, as in the paper's prose.
        flip_to: what a flipped label is drawn from: the `other` classes, or `any`, as in the paper's prose.
        ood_labels: the labels of added images: `one` for all, or one for `each`.
    """

    k_of: str = "D"
    flip_to: str = "other"
    ood_labels: str = "one"


ALGORITHMS = Rules()
"""The rules of Algorithms 1 and 2."""


def corrupt(
    train: Split,
    classes: int,
    corruption: str,
    k: float,
    seed: int,
    source: Tensor | None = None,
    rules: Rules = ALGORITHMS,
) -> Corrupted:
    """Corrupt D for one seed; see `corrupt_each`."""
    return corrupt_each(train, classes, corruption, [(k, seed)], source, rules=rules)[0]


def corrupt_each(
    train: Split,
    classes: int,
    corruption: str,
    members: Sequence[tuple[float, int]],
    source: Tensor | None = None,
    device: torch.device | str = "cpu",
    rules: Rules = ALGORITHMS,
) -> list[Corrupted]:
    """Corrupt D for each member, over one pool of images: those of D, and those of D* that at least one member adds.

    Args:
        train: D, in the host's memory.
        classes: its number of classes.
        corruption: `none`; `label`, Algorithm 1; `ood`, Algorithm 2; or `natural`, which changes nothing and calls the
            most atypical samples S_out.
        members: of each member, k and the seed.
        source: for `ood`, the images of D*, uint8 [M, C, H, W] of D's shape, in the host's memory.
        device: the device for D'.
        rules: what the paper says in two ways.

    Raises:
        BadInputError: a k above 0 is no sample of so small a set, or more images than D* has.
    """
    if corruption == "ood":
        assert source is not None
        return _add_ood_images(train, classes, source, members, device, rules)
    pool, rows = train.images.to(device), torch.arange(len(train), device=device)
    original = train.labels.to(device)
    labelled = [_labels_and_atypical(train, classes, corruption, k, seed, rules) for k, seed in members]
    all_samples = torch.ones_like(rows, dtype=torch.bool)
    return [
        Corrupted(pool, rows, labels.to(device), original, atypical.to(device), all_samples)
        for labels, atypical in labelled
    ]


def _labels_and_atypical(
    train: Split, classes: int, corruption: str, k: float, seed: int, rules: Rules
) -> tuple[Tensor, Tensor]:
    """Return the labels of D', int64 [N], and S_out, bool [N], for a corruption that adds no image."""
    labels, atypical = train.labels.clone(), torch.zeros(len(train), dtype=torch.bool)
    if corruption == "natural":
        atypical[torch.from_numpy(natural_outliers(train.images, amount(k, len(train), rules.k_of)))] = True
    elif corruption == "label":
        indices, flipped = map(
            torch.from_numpy, flip_labels(labels.numpy(), classes, k, seeds.generator(seed, "corruption"), rules)
        )
        labels[indices], atypical[indices] = flipped, True
    return labels, atypical


def amount(k: float, samples: int, k_of: str = "D") -> int:
    """Return delta of Algorithms 1 and 2, the size of S_out.

    Args:
        k: its share.
        samples: |D|.
        k_of: what it is a share of: `D`, for round(k |D|), or `S_in`, for round(k |D| / (1 + k)), which is k |S_in|.

    Raises:
        BadInputError: delta is 0.

    Example:
        >>> amount(0.05, 60_000)
        3000
        >>> amount(0.25, 60_000, "S_in")
        12000
    """
    delta = round(k * samples if k_of == "D" else k * samples / (1 + k))
    if delta == 0:
        raise BadInputError(f"k={k:g} corrupts none of {samples} samples; take a larger k, or k=0.")
    return delta


def flip_labels(
    labels: np.ndarray, classes: int, k: float, generator: np.random.Generator, rules: Rules = ALGORITHMS
) -> tuple[np.ndarray, np.ndarray]:
    """Flip labels by Algorithm 1: round(k |D|) samples each get a uniform label among the other classes.

    The draws do not depend on k: a sample that is flipped at k = 0.1 is flipped to the same label at k = 0.3. With
    `flip_to=any` the label is drawn from all classes, and those that keep their own are not among the flipped ones.

    Args:
        labels: int64 [N], the original labels, each in [0, classes).
        classes: the number of classes, at least 2.
        k: the fraction to flip, in (0, 1).
        generator: the corruption stream.
        rules: what k is a share of, and what new labels are drawn from.

    Returns:
        The indices of the flipped samples, int64 [delta or fewer], ascending, and their new labels in that order.

    Raises:
        BadInputError: there is no other class, or nothing is flipped.
    """
    if classes < 2:
        raise BadInputError(f"labels can't be flipped among {classes} class.")
    indices = np.sort(generator.permutation(len(labels))[: amount(k, len(labels), rules.k_of)])
    shift = generator.integers(int(rules.flip_to == "other"), classes, size=len(labels))
    indices = indices[shift[indices] > 0]
    if not len(indices):
        raise BadInputError(f"with k={k:g} and flip_to=any each of the drawn samples keeps its class; take a larger k.")
    return indices, (labels[indices] + shift[indices]) % classes


def _add_ood_images(
    train: Split,
    classes: int,
    source: Tensor,
    members: Sequence[tuple[float, int]],
    device: torch.device | str,
    rules: Rules,
) -> list[Corrupted]:
    """Add images of D* by Algorithm 2 for each member; an image that several members add is on the device once."""
    draws = [
        draw_ood_images(len(train), classes, len(source), k, seeds.generator(seed, "corruption"), rules)
        for k, seed in members
    ]
    used, places = torch.cat([indices for indices, _ in draws]).unique(return_inverse=True)
    pool, of_train = torch.cat([train.images, source[used]]).to(device), torch.arange(len(train))
    corrupted = []
    for (indices, new_labels), added in zip(draws, places.split([len(indices) for indices, _ in draws]), strict=True):
        rows = torch.cat([of_train, len(train) + added])
        labels = torch.cat([train.labels, new_labels])
        original = torch.cat([train.labels, torch.full_like(indices, -1)])
        atypical = rows >= len(train)
        parts = (rows, labels, original, atypical, torch.ones_like(atypical))
        corrupted.append(Corrupted(pool, *(part.to(device) for part in parts)))
    return corrupted


def draw_ood_images(
    samples: int, classes: int, source: int, k: float, generator: np.random.Generator, rules: Rules = ALGORITHMS
) -> tuple[Tensor, Tensor]:
    """Draw the images of Algorithm 2: round(k |D|) of D*, none twice, and one class for all of them, or one for each.

    They are added to D, come last in D', and have no original label: -1. As with flips, the draws do not depend on k.

    Args:
        samples: |D|.
        classes: the number of classes of D.
        source: |D*|.
        k: how many to add over |D|.
        generator: the corruption stream.
        rules: whether they have one label or one each.

    Returns:
        Their indices in D*, int64 [round(k |D|)], and their labels in that order.

    Raises:
        BadInputError: D* has too few images, or k is none of D.
    """
    delta = amount(k, samples)
    if delta > source:
        raise BadInputError(
            f"k={k:g} takes {delta} images of the OOD source, which has {source}; take a smaller k, or another ood=..."
        )
    label = int(generator.integers(classes))
    indices = torch.from_numpy(generator.permutation(source)[:delta])
    if rules.ood_labels == "one":
        return indices, torch.full_like(indices, label)
    # As many as there are images in D*, so that an image has the same label whatever k.
    return indices, torch.from_numpy(generator.integers(classes, size=source)[:delta])


def natural_outliers(images: Tensor, count: int) -> np.ndarray:
    """Return the natural outliers: the images farthest from the mean of D in Mahalanobis distance.

    The distance is that of the leading principal components of the pixels (50, or as many as there are), where it is
    the norm of the whitened scores. The paper names statistical outlier detection but no detector; this one is
    classical, has no randomness, and is the same for all seeds.

    Args:
        images: uint8 [N, C, H, W].
        count: how many to take.

    Returns:
        Their indices, int64 [count], ascending.
    """
    from sklearn.decomposition import PCA

    pixels = images.cpu().flatten(1).float().numpy() / 255
    components = min(COMPONENTS, *pixels.shape)
    scores = PCA(components, whiten=True, svd_solver="covariance_eigh").fit_transform(pixels)
    distances = np.square(scores).sum(axis=1)
    return np.sort(np.argsort(-distances, kind="stable")[:count])
