"""What a dataset folder holds, found before any image is decoded, and told to whoever plans a sweep of it.

Nothing here imports torch, so that a plan is made without it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from study.data.listing import Listing
from study.errors import BadInputError

TEST_NAMES = ("test", "val", "valid", "validation")
"""What a test set may be called; the first that is there is taken."""
MOST_NAMED = 3
"""The most skipped files, or kinds of them, and the most classes that are each named."""


@dataclass(frozen=True)
class Part:
    """A training or a test set.

    Attributes:
        source: where it is, in words.
        labels: int64 [N], from 0.
        encoded: yields the name of each image in a message, and its bytes.
    """

    source: str
    labels: NDArray[np.int64]
    encoded: Callable[[], Iterator[tuple[str, bytes]]]


@dataclass(frozen=True)
class Survey:
    """What a dataset folder holds.

    Attributes:
        train: the training set.
        test: the test set.
        classes: the name of each class, by its label.
        taken: what was taken for the images and the labels, in words.
        skipped: the files that are not read.
    """

    train: Part
    test: Part
    classes: Sequence[str]
    taken: str
    skipped: Sequence[PurePosixPath]

    def __str__(self) -> str:
        """Return in words what was found, what was taken, and what is skipped."""
        sizes = [f"{len(part.labels):,} {use} images in {part.source}" for part, use in self._parts]
        return f"{' and '.join(sizes)}, {_classes(self.classes)}; {self.taken}; skipped: {_skipped(self.skipped)}"

    @property
    def _parts(self) -> tuple[tuple[Part, str], ...]:
        return (self.train, "training"), (self.test, "test")


def check_classes(dataset: str, classes: int) -> None:
    """Refuse a D without a class to tell from another.

    Raises:
        BadInputError: there is one class.
    """
    if classes < 2:
        raise BadInputError(f"{dataset} has a single class; a classifier needs two or more.")


def plural(count: int, what: str) -> str:
    """Return in words how many there are of something."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def unread(listing: Listing, *read: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Return the files of a listing that are in none of these lists."""
    known = {file for files in read for file in files}
    return [file for file in listing.files if file not in known]


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(names) if len(names) <= MOST_NAMED + 1 else f"{', '.join(names[:MOST_NAMED])}, ..., {names[-1]}"
    return f"{len(names):,} class{'es' * (len(names) != 1)} ({shown})"


def _skipped(files: Sequence[PurePosixPath]) -> str:
    """Return the names of skipped files, or of which kind there are how many in which of the folders on top."""
    if len(files) <= MOST_NAMED:
        return ", ".join(map(str, files)) or "none"
    kinds = Counter((file.parts[0] if len(file.parts) > 1 else "", file.suffix.lower()) for file in files)
    told = [
        plural(count, f"{suffix} file".strip()) + " without a suffix" * (not suffix) + (f" in {place}" if place else "")
        for (place, suffix), count in kinds.most_common(MOST_NAMED)
    ]
    rest = len(files) - sum(count for _, count in kinds.most_common(MOST_NAMED))
    return ", ".join(told) + (f" and {rest:,} more" if rest else "")
