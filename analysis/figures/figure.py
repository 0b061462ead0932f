"""A figure of a paper: its name, caption, sweeps and the function that draws it."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis.load import Loaded
from study.record.results import Results


@dataclass(frozen=True)
class PaperFigure:
    """One figure of the paper.

    Attributes:
        name: its name on the command line and in file names.
        place: its place in the paper.
        caption: what it shows, and what its error bars or bands are.
        sweeps: the sweeps whose records it can be drawn from, the one that was made for it first.
        draw: the function that draws it from a sweep's members and the folder that they were loaded from. It raises
            BadInputError where the records have nothing of it.
    """

    name: str
    place: str
    caption: str
    sweeps: tuple[str, ...]
    draw: Callable[[Loaded, Results], Figure]
