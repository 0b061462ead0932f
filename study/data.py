"""Datasets as uint8 tensors that live on the device of training.

Pixels stay bytes until a batch is gathered; `to_float` then scales them to [0, 1]. The paper names no other
preparation, so there is none: no standardization, no augmentation.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from study import folders
from study.errors import BadInputError

DAMAGED = (RuntimeError, ValueError, AssertionError, KeyError)
"""What torchvision raises where files are missing or cut short."""
TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Split:
    """Images, uint8 [N, C, H, W], and their labels, int64 [N], on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """The same split on the device."""
        return Split(self.images.to(device), self.labels.to(device))


def _nothing() -> Split:
    return Split(torch.empty(0, 0, 0, 0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class Dataset:
    """D and the untouched test set, with the number of classes, and what was set aside for validation, if anything."""

    train: Split
    test: Split
    classes: int
    validation: Split = field(default_factory=_nothing)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes 0..255 as numbers in [0, 1] of the dtype."""
    return images.to(dtype).div_(255)


@cache
def load(name: str, data_dir: Path, subset: int = 0, validation: float = 0.0) -> Dataset:
    """The dataset of that name, read once per process; torchvision's are downloaded where they are missing.

    Args:
        name: a built-in name, `parquet:DIR` or `imagefolder:DIR`.
        data_dir: where torchvision's datasets lie, in torchvision's layout.
        subset: how many training samples to keep, each class in proportion; 0 keeps all. The draw is always the same.
        validation: the share of these that is set aside, each class in proportion, by a draw that is always the same.

    Raises:
        BadInputError: the files are missing, unreadable or not what the name promises, there is no such subset, or a
            class would have no sample set aside, or none left.
    """
    if validation:
        whole = load(name, data_dir, subset)
        aside, left = _set_aside(name, whole.train, validation)
        return replace(whole, train=left, validation=aside)
    if subset:
        whole = load(name, data_dir)
        return replace(whole, train=_subset(name, whole, subset))
    folder = folders.split(name)
    if folder is None:
        train, test = BUILTIN[name](data_dir)
    else:
        train, test = FOLDERS[folder[0]](folder[1])
    return _checked(name, train, test)


@cache
def outsiders(name: str, data_dir: Path, shape: tuple[int, int, int]) -> Tensor:
    """The images of a D* brought to the shape of D: uint8 [M, C, H, W].

    Colour becomes grey by luminance, grey becomes colour by repetition, and another size is resampled bilinearly with
    antialiasing. `photos` are tiles of the two photographs that scikit-learn brings along.

    Raises:
        BadInputError: the dataset can't be had.
    """
    images = _tiles(shape) if name == "photos" else load(name, data_dir).train.images
    return match(images, shape)


def match(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images, uint8 [M, c, h, w], with the channels and the size of [C, H, W]."""
    from torchvision.transforms.v2 import functional

    channels, height, width = shape
    if images.shape[1] != channels:
        images = functional.rgb_to_grayscale(images) if channels == 1 else images.repeat(1, channels, 1, 1)
    if tuple(images.shape[2:]) != (height, width):
        images = functional.resize(images, [height, width], antialias=True)
    return images


def _tiles(shape: tuple[int, int, int]) -> Tensor:
    from sklearn.datasets import load_sample_images

    _, height, width = shape
    tiles = []
    for photo in load_sample_images().images:
        whole = torch.from_numpy(photo.copy()).permute(2, 0, 1)
        tiled = whole.unfold(1, height, height).unfold(2, width, width)
        tiles.append(tiled.permute(1, 2, 0, 3, 4).flatten(0, 1))
    return torch.cat(tiles)


def _subset(name: str, whole: Dataset, size: int) -> Split:
    train = whole.train
    if not whole.classes <= size < len(train):
        raise BadInputError(
            f"subset of {name} must be 0 for all of it, or from {whole.classes}, one a class, "
            f"to {len(train) - 1}, not {size}."
        )
    try:
        return _by_class(train, size)[0]
    except ValueError as error:
        raise BadInputError(f"{name} has no subset of {size} by class: {error}") from None


def _set_aside(name: str, train: Split, share: float) -> tuple[Split, Split]:
    """What of D is set aside for validation, and what is left."""
    refusal = BadInputError(
        f"validation={share:g} of the {len(train)} training samples of {name} would leave a class without a sample "
        f"on one of the two sides; take another share, or more samples."
    )
    try:
        sides = _by_class(train, round(share * len(train)))
    except ValueError:
        raise refusal from None
    if any(len(side.labels.unique()) < len(train.labels.unique()) for side in sides):
        raise refusal
    return sides


def _by_class(train: Split, size: int) -> tuple[Split, Split]:
    """So many samples, each class in proportion, and the rest, both in their order; the draw is always the same.

    Raises:
        ValueError: there are too few samples of a class, or in all.
    """
    from sklearn.model_selection import train_test_split

    labels = train.labels.numpy()
    drawn = train_test_split(np.arange(len(labels)), train_size=size, stratify=labels, random_state=0)
    kept, rest = (torch.from_numpy(np.sort(side)) for side in drawn)
    return Split(train.images[kept], train.labels[kept]), Split(train.images[rest], train.labels[rest])


def _checked(name: str, train: Split, test: Split) -> Dataset:
    classes = int(train.labels.max()) + 1
    shapes = {tuple(split.images.shape[1:]) for split in (train, test)}
    if len(shapes) > 1:
        raise BadInputError(f"{name}: images of the training and the test set differ in shape: {sorted(shapes)}.")
    if min(int(train.labels.min()), int(test.labels.min())) < 0 or int(test.labels.max()) >= classes:
        raise BadInputError(f"{name}: labels must run from 0, and the test set must not have a class of its own.")
    return Dataset(train, test, classes)


def _digits(_: Path) -> tuple[Split, Split]:
    """scikit-learn's 1,797 handwritten digits, 8x8, brought to 28x28; a fixed stratified fifth is the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(small, size=28, mode="bilinear").round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=digits.target, random_state=0)
    return Split(images[train], labels[train]), Split(images[test], labels[test])


def _torchvision(class_name: str, *splits: dict[str, Any]) -> Callable[[Path], tuple[Split, Split]]:
    def read(data_dir: Path) -> tuple[Split, Split]:
        from torchvision import datasets

        train, test = (_fetched(getattr(datasets, class_name), data_dir, split) for split in splits)
        return train, test

    return read


def _fetched(factory: Callable[..., Any], data_dir: Path, split: dict[str, Any]) -> Split:
    """One split of a torchvision dataset, downloaded only if it is missing, and by one process at a time."""
    try:
        found = factory(root=data_dir, download=False, **split)
    except DAMAGED:
        found = _downloaded(factory, data_dir, split)
    labels = found.targets if hasattr(found, "targets") else found.labels
    return Split(_channels_first(np.asarray(found.data)), torch.as_tensor(np.asarray(labels)).long())


def _downloaded(factory: Callable[..., Any], data_dir: Path, split: dict[str, Any]) -> Any:
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
    """Tiny ImageNet as its authors lay it out, in `tiny-imagenet-200`, or as Parquet in `tiny-imagenet`.

    The published test set has no labels, so the validation set takes its place.
    """
    original, parquet = data_dir / "tiny-imagenet-200", data_dir / "tiny-imagenet"
    if (original / "wnids.txt").is_file():
        return _tiny_imagenet_original(original)
    if parquet.is_dir():
        return _parquet(parquet)
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
        _decoded_split([path.read_bytes() for path, _ in part], [label for _, label in part], str(folder), "RGB")
        for part in (train, test)
    ]
    return splits[0], splits[1]


def _channels_first(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] as [N, C, H, W]."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    if tensor.ndim == 3:
        return tensor[:, None]
    return tensor if tensor.shape[1] in (1, 3) else tensor.permute(0, 3, 1, 2).contiguous()


def _parquet(folder: Path) -> tuple[Split, Split]:
    """An image dataset in the Hugging Face layout: `train-*.parquet` and `test-*.parquet`, here or in `data/`."""
    train = _parquet_files(folder, ("train",))
    test = _parquet_files(folder, TEST_NAMES)
    return _decoded_split(*_parquet_columns(train)), _decoded_split(*_parquet_columns(test))


def _parquet_files(folder: Path, names: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise BadInputError(f"there is no dataset folder {str(folder)!r}.")
    for name in names:
        found = sorted(folder.glob(f"{name}-*.parquet")) or sorted(folder.glob(f"data/{name}-*.parquet"))
        if found:
            return found
    raise BadInputError(f"{str(folder)!r} holds no {' or '.join(f'{name}-*.parquet' for name in names)}.")


def _parquet_columns(files: Sequence[Path]) -> tuple[list[bytes], list[int], str]:
    """The encoded images and the labels of the files, and where they came from."""
    try:
        table = pa.concat_tables([pq.read_table(file) for file in files])
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(
            f"{str(files[0].parent)!r} can't be read as Parquet: {str(error).splitlines()[0]}"
        ) from None
    image = [field.name for field in table.schema if pa.types.is_struct(field.type) and "bytes" in _names(field.type)]
    numbers = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    label = next((name for name in ("label", "fine_label", "labels") if name in numbers), None)
    if label is None and len(numbers) == 1:
        label = numbers[0]
    if len(image) != 1 or label is None:
        raise BadInputError(
            f"{str(files[0])!r} must have one image column, a struct with 'bytes', and an integer column 'label'; "
            f"it has {', '.join(table.schema.names)}."
        )
    encoded = table[image[0]].combine_chunks().field("bytes").to_pylist()
    return encoded, table[label].to_pylist(), str(files[0].parent)


def _names(struct: pa.StructType) -> list[str]:
    return [struct.field(index).name for index in range(struct.num_fields)]


def _imagefolder(folder: Path) -> tuple[Split, Split]:
    """An image folder: `train/CLASS/*.png` and `test/CLASS/*.png` (or `val`), the classes in sorted order."""
    train = folder / "train"
    test = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), folder / "test")
    for wanted in (train, test):
        if not wanted.is_dir():
            raise BadInputError(f"there is no folder {str(wanted)!r}; an image folder has train/CLASS and test/CLASS.")
    from torchvision.datasets import ImageFolder

    try:
        found = [ImageFolder(str(part)) for part in (train, test)]
    except FileNotFoundError as error:
        raise BadInputError(f"{str(folder)!r} is no image folder: {str(error).splitlines()[0]}") from None
    if found[0].classes != found[1].classes:
        raise BadInputError(f"{str(train)!r} and {str(test)!r} differ in their classes.")
    splits = [
        _decoded_split([Path(path).read_bytes() for path, _ in part.samples], part.targets, part.root) for part in found
    ]
    return splits[0], splits[1]


def _decoded_split(encoded: Sequence[bytes], labels: Sequence[int], source: str, mode: str | None = None) -> Split:
    """Decoded images of one size, in the mode, or else with one channel where every image is grey and three if not."""
    images = []
    for position, content in enumerate(encoded):
        try:
            images.append(Image.open(io.BytesIO(content)))
            images[-1].load()
        except Exception as error:  # what Pillow raises on a broken file depends on the format
            raise BadInputError(f"image {position} of {source!r} can't be decoded: {error}.") from None
        if images[-1].mode.startswith(("I", "F")):
            raise BadInputError(f"image {position} of {source!r} has more than 8 bits a channel.")
    if None in labels:
        raise BadInputError(f"a label of {source!r} is null.")
    if not images:
        raise BadInputError(f"{source!r} holds no images.")
    mode = mode or ("L" if all(image.mode in ("1", "L") for image in images) else "RGB")
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        raise BadInputError(f"the images of {source!r} differ in size: {', '.join(map(str, sorted(sizes)[:3]))}, ...")
    stacked = np.stack([np.asarray(image.convert(mode)) for image in images])
    return Split(_channels_first(stacked), torch.tensor(labels, dtype=torch.int64))


BUILTIN: dict[str, Callable[[Path], tuple[Split, Split]]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST", {"train": True}, {"train": False}),
    "fashion_mnist": _torchvision("FashionMNIST", {"train": True}, {"train": False}),
    "cifar10": _torchvision("CIFAR10", {"train": True}, {"train": False}),
    "cifar100": _torchvision("CIFAR100", {"train": True}, {"train": False}),
    "svhn": _torchvision("SVHN", {"split": "train"}, {"split": "test"}),
    "tiny_imagenet": _tiny_imagenet,
}
FOLDERS: dict[str, Callable[[Path], tuple[Split, Split]]] = {"parquet": _parquet, "imagefolder": _imagefolder}
