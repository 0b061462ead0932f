"""Where files of a record lie: a folder or an object store."""

import os


def single_request_uri(uri: str) -> str:
    """The URI, with what makes Arrow write a small object in one request to S3 where it would take three."""
    if not uri.startswith("s3://") or "allow_delayed_open=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def sync_to_disk(path: str) -> None:
    """Have what was written, a file or the names in a folder, outlast a loss of power."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def file_stem(path: str) -> str:
    """Return the name of a Parquet file without its folder and ending."""
    return path.rpartition("/")[2].removesuffix(".parquet")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
