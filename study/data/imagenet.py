"""ImageNet's validation images, as torchvision's networks are evaluated on them: resized to 256 and cropped to 224.

Of the 50,000 images only those are read that are measured, a fixed draw by class. There are no training images, for
networks on ImageNet are measured as they are published.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from study.data.catalog import DATASETS
from study.data.dataset import Split
from study.data.splits import drawn_by_class
from study.errors import BadInputError

CLASSES, RESIZED, SIDE = 1_000, 256, 224
SUFFIXES = (".jpeg", ".jpg", ".png")


def read(data_dir: Path, count: int = DATASETS["imagenet"].test) -> tuple[Split, Split]:
    """Read so many images of the validation set, or all where there are fewer, and an empty training set.

    Args:
        data_dir: the data folder, with `imagenet/val` or `val`, in which each class has a folder by its WordNet number,
            as torchvision's `ImageNet` has it.
        count: how many images.

    Raises:
        BadInputError: there is no such folder, it has not all classes, or an image can't be read.
    """
    files, labels = _listed(_folder(data_dir))
    chosen = drawn_by_class(labels, count)
    images = torch.empty(len(chosen), 3, SIDE, SIDE, dtype=torch.uint8)
    for place, at in enumerate(chosen.tolist()):
        images[place] = _image(files[at])
    return Split(images[:0], labels[:0]), Split(images, labels[chosen])


def _folder(data_dir: Path) -> Path:
    """Return the folder of the validation images."""
    candidates = [data_dir / "imagenet" / "val", data_dir / "val"]
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None:
        raise BadInputError(
            f"imagenet is not in {str(data_dir)!r}: put its validation images there as imagenet/val/WNID/*.JPEG, a "
            "folder a class as torchvision's ImageNet has them, or name their folder with --data-dir."
        )
    return found


def _listed(folder: Path) -> tuple[Sequence[Path], Tensor]:
    """Return all images, those of each class in the order of their names, and their labels, int64 [N].

    The labels of torchvision's networks are the classes in the order of their WordNet numbers.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name.startswith("n"))
    if len(classes) != CLASSES:
        raise BadInputError(
            f"{str(folder)!r} must have the folders of ImageNet's {CLASSES:,} classes, each by its WordNet number such "
            f"as n01440764, and it has {len(classes)}."
        )
    by_class = [sorted(file for file in each.iterdir() if file.suffix.lower() in SUFFIXES) for each in classes]
    files = [file for of_class in by_class for file in of_class]
    if not files:
        raise BadInputError(f"there are no images in the folders of the classes in {str(folder)!r}.")
    counts = torch.tensor([len(of_class) for of_class in by_class])
    return files, torch.arange(CLASSES).repeat_interleave(counts)


def _image(path: Path) -> Tensor:
    """Return an image, uint8 [3, 224, 224], as torchvision's own evaluation has it, whatever its EXIF says."""
    from torchvision.transforms import functional

    try:
        with Image.open(path) as opened:
            image = functional.center_crop(functional.resize(opened.convert("RGB"), [RESIZED]), [SIDE])
    except Exception as error:  # what Pillow raises on a broken file depends on the format
        raise BadInputError(f"{str(path)!r} can't be decoded: {error}; put the whole image there.") from None
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
