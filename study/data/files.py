"""Survey the user's own datasets: folders of Parquet files, or of images with a subfolder for each class."""

from collections.abc import Callable
from pathlib import Path

from study.data import folders, image_folder, parquet
from study.data.survey import Survey
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
