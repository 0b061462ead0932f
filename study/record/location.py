"""Where results are kept: a local path, or a URI, of which credentials are used and never shown.

Whatever is printed, recorded or logged of a location has gone through `public`.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from study.errors import BadInputError

_USER = re.compile(r"(?<=://)(?:[^/]*@|[^/:]*:.*@)", re.DOTALL)
"""Whoever a URI names before its host; also where a secret with a slash in it, which no URI may have, was pasted in."""
_SECRET = re.compile(r"([?&])[^=&?]*(?:secret|token|password|key|sig)[^=&?]*=[^&]*", re.IGNORECASE)


def is_uri(location: str) -> bool:
    """Whether it is no path."""
    return "://" in location


def file_path(uri: str) -> Path:
    """Return the path that a `file://` URI stands for.

    Raises:
        BadInputError: it stands for none of this machine.
    """
    parts = urlsplit(uri)
    if parts.netloc or not parts.path:
        raise BadInputError(
            f"results {uri!r} can't be opened: such a URI has three slashes, as in file:///tmp/results."
        )
    return Path(unquote(parts.path))


def public(text: str) -> str:
    """A location, or an argument with one in it, as anyone may see it: without user, password, key or token."""
    if not is_uri(text):
        return text
    # Each parameter goes with the mark before it; where that was the first, the next one takes its place.
    shown = _SECRET.sub(lambda found: "?" if found[1] == "?" else "", _USER.sub("", text))
    return shown.replace("?&", "?").removesuffix("?")


def below(location: str, *parts: str) -> str:
    """The location of something in a folder; a URI's query stays at its end."""
    place, mark, query = location.partition("?") if is_uri(location) else (location, "", "")
    return "/".join([place.rstrip("/"), *parts]) + mark + query


def without_secrets(message: str, location: str) -> str:
    """What a library says of a location, without what only that location's user knows."""
    shown = message.replace(location, public(location))
    hidden = _USER.search(location)
    return shown.replace(hidden[0], "") if hidden and hidden[0] != "@" else shown
