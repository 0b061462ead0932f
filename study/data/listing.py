"""List a dataset folder: the files that make its identity are the files that are read.

Links are followed, to files and to folders. What is hidden is no data, nor is what an operating system leaves behind
where files are looked at.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from study.errors import BadInputError

LEFT_BEHIND = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"})
"""Files and folders of Windows, macOS and network drives that are not hidden by a dot, in lower case."""


@dataclass(frozen=True)
class Listing:
    """What is in a folder, by paths relative to it, sorted.

    Attributes:
        folder: the folder.
        files: its files, however deep.
        folders: its folders, those that hold no file as well.
    """

    folder: Path
    files: tuple[PurePosixPath, ...]
    folders: tuple[PurePosixPath, ...]

    def within(self, folder: str | PurePosixPath) -> list[PurePosixPath]:
        """Return the folders that lie directly in one of its folders."""
        return [path for path in self.folders if path.parent == PurePosixPath(folder)]

    def path(self, file: str | PurePosixPath) -> Path:
        """Return where a file or folder of it is."""
        return self.folder / file


def list_folder(folder: Path) -> Listing:
    """List a dataset folder.

    Raises:
        BadInputError: it isn't there or can't be read, a link leads nowhere or in a circle, or something is neither a
            file nor a folder.
    """
    if not folder.is_dir():
        raise BadInputError(f"there is no dataset folder {str(folder)!r}.")
    files: list[PurePosixPath] = []
    folders: list[PurePosixPath] = []
    _walk(folder, PurePosixPath(), (_key(folder.stat()),), files, folders)
    return Listing(folder, tuple(sorted(files)), tuple(sorted(folders)))


def hidden(name: str) -> bool:
    """Return whether a file or folder of that name is no data."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def _walk(
    folder: Path,
    relative: PurePosixPath,
    above: tuple[tuple[int, int], ...],
    files: list[PurePosixPath],
    folders: list[PurePosixPath],
) -> None:
    """Add the files and folders in a folder; `above` are those that it lies in, and itself."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry, entry.is_file(), entry.is_dir()) for entry in entries if not hidden(entry.name)]
    except OSError as error:
        raise BadInputError(f"the folder {str(folder)!r} can't be read: {error}.") from None
    for entry, is_file, is_folder in found:
        path = relative / entry.name
        if is_file:
            files.append(path)
        elif is_folder:
            key = _key(entry.stat())
            if key in above:
                raise BadInputError(f"{entry.path!r} is a link to a folder that it lies in; remove the link.")
            folders.append(path)
            _walk(Path(entry.path), path, (*above, key), files, folders)
        elif entry.is_symlink():
            raise BadInputError(f"{entry.path!r} is a link that leads nowhere; remove the link, or fetch its file.")
        else:
            raise BadInputError(f"{entry.path!r} is neither a file nor a folder; remove it from the dataset.")


def _key(stat: os.stat_result) -> tuple[int, int]:
    """Return what tells one folder from another, whatever links lead to it."""
    return stat.st_dev, stat.st_ino
