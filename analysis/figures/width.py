"""How wide figures may be: as a page's text, unless whoever draws them asks for another width."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from study.errors import BadInputError

WIDTH = 7.0
"""The width of a page's text in inches: no figure is wider."""
NARROWEST, WIDEST = 3.0, 100.0
"""The widths in inches that may be asked for; in less, no panel has room beside its axis."""
_WIDTH = ContextVar("width", default=WIDTH)


def page_width() -> float:
    """Return the width in inches that a figure may have."""
    return _WIDTH.get()


def checked_width(width: float) -> float:
    """Return a width in inches that a figure can have.

    Raises:
        BadInputError: it is too narrow to draw in, or no width at all.
    """
    if not NARROWEST <= width <= WIDEST:
        raise BadInputError(f"a figure is {NARROWEST:g} to {WIDEST:g} inches wide, not {width:g}.")
    return width


@contextmanager
def drawn_for(width: float) -> Iterator[None]:
    """Draw figures of at most this width in inches.

    Raises:
        BadInputError: see `checked_width`.
    """
    before = _WIDTH.set(checked_width(width))
    try:
        yield
    finally:
        _WIDTH.reset(before)
