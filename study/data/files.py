"""Load the user's own datasets: folders of Parquet files, or of images with a subfolder for each class."""

import io
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from study.data.dataset import Split
from study.data.listing import Listing, list_folder
from study.errors import BadInputError

TEST_NAMES = ("test", "val", "valid", "validation")
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What the names of images end in, in lower case."""


def channels_first(images: np.ndarray) -> Tensor:
    """Convert images, uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], to [N, C, H, W]."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    if tensor.ndim == 3:
        return tensor[:, None]
    return tensor if tensor.shape[1] in (1, 3) else tensor.permute(0, 3, 1, 2).contiguous()


def load_parquet(folder: Path) -> tuple[Split, Split]:
    """Load an image dataset in the Hugging Face layout: `train-*.parquet` and `test-*.parquet`, here or in `data/`."""
    listing = list_folder(folder)
    train = _parquet_files(listing, ("train",))
    test = _parquet_files(listing, TEST_NAMES)
    return decode_split(*_parquet_columns(train)), decode_split(*_parquet_columns(test))


def _parquet_files(listing: Listing, names: Sequence[str]) -> list[Path]:
    for name, place in itertools.product(names, (".", "data")):
        files = [file for file in listing.files if str(file.parent) == place and file.match(f"{name}-*.parquet")]
        if files:
            return [listing.path(file) for file in files]
    raise BadInputError(f"{str(listing.folder)!r} holds no {' or '.join(f'{name}-*.parquet' for name in names)}.")


def _parquet_columns(files: Sequence[Path]) -> tuple[list[bytes], list[int], str]:
    """Read the encoded images and the labels of files, and return them with the folder that they are in."""
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
    """Load an image folder: `train/CLASS/*.png` and `test/CLASS/*.png` (or `val`), the classes in sorted order."""
    train = folder / "train"
    test = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), folder / "test")
    for needed in (train, test):
        if not needed.is_dir():
            raise BadInputError(f"there is no folder {str(needed)!r}; an image folder has train/CLASS and test/CLASS.")
    listing = list_folder(folder)
    parts = [_images_by_class(listing, part.name) for part in (train, test)]
    if parts[0].keys() != parts[1].keys():
        raise BadInputError(f"{str(train)!r} and {str(test)!r} differ in their classes.")
    splits = [
        decode_split(
            [listing.path(file).read_bytes() for files in part.values() for file in files],
            [label for label, files in enumerate(part.values()) for _ in files],
            str(listing.path(name)),
        )
        for name, part in zip((train.name, test.name), parts, strict=True)
    ]
    return splits[0], splits[1]


def _images_by_class(listing: Listing, part: str) -> dict[str, list[PurePosixPath]]:
    """Return the images of each class of a part of an image folder, the classes and their images sorted."""
    classes: dict[str, list[PurePosixPath]] = {folder.name: [] for folder in listing.within(part)}
    for file in listing.files:
        if file.parts[0] == part and len(file.parts) > 2 and file.suffix.lower() in SUFFIXES:
            classes[file.parts[1]].append(file)
    empty = next((name for name, files in classes.items() if not files), None)
    if empty is not None or not classes:
        without = listing.path(part) / (empty or "")
        raise BadInputError(f"{str(listing.folder)!r} is no image folder: there are no images in {str(without)!r}.")
    return classes


def decode_split(encoded: Sequence[bytes], labels: Sequence[int], source: str, mode: str | None = None) -> Split:
    """Decode images of one size into a split.

    Args:
        encoded: the bytes of each image, in any format that Pillow reads.
        labels: the label of each image.
        source: where they came from, for messages.
        mode: Pillow's mode of the result; None is one channel where every image is grey, and else three.

    Raises:
        BadInputError: an image or a label can't be used, there are none, or the images differ in size.
    """
    images = []
    for position, content in enumerate(encoded):
        try:
            images.append(Image.open(io.BytesIO(content)))
            images[-1].load()
        except Exception as error:  # what Pillow raises on a broken file depends on the format
            raise BadInputError(f"image {position} of {source!r} can't be decoded: {error}.") from None
        if images[-1].mode.startswith(("I", "F")):
            raise BadInputError(f"image {position} of {source!r} has more than 8 bits a channel; convert it to 8.")
    if None in labels:
        raise BadInputError(f"a label of {source!r} is null; give every image a label.")
    if not images:
        raise BadInputError(f"{source!r} holds no images.")
    mode = mode or ("L" if all(image.mode in ("1", "L") for image in images) else "RGB")
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        raise BadInputError(f"the images of {source!r} differ in size: {', '.join(map(str, sorted(sizes)[:3]))}, ...")
    stacked = np.stack([np.asarray(image.convert(mode)) for image in images])
    return Split(channels_first(stacked), torch.tensor(labels, dtype=torch.int64))


FOLDERS: dict[str, Callable[[Path], tuple[Split, Split]]] = {"parquet": load_parquet, "imagefolder": _imagefolder}
