"""The errors of bad input, which the commands print without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class BadInputError(ValueError):
    """The user's input can't be used: commands print the message, one sentence, and exit with code 2."""


class DamagedError(BadInputError):
    """A file of records is damaged; its trials can be run again."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> BadInputError:
    """Return an error that names the nearest valid choice, or all of them where none is near."""
    known = sorted(choices)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}." if known else "there is none."
    return BadInputError(f"unknown {kind} {name!r}: {hint}")
