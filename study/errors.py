"""What the user got wrong: the error that the commands expect."""

from collections.abc import Iterable
from difflib import get_close_matches


class BadInputError(ValueError):
    """The user's input can't be used. The message is one sentence; commands print it and exit with 2."""


class DamagedError(BadInputError):
    """A file of records can't be read; its trials can be run again."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> BadInputError:
    """An error that names the nearest valid choice, or all of them where none is near."""
    known = sorted(choices)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}." if known else "there is none."
    return BadInputError(f"unknown {kind} {name!r}: {hint}")
