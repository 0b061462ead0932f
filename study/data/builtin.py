"""Load the built-in datasets: scikit-learn's digits, those of torchvision, Tiny ImageNet, and points on circles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from study import seeds
from study.data import imagenet, parquet
from study.data.dataset import Split
from study.data.decoding import decode, decode_part
from study.errors import BadInputError

DAMAGED = (RuntimeError, ValueError, AssertionError, KeyError)
"""What torchvision raises where files are missing or cut short."""


def _digits(_: Path) -> tuple[Split, Split]:
    """Load scikit-learn's 1,797 handwritten digits, resized from 8x8 to 28x28.

    A fixed fifth, each class in proportion, is the test set.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(small, size=28, mode="bilinear").round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=digits.target, random_state=0)
    return Split(images[train], labels[train]), Split(images[test], labels[test])


def _torchvision(class_name: str, *splits: dict[str, Any]) -> Callable[[Path], tuple[Split, Split]]:
    """Return the loader of a torchvision dataset, given the arguments by which it names its training and test split."""

    def read(data_dir: Path) -> tuple[Split, Split]:
        from torchvision import datasets

        train, test = (_read_split(getattr(datasets, class_name), data_dir, split) for split in splits)
        return train, test

    return read


def _read_split(factory: Callable[..., Any], data_dir: Path, split: dict[str, Any]) -> Split:
    """Read one split of a torchvision dataset, and download it first if it is missing."""
    try:
        dataset = factory(root=data_dir, download=False, **split)
    except DAMAGED:
        dataset = _download(factory, data_dir, split)
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return Split(channels_first(np.asarray(dataset.data)), torch.as_tensor(np.asarray(labels)).long())


def channels_first(images: np.ndarray) -> torch.Tensor:
    """Convert images, uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], to [N, C, H, W]."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    if tensor.ndim == 3:
        return tensor[:, None]
    return tensor if tensor.shape[1] in (1, 3) else tensor.permute(0, 3, 1, 2).contiguous()


def _download(factory: Callable[..., Any], data_dir: Path, split: dict[str, Any]) -> Any:
    """Download a torchvision dataset, one process at a time, and return it."""
    name = factory.__name__
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{name}.lock"):
            return factory(root=data_dir, download=True, **split)
    except (OSError, *DAMAGED) as error:
        # torchvision lists what it tried, the reason last.
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise BadInputError(
            f"{name} is not in {str(data_dir)!r}, or damaged, and could not be downloaded ({reason}); "
            f"put torchvision's files there, or name their folder with --data-dir."
        ) from None


def _tiny_imagenet(data_dir: Path) -> tuple[Split, Split]:
    """Load Tiny ImageNet in its authors' layout from `tiny-imagenet-200`, or as Parquet from `tiny-imagenet`.

    The published test set has no labels, so the validation set replaces it.
    """
    original, in_parquet = data_dir / "tiny-imagenet-200", data_dir / "tiny-imagenet"
    if (original / "wnids.txt").is_file():
        return _tiny_imagenet_original(original)
    if in_parquet.is_dir():
        found = parquet.survey(in_parquet)
        return decode_part(found.train), decode_part(found.test)
    raise BadInputError(
        f"tiny_imagenet is not in {str(data_dir)!r}; put its folder tiny-imagenet-200 there, or its Parquet files in "
        f"a folder tiny-imagenet, or name their folder with --data-dir."
    )


def _tiny_imagenet_original(folder: Path) -> tuple[Split, Split]:
    classes = {name: label for label, name in enumerate(sorted((folder / "wnids.txt").read_text().split()))}
    train = [(path, classes[path.parts[-3]]) for path in sorted(folder.glob("train/*/images/*.JPEG"))]
    annotated = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    test = [(folder / "val" / "images" / name, classes[wnid]) for name, wnid, *_ in annotated]
    splits = [
        Split(
            decode(((repr(str(path)), path.read_bytes()) for path, _ in part), len(part), "RGB"),
            torch.tensor([label for _, label in part]),
        )
        for part in (train, test)
    ]
    return splits[0], splits[1]


def _threes_and_sevens(of: Callable[[Path], tuple[Split, Split]]) -> Callable[[Path], tuple[Split, Split]]:
    """Return the reader of the digits 3 and 7 of a dataset of digits, which get the labels 0 and 1."""

    def read(data_dir: Path) -> tuple[Split, Split]:
        train, test = (_of_classes(split, (3, 7)) for split in of(data_dir))
        return train, test

    return read


def _of_classes(split: Split, classes: tuple[int, ...]) -> Split:
    """Return the samples of some classes, which are numbered anew in this order."""
    chosen = torch.isin(split.labels, torch.tensor(classes))
    labels = torch.zeros_like(split.labels)
    for label, old in enumerate(classes):
        labels[split.labels == old] = label
    return Split(split.images[chosen], labels[chosen])


RADII, TRAINED_ON, TESTED_ON = (1.0, 1.3), 500, 10_000
"""The radii of the two spheres, and how many points of each there are."""


def _spheres(_: Path) -> tuple[Split, Split]:
    """Draw the adversarial spheres in two dimensions: normal points, put on circles (Galloway et al., 2019, App. C).

    The points are the same for all seeds; a point [2, 1, 1] is an image of two channels and one pixel.
    """
    train, test = (
        _on_circles(seeds.generator(0, "spheres", part), n) for part, n in enumerate((TRAINED_ON, TESTED_ON))
    )
    return train, test


def _on_circles(draws: np.random.Generator, of_each: int) -> Split:
    """Return so many points of each circle, one after the other in turns."""
    points = draws.standard_normal((of_each, len(RADII), 2))
    points *= np.asarray(RADII)[:, None] / np.linalg.norm(points, axis=-1, keepdims=True)
    images = torch.from_numpy(points).float().reshape(-1, 2, 1, 1)
    return Split(images, torch.arange(len(RADII)).repeat(of_each))


BUILTIN: dict[str, Callable[..., tuple[Split, Split]]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST", {"train": True}, {"train": False}),
    "fashion_mnist": _torchvision("FashionMNIST", {"train": True}, {"train": False}),
    "cifar10": _torchvision("CIFAR10", {"train": True}, {"train": False}),
    "cifar100": _torchvision("CIFAR100", {"train": True}, {"train": False}),
    "svhn": _torchvision("SVHN", {"split": "train"}, {"split": "test"}),
    "tiny_imagenet": _tiny_imagenet,
    "imagenet": imagenet.read,
    "mnist_3_7": _threes_and_sevens(_torchvision("MNIST", {"train": True}, {"train": False})),
    "digits_3_7": _threes_and_sevens(_digits),
    "spheres": _spheres,
}
"""The readers of the built-in datasets, given the data folder; that of `imagenet` takes the number of images too."""
