"""Locations of results: local paths and URIs, whose credentials are used and never shown.

Whatever is printed, recorded or logged of a location has gone through `public`.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from study.errors import BadInputError

_USER = re.compile(r"(?<=://)(?:[^/]*@|[^/:]*:.*@)", re.DOTALL)
"""The user and password of a URI, also where the password has a slash in it, which no URI may have."""
_SECRET = re.compile(r"([?&])[^=&?]*(?:secret|token|password|key|sig)[^=&?]*=[^&]*", re.IGNORECASE)


def is_uri(location: str) -> bool:
    """Return whether a location is a URI, and no path."""
    return "://" in location


def file_path(uri: str) -> Path:
    """Return the path that a `file://` URI stands for.

    Raises:
        BadInputError: it stands for none of this machine.
    """
    parts = urlsplit(uri)
    if parts.netloc or not parts.path:
        raise BadInputError(f"{uri!r} can't be opened: such a URI has three slashes, as in file:///tmp/results.")
    if "?" in uri or "#" in uri:
        raise BadInputError(
            f"{uri!r} can't be opened: in a file's URI write %3F for ? and %23 for #, or give the path."
        )
    return Path(unquote(parts.path))


def absolute(location: str) -> str:
    """Return a path as an absolute one, so that processes in other folders find it too, and a URI as it is.

    Raises:
        BadInputError: it is the home of a user who isn't there, or no text.
    """
    if is_uri(location):
        return location
    try:
        return text(str(Path(location).expanduser().absolute()))
    except RuntimeError as error:
        raise BadInputError(f"{location!r} can't be found: {error}.") from None


def text(path: str) -> str:
    """Return a path as it is, if it is text: records and Arrow take no other.

    Raises:
        BadInputError: it has bytes that are no text in the encoding of this machine's file names.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise BadInputError(
            f"{path!r} is no text in UTF-8: give the folder another name, or set PYTHONUTF8=1 if that is its encoding."
        ) from None
    return path


def public(text: str) -> str:
    """Return a location, or an argument with one in it, without its user, password, key or token."""
    if not is_uri(text):
        return text
    # Each parameter goes with the mark before it; where that was the first, the next one takes its place.
    shown = _SECRET.sub(lambda found: "?" if found[1] == "?" else "", _USER.sub("", text))
    return shown.replace("?&", "?").removesuffix("?")


def name(location: str) -> str:
    """Return the last part of a URI's path, or its bucket; empty for a local path."""
    return unquote(split(location)[1]) if is_uri(location) else ""


def below(location: str, *parts: str) -> str:
    """Return the location of something in a folder. A URI's query stays at its end."""
    place, mark, query = location.partition("?") if is_uri(location) else (location, "", "")
    return "/".join([place.rstrip("/"), *parts]) + mark + query


def split(location: str) -> tuple[str, str]:
    """Return the folder that a file or folder is in, and its name there. A URI's query is the folder's."""
    place, mark, query = location.partition("?") if is_uri(location) else (location, "", "")
    folder, _, file = place.rstrip("/").rpartition("/")
    return (folder or "/") + mark + query, file


def without_secrets(message: str, location: str) -> str:
    """Return a message about a location without the credentials that the location has."""
    shown = message.replace(location, public(location))
    hidden = _USER.search(location)
    return shown.replace(hidden[0], "") if hidden and hidden[0] != "@" else shown
