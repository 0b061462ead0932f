"""Which figures the records of a sweep can fill, and the drawing of them."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures.figure import PaperFigure
from analysis.figures.memorization import FIGURES, SEEDS, memorization
from analysis.load import Loaded, with_missing
from study.errors import BadInputError, unknown
from study.record.results import Results

GENERAL = PaperFigure(
    "memorization",
    "as Fig. 1",
    f"How much of the corrupted samples a network fits, against how many there are. {SEEDS}",
    (),
    lambda loaded, results: memorization(with_missing(loaded, results)),
)
"""The figure of a sweep that none of the paper's is made of."""


def figures_of(
    loaded: Loaded, results: Results, names: Sequence[str] | None = None
) -> list[tuple[PaperFigure, Figure | str]]:
    """Every figure that a sweep feeds, or the general one; a text says why one can't be drawn.

    Args:
        loaded: the sweep's members.
        results: where they were loaded from.
        names: draw these alone.

    Raises:
        BadInputError: there is no figure of that name, or it is none of this sweep's.
    """
    fed = [figure for figure in FIGURES if loaded.sweep in figure.sweeps] or [GENERAL]
    if names:
        feeding(names, [loaded.sweep])
        fed = [figure for figure in (*FIGURES, GENERAL) if figure.name in names and _fills(loaded.sweep, figure)]
    return [(figure, _drawn(figure, loaded, results)) for figure in fed]


def _drawn(figure: PaperFigure, loaded: Loaded, results: Results) -> Figure | str:
    try:
        return figure.draw(loaded, results)
    except BadInputError as error:
        return str(error)


def _fills(sweep: str, figure: PaperFigure) -> bool:
    return sweep in figure.sweeps or figure is GENERAL


def feeding(names: Sequence[str], sweeps: Sequence[str]) -> list[str]:
    """Those of the sweeps that the named figures can be drawn from.

    Raises:
        BadInputError: there is no figure of that name, or none of the sweeps feeds it.
    """
    known = {figure.name: figure for figure in (*FIGURES, GENERAL)}
    found: set[str] = set()
    for name in names:
        if name not in known:
            raise unknown("figure", name, known)
        fed = {sweep for sweep in sweeps if _fills(sweep, known[name])}
        if not fed:
            made_for = known[name].sweeps
            raise BadInputError(
                f"{name} is drawn from records of {' or '.join(made_for)}, not of {', '.join(sweeps) or 'nothing'}; "
                f"`python -m sweeps run {made_for[0]}` makes them."
            )
        found |= fed
    return [sweep for sweep in sweeps if sweep in found]
