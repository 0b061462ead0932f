"""A figure of a paper: its title, what it draws and the sweeps that feed it."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis.load import Loaded
from study.record.results import Results


@dataclass(frozen=True)
class PaperFigure:
    """One figure of the paper.

    Attributes:
        name: as the command line and its files have it.
        place: where the paper has it.
        caption: what is drawn, and what its spread is of.
        sweeps: whose records can fill it, the one that was made for it first.
        draw: the figure of a sweep's records.

    Raises:
        BadInputError: by `draw`, where the records have nothing of it.
    """

    name: str
    place: str
    caption: str
    sweeps: tuple[str, ...]
    draw: Callable[[Loaded, Results], Figure]
