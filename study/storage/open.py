"""Open the store at a location: a local path or a URI."""

from study.storage.location import file_path, is_uri
from study.storage.object_store import open_object_store
from study.storage.store import LocalStore, Store


def open_store(location: str) -> Store:
    """Return the store at a path or URI.

    Raises:
        BadInputError: the URI can't be used.
    """
    if not is_uri(location):
        return LocalStore(location)
    return LocalStore(file_path(location)) if location.startswith("file://") else open_object_store(location)
