"""Survey a folder of images with a subfolder for each class: `train/CLASS/*.png` and `test/CLASS/*.png`, or `val`."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from study.data.listing import Listing, list_folder
from study.data.survey import TEST_NAMES, Part, Survey, unread
from study.errors import BadInputError

SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""What the names of images end in, in lower case."""


def survey(folder: Path) -> Survey:
    """Find the images of each class, and number the classes in the order of their names.

    Raises:
        BadInputError: this is no image folder, the test set has other classes, or the images of a class lie in several
            folders, which may be classes of their own.
    """
    listing = list_folder(folder)
    top = [path.name for path in listing.within(".")]
    test = next((name for name in TEST_NAMES if name in top), "test")
    for needed in ("train", test):
        if needed not in top:
            raise BadInputError(
                f"there is no folder {str(folder / needed)!r}; an image folder has train/CLASS and test/CLASS."
            )
    classes = {part: _images_by_class(listing, part) for part in ("train", test)}
    if classes["train"].keys() != classes[test].keys():
        odd = min(classes["train"].keys() ^ classes[test].keys())
        raise BadInputError(
            f"{str(folder / 'train')!r} and {str(folder / test)!r} differ in their classes: {odd!r} is in one alone."
        )
    parts = {part: _part(listing, part, classes[part]) for part in classes}
    read = [file for by_class in classes.values() for files in by_class.values() for file in files]
    taken = "classes in the order of their folders' names"
    return Survey(parts["train"], parts[test], list(classes["train"]), taken, unread(listing, read))


def _images_by_class(listing: Listing, part: str) -> dict[str, list[PurePosixPath]]:
    """Return the images of each class of a part, the classes and their images sorted."""
    classes: dict[str, list[PurePosixPath]] = {folder.name: [] for folder in listing.within(part)}
    for file in listing.files:
        if file.parts[0] == part and len(file.parts) > 2 and file.suffix.lower() in SUFFIXES:
            classes[file.parts[1]].append(file)
    empty = next((name for name, files in classes.items() if not files), None)
    if empty is not None or not classes:
        without = listing.path(part) / (empty or "")
        raise BadInputError(
            f"{str(listing.folder)!r} is no image folder: there are no images in {str(without)!r}; put them into "
            "train/CLASS and test/CLASS, and remove empty folders."
        )
    for name, files in classes.items():
        folders = sorted({file.parent for file in files})
        if len(folders) > 1:
            raise BadInputError(
                f"the images of class {name!r} lie in {len(folders)} folders, as {str(listing.path(folders[0]))!r} and "
                f"{str(listing.path(folders[1]))!r}; put them into one, or move what are classes up into {part!r}."
            )
    return classes


def _part(listing: Listing, name: str, classes: dict[str, list[PurePosixPath]]) -> Part:
    files = [listing.path(file) for by_class in classes.values() for file in by_class]
    labels = np.repeat(np.arange(len(classes)), [len(by_class) for by_class in classes.values()])
    return Part(name, labels, lambda: _read(files))


def _read(files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise BadInputError(f"{str(file)!r} can't be read: {error.strerror}.") from None
        yield repr(str(file)), content
