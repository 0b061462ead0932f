"""Names of the user's own datasets, which are folders: `parquet:DIR` and `imagefolder:DIR`, on disk or by a URI.

A folder is identified by its content, not by its path: the same files elsewhere are the same dataset, and other files
under the same path are another. Nothing here imports torch, so a plan can be identified on any machine.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

from study.data.listing import list_folder
from study.errors import BadInputError
from study.storage import location
from study.storage.fetch import local_folder
from study.storage.location import public

KINDS = ("parquet", "imagefolder")
FORMS = tuple(f"{kind}:DIR" for kind in KINDS)


def parse(dataset: str) -> tuple[str, str] | None:
    """Return the kind and the path or URI of `kind:DIR`; None for the name of a built-in dataset."""
    kind, colon, folder = dataset.partition(":")
    return (kind, folder) if colon and kind in KINDS else None


def absolute(dataset: str) -> str:
    """Return the name with an absolute folder, for workers that run in other directories.

    Raises:
        BadInputError: it has credentials, which a plan and the records would show.
    """
    parts = parse(dataset)
    if parts is None:
        return dataset
    kind, folder = parts
    if public(folder) != folder:
        raise BadInputError(
            f"dataset {kind}:{public(folder)} must not name its credentials, for records name the dataset; set them in "
            "the environment, as in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    return f"{kind}:{location.absolute(folder)}"


def identity(dataset: str) -> str:
    """Return the name under which a dataset is recorded: `parquet:NAME@FINGERPRINT` for a folder, else its own name.

    Raises:
        BadInputError: the folder isn't there or is empty, or its name is no text.
    """
    parts = parse(dataset)
    if parts is None:
        return dataset
    kind, folder = parts
    path = local_folder(folder)
    name = location.name(folder) or path.resolve().name
    return f"{kind}:{location.text(name)}@{_fingerprint(path)}"


def content(dataset: str) -> str:
    """Return a dataset's part in a trial's id: `parquet@FINGERPRINT` for a folder of any name, else its own name."""
    parts = parse(dataset)
    return dataset if parts is None else f"{parts[0]}@{_fingerprint(local_folder(parts[1]))}"


@cache
def _fingerprint(folder: Path) -> str:
    """Return eight hex digits of a SHA-256 over every file's relative path and content."""
    listing = list_folder(folder)
    if not listing.files:
        raise BadInputError(f"the dataset folder {str(folder)!r} holds no files.")
    digest = hashlib.sha256()
    for file in listing.files:
        # A name that isn't text in this machine's encoding has bytes as well.
        digest.update(os.fsencode(file.as_posix()) + b"\0")
        try:
            with listing.path(file).open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise BadInputError(f"{str(listing.path(file))!r} can't be read: {error.strerror}.") from None
    return digest.hexdigest()[:8]
