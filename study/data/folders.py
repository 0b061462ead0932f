"""Datasets that are folders of the user's: `parquet:DIR` and `imagefolder:DIR`.

A folder is known by its content, not by its path: the same files elsewhere are the same dataset, and other files
under the same path are another. Nothing here imports torch, so a plan can be identified on any machine.
"""

import hashlib
from functools import cache
from pathlib import Path

from study.errors import BadInputError

KINDS = ("parquet", "imagefolder")
FORMS = tuple(f"{kind}:DIR" for kind in KINDS)


def split(dataset: str) -> tuple[str, Path] | None:
    """The kind and the folder of `kind:DIR`; None for the name of a built-in dataset."""
    kind, colon, folder = dataset.partition(":")
    return (kind, Path(folder)) if colon and kind in KINDS else None


def absolute(dataset: str) -> str:
    """The same dataset with its folder made absolute, for workers that run in other directories."""
    found = split(dataset)
    if found is None:
        return dataset
    try:
        return f"{found[0]}:{found[1].expanduser().absolute()}"
    except RuntimeError:
        raise BadInputError(f"there is no dataset folder {str(found[1])!r}: there is no such user.") from None


def identity(dataset: str) -> str:
    """The name under which a dataset is recorded: `parquet:NAME@FINGERPRINT` for a folder, else its own name.

    Raises:
        BadInputError: the folder isn't there or is empty.
    """
    found = split(dataset)
    if found is None:
        return dataset
    kind, folder = found
    return f"{kind}:{folder.resolve().name}@{_fingerprint(folder)}"


def content(dataset: str) -> str:
    """What a trial's id knows of a dataset: `parquet@FINGERPRINT` for a folder, however it is called, or its name."""
    found = split(dataset)
    return dataset if found is None else f"{found[0]}@{_fingerprint(found[1])}"


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@cache
def _fingerprint(folder: Path) -> str:
    """Eight hex digits of a SHA-256 over every file's relative path and content."""
    if not folder.is_dir():
        raise BadInputError(f"there is no dataset folder {str(folder)!r}.")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    if not files:
        raise BadInputError(f"the dataset folder {str(folder)!r} holds no files.")
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:8]
