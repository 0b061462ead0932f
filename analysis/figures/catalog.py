"""The figures that the records of a sweep can fill, and the drawing of them."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures.figure import PaperFigure
from analysis.figures.memorization import FIGURES as MEMORIZATION_FIGURES
from analysis.figures.memorization import SEEDS, memorization
from analysis.figures.paper2019 import GALLOWAY_FIGURES
from analysis.load import Loaded, with_missing
from study.errors import BadInputError, unknown
from study.record.results import Results

FIGURES = (*MEMORIZATION_FIGURES, *GALLOWAY_FIGURES)
"""The figures of both papers."""
GENERAL = PaperFigure(
    "memorization",
    "as Fig. 1",
    f"How much of the corrupted samples a network fits, against how many there are. {SEEDS} Of a single amount, bars "
    "compare what else varies.",
    (),
    lambda loaded, results: memorization(with_missing(loaded, results)),
)
"""The figure of a sweep that feeds none of the paper's."""


def draw_figures(
    loaded: Loaded, results: Results, names: Sequence[str] | None = None
) -> list[tuple[PaperFigure, Figure | str]]:
    """Draw every figure that a sweep feeds, or the general one; a sentence stands for one that can't be drawn.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        names: the figures to draw; by default all.

    Raises:
        BadInputError: there is no figure of that name, or this sweep doesn't feed it.
    """
    chosen = [figure for figure in FIGURES if loaded.sweep in figure.sweeps] or [GENERAL]
    if names:
        sweeps_feeding(names, [loaded.sweep])
        chosen = [figure for figure in (*FIGURES, GENERAL) if figure.name in names and _feeds(loaded.sweep, figure)]
    return [(figure, _draw_or_explain(figure, loaded, results)) for figure in chosen]


def _draw_or_explain(figure: PaperFigure, loaded: Loaded, results: Results) -> Figure | str:
    """Return the figure, or the reason why the records have nothing of it."""
    try:
        return figure.draw(loaded, results)
    except BadInputError as error:
        return str(error)


def _feeds(sweep: str, figure: PaperFigure) -> bool:
    return sweep in figure.sweeps or figure is GENERAL


def sweeps_feeding(names: Sequence[str], sweeps: Sequence[str]) -> list[str]:
    """Return those of the sweeps from which the named figures can be drawn.

    Raises:
        BadInputError: there is no figure of that name, or none of the sweeps feeds it.
    """
    known = {figure.name: figure for figure in (*FIGURES, GENERAL)}
    feeding: set[str] = set()
    for name in names:
        if name not in known:
            raise unknown("figure", name, known)
        of_figure = {sweep for sweep in sweeps if _feeds(sweep, known[name])}
        if not of_figure:
            made_for = known[name].sweeps
            raise BadInputError(
                f"{name} is drawn from records of {' or '.join(made_for)}, not of {', '.join(sweeps) or 'nothing'}; "
                f"`python -m sweeps run {made_for[0]}` makes them."
            )
        feeding |= of_figure
    return [sweep for sweep in sweeps if sweep in feeding]
