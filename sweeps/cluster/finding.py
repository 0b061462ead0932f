"""What a check of a cluster's file found out."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check came out."""

    ok = "ok"
    failed = "not ok"
    unknown = "could not be checked"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: how it came out.
        detail: what was seen, in a few words.
        remedy: the command that mends it, or that shows what could not be seen from here; empty where all is well.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def ok(name: str, detail: str) -> Finding:
    """Nothing has to be done."""
    return Finding(name, Status.ok, detail)


def failed(name: str, detail: str, remedy: str) -> Finding:
    """`ray up` would fail, cost too much or be open to others, unless `remedy` is run."""
    return Finding(name, Status.failed, detail, remedy)


def unknown(name: str, detail: str, remedy: str = "") -> Finding:
    """It can't be told from here, or by this user."""
    return Finding(name, Status.unknown, detail, remedy)
