"""The user's cache folder of this machine: whatever is in it can be had again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return normleak's folder in the user's cache, which is made if need be.

    Raises:
        OSError: it can't be made.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(home) if home else Path.home() / ".cache") / "normleak"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
