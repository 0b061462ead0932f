"""Survey the user's own datasets: folders of Parquet files, or of images with a subfolder for each class."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from study.data import folders, image_folder, parquet
from study.data.survey import Survey, check_classes
from study.storage.fetch import local_folder

FOLDERS: dict[str, Callable[[Path], Survey]] = {"parquet": parquet.survey, "imagefolder": image_folder.survey}
"""What looks through a folder of each kind, before any image is decoded."""


def survey(dataset: str) -> Survey | None:
    """Return what the folder of `kind:DIR` holds; None for the name of a built-in dataset.

    Raises:
        BadInputError: it is not what its kind promises.
    """
    parts = folders.parse(dataset)
    return None if parts is None else FOLDERS[parts[0]](local_folder(parts[1]))


def describe(datasets: Iterable[str], ood: Iterable[str] = ()) -> Iterator[str]:
    """Yield a line on each folder among datasets: what it holds, what is taken of it, and what is skipped.

    Args:
        datasets: what is trained on, each a D.
        ood: what out-of-distribution images are taken from, each a D*.

    Raises:
        BadInputError: one is not what its kind promises, or a D has a single class.
    """
    trained_on = dict.fromkeys(datasets)
    for dataset in {**trained_on, **dict.fromkeys(ood)}:
        found = survey(dataset)
        if found is not None:
            if dataset in trained_on:
                check_classes(dataset, len(found.classes))
            yield f"{folders.identity(dataset)}: {found}"
